"""The only reader of shards: examples in a random order that hangs on seed and position alone, as NumPy batches.

Shards are mapped into memory and records found through their indexes. The position of the stream is the number of examples
consumed, one integer: example n is record `permutation(seed, n // N)[n % N]` of N. The permutation is computed, not stored, so a
run continues anywhere at no cost, and changing the size of a batch changes neither the order nor the examples.

A record is a tf.train.Example, whose bytes are the same for all records but for their values and the lengths of these. So instead
of parsing, `Field.find` compares the bytes that a feature must begin with; where they differ, the whole record is parsed. Every
checksum is checked.
"""

from __future__ import annotations

import mmap
import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np

from schemas.errors import InputError, UsageError
from schemas.feature import Feature, Features, Record, RecordError
from schemas.hashing import stable_hash
from schemas.manifest import Manifest
from schemas.naming import index_name
from schemas.record import FRAMING_BYTES, CorruptRecord, from_example, list_attribute, masked_crc, read_index
from trainer.task import EXAMPLE_WEIGHT

Array = np.ndarray[Any, Any]
_HEADER_BYTES = 12
_ROUNDS = 6
_ORDER_BLOCK = 8192
_MASK_DELTA = 0xA282EAD8


# === Order ===


def permutation(seed: int, epoch: int, size: int, places: Array) -> Array:
    """Which of `size` records stand at these places (int64) of an epoch: a bijection of 0..size-1 that needs no table.

    A Feistel network over the next even number of bits; results outside are sent through again until they fall inside
    (Black and Rogaway 2002, "cycle walking").
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    keys = [stable_hash(seed, epoch, f"order {number}") for number in range(_ROUNDS)]
    found = _feistel(places.astype(np.uint64), half, keys)
    outside = np.flatnonzero(found >= size)
    while outside.size:
        found[outside] = _feistel(found[outside], half, keys)
        outside = outside[found[outside] >= size]
    return found.astype(np.int64)


def _feistel(values: Array, half: int, keys: Sequence[int]) -> Array:
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = values >> shift, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right + np.uint64(key)) & mask)
    return (left << shift) | right


def _mixed(values: Array) -> Array:
    """The finaliser of SplitMix64 (Steele et al. 2014): every bit of the input moves every bit of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def order(seed: int, start: int, count: int, size: int) -> Array:
    """The records of examples start..start+count-1, int64 [count]; examples run through epoch after epoch."""
    numbers = np.arange(start, start + count, dtype=np.int64)
    epochs = numbers // size
    found = np.empty(count, np.int64)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        here = epochs == epoch
        found[here] = permutation(seed, epoch, size, numbers[here] % size)
    return found


# === Fields ===


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _delimited(tag: int, body: bytes) -> bytes:
    return bytes([tag]) + _varint(len(body)) + body


def _read_varint(payload: bytes, at: int) -> tuple[int, int]:
    """Value and the place after it. Raises IndexError at the end of the payload."""
    value = shift = 0
    while True:
        byte = payload[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


_LIST_TAGS = {"bytes_list": 0x0A, "float_list": 0x12, "int64_list": 0x1A}


def entry_head(name: str, attribute: str, size: int) -> bytes:
    """The bytes before the `size` bytes of a feature's value in a tf.train.Example.

    An entry is name and feature, a feature one of three lists, a list one string or packed numbers: each nested with its length.
    """
    filler = bytes(size)
    feature = _delimited(_LIST_TAGS[attribute], _delimited(0x0A, filler))
    entry = _delimited(0x0A, _delimited(0x0A, name.encode()) + _delimited(0x12, feature))
    return entry[: len(entry) - size]


@dataclass(frozen=True)
class Field:
    """Where one feature's value lies in a payload.

    Attributes:
        name, feature: which.
        size: bytes of the value, or 0 where they vary.
        heads: {bytes of the value: the bytes before it}.
        by_entry: {first length in the entry: (head, bytes of the value)}, for values of several sizes.
    """

    name: str
    feature: Feature
    size: int
    heads: Mapping[int, bytes]
    by_entry: Mapping[int, tuple[bytes, int]]

    @property
    def is_string(self) -> bool:
        """Whether the value is a byte string of any length."""
        return self.feature.dtype == "bytes"

    def find(self, payload: bytes, at: int) -> tuple[int, int]:
        """Begin and end of the value in the entry that begins at `at`; (-1, -1) where it is not written as expected."""
        if self.size:
            head = self.heads[self.size]
            start = at + len(head)
            return (start, start + self.size) if payload.startswith(head, at) else (-1, -1)
        length, inner = _read_varint(payload, at + 1)
        end = inner + length
        if self.is_string:
            return self._find_string(payload, inner, end)
        head, size = self.by_entry.get(length, (b"\xff", 0))
        return (end - size, end) if payload.startswith(head, at) else (-1, -1)

    def _find_string(self, payload: bytes, inner: int, end: int) -> tuple[int, int]:
        name = self.heads[0]
        if not payload.startswith(name, inner):
            return -1, -1
        at = inner + len(name)
        for tag in (0x12, 0x0A, 0x0A):
            if payload[at] != tag:
                return -1, -1
            length, at = _read_varint(payload, at + 1)
            if at + length != end:
                return -1, -1
        return at, end


def make_field(name: str, feature: Feature) -> Field | None:
    """How to find a feature without parsing, or None where it must be parsed."""
    attribute = list_attribute(feature)
    if feature.dtype == "bytes":
        return Field(name, feature, 0, {0: _delimited(0x0A, name.encode())}, {})
    if None in feature.shape or feature.storage == "flac":
        return None
    count = int(np.prod(feature.shape, dtype=np.int64))
    if attribute == "int64_list":
        return _scalar(name, feature) if feature.shape == () else None
    size = count * np.dtype(feature.dtype).itemsize
    return Field(name, feature, size, {size: entry_head(name, attribute, size)}, {}) if size else None


def _scalar(name: str, feature: Feature) -> Field:
    heads = {size: entry_head(name, "int64_list", size) for size in range(1, 11)}
    by_entry = {_read_varint(head, 1)[0]: (head, size) for size, head in heads.items()}
    return Field(name, feature, 0, {}, by_entry)


def find_all(payload: bytes, fields: Sequence[Field]) -> list[tuple[int, int]] | None:
    """Begin and end of every field's value; None where the payload is not exactly these fields in order of their names."""
    try:
        length, at = _read_varint(payload, 1)
        if payload[0] != 0x0A or at + length != len(payload):
            return None
        spans = []
        for field in fields:
            span = field.find(payload, at)
            at = span[1]
            if at < 0:
                return None
            spans.append(span)
    except IndexError:
        return None
    return spans if at == len(payload) and fields else None


# === Shards ===


@dataclass(frozen=True)
class Shards:
    """The mapped shards of a split and where their records lie.

    Attributes:
        paths, maps: of the shards that hold records.
        shard, offset, length: of every record, int64 [record]; length is that of the payload.
        first: number of the first record of each shard.
    """

    paths: tuple[str, ...]
    maps: tuple[mmap.mmap, ...]
    shard: Array
    offset: Array
    length: Array
    first: tuple[int, ...]

    def corrupt(self, record: int, what: str) -> CorruptRecord:
        """The error that names a record's shard, its number there and its place."""
        shard = int(self.shard[record])
        return CorruptRecord(self.paths[shard], record - self.first[shard], int(self.offset[record]), what)

    def payload(self, record: int) -> bytes:
        """The bytes of one record, checked. Raises CorruptRecord."""
        return self.payloads([record])[0]

    def payloads(self, records: Sequence[int] | Array) -> list[bytes]:
        """The bytes of records, checked: framing, and both checksums. Raises CorruptRecord."""
        found = []
        maps, crc = self.maps, google_crc32c.value
        places = zip(
            self.shard[records].tolist(), self.offset[records].tolist(), self.length[records].tolist(), strict=True
        )
        for number, (shard, offset, length) in enumerate(places):
            data = maps[shard]
            begin = offset + _HEADER_BYTES
            end = begin + length
            payload = data[begin:end]
            check = crc(payload)
            stored = int.from_bytes(data[end : end + 4], "little")
            if (((check >> 15) | (check << 17)) + _MASK_DELTA) & 0xFFFFFFFF != stored:
                raise self.corrupt(int(records[number]), "checksum of the payload does not match")
            if data[offset:begin] != _header(length):
                raise self.corrupt(int(records[number]), "its length, or that length's checksum, does not match its index")
            found.append(payload)
        return found


_HEADERS: dict[int, bytes] = {}


def _header(length: int) -> bytes:
    """The framing before a payload: its length and that length's checksum."""
    if length not in _HEADERS:
        text = length.to_bytes(8, "little")
        _HEADERS[length] = text + masked_crc(text).to_bytes(4, "little")
    return _HEADERS[length]


def open_shards(folder: str, manifest: Manifest, split: str) -> Shards:
    """The shards of a split, mapped. Raises InputError where one is missing or does not match its index."""
    paths, maps, parts, first = [], [], [], [0]
    for shard in manifest.shards_of(split):
        if not shard.records:
            continue
        path = os.path.join(folder, shard.name)
        index = _index(folder, shard.name, shard.records)
        with _opened(path) as file:
            maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        _check_index(path, index, len(maps[-1]))
        paths.append(path)
        parts.append(np.column_stack([np.full(len(index), len(paths) - 1, np.int64), index]))
        first.append(first[-1] + len(index))
    if not parts:
        raise UsageError(f"{folder}: its split {split!r} holds no records; it has {', '.join(manifest.splits) or 'none'}")
    table = np.concatenate(parts)
    return Shards(
        tuple(paths), tuple(maps), table[:, 0].copy(), table[:, 1].copy(), table[:, 2] - FRAMING_BYTES, tuple(first[:-1])
    )


def _opened(path: str) -> Any:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise InputError(f"{path}: this shard is missing. Run `stretto verify {os.path.dirname(path)}`.") from None


def _index(folder: str, shard: str, records: int) -> Array:
    path = os.path.join(folder, index_name(shard))
    with _opened(path):
        index = read_index(path)
    if len(index) != records:
        raise InputError(f"{path}: {len(index)} records, the manifest says {records}. Run `stretto verify {folder}`.")
    return index


def _check_index(path: str, index: Array, size: int) -> None:
    bad = np.flatnonzero((index[:, 1] < FRAMING_BYTES) | (index.sum(axis=1) > size))
    if bad.size:
        offset, length = index[bad[0]]
        raise CorruptRecord(path, int(bad[0]), int(offset), f"its index says {length} bytes, the file has {size}")


# === Reader ===


class Reader:
    """Batches of one split of a dataset.

    Args:
        folder: the dataset.
        manifest: its manifest.
        split: "train", "validation" or "test".
        names: the features to read; by default all that are arrays of fixed shape. Byte strings may be asked for.

    Raises:
        UsageError: the split is empty, or a feature asked for has no fixed shape and so cannot be put into batches.
        InputError: a shard is missing or does not match its index.
    """

    def __init__(self, folder: str, manifest: Manifest, split: str, names: Sequence[str] | None = None) -> None:
        self.features: Features = manifest.all_features
        self.names = tuple(sorted(names)) if names is not None else fixed_names(manifest.features)
        _check_names(folder, self.names, self.features)
        self.shards = open_shards(folder, manifest, split)
        fields = {name: make_field(name, feature) for name, feature in sorted(self.features.items())}
        # One feature that must be parsed makes the whole record be parsed.
        self._fields = [field for field in fields.values() if field] if all(fields.values()) else []
        self._wanted = [(place, field) for place, field in enumerate(self._fields) if field.name in self.names]

    def __len__(self) -> int:
        return len(self.shards.shard)

    def record(self, number: int) -> Record:
        """One record with all its features, as the schema reads it. Raises CorruptRecord."""
        return self._parsed(number, self.shards.payload(number))

    def _parsed(self, number: int, payload: bytes) -> Record:
        try:
            return from_example(payload, self.features)
        except RecordError as error:
            raise self.shards.corrupt(number, str(error)) from error

    def read(self, records: Array) -> dict[str, Any]:
        """The chosen features of records (int64 [batch]): {name: [batch, ...]}, byte strings as a list."""
        payloads = self.shards.payloads(records)
        spans = [find_all(payload, self._fields) for payload in payloads]
        columns = {field.name: _column(field, place, payloads, spans) for place, field in self._wanted}
        if None in spans:
            missing = [row for row, span in enumerate(spans) if span is None]
            parsed = {row: self._parsed(int(records[row]), payloads[row]) for row in missing}
            columns = self._filled(columns, parsed, len(payloads))
        return columns

    def _filled(self, columns: dict[str, Any], parsed: Mapping[int, Record], count: int) -> dict[str, Any]:
        """Columns with the rows that had to be parsed."""
        for name in self.names:
            feature = self.features[name]
            if name not in columns:
                empty = np.empty((count, *_fixed(feature)), feature.dtype) if feature.dtype != "bytes" else [b""] * count
                columns[name] = empty
            for row, record in parsed.items():
                columns[name][row] = record[name]
        return columns

    def shuffled(self, seed: int, position: int, batch: int) -> Iterator[dict[str, Any]]:
        """Batches of the endless stream of examples, beginning with example `position`; batches cross epochs."""
        for records in order_in_batches(seed, position, batch, len(self)):
            yield {**self.read(records), EXAMPLE_WEIGHT: np.ones(batch, np.float32)}

    def in_order(self, batch: int, limit: int = 0) -> Iterator[dict[str, Any]]:
        """Every record once (or the first `limit`), in order; the last batch is filled up with examples of weight 0."""
        count = min(len(self), limit) if limit else len(self)
        for start in range(0, count, batch):
            numbers = np.arange(start, start + batch)
            yield {
                **self.read(np.minimum(numbers, count - 1)),
                EXAMPLE_WEIGHT: (numbers < count).astype(np.float32),
            }


def order_in_batches(seed: int, position: int, batch: int, size: int) -> Iterator[Array]:
    """The records of each batch, int64 [batch], for ever. Computed for many examples at once, which is cheaper."""
    count = max(1, _ORDER_BLOCK // batch) * batch
    while True:
        yield from order(seed, position, count, size).reshape(-1, batch)
        position += count


def fixed_names(features: Features) -> tuple[str, ...]:
    """The features that can be put into batches: arrays whose shape is the same in every record."""
    return tuple(sorted(name for name, item in features.items() if item.dtype != "bytes" and None not in item.shape))


def _fixed(feature: Feature) -> tuple[int, ...]:
    return tuple(length for length in feature.shape if length is not None)


def _check_names(folder: str, names: Sequence[str], features: Features) -> None:
    for name in names:
        if name not in features:
            raise UsageError(f"{folder}: no feature {name!r}; its records have {', '.join(sorted(features))}")
        if None in features[name].shape:
            raise UsageError(
                f"{folder}: feature {name!r} has shape {features[name].shape}, which varies from record to record and cannot "
                "be put into batches. Prepare the dataset with a window: `stretto prepare … --window 2048`."
            )


def _column(field: Field, place: int, payloads: Sequence[bytes], spans: Sequence[list[tuple[int, int]] | None]) -> Any:
    """One feature of many payloads; rows whose span is None stay empty."""
    if field.is_string:
        return [payload[span[place][0] : span[place][1]] if span else b"" for payload, span in zip(payloads, spans, strict=True)]
    if field.size:
        parts = [
            payload[span[place][0] : span[place][1]] if span else bytes(field.size)
            for payload, span in zip(payloads, spans, strict=True)
        ]
        values = np.frombuffer(b"".join(parts), np.dtype(field.feature.dtype).newbyteorder("<"))
        return values.reshape(len(payloads), *_fixed(field.feature)).astype(field.feature.dtype)
    values = [_integer(payload, span[place][0]) if span else 0 for payload, span in zip(payloads, spans, strict=True)]
    return np.array(values, np.uint64).astype(np.int64).astype(field.feature.dtype)


def _integer(payload: bytes, at: int) -> int:
    byte = payload[at]
    return byte if byte < 128 else _read_varint(payload, at)[0]


# === Prefetch ===


class Prefetch:
    """Items of an iterator, read ahead by one thread, in order. An error there is raised here, at its place.

    Use it in a `with` statement, or the thread stays.
    """

    def __init__(self, items: Iterator[Any], depth: int = 4) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(items,), name="prefetch", daemon=True)
        self._thread.start()

    def _work(self, items: Iterator[Any]) -> None:
        try:
            for item in items:
                if not self._put((item, None)):
                    return
            self._put((None, StopIteration()))
        except BaseException as error:  # noqa: BLE001 - raised again where the item is asked for
            self._put((None, error))

    def _put(self, pair: Any) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(pair, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        item, error = self._queue.get()
        if error is not None:
            raise error
        return item

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
