"""Writes the golden files anew: what the formats look like, byte for byte. Run by `make golden`, on purpose only.

A changed golden file means that datasets made before no longer equal those made after: say so in CHANGELOG.md.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent.parent))

from media.midi import write_midi  # noqa: E402
from schemas.feature import KEY_FEATURES  # noqa: E402
from schemas.hashing import canonical_json, generator, stable_hash  # noqa: E402
from schemas.music import Controls, Notes, Piece, TempoMap  # noqa: E402
from schemas.naming import copy_key, index_name, item_name, shard_name, window_key  # noqa: E402
from schemas.record import frame, to_example  # noqa: E402
from schemas.representations import REPRESENTATIONS, from_settings  # noqa: E402

SETTINGS: dict[str, dict[str, Any]] = {
    "events": {"window": 32},
    "raster": {"window": 16, "hop": 8, "hold": True},
    "voices": {"window": 8},
}
"""Representation -> settings under which its golden file is made: windows small enough to be read."""


def main() -> int:
    """Writes every golden file and names those that changed."""
    for name, text in golden_files().items():
        path = FOLDER / name
        changed = not path.exists() or path.read_text() != text
        path.write_text(text)
        print(f"{'changed' if changed else 'equal'}: {path.relative_to(Path.cwd())}")
    return 0


def golden_files() -> dict[str, str]:
    """{file name: text} of every golden file."""
    values = {"formats.json": formats(), **{f"{name}.json": representation(name) for name in REPRESENTATIONS}}
    return {name: json.dumps(value, indent=1, ensure_ascii=False) + "\n" for name, value in values.items()}


def piece() -> Piece:
    """A chord, a note struck again under pedal, a note across a change of tempo, silence longer than any shift."""
    start = [0, 0, 0, 480, 960, 1440, 1440, 4800]
    end = [480, 470, 960, 600, 1080, 1920, 1450, 5040]
    notes = Notes.of(start, end, [60, 64, 67, 60, 60, 72, 72, 48], [80, 81, 1, 64, 65, 127, 40, 100])
    pedal = Controls.of([400, 1300, 4700, 5200], 64, [127, 0, 64, 63])
    return Piece("golden", notes, pedal, TempoMap.constant(480))


def chorale() -> Piece:
    """Two quarters of four voices: a note held and one struck again, a sixteenth, a rest, a 32nd between two steps."""
    soprano = [(0, 480, 72), (480, 720, 74), (720, 960, 74)]
    alto = [(0, 240, 67), (240, 480, 65), (480, 960, 67)]
    tenor = [(0, 480, 60), (480, 600, 59), (720, 960, 55)]
    bass = [(0, 960, 48), (960, 1020, 50), (1020, 1080, 52)]
    voices = enumerate((soprano, alto, tenor, bass))
    start, end, pitch, track = zip(*[(*note, voice) for voice, notes in voices for note in notes], strict=True)
    return Piece("golden", Notes.of(start, end, pitch, 80, 52, track), tempo=TempoMap.constant(480))


def representation(name: str) -> dict[str, Any]:
    """Settings, names of the features, and each record of the golden piece: its numbers, and its frame's sha256."""
    encoder = from_settings(name, SETTINGS[name])
    features = {**encoder.features(), **KEY_FEATURES}
    records = []
    golden = chorale() if hasattr(encoder, "voices") else piece()
    for index, record in enumerate(encoder.encode(golden)):
        key = window_key(copy_key(item_name("golden", "piece.mid"), 0, 1.0), index)
        framed = frame(to_example({**record, "key": key.encode(), "group": b"golden"}, features))
        numbers = {field: value.tolist() for field, value in record.items()}
        records.append({"key": key, **numbers, "sha256": hashlib.sha256(framed).hexdigest()})
    return {"settings": SETTINGS[name], "features": sorted(features), "records": records}


def formats() -> dict[str, Any]:
    """Names, hashes, draws and files that everything else is built on."""
    item = item_name("midi", "Björk#1/a b@2%!.mid", "part")
    return {
        "item": item,
        "copy": copy_key(item, -3, 1.025),
        "shard": shard_name("maestro", "train", 3, 32),
        "index": index_name(shard_name("maestro", "train", 3, 32)),
        "stable_hash": [stable_hash(item), stable_hash(item, "split"), stable_hash(0, item, "redraw")],
        "draws": generator(7, item, "golden").integers(0, 1000, 8).tolist(),
        "canonical_json": canonical_json({"b": [1, 2.5, None], "a": "é"}),
        "midi_sha256": hashlib.sha256(write_midi(piece())).hexdigest(),
    }


if __name__ == "__main__":
    raise SystemExit(main())
