"""The only reader of shards: examples in a random order that hangs on seed and position alone, as NumPy batches.

Shards are mapped into memory and records found through their indexes. The position of the stream is the number of
examples consumed, one integer; `trainer.order` says which record each example is. So a run continues anywhere at no
cost, and another size of batch changes neither the order nor the examples. Every checksum is checked.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from schemas.errors import InputError, UsageError
from schemas.feature import Feature, Features, Record, RecordError
from schemas.manifest import Manifest
from schemas.record import CorruptRecord, from_example
from trainer.order import order, order_in_parts
from trainer.shards import open_shards
from trainer.spans import find, make_fields
from trainer.task import EXAMPLE_WEIGHT

Array = np.ndarray[Any, Any]
Redrawing = Callable[[dict[str, Any], int, Array], dict[str, Any]]
"""(columns of a batch, seed, number in the stream of each row) -> columns of as many rows."""
_PART_RECORDS = 512
_PART_BYTES = 3 << 19
"""How much is read at once: enough that NumPy's own costs do not count, little enough that the memory is used again;
larger arrays go back to the system each time, and getting them again costs twice what reading does."""


# === Reader ===


class Reader:
    """Batches of one split of a dataset. Several threads may read at once; each waits for the other.

    Args:
        folder: the dataset.
        manifest: its manifest.
        split: "train", "validation" or "test".
        names: the features to read; by default all that are arrays of fixed shape. Byte strings and arrays whose shape
            varies may be asked for.
        on_corrupt: "fail" raises CorruptRecord; "skip" puts another record in a corrupt one's place, with weight 0.
        redraw: what makes other examples of those of the endless stream.

    Attributes:
        corrupt: what is wrong with each corrupt record met so far, by its number; with "skip" only.

    Raises:
        UsageError: the split is empty, or has no feature that is asked for.
        InputError: a shard or an index is missing, or is not what the manifest says.
    """

    def __init__(
        self,
        folder: str,
        manifest: Manifest,
        split: str,
        names: Sequence[str] | None = None,
        on_corrupt: str = "fail",
        redraw: Redrawing | None = None,
    ) -> None:
        self.features: Features = manifest.all_features
        self.names = tuple(sorted(names)) if names is not None else fixed_names(manifest.features)
        _check_names(folder, self.names, self.features)
        self.shards = open_shards(folder, manifest, split)
        self._fields = make_fields(self.features)
        self._redraw = redraw
        self._skips = on_corrupt == "skip"
        if not self._skips:
            self.shards.check_whole()
        self.corrupt: dict[int, str] = {}
        self._instead: dict[int, int] = {}
        self._one_reads = threading.Lock()

    def __len__(self) -> int:
        return len(self.shards.shard)

    def record(self, number: int) -> Record:
        """One record with all its features, as the schema reads it; with "skip" what stands in a corrupt one's place.

        Raises:
            CorruptRecord, InputError: as `read`.
        """
        with self._one_reads:
            if self._skips:
                number = self._sound_from(self._followed(number))
            return self._parsed([number])[0]

    def records(self, numbers: Iterable[int]) -> list[int]:
        """The records that `in_order` gives at these places: they themselves."""
        return list(numbers)

    def read(self, records: Array) -> tuple[dict[str, Any], Array]:
        """The chosen features of records (int64 [batch]), and their weights.

        Features are {name: [batch, ...]}, byte strings and what varies in shape a list. Weights, float32 [batch], are
        1. With "skip" the weight of a corrupt record is 0, and the next sound one of the split, the same whatever was
        read before, stands there.

        Raises:
            CorruptRecord: a record is not what was written, and `on_corrupt` is "fail".
            InputError: every record of the split is corrupt.
        """
        with self._one_reads:
            return self._read(records)

    def _read(self, records: Array) -> tuple[dict[str, Any], Array]:
        while True:
            sound, known = self._known_sound(records), len(self._instead)
            try:
                return self._columns(sound), (sound == records).astype(np.float32)
            except CorruptRecord:
                if not self._skips:
                    raise
                for number in sound.tolist():
                    self._sound_from(self._followed(number))
                if len(self._instead) == known:
                    raise  # the disk says one thing and then another

    def _known_sound(self, records: Array) -> Array:
        """The records, and in place of those that are known to be corrupt what stands there."""
        if not self._instead:
            return records
        return np.array([self._followed(number) for number in records.tolist()], np.int64)

    def _followed(self, number: int) -> int:
        """The record, or what stands in its place; what stands in that one's place where it went bad later."""
        while number in self._instead:
            number = self._instead[number]
        return number

    def _sound_from(self, number: int) -> int:
        """The first record from this one on that is sound; notes the corrupt ones before it."""
        passed = []
        for at in chain(range(number, len(self)), range(number)):
            if at not in self._instead and self._is_sound(at):
                break
            passed.append(at)
        else:
            raise InputError(f"{self.shards.paths[0]}: every record of this split is corrupt. Prepare it again.")
        self._instead.update(dict.fromkeys(passed, at))
        return at

    def _is_sound(self, number: int) -> bool:
        try:
            self._columns(np.array([number]))
        except CorruptRecord as error:
            self.corrupt[number] = error.what
            return False
        return True

    def _columns(self, records: Array) -> dict[str, Any]:
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
        return {name: np.stack(rows) if is_fixed(self.features[name]) else rows for name, rows in columns.items()}

    def _parsed(self, records: Sequence[int] | Array) -> list[Record]:
        data, rows = self.shards.payloads(np.asarray(records)), []
        for number, begin, end in zip(records, data.begin, data.end, strict=True):
            try:
                rows.append(from_example(data.data[begin:end].tobytes(), self.features))
            except RecordError as error:
                raise self.shards.corrupt(int(number), str(error)) from error
        return rows

    def shuffled(self, seed: int, position: int, batch: int, rows: slice = slice(None)) -> Iterator[dict[str, Any]]:
        """Batches of the endless stream of examples, beginning with example `position`; batches cross epochs.

        Of each batch of all processes only these rows are read. Each is redrawn, where the reader is to, by its number
        in the stream.
        """
        size, batches = len(range(*rows.indices(batch))), self._batches_at_once(batch)
        for numbers in order_in_parts(seed, position, batches * batch, len(self)):
            part, weights = self.read(numbers.reshape(batches, batch)[:, rows].reshape(-1))
            part[EXAMPLE_WEIGHT] = weights
            for start in range(0, batches * size, size):
                found = {name: values[start : start + size] for name, values in part.items()}
                yield self._redraw(found, seed, np.arange(position, position + batch)[rows]) if self._redraw else found
                position += batch

    def example(self, seed: int, number: int) -> Record:
        """Example `number` of the stream as the model is shown it, without its weight."""
        found, weights = self.read(order(seed, number, 1, len(self)))
        if self._redraw:
            found = self._redraw({**found, EXAMPLE_WEIGHT: weights}, seed, np.array([number]))
        return {name: found[name][0] for name in self.names}

    def _batches_at_once(self, batch: int) -> int:
        records = min(_PART_RECORDS, _PART_BYTES // max(1, int(self.shards.length.mean())))
        return max(1, records // batch)

    def in_order(self, batch: int, limit: int = 0, rows: slice = slice(None)) -> Iterator[dict[str, Any]]:
        """Every record once (or the first `limit`), in order; the last batch is filled up with examples of weight 0.

        Of each batch of all processes only these rows are read.
        """
        count = min(len(self), limit) if limit else len(self)
        for start in range(0, count, batch):
            numbers = np.arange(start, start + batch)[rows]
            found, weights = self.read(np.minimum(numbers, count - 1))
            yield {**found, EXAMPLE_WEIGHT: weights * (numbers < count)}


def fixed_names(features: Features) -> tuple[str, ...]:
    """The features that can be put into batches: arrays whose shape is the same in every record."""
    return tuple(sorted(name for name, item in features.items() if is_fixed(item)))


def is_fixed(feature: Feature) -> bool:
    """Whether a feature is an array whose shape is the same in every record."""
    return feature.dtype != "bytes" and None not in feature.shape


def _check_names(folder: str, names: Sequence[str], features: Features) -> None:
    for name in names:
        if name not in features:
            raise UsageError(f"{folder}: no feature {name!r}; its records have {', '.join(sorted(features))}")


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
