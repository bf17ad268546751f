"""MAESTRO, versions 1 to 3: piano performances of the e-Competition with their official splits.

The group is composer and title, so that all performances of a composition share it; capitals and spaces do not tell two
titles apart (the 856 pairs of v3.0.0 become 823 groups, of which the release itself lets 5 cross its splits).
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from beam_pipelines.corpora.corpus import Item, read_item
from beam_pipelines.corpora.maestro_metadata import Metadata, Row, read_metadata
from media.midi import read_midi
from media.storage import list_files
from schemas.music import Piece
from schemas.naming import SPLITS, item_name

_MIDI = (".mid", ".midi")
_SHOWN = 3


@dataclass(frozen=True)
class Maestro:
    """The corpus `maestro`: `--input` is the release's zip, or the folder that holds maestro-vN.csv or .json."""

    name: ClassVar[str] = "maestro"
    version: ClassVar[str] = "1.0.0 to 3.0.0"
    licence: ClassVar[str] = "CC BY-NC-SA 4.0 (https://creativecommons.org/licenses/by-nc-sa/4.0/)"
    citation: ClassVar[str] = """@inproceedings{hawthorne2019maestro,
  title = {Enabling Factorized Piano Music Modeling and Generation with the {MAESTRO} Dataset},
  author = {Curtis Hawthorne and Andriy Stasyuk and Adam Roberts and Ian Simon and Cheng-Zhi Anna Huang and
            Sander Dieleman and Erich Elsen and Jesse Engel and Douglas Eck},
  booktitle = {International Conference on Learning Representations},
  year = {2019},
  url = {https://openreview.net/forum?id=r1lYRjC9F7}
}
"""
    where: ClassVar[str] = (
        "https://magenta.tensorflow.org/datasets/maestro (maestro-v3.0.0-midi.zip); "
        "give the zip, or the folder that it unpacks to"
    )
    pitch_range: ClassVar[tuple[int, int]] = (21, 108)
    official_splits: ClassVar[bool] = True
    needs_input: ClassVar[bool] = True
    extra: ClassVar[str | None] = None

    def items(self, root: str) -> Iterator[Item]:
        """Every performance that the metadata lists, once, sorted by name. Raises InputError for bad metadata."""
        yield from sorted(_items(read_metadata(root)), key=lambda item: item.name)

    def read(self, item: Item, root: str) -> bytes:
        """The bytes of the item's MIDI file. Raises Unreadable."""
        return read_item(item, root)

    def parse(self, item: Item, root: str, data: bytes | None = None) -> Piece:
        """The performance. Raises Unreadable."""
        return read_midi(self.read(item, root) if data is None else data, item.name)

    def ignored(self, root: str) -> dict[str, int]:
        """Files that are not read, counted by extension; MIDI files that the metadata does not list are among them."""
        metadata = read_metadata(root)
        return dict(sorted(Counter(_extension(path) for path in _unlisted(root, metadata)).items()))

    def reports(self, root: str) -> list[str]:
        """What is odd about this copy: metadata that disagree, rows given twice, MIDI files that are not listed."""
        metadata = read_metadata(root)
        stray = [path for path in _unlisted(root, metadata) if _extension(path) in _MIDI]
        return [*metadata.reports, *_repeats(metadata), *_stray(metadata.file, stray)]

    def version_at(self, root: str) -> str:
        """The version in the metadata's file name."""
        return read_metadata(root).version


def _items(metadata: Metadata) -> Iterator[Item]:
    for path, rows in _by_path(metadata).items():
        first = rows[0]
        split = first.split if first.split in SPLITS else ""
        yield Item(item_name(Maestro.name, path), group_of(first), split, path, refused=_refusal(metadata.file, rows))


def group_of(row: Row) -> str:
    """Composer and title, without regard to capitals, spaces and line ends."""
    return f"{_plain(row.composer)}: {_plain(row.title)}"


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def _refusal(file: str, rows: list[Row]) -> str:
    splits = sorted({row.split for row in rows})
    if len(splits) > 1:
        places = " and ".join(f"{row.split} (row {row.number})" for row in rows)
        return f"two-splits: {file} puts this file into {places}; correct the metadata"
    if splits[0] not in SPLITS:
        return (
            f"unknown-split: {file}, row {rows[0].number}, column 'split': {splits[0]!r} is none of {', '.join(SPLITS)}"
        )
    return ""


def _by_path(metadata: Metadata) -> dict[str, list[Row]]:
    paths: dict[str, list[Row]] = {}
    for row in metadata.rows:
        paths.setdefault(unicodedata.normalize("NFC", row.path), []).append(row)
    return paths


def _repeats(metadata: Metadata) -> list[str]:
    repeats = [
        f"{path} (rows {', '.join(str(row.number) for row in rows)})"
        for path, rows in _by_path(metadata).items()
        if len(rows) > 1
    ]
    return [f"{metadata.file} lists {len(repeats)} files more than once: {_some(repeats)}"] if repeats else []


def _stray(file: str, paths: list[str]) -> list[str]:
    return [f"{len(paths)} MIDI files are not listed in {file} and are not read: {_some(paths)}"] if paths else []


def _unlisted(root: str, metadata: Metadata) -> list[str]:
    known = {*metadata.files, *_by_path(metadata)}
    return [path for path in list_files(root) if path not in known]


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _some(values: list[str]) -> str:
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(values[:_SHOWN]) + more
