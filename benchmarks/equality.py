"""Whether the shards hold what note-seq would have made: every file of MAESTRO, token by token.

    equality.py [--data DIR] [--dataset DIR] [--list FILE] [--every-variant] [--processes N]

For each file: notes and pedal-extended notes (start, end, pitch, velocity, to the last bit) and event tokens, read
back from the shards; with --every-variant those of all 35 copies of a train file (note-seq takes about twenty CPU
minutes). A copy that is not in the shards must be one that note-seq cuts, too. Then the statistics are counted again
from nothing but the tokens. Without --dataset, one is made first.
"""

import argparse
import csv
import json
import multiprocessing
import subprocess
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from media.midi import read_midi  # noqa: E402
from schemas.manifest import Manifest, read_manifest  # noqa: E402
from schemas.music import Piece, apply_sustain  # noqa: E402
from schemas.naming import copy_key, index_name, item_name, parse_key  # noqa: E402
from schemas.record import from_example, read_index  # noqa: E402
from schemas.tokens import join_tokens  # noqa: E402
from tests.conftest import data_folder  # noqa: E402

SEMITONES = tuple(range(-3, 4))
FACTORS = (0.95, 0.975, 1.0, 1.025, 1.05)
PIANO = (21, 108)
FIRST_OFF, FIRST_SHIFT, FIRST_VELOCITY = 128, 256, 356


@dataclass(frozen=True)
class Task:
    """One file: where it lies, its split, and where its records lie: (shard, offset, length)."""

    dataset: str
    path: str
    name: str
    split: str
    places: tuple[tuple[str, int, int], ...]
    every_variant: bool


def places(dataset: Path, manifest: Manifest) -> dict[str, list[tuple[str, int, int]]]:
    """Item -> shard, offset and length of each of its records."""
    found = defaultdict(list)
    for shard in manifest.shards:
        index = read_index(str(dataset / index_name(shard.name)))
        with open(dataset / shard.name, "rb") as file:
            for offset, length in index.tolist():
                file.seek(offset + 12)
                record = from_example(file.read(length - 16), manifest.all_features)
                found[parse_key(record["key"].decode()).item].append((shard.name, offset, length))
    return found


def copies(task: Task, manifest: Manifest) -> dict[str, np.ndarray[Any, Any]]:
    """Copy -> its tokens, from the shards."""
    records = defaultdict(list)
    for shard, offset, length in task.places:
        with open(Path(task.dataset) / shard, "rb") as file:
            file.seek(offset + 12)
            record = from_example(file.read(length - 16), manifest.all_features)
            records[record["key"].decode().rpartition("/")[0]].append(record)
    return {key: join_tokens(parts) for key, parts in records.items()}


def compare(task: Task) -> tuple[Counter[str], list[str]]:
    """How much was equal in one file, and what was not."""
    import note_seq

    equal: Counter[str] = Counter()
    wrong: list[str] = []

    def check(what: str, where: str, same: bool) -> None:
        equal[what] += same
        if not same:
            wrong.append(f"{where}: {what} differ")

    warnings.simplefilter("ignore")
    sequence = note_seq.midi_file_to_note_sequence(task.path)
    piece = read_midi(Path(task.path).read_bytes(), task.name)
    check("notes", task.name, our_notes(piece) == their_notes(sequence))
    sequence, piece = note_seq.apply_sustain_control_changes(sequence), apply_sustain(piece)
    check("pedal-extended notes", task.name, our_notes(piece) == their_notes(sequence))
    found = copies(task, read_manifest(task.dataset))
    for semitones, factor in variants(task):
        key = copy_key(task.name, semitones, factor)
        tokens = their_tokens(note_seq, sequence, semitones, factor)
        if tokens is None:
            check("variants left out by both", key, key not in found)
        else:
            check("token sequences", key, key in found and np.array_equal(found.pop(key), tokens))
    check("sets of copies", task.name, not task.every_variant or not found)
    return equal, wrong


def variants(task: Task) -> Iterator[tuple[int, float]]:
    """The copies that the split of a file has."""
    if not task.every_variant or task.split != "train":
        return iter([(0, 1.0)])
    return ((semitones, factor) for factor in FACTORS for semitones in SEMITONES)


def our_notes(piece: Piece) -> list[tuple[float, ...]]:
    """Start, end, pitch and velocity of every note, sorted."""
    columns = (piece.start_seconds(), piece.end_seconds(), piece.notes.pitch, piece.notes.velocity)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def their_notes(sequence: Any) -> list[tuple[float, ...]]:
    """The same of a NoteSequence."""
    return sorted((note.start_time, note.end_time, note.pitch, note.velocity) for note in sequence.notes)


def their_tokens(note_seq: Any, sequence: Any, semitones: int, factor: float) -> list[int] | None:
    """note-seq's event ids of one variant, or None where it cut notes."""
    library = note_seq.sequences_lib
    stretched = library.stretch_note_sequence(sequence, factor)
    moved, cut = library.transpose_note_sequence(stretched, semitones, PIANO[0], PIANO[1])
    if cut:
        return None
    encoding = note_seq.PerformanceOneHotEncoding(num_velocity_bins=32)
    quantised = note_seq.quantize_note_sequence_absolute(moved, 100)
    return [encoding.encode_event(event) for event in note_seq.Performance(quantised, num_velocity_bins=32)]


def recount(dataset: Path, manifest: Manifest) -> list[str]:
    """Statistics counted from tokens alone, against stats.json; returns what differs."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    pitches, velocities = defaultdict(lambda: np.zeros(128, int)), defaultdict(lambda: np.zeros(32, int))
    for name, where in places(dataset, manifest).items():
        split = next(shard.split for shard in manifest.shards if shard.name == where[0][0])
        task = Task(str(dataset), "", name, split, tuple(where), True)
        counts[split]["records"] += len(where)
        for key, tokens in copies(task, manifest).items():
            counts[split]["copies"] += 1
            counts[split]["tokens"] += len(tokens)
            if key == copy_key(name, 0, 1.0):
                counts[split]["pieces"] += 1
                onsets = tokens < FIRST_OFF
                counts[split]["notes"] += int(onsets.sum())
                pitches[split] += np.bincount(tokens[onsets], minlength=128)
                velocities[split] += np.bincount(sounding_velocity(tokens)[onsets], minlength=32)
    return list(differences(dataset, counts, pitches, velocities))


def sounding_velocity(tokens: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The velocity bin, from 0, in force at each token."""
    last = np.maximum.accumulate(np.where(tokens >= FIRST_VELOCITY, np.arange(len(tokens)), 0))
    return np.maximum(tokens[last].astype(int) - FIRST_VELOCITY, 0)


def differences(dataset: Path, counts: Any, pitches: Any, velocities: Any) -> Iterator[str]:
    """What stats.json says otherwise."""
    for split, said in json.loads((dataset / "stats.json").read_text())["splits"].items():
        found = {**counts[split], "pitch": pitches[split].tolist(), "velocity": velocities[split].tolist()}
        yield from (
            f"{split} {name}: stats.json {said[name]}, shards {found[name]}"
            for name in found
            if found[name] != said[name]
        )


def make_dataset(corpus: Path, only: Path | None, output: Path) -> None:
    """One dataset with all variants, by the command that users type."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from stretto import main; sys.exit(main())"
    choices = [f"--transpose={SEMITONES[0]}..{SEMITONES[-1]}", "--stretch=" + ",".join(map(str, FACTORS))]
    command = [sys.executable, "-c", code, "prepare", "maestro", "--input", str(corpus), "--output", str(output)]
    subprocess.run([*command, *choices, *(["--only", str(only)] if only else [])], check=True)


def main() -> int:
    """Compares and prints; 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds maestro/; by default the one of the tests")
    parser.add_argument("--dataset", type=Path, help="a dataset made with 35 variants; by default one is made")
    parser.add_argument("--list", type=Path, help="file with the paths to compare, one a line; by default all")
    parser.add_argument("--every-variant", action="store_true", help="compare changed copies too (20 CPU minutes)")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    given = parser.parse_args()
    corpus = (given.data or data_folder()) / "maestro" / "maestro-v3.0.0"
    if not corpus.is_dir():
        print(f"{corpus}: no music here; give --data or set STRETTO_TEST_DATA")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        dataset = given.dataset or Path(scratch) / "dataset"
        if given.dataset is None:
            make_dataset(corpus, given.list, dataset)
        return report(dataset, corpus, given)


def report(dataset: Path, corpus: Path, given: argparse.Namespace) -> int:
    """Prints what is equal and what is not."""
    manifest = read_manifest(str(dataset))
    found = places(dataset, manifest)
    wanted = given.list.read_text().split("\n") if given.list else None
    with open(corpus / "maestro-v3.0.0.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if wanted is None or row["midi_filename"] in wanted]
    tasks = []
    for row in rows:
        path, name = row["midi_filename"], item_name("maestro", row["midi_filename"])
        tasks.append(
            Task(str(dataset), str(corpus / path), name, row["split"], tuple(found[name]), given.every_variant)
        )
    equal: Counter[str] = Counter()
    wrong: list[str] = []
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        for done, (same, different) in enumerate(pool.imap_unordered(compare, tasks), 1):
            equal, wrong = equal + same, wrong + different
            if done % 10 == 0:
                print(f"{done} of {len(tasks)} files, {len(wrong)} differences", file=sys.stderr, flush=True)
    print(f"{len(tasks)} files; equal: " + ", ".join(f"{what} {count}" for what, count in sorted(equal.items())))
    wrong += recount(dataset, manifest)
    print("statistics: counted again from the tokens")
    print("\n".join(wrong) if wrong else "nothing differs")
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
