"""Small datasets made through the schemas' code, as `prepare` would write them."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from schemas.feature import Features, Record
from schemas.hashing import file_sha256
from schemas.manifest import COMPLETED, MANIFEST, Manifest, Shard, manifest_to_json
from schemas.naming import copy_key, index_name, shard_name, window_key
from schemas.record import frame, index_line, to_example
from schemas.representations.events import Events
from schemas.representations.voices import Voices
from schemas.settings import to_json
from schemas.tokens import cut_tokens

CORPUS = "synthetic"


def write_shard(
    folder: str, split: str, index: int, total: int, records: Sequence[Record], features: Features
) -> Shard:
    """One shard and its index; every record is checked against nothing but its features' order."""
    name, offset, lines, body = shard_name(CORPUS, split, index, total), 0, [], []
    for record in records:
        body.append(frame(to_example(record, features)))
        lines.append(index_line(offset, len(body[-1])))
        offset += len(body[-1])
    path, idx = os.path.join(folder, name), os.path.join(folder, index_name(name))
    os.makedirs(os.path.dirname(idx), exist_ok=True)
    _write(path, b"".join(body))
    _write(idx, "".join(lines).encode())
    return Shard(
        name, split, len(records), offset, file_sha256(path), hashlib.sha256("".join(lines).encode()).hexdigest()
    )


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def write_dataset(
    folder: str, features: Features, splits: Mapping[str, Sequence[Record]], shards: int = 2, representation: Any = None
) -> Manifest:
    """A finished dataset; `features` without the key features, which every record must hold all the same."""
    os.makedirs(folder, exist_ok=True)
    representation = representation or Events()
    name = type(representation).__name__.lower()
    shell = Manifest(CORPUS, "1", name, to_json(representation), features, ())
    written = [
        write_shard(folder, split, index, shards, list(records)[index::shards], shell.all_features)
        for split, records in sorted(splits.items())
        for index in range(shards)
    ]
    manifest = Manifest(
        CORPUS, "1", name, to_json(representation), features, tuple(sorted(written, key=lambda s: s.name))
    )
    text = manifest_to_json(manifest).encode()
    _write(os.path.join(folder, MANIFEST), text)
    _write(os.path.join(folder, COMPLETED), f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n".encode())
    return manifest


def scales(folder: str, window: int = 64, train: int = 40, validation: int = 7) -> Manifest:
    """Events of rising scales, each from a random note: something that a small model learns in a few steps."""
    representation = Events(window=window)
    counts = {"train": train, "validation": validation}
    splits = {
        split: [_scale(representation, split, number) for number in range(count)] for split, count in counts.items()
    }
    return write_dataset(folder, representation.features(), splits, representation=representation)


def _ids(representation: Events, first_pitch: Callable[[], int]) -> list[int]:
    encode = representation.vocabulary.encode
    ids = [encode("VELOCITY", 20)]
    for pitch in [first_pitch() + step for step in range(30)]:
        ids += [encode("NOTE_ON", pitch), encode("TIME_SHIFT", 10), encode("NOTE_OFF", pitch)]
    return ids


def _scale(representation: Events, split: str, number: int) -> Record:
    draw = np.random.default_rng([number, len(split)])
    ids = _ids(representation, lambda: int(draw.integers(30, 60)))
    real = int(draw.integers(representation.window // 2, representation.window + 1))
    tokens = np.full(representation.window, representation.pad, np.uint16)
    tokens[:real] = ids[:real]
    key = window_key(copy_key(f"{CORPUS}/{split}/{number}.mid", 0, 1.0), 0)
    return {
        "tokens": tokens,
        "start_token": np.int64(0),
        "piece_tokens": np.int64(real),
        "key": key.encode(),
        "group": str(number).encode(),
    }


def whole_scales(folder: str, train: int = 20, validation: int = 5) -> Manifest:
    """Rising scales as whole pieces of 20 to 90 events, each a record, as `--window 0` makes them."""
    representation, splits = Events(window=0), {}
    for split, count in {"train": train, "validation": validation}.items():
        splits[split] = [record for number in range(count) for record in _whole(representation, split, number)]
    return write_dataset(folder, representation.features(), splits, representation=representation)


def _whole(representation: Events, split: str, number: int) -> Iterator[Record]:
    draw = np.random.default_rng([number, len(split)])
    first = int(draw.integers(30, 60))
    tokens = np.array(_ids(representation, lambda: first), np.uint16)[: int(draw.integers(20, 91))]
    key = window_key(copy_key(f"{CORPUS}/{split}/{number}.mid", 0, 1.0), 0)
    for record in cut_tokens(tokens, 0, 0, representation.pad):
        yield {**record, "key": key.encode(), "group": str(number).encode()}


def held_chords(folder: str, window: int = 16, train: int = 24, validation: int = 4) -> Manifest:
    """Cells of four voices, pieces of two windows: chords that are held for four steps and move up by a step."""
    representation, splits = Voices(window=window), {}
    for split, count in {"train": train, "validation": validation}.items():
        splits[split] = [record for number in range(count) for record in _chords(representation, split, number)]
    return write_dataset(folder, representation.features(), splits, representation=representation)


def _chords(representation: Voices, split: str, number: int) -> Iterator[Record]:
    steps = representation.window * 2 - 5
    rise = np.arange(steps)[:, None] // 4 % 4 + number % 5
    piece = representation.piece_from_cells(np.array([67, 60, 55, 43]) + rise)
    for index, record in enumerate(representation.encode(piece)):
        key = window_key(copy_key(f"{CORPUS}/{split}/{number}.mid", 0, 1.0), index)
        yield {**record, "key": key.encode(), "group": str(number).encode()}
