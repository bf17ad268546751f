"""Bach's chorales as the published likelihoods are measured on them: the file Jsb16thSeparated.json, 229/76/77 pieces.

The file holds, for each split, a list of chorales; a chorale is a list of sixteenths, a sixteenth the pitches of
soprano, alto, tenor and bass, -1 for silence. It does not tell a held note from one struck again: equal neighbours
become one note here, and a piece is as long as its list, rests at its end included. It names no tempo, bars, titles or
keys.

Groups: with the official splits a group is a piece. Harmonisations of one tune, which the published splits divide, are
then no leaks; but chorales that share four bars of all voices, in any key, are one piece, and three lie in two
splits: train 224 is valid 74 with a part of it repeated, train 142 a variant of valid 58, 124 one of test 69. They
are kept, because the benchmark is the whole file, and `verify` reports them as known. So it does with a fourth pair,
which is a near copy on a grid of quarters only (`corpus_copies`): train 197 holds test 49. Where splits are made anew,
a group is a tune: chorales whose soprano has the same pitches on its first eight beats, up to transposition, or that
are one piece.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from beam_pipelines.corpora.corpus import Item, read_file
from beam_pipelines.corpora.tunes import group_tunes, opening
from media.archive import is_archive
from media.storage import list_files, local
from schemas.documents import parse_json
from schemas.errors import InputError, Unreadable
from schemas.grid import GRIDS, REST, VOICES, Cells, piece_of
from schemas.music import Piece
from schemas.naming import item_name
from schemas.settings import setting

FILE = "Jsb16thSeparated.json"
SHA256 = "79294cc374f9252e95ef4b703161524c1c53dc1f712c236f00f1c1f5d54af5a7"
SPLITS = {"train": "train", "valid": "validation", "test": "test"}
"""A list of the file -> its split."""
STEPS_PER_QUARTER = GRIDS["16th"]
LARGEST_FILE = 16 << 20
"""Bytes; the published file has 1.7 million."""
MOST_CHORALES = 10_000
"""The published file has 382. A list of numbers has millions of entries, and each would become an item."""
_LEAST_REPEATED = 0.5
"""Share of the steps of a file that are the one before again: 0.64 in the published file, 0.30 on its 8ths alone."""
_DEPTH = 4
_SAME_STEPS = 64
_SILENCE = -1
_SOURCE = "https://github.com/czhuang/JSB-Chorales-dataset"
_REMEDY = f"Give --input {FILE} from {_SOURCE}, or the folder that holds it."


@dataclass(frozen=True)
class Jsb:
    """The corpus `jsb`: `--input` is Jsb16thSeparated.json, or the folder or zip that holds it."""

    name: ClassVar[str] = "jsb"
    version: ClassVar[str] = f"sha256:{SHA256}"
    licence: ClassVar[str] = (
        "The chorales are in the public domain. Who typed them states no licence for the file: "
        "use it where you find it, share none of it."
    )
    citation: ClassVar[str] = """@inproceedings{boulanger2012modeling,
  title = {Modeling Temporal Dependencies in High-Dimensional Sequences: Application to Polyphonic Music Generation
           and Transcription},
  author = {Nicolas Boulanger-Lewandowski and Yoshua Bengio and Pascal Vincent},
  booktitle = {Proceedings of the 29th International Conference on Machine Learning},
  year = {2012}
}

@inproceedings{huang2017counterpoint,
  title = {Counterpoint by Convolution},
  author = {Cheng-Zhi Anna Huang and Tim Cooijmans and Adam Roberts and Aaron Courville and Douglas Eck},
  booktitle = {Proceedings of the 18th International Society for Music Information Retrieval Conference},
  year = {2017}
}
"""
    where: ClassVar[str] = f"{_SOURCE} ({FILE}, with the voices apart); give the file, or the folder that holds it"
    pitch_range: ClassVar[tuple[int, int]] = (0, 127)
    official_splits: ClassVar[bool] = True
    whole_splits: ClassVar[bool] = True
    needs_input: ClassVar[bool] = True
    takes: ClassVar[dict[str, str]] = {
        "metavar": "FILE",
        "help": f"{FILE}, or the folder or .zip archive that holds it.",
    }
    extra: ClassVar[str | None] = None

    tempo: float = setting(100.0, help="Quarter notes a minute of every chorale; the file names none.")

    def __post_init__(self) -> None:
        if not 1 <= self.tempo <= 1000:
            raise ValueError(f"tempo {self.tempo} must lie between 1 and 1000 quarter notes a minute")

    def items(self, root: str) -> Iterator[Item]:
        """Every chorale, sorted by name; the group is the piece. Raises InputError where the file is not this one."""
        yield from _items(root, _pieces)

    def items_anew(self, root: str) -> Iterator[Item]:
        """The same for splits that are made anew; the group is the tune."""
        yield from _items(root, _tunes)

    def read(self, item: Item, root: str) -> bytes:
        """The bytes of the whole file. Raises Unreadable."""
        return read_file(_folder(root), item.path)

    def parse(self, item: Item, root: str, data: bytes | None = None) -> Piece:
        """The chorale, soprano to bass as tracks 0 to 3. Raises Unreadable."""
        chorale = _chorale(self.read(item, root) if data is None else data, item)
        return piece_of(_cells(chorale, item.name), STEPS_PER_QUARTER, self.tempo, name=item.name)

    def ignored(self, root: str) -> dict[str, int]:
        """The other files of the folder, counted by extension."""
        if os.path.isfile(root) and not is_archive(root):
            return {}
        counts = Counter(os.path.splitext(path)[1].lower() for path in list_files(root) if path != FILE)
        return dict(sorted(counts.items()))

    def reports(self, root: str) -> list[str]:
        """That the file is not the published one, where it is not, and whether its steps look like sixteenths."""
        if self.version_at(root) == self.version:
            return []
        told = f"{_path(root)} is not the published file ({self.version}): what is measured on it compares with nothing"
        repeated = _repeated(_file(_data(root), _path(root)))
        if repeated >= _LEAST_REPEATED:
            return [told]
        return [
            f"{told}; only {repeated:.0%} of its steps repeat the one before, so they may be longer than sixteenths"
        ]

    def version_at(self, root: str) -> str:
        """The sha256 of the file. Raises InputError where there is none."""
        return f"sha256:{hashlib.sha256(_data(root)).hexdigest()}"


def _folder(root: str) -> str:
    """The folder of the file, where the root is the file itself."""
    return os.path.dirname(root) or "." if os.path.isfile(root) and not is_archive(root) else root


def _path(root: str) -> str:
    return os.path.basename(root) if _folder(root) != root else FILE


def _data(root: str) -> bytes:
    try:
        return read_file(_folder(local(root)), _path(root), LARGEST_FILE)
    except Unreadable as error:
        what = f"holds no {_path(root)}" if error.reason == "missing-file" else f"{error}"
        raise InputError(f"{root}: {what}.") from error


@lru_cache(maxsize=1)
def _file(data: bytes, path: str) -> dict[str, list[Any]]:
    """The lists of chorales by their names in the file. Raises InputError for anything else."""
    lists = parse_json(data, path, LARGEST_FILE, _DEPTH, unique_keys=True)
    if not isinstance(lists, dict) or lists.keys() != SPLITS.keys():
        found = f"an object of {', '.join(map(repr, lists))[:100]}" if isinstance(lists, dict) else type(lists).__name__
        raise InputError(f"{path}: expected an object of the lists {', '.join(SPLITS)}, found {found}.")
    for name, chorales in lists.items():
        if not isinstance(chorales, list):
            raise InputError(f"{path}: {name!r} is no list of chorales but {type(chorales).__name__}.")
    count = sum(map(len, lists.values()))
    if count > MOST_CHORALES:
        raise InputError(f"{path}: {count:,} chorales, of which at most {MOST_CHORALES:,} are read.")
    return lists


def _chorale(data: bytes, item: Item) -> Any:
    try:
        lists = _file(data, item.path)
    except InputError as error:
        raise Unreadable("bad-json", str(error)) from error
    name, _, number = item.part.partition("/")
    if not int(number) < len(lists.get(name, ())):
        raise Unreadable("missing-part", f"{item.name}: the file holds no such chorale any more")
    return lists[name][int(number)]


def _cells(chorale: Any, name: str) -> Cells:
    """The cells of one entry of a list. Raises Unreadable, with the step, for what is no chorale in four voices."""
    if not isinstance(chorale, list) or not chorale:
        raise Unreadable("bad-chorale", f"{name}: no list of sixteenths, or an empty one")
    for number, step in enumerate(chorale):
        if not isinstance(step, list) or len(step) != len(VOICES) or not all(map(_is_pitch, step)):
            raise Unreadable(
                "bad-chorale", f"{name}: sixteenth {number} is {step!r:.60}, not four whole numbers from -1 to 127"
            )
    cells = np.array(chorale)
    return np.where(cells == _SILENCE, REST, cells).astype(np.uint8)


def _is_pitch(value: Any) -> bool:
    return type(value) is int and _SILENCE <= value < REST


def _items(root: str, groups: Any) -> Iterator[Item]:
    path, cells, items, faults = _path(root), {}, [], []
    try:
        lists = _file(_data(root), path)
    except InputError as error:
        what = str(error).removesuffix(".")
        raise InputError(f"{what}. {_REMEDY}") from error
    for name, chorales in lists.items():
        for number, chorale in enumerate(chorales):
            part = f"{name}/{number:03d}"
            item = Item(item_name(Jsb.name, path, part), "", SPLITS[name], path, part)
            items.append(item)
            try:
                cells[item.name] = _cells(chorale, part)
            except Unreadable as error:
                # Its turn comes when it is parsed.
                cells[item.name] = np.zeros((0, len(VOICES)), np.uint8)
                faults.append(str(error))
    _check_kind(path, len(items), faults)
    group = groups(cells)
    yield from sorted((replace(item, group=group[item.name]) for item in items), key=lambda item: item.name)


def _check_kind(path: str, chorales: int, faults: list[str]) -> None:
    """Raises InputError where most of the chorales are none: the file is of another kind, and none of them is bad."""
    if len(faults) > chorales / 2:
        raise InputError(
            f"{path}: {len(faults):,} of its {chorales:,} chorales are no lists of four voices apart "
            f"({faults[0]}), so it is no {FILE}. {_REMEDY}"
        )


def _repeated(lists: dict[str, list[Any]]) -> float:
    """The share of steps that are the one before again; what is no chorale counts as it lies there."""
    chorales = [chorale for of_split in lists.values() for chorale in of_split if isinstance(chorale, list)]
    pairs = [step == before for chorale in chorales for before, step in zip(chorale, chorale[1:], strict=False)]
    return sum(pairs) / len(pairs) if pairs else 1.0


def _pieces(cells: dict[str, Cells]) -> dict[str, str]:
    """Name -> the smallest name of the piece: chorales that share four bars of all voices, in any key, are one."""
    return group_tunes({name: _passages(found) for name, found in cells.items()})


def _passages(cells: Cells) -> set[str]:
    """Every four bars, begun at any step, or all there are, as digests that transposition does not change."""
    windows = (cells[start : start + _SAME_STEPS] for start in range(max(1, len(cells) - _SAME_STEPS + 1)))
    return {_in_any_key(window) for window in windows if (window < REST).any()}


def _in_any_key(cells: Cells) -> str:
    sounds = cells < REST
    moved = np.where(sounds, cells - cells[sounds].min(), REST)
    return hashlib.blake2b(moved.tobytes(), digest_size=16).hexdigest()


def _tunes(cells: dict[str, Cells]) -> dict[str, str]:
    """Name -> the smallest name of the tune: the soprano's opening, or one piece."""
    pieces = _pieces(cells)
    return group_tunes({name: ["piece " + pieces[name], *_opening(found)] for name, found in cells.items()})


def _opening(cells: Cells) -> list[str]:
    soprano = cells[:, 0]
    sounding = np.flatnonzero(soprano < REST)
    beats = soprano[sounding[0] :: STEPS_PER_QUARTER] if len(sounding) else soprano
    trait = opening([int(pitch) for pitch in beats if pitch < REST])
    return [trait] if trait else []
