"""Attacks the file of the corpus `jsb`: what is listed must be parsed cell for cell, or be refused by name and step."""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from random import Random
from typing import Any

import numpy as np

from beam_pipelines.corpora.jsb import FILE, SPLITS, STEPS_PER_QUARTER, Jsb
from schemas.errors import InputError, Unreadable
from schemas.grid import REST, cells_of
from schemas.music import validate
from tests.hostile.fuzz.json_damage import change

LONGEST = 1 << 14
CORPUS = Jsb()
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, -2, 127, 128, 256, 1 << 31, 1 << 63, 10**99, 10**101, 0.5, 60.0, -0.0, 1e308, "", "60",
    "\x1b[2J\n\u202e", "\ud800", "a" * 500, "train", [], {}, [None], [[]], [[[]]], [[[[]]]], {"": 0}, [60, 55, 50, 45],
    [-1] * 4, [60] * 3, [60] * 5, [[60, 55, 50, 45]], [[60, 55, 50, 45]] * 70, [[-1] * 4] * 70,
)  # fmt: skip
CORNERS = (
    b'"train":[],',
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"//",
    b"[" * 500,
    b"]",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\0",
)


def attack(data: bytes) -> None:
    """The bytes are refused by the file's name, or all chorales in them are listed, and parsed or refused by theirs."""
    root = _written(data)
    try:
        items, anew = list(CORPUS.items(root)), list(CORPUS.items_anew(root))
    except InputError as error:
        assert FILE in str(error) and "Give --input" in str(error) and _is_plain(error), f"{error}"
        return
    lists = json.loads(data.decode("utf-8-sig"))
    assert Counter(item.split for item in items) == Counter(
        {split: len(lists[name]) for name, split in SPLITS.items() if lists[name]}
    )
    names = [item.name for item in items]
    assert names == sorted(set(names)) == [item.name for item in anew]
    assert {item.group for item in (*items, *anew)} <= set(names)
    for item in items:
        name, _, number = item.part.partition("/")
        _attack_chorale(item, data, lists[name][int(number)])


def _attack_chorale(item: Any, data: bytes, numbers: Any) -> None:
    try:
        piece = CORPUS.parse(item, "", data)
    except Unreadable as error:
        assert error.reason == "bad-chorale" and str(error).startswith(item.name) and _is_plain(error), f"{error}"
        return
    validate(piece)
    cells = np.array(numbers)
    assert cells.shape[1:] == (4,) and cells.dtype.kind == "i", f"{item.name} is read from {numbers!r:.60}"
    np.testing.assert_array_equal(cells_of(piece, STEPS_PER_QUARTER), np.where(cells < 0, REST, cells))


def _is_plain(error: Exception) -> bool:
    return str(error).isprintable() and len(str(error)) < 1000


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)


def _written(data: bytes) -> str:
    with open(os.path.join(_folder().name, FILE), "wb") as file:
        file.write(data)
    return _folder().name


def _valid(draw: Random) -> dict[str, Any]:
    """Few pitches and lengths around four bars, so that chorales share passages and openings."""
    return {name: [_chorale(draw) for _ in range(draw.choice((0, 1, 1, 2, 4)))] for name in SPLITS}


def _chorale(draw: Random) -> list[list[int]]:
    first, steps = draw.choice((60, 62)), draw.choice((1, 3, 40, 64, 65, 80))
    held = draw.choice((1, 4, 16))
    tune = [[first + step // held % 5, first - 5, draw.choice((-1, first - 12)), -1] for step in range(steps)]
    return tune if draw.random() < 0.9 else [[-1] * 4] * steps


def seeds() -> Iterator[bytes]:
    """Files of a few chorales, none at all, and things that are none."""
    for number in range(8):
        made = json.dumps(_valid(Random(number)), separators=(",", ":")).encode()
        if len(made) <= LONGEST:
            yield made
    yield from (json.dumps(value).encode() for value in ({name: [] for name in SPLITS}, {}, [], None))


def mutated(data: bytes, draw: Random, plain: Callable[[bytes], bytes]) -> bytes:
    """The next input to try: bytes damaged, or the lists with values changed, gone or there twice."""
    chance = draw.random()
    if chance < 0.2 and data:
        return plain(data)
    if chance < 0.3:
        place = draw.randrange(len(data) + 1)
        return data[:place] + draw.choice(CORNERS) + data[place:]
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or chance < 0.4:
        values = _valid(draw)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        change(values, draw, HOSTILE)
    return json.dumps(values, separators=(",", ":")).encode()
