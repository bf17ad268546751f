"""The only reader of shards: examples in a random order that hangs on seed and position alone, as NumPy batches.

Shards are mapped into memory and records found through their indexes. The position of the stream is the number of
examples consumed, one integer; `trainer.order` says which record each example is. So a run continues anywhere at no
cost, and another size of batch changes neither the order nor the examples. Every checksum is checked.
"""

from __future__ import annotations

import mmap
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np

from schemas.errors import InputError, UsageError
from schemas.feature import Features, Record, RecordError
from schemas.manifest import Manifest
from schemas.naming import index_name
from schemas.record import FRAMING_BYTES, MASK_DELTA, CorruptRecord, from_example, masked_crc, read_index
from trainer.order import order_in_parts
from trainer.spans import Bytes, find, join, make_fields
from trainer.task import EXAMPLE_WEIGHT

Array = np.ndarray[Any, Any]
_HEADER_BYTES, _TRAILER_BYTES = 12, 4
_PART_RECORDS = 512
_PART_BYTES = 3 << 19
"""How much is read at once: enough that NumPy's own costs do not count, little enough that the memory is used again;
larger arrays go back to the system each time, and getting them again costs twice what reading does."""


# === Shards ===


@dataclass(frozen=True)
class Shards:
    """The mapped shards of a split and where their records lie.

    Attributes:
        paths, maps: of the shards that hold records.
        shard, offset, length: of every record, int64 [record]; length with the framing.
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

    def payloads(self, records: Array) -> Bytes:
        """The bytes of records (int64 [record]), framing and both checksums checked. Raises CorruptRecord."""
        framed, sums, crc, maps = [], [], google_crc32c.value, self.maps
        offset, length = self.offset[records], self.length[records]
        places = zip(self.shard[records].tolist(), offset.tolist(), (offset + length).tolist(), strict=True)
        for shard, begin, end in places:
            record = maps[shard][begin:end]
            framed.append(record)
            sums.append(crc(record[_HEADER_BYTES:-_TRAILER_BYTES]))
        joined = join(framed)
        payloads = Bytes(joined.data, joined.begin + _HEADER_BYTES, joined.end - _TRAILER_BYTES)
        self._check(records, payloads, np.array(sums, np.uint32))
        return payloads

    def _check(self, records: Array, payloads: Bytes, sums: Array) -> None:
        """Compares the framing around payloads with what their lengths and checksums (CRC-32C, uint32) ask for."""
        lengths = (payloads.end - payloads.begin).tolist()
        headers = np.frombuffer(b"".join(map(_header, lengths)), np.uint8).reshape(-1, _HEADER_BYTES)
        self._refuse(
            records,
            (payloads.at(payloads.begin - _HEADER_BYTES, _HEADER_BYTES) != headers).any(axis=1),
            "its length, or the checksum of that, does not match its index",
        )
        masked = ((sums >> np.uint32(15)) | (sums << np.uint32(17))) + np.uint32(MASK_DELTA)
        stored = payloads.at(payloads.end, _TRAILER_BYTES).view("<u4")[:, 0]
        self._refuse(records, stored != masked, "checksum of the payload does not match")

    def _refuse(self, records: Array, wrong: Array, what: str) -> None:
        if wrong.any():
            raise self.corrupt(int(records[int(np.argmax(wrong))]), what)


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
        raise UsageError(
            f"{folder}: its split {split!r} holds no records; it has {', '.join(manifest.splits) or 'none'}"
        )
    table = np.concatenate(parts)
    return Shards(
        tuple(paths), tuple(maps), table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy(), tuple(first[:-1])
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
        self._fields = make_fields(self.features)

    def __len__(self) -> int:
        return len(self.shards.shard)

    def record(self, number: int) -> Record:
        """One record with all its features, as the schema reads it. Raises CorruptRecord."""
        return self._parsed([number])[0]

    def read(self, records: Array) -> dict[str, Any]:
        """The chosen features of records (int64 [batch]): {name: [batch, ...]}, byte strings as a list."""
        data = self.shards.payloads(records)
        if self._fields:
            fits, spans = find(data, self._fields)
            if fits.all():
                return {
                    field.name: field.values(data, spans[field.name])
                    for field in self._fields
                    if field.name in self.names
                }
        rows = self._parsed(records)
        columns = {name: [row[name] for row in rows] for name in self.names}
        return {
            name: rows if self.features[name].dtype == "bytes" else np.stack(rows) for name, rows in columns.items()
        }

    def _parsed(self, records: Sequence[int] | Array) -> list[Record]:
        data, rows = self.shards.payloads(np.asarray(records)), []
        for number, begin, end in zip(records, data.begin, data.end, strict=True):
            try:
                rows.append(from_example(data.data[begin:end].tobytes(), self.features))
            except RecordError as error:
                raise self.shards.corrupt(int(number), str(error)) from error
        return rows

    def shuffled(self, seed: int, position: int, batch: int) -> Iterator[dict[str, Any]]:
        """Batches of the endless stream of examples, beginning with example `position`; batches cross epochs."""
        batches = self._batches_at_once(batch)
        for records in order_in_parts(seed, position, batches * batch, len(self)):
            part = self.read(records)
            for start in range(0, len(records), batch):
                rows = {name: values[start : start + batch] for name, values in part.items()}
                yield {**rows, EXAMPLE_WEIGHT: np.ones(batch, np.float32)}

    def _batches_at_once(self, batch: int) -> int:
        records = min(_PART_RECORDS, _PART_BYTES // max(1, int(self.shards.length.mean())))
        return max(1, records // batch)

    def in_order(self, batch: int, limit: int = 0) -> Iterator[dict[str, Any]]:
        """Every record once (or the first `limit`), in order; the last batch is filled up with examples of weight 0."""
        count = min(len(self), limit) if limit else len(self)
        for start in range(0, count, batch):
            numbers = np.arange(start, start + batch)
            rows = self.read(np.minimum(numbers, count - 1))
            yield {**rows, EXAMPLE_WEIGHT: (numbers < count).astype(np.float32)}


def fixed_names(features: Features) -> tuple[str, ...]:
    """The features that can be put into batches: arrays whose shape is the same in every record."""
    return tuple(sorted(name for name, item in features.items() if item.dtype != "bytes" and None not in item.shape))


def _check_names(folder: str, names: Sequence[str], features: Features) -> None:
    for name in names:
        if name not in features:
            raise UsageError(f"{folder}: no feature {name!r}; its records have {', '.join(sorted(features))}")
        if None in features[name].shape:
            raise UsageError(
                f"{folder}: feature {name!r} has shape {features[name].shape}, which varies from record to record "
                "and cannot be put into batches. Prepare the dataset with a window: `stretto prepare … --window 2048`."
            )


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
