"""Bach's four-part chorales, read from the installed music21 package; nothing is downloaded, nothing is shipped.

What is read: every .mxl file of music21's corpus/bach with exactly four parts, each one voice (364 of 408 in music21
10.5); the others are skipped and counted. Ties are joined, repeats are played once, fermatas are not lengthened, grace
notes (which have no length of their own) are left out, and every chorale gets the same tempo, because the few marks in
the files are playback settings of whoever typed them. Time is exact: 480 ticks a quarter, the 32nd note is the
shortest.

Groups: harmonisations of one tune stay in one split. Two chorales share a tune if music21's Riemenschneider catalogue
gives them one title, or if the first eight pitches that the soprano strikes on a beat are the same up to transposition;
both relations are followed to the end, so a tune sung to several texts is one group. The group bears the name of its
first file.

The listing needs the tunes, so it parses the corpus in the launcher (about 15 s of one core) and keeps the result under
the user's cache folder, by music21's version and the file's sha256; workers and later runs read it from there.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from beam_pipelines.corpora.cache import cache_folder, read_entry, write_entry
from beam_pipelines.corpora.corpus import Item, Skip, read_item
from beam_pipelines.corpora.tunes import group_tunes, opening
from media.musicxml import CHOIR, TICKS_PER_QUARTER, VELOCITY, count_parts, piece_of_text, score_text
from media.storage import list_files
from schemas.errors import InputError, MissingExtra, Unreadable
from schemas.grid import VOICES, voices_fault
from schemas.music import Notes, Piece, TempoMap
from schemas.naming import item_name
from schemas.settings import setting

_ENTRY_FORMAT = 1


@dataclass(frozen=True)
class Music21Chorales:
    """The corpus `music21-chorales`; `--input` is not needed (it would be another folder of .mxl files)."""

    name: ClassVar[str] = "music21-chorales"
    version: ClassVar[str] = "that of the installed music21"
    licence: ClassVar[str] = (
        "The music is in the public domain. The encodings belong to their makers (Margaret Greentree, "
        "www.jsbchorales.net) and come with music21, whose licence says that some may not be used commercially: "
        "use them where they are installed, share none."
    )
    citation: ClassVar[str] = """@inproceedings{cuthbert2010music21,
  title = {music21: A Toolkit for Computer-Aided Musicology and Symbolic Music Data},
  author = {Michael Scott Cuthbert and Christopher Ariza},
  booktitle = {Proceedings of the 11th International Society for Music Information Retrieval Conference},
  year = {2010},
  pages = {637--642}
}
"""
    where: ClassVar[str] = "inside the music21 package: pip install 'stretto[music21]'"
    pitch_range: ClassVar[tuple[int, int]] = (0, 127)
    official_splits: ClassVar[bool] = False
    needs_input: ClassVar[bool] = False
    takes: ClassVar[dict[str, str]] = {
        "metavar": "DIR",
        "help": "Folder or .zip archive of other .mxl files; without it those of the installed music21 are read.",
    }
    extra: ClassVar[str | None] = "music21"

    tempo: float = setting(
        100.0, help="Quarter notes a minute of every chorale; 100 puts sixteenths on whole steps of 10 ms."
    )

    def __post_init__(self) -> None:
        if not 1 <= self.tempo <= 1000:
            raise ValueError(f"tempo {self.tempo} must lie between 1 and 1000 quarter notes a minute")

    def items(self, root: str) -> Iterator[Item]:
        """Every .mxl file, sorted by name; the group is the tune. Raises MissingExtra without music21."""
        items = [
            Item(item_name(self.name, path), "", path=path) for path in list_files(_folder(root)) if _is_score(path)
        ]
        if not items:
            raise InputError(
                f"{_folder(root)}: holds no .mxl files. Leave --input away to read the chorales of music21."
            )
        items.sort(key=lambda item: item.name)
        tunes = group_tunes({item.name: self._traits(item, root) for item in items})
        for item in items:
            yield Item(item.name, tunes[item.name], path=item.path)

    def _traits(self, item: Item, root: str) -> list[str]:
        """What a chorale shares with others of its tune: title and opening; nothing for a file that is not read."""
        try:
            chorale = _chorale(self.read(item, root), item.path)
        except (Skip, Unreadable):
            return []
        title = "".join(filter(str.isalpha, chorale["title"].casefold()))
        return [trait for trait in (f"title {title}" if title else "", _opening(chorale["notes"])) if trait]

    def read(self, item: Item, root: str) -> bytes:
        """The bytes of the .mxl file. Raises Unreadable."""
        return read_item(item, _folder(root))

    def parse(self, item: Item, root: str, data: bytes | None = None) -> Piece:
        """The chorale, soprano to bass as tracks 0 to 3. Raises Skip where there are not four voices, Unreadable."""
        chorale = _chorale(self.read(item, root) if data is None else data, item.path)
        start, end, pitch, track = zip(*chorale["notes"], strict=True)
        return Piece(
            name=item.name,
            notes=Notes.of(start, end, pitch, VELOCITY, CHOIR, track),
            tempo=TempoMap.constant(TICKS_PER_QUARTER, 60e6 / self.tempo),
            time_signatures=tuple((tick, top, bottom) for tick, top, bottom in chorale["time_signatures"]),
            key_signatures=tuple((tick, sharps, minor) for tick, sharps, minor in chorale["key_signatures"]),
            labels={"title": chorale["title"], "voices": VOICES},
        )

    def ignored(self, root: str) -> dict[str, int]:
        """Files of the folder that are no .mxl files, counted by extension."""
        counts = Counter(os.path.splitext(path)[1].lower() for path in list_files(_folder(root)) if not _is_score(path))
        return dict(sorted(counts.items()))

    def reports(self, root: str) -> list[str]:
        """Nothing: what is skipped stands in the ledger."""
        return []

    def version_at(self, root: str) -> str:
        """The version of the installed music21. Raises MissingExtra."""
        return _music21_version()


def _folder(root: str | None) -> str:
    if root:
        return root
    spec = importlib.util.find_spec("music21")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("music21", "music21")
    return os.path.join(spec.submodule_search_locations[0], "corpus", "bach")


@cache
def _music21_version() -> str:
    try:
        return importlib.metadata.version("music21")
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtra("music21", "music21") from None


def _is_score(path: str) -> bool:
    return path.lower().endswith(".mxl")


def _opening(notes: list[list[int]]) -> str:
    """The soprano's first pitches that are struck on a beat, as semitones above the first; "" for a fragment."""
    soprano = sorted((start, pitch) for start, _, pitch, track in notes if track == 0)
    first = soprano[0][0]
    return opening([pitch for start, pitch in soprano if (start - first) % TICKS_PER_QUARTER == 0])


def _chorale(data: bytes, path: str) -> dict[str, Any]:
    """Notes (start tick, end tick, pitch, voice), signatures and title of a file, from the cache where it is there."""
    sha256 = hashlib.sha256(data).hexdigest()
    entry = os.path.join(cache_folder(), "music21-chorales", f"{_music21_version()}-{_ENTRY_FORMAT}", f"{sha256}.json")
    chorale = read_entry(entry)
    if chorale is None:
        chorale = _parsed(data, path)
        write_entry(entry, chorale)
    if chorale["skip"]:
        raise Skip(chorale["skip"][0], f"{path}: {chorale['skip'][1]}")
    return dict(chorale)


def _parsed(data: bytes, path: str) -> dict[str, Any]:
    text = score_text(data, path)
    parts = count_parts(text)
    if parts != len(VOICES):
        return {"skip": ["not-four-parts", f"{parts} parts; only scores of four parts are chorales in four voices"]}
    piece = piece_of_text(text, path)
    fault = voices_fault(piece)
    if fault:
        return {"skip": ["not-four-voices", fault]}
    notes = piece.notes
    columns = (column.tolist() for column in (notes.start, notes.end, notes.pitch, notes.track))
    return {
        "skip": None,
        "title": _title(path),
        "notes": [list(note) for note in zip(*columns, strict=True)],
        "time_signatures": [list(signature) for signature in piece.time_signatures],
        "key_signatures": [list(signature) for signature in piece.key_signatures],
    }


def _title(path: str) -> str:
    """The title in music21's Riemenschneider catalogue, by the BWV number in the file name; "" where it lists none."""
    from music21.corpus.chorales import ChoraleListRKBWV

    number = os.path.splitext(os.path.basename(path))[0].removeprefix("bwv")
    titles = {str(entry["bwv"]): str(entry["title"]) for entry in ChoraleListRKBWV().byRiemenschneider.values()}
    return titles.get(number, "")
