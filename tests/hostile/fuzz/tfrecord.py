"""Attacks a shard and its index: read in a row, through the index, and as training reads them."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from random import Random

import numpy as np

from schemas.errors import InputError
from schemas.feature import KEY_FEATURES, Feature, RecordError
from schemas.manifest import Manifest, Shard
from schemas.naming import index_name, shard_name
from schemas.record import CorruptRecord, frame, from_example, index_line, read_framed, read_index, to_example
from trainer.data import Reader

LONGEST = 1 << 14
NAME = shard_name("fuzz", "train", 0, 1)
FEATURES = (
    {
        "tokens": Feature("uint16", ("token",), (8,), storage="raw"),
        "start_token": Feature("int64"),
        "level": Feature("float32", ("frame",), (2,)),
    },
    {"steps": Feature("int32", ("step",), (3,)), "cells": Feature("int16", ("row", "column"), (2, 3), storage="raw")},
    {"tokens": Feature("uint16", ("token",), (None,), storage="raw"), "count": Feature("uint8")},
)


def attack(data: bytes) -> None:
    """Whatever shard and index hold, each record is one that was written or is refused, and no two readers differ."""
    features, index, shard = taken_apart(data)
    folder, path = _written(index, shard)
    with suppress(CorruptRecord):
        for _, payload in read_framed(path):
            with suppress(RecordError):
                from_example(payload, {**KEY_FEATURES, **features})
    with suppress(InputError):
        table = read_index(os.path.join(folder, index_name(NAME)))
        if len(table):
            _attack_reader(folder, _vouching(features, index, shard, len(table)))


def _attack_reader(folder: str, manifest: Manifest) -> None:
    try:
        is_whole = _attack_skipping(Reader(folder, manifest, "train", on_corrupt="skip"))
    except CorruptRecord as error:
        raise AssertionError(f"a corrupt record is not skipped: {error}") from error
    if not is_whole:
        try:
            list(Reader(folder, manifest, "train").in_order(3))
        except CorruptRecord:
            return
        raise AssertionError("a corrupt record was read though it is not to be skipped")


def _attack_skipping(source: Reader) -> bool:
    """Whether every record was found sound, one by one and in batches alike."""
    sound = [number for number in range(len(source)) if _is_sound(source, number)]
    if sound:
        weights = np.concatenate([batch["example_weight"] for batch in source.in_order(3)])
        assert weights[: len(source)].sum() == len(sound), "what is skipped in a batch is not what is skipped alone"
        assert sorted(source.corrupt) == sorted(set(range(len(source))) - set(sound))
    return len(sound) == len(source)


def _is_sound(source: Reader, number: int) -> bool:
    """Whether a record is read as it stands; then both ways of reading it must agree."""
    try:
        row, weight = source.read(np.array([number]))
    except CorruptRecord:
        raise
    except InputError:  # there is no sound record at all
        return False
    if not weight[0]:
        return False
    parsed = source.record(number)
    for name, values in row.items():
        is_float = values.dtype.kind == "f"  # of a number that is none, the bits may differ
        assert np.array_equal(values[0], parsed[name], equal_nan=is_float), f"{name} is read in two ways"
    return True


def taken_apart(data: bytes) -> tuple[dict[str, Feature], bytes, bytes]:
    """Features, index and shard of an input: a byte, the length of the index in two, index, shard."""
    head = data[:3].ljust(3, b"\0")
    length = int.from_bytes(head[1:], "little")
    return FEATURES[head[0] % len(FEATURES)], data[3 : 3 + length], data[3 + length :]


def put_together(kind: int, index: bytes, shard: bytes) -> bytes:
    """The inverse of `taken_apart`."""
    return bytes([kind]) + len(index).to_bytes(2, "little") + index + shard


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    os.mkdir(os.path.join(folder.name, "index"))
    return folder


def _written(index: bytes, shard: bytes) -> tuple[str, str]:
    """Folder and shard. Files are new ones: the last input's may still be mapped."""
    folder = _folder().name
    for name, content in ((NAME, shard), (index_name(NAME), index)):
        path = os.path.join(folder, name)
        with suppress(FileNotFoundError):
            os.unlink(path)
        with open(path, "wb") as file:
            file.write(content)
    return folder, os.path.join(folder, NAME)


def _vouching(features: dict[str, Feature], index: bytes, shard: bytes, records: int) -> Manifest:
    """A manifest that says of these bytes that they are what was written, as a forger's would."""
    sums = (hashlib.sha256(part).hexdigest() for part in (shard, index))
    size = len(shard) if records % 7 else len(shard) + 50
    return Manifest("fuzz", "1", "events", {}, features, (Shard(NAME, "train", records, size, *sums),))


def seeds() -> Iterator[bytes]:
    """A few records of each set of features, and nothing at all."""
    for kind, features in enumerate(FEATURES):
        for count in (0, 1, 4):
            yield sealed(kind, [_payload(features, number) for number in range(count)])


def sealed(kind: int, payloads: list[bytes]) -> bytes:
    """An input whose framing, checksums and index are right, whatever the payloads are."""
    framed = [frame(payload) for payload in payloads]
    starts = np.cumsum([0, *map(len, framed)]).tolist()
    index = "".join(index_line(start, len(record)) for start, record in zip(starts, framed, strict=False))
    return put_together(kind, index.encode(), b"".join(framed))


def _payload(features: dict[str, Feature], number: int) -> bytes:
    draw = np.random.default_rng(number)
    record = {"key": b"fuzz/%d.mid#+0@1/00000" % number, "group": b"g" * number}
    for name, feature in features.items():
        shape = tuple(5 if length is None else length for length in feature.shape)
        record[name] = draw.integers(0, 100, shape).astype(feature.dtype)
    return to_example(record, {**KEY_FEATURES, **features})


def mutated(data: bytes, draw: Random, plain: Callable[[bytes], bytes]) -> bytes:
    """The next input to try: damage anywhere, or in a payload or the index with everything around it made right."""
    kind = draw.randrange(len(FEATURES))
    _, index, shard = taken_apart(data)
    payloads = _payloads(shard)
    chance = draw.random()
    if chance < 0.3 and data:
        return plain(data)
    if chance < 0.8 and payloads:
        place = draw.randrange(len(payloads))
        payloads[place] = plain(payloads[place]) if payloads[place] else b"\n"
        return sealed(data[0], payloads)
    if chance < 0.9 and index:
        return put_together(data[0], plain(index)[:0xFFFF], shard)
    return sealed(kind, [_payload(FEATURES[kind], draw.randrange(99)) for _ in range(draw.randrange(9))])


def _payloads(shard: bytes) -> list[bytes]:
    """The payloads by their lengths, checksums or not."""
    found, at = [], 0
    while at + 16 <= len(shard) and len(found) < 16:
        length = int.from_bytes(shard[at : at + 8], "little")
        found.append(shard[at + 12 : at + 12 + length])
        at += length + 16
    return found
