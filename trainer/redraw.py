"""Training examples drawn anew: another window of each record, in another key, whenever its turn comes.

`--redraw-crop` and `--redraw-transpose` change what is read from train, not what is on the disk: example n of the
stream is drawn with a generator of its own from (seed, n, "redraw"), so it hangs on nothing but its number. A draw
whose key takes a note out of the range is drawn again, place and key, and counted; after some such draws the example
stays in its key, which is counted too. Validation is cut into windows of the same length, in one fixed order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from schemas.errors import UsageError
from schemas.feature import Feature, Features, Record
from schemas.hashing import generator, stable_hash
from schemas.manifest import Manifest
from schemas.representations import REPRESENTATIONS, from_settings
from schemas.window import Layout, layout_of, unit_of
from trainer.config import TrainSettings
from trainer.data import Reader
from trainer.shards import Shards
from trainer.task import EXAMPLE_WEIGHT

Array = np.ndarray[Any, Any]
DRAWS = 16
"""How many draws of an example may leave the range before it stays in its key."""
OUTSIDE = "draws_outside"
"""Key of batches that were drawn anew: int32 [row], how many draws of each example left the range. No model sees it."""
_CHUNK = 256


# === What the model is shown ===


def features_seen(settings: TrainSettings, manifest: Manifest) -> Features:
    """The features of a dataset as the model is shown them: windows of `--redraw-crop` where that is given.

    Raises:
        UsageError: records of this kind cannot be drawn anew, or not so.
    """
    if not settings.redraws:
        return manifest.features
    crop, representation = settings.redraw_crop, _redrawable(manifest)
    if not crop:
        return manifest.features
    length = _length(manifest.features)
    if length is not None and crop > length:
        raise UsageError(
            f"--redraw-crop {crop}: records of this dataset have {length} {unit_of(manifest.features)}. Take at most "
            f"{length}, or prepare whole pieces: stretto prepare {manifest.corpus} … --window 0"
        )
    try:
        return dict(replace(representation, window=crop, hop=0).features())
    except ValueError as error:
        raise UsageError(f"--redraw-crop {crop}: {error}") from error


def _redrawable(manifest: Manifest) -> Any:
    """The representation of a dataset. Raises UsageError where its records cannot be drawn anew."""
    representation = from_settings(manifest.representation, manifest.settings)
    if not hasattr(representation, "redraw"):
        raise UsageError(
            f"--redraw-crop, --redraw-transpose: records of {manifest.representation!r} cannot be drawn anew, those of "
            f"{', '.join(REPRESENTATIONS)} can. Leave the flags out."
        )
    for name, wanted in representation.features().items():
        found = manifest.features.get(name)
        if found is None or _kind(found) != _kind(wanted):
            there = "is missing" if found is None else f"is {_told(found)}"
            raise UsageError(
                f"--redraw-crop, --redraw-transpose: records of this dataset cannot be drawn anew: {name} {there}, and "
                f"{manifest.representation} has {_told(wanted)}. Leave the flags out, or prepare the dataset again."
            )
    return representation


def _kind(feature: Feature) -> tuple[Any, ...]:
    """What a feature must be like for a record to be drawn anew: all but the length of its first axis."""
    return feature.dtype, len(feature.shape), feature.shape[1:]


def _told(feature: Feature) -> str:
    return f"{feature.dtype} {list(feature.shape)}"


def _length(features: Features) -> int | None:
    """Elements of a record; None where records are whole pieces."""
    return features[layout_of(features).values].shape[0]


def readers(settings: TrainSettings, manifest: Manifest, folder: str) -> tuple[Reader, Reader | Windows | None]:
    """Readers of train and validation; None where there is no validation split.

    Raises as `Reader` and `features_seen` do.
    """
    names, on_corrupt, redraw = None, settings.on_corrupt, None
    if settings.redraws:
        redraw = Redraw(_redrawable(manifest), settings.redraw_crop, settings.redraw_transpose)
        names = layout_of(manifest.features).names
    train = Reader(folder, manifest, "train", names, on_corrupt, redraw)
    if not manifest.records("validation"):
        return train, None
    validation = Reader(folder, manifest, "validation", names, on_corrupt)
    if redraw is None or not redraw.crop or redraw.crop == _length(manifest.features):
        return train, validation
    return train, Windows(validation, redraw.crop, redraw.representation.pad)


# === Train ===


@dataclass(frozen=True)
class Redraw:
    """Draws the rows of a batch anew.

    Attributes:
        representation: of the records; it has `redraw`.
        crop: tokens or steps of a window; 0 keeps the record's.
        transpose: semitones, each as likely; none keeps the key.
    """

    representation: Any
    crop: int
    transpose: tuple[int, ...]

    def __call__(self, columns: Mapping[str, Any], seed: int, numbers: Array) -> dict[str, Any]:
        """Columns of as many rows, and how many draws of each left the range; `numbers` are those of the examples."""
        rows, outside = [], np.zeros(len(numbers), np.int32)
        for row, number in enumerate(numbers.tolist()):
            record = {name: values[row] for name, values in columns.items()}
            drawn, outside[row] = self.drawn(record, generator(seed, number, "redraw"))
            rows.append(drawn)
        found = {name: np.stack([record[name] for record in rows]) for name in columns}
        return {**found, OUTSIDE: outside * (columns[EXAMPLE_WEIGHT] > 0)}

    def drawn(self, record: Record, draw: np.random.Generator) -> tuple[Record, int]:
        """A record drawn anew, and how many draws left the range; DRAWS means that it stays in its key."""
        for outside in range(DRAWS):
            found = self.representation.redraw(record, draw, self.crop, self.transpose)
            if found is not None:
                return found, outside
        return self.representation.redraw(record, draw, self.crop, ()), DRAWS


class Redraws:
    """How many draws of a run have left the range so far.

    Args:
        earlier: lines of its journal that may tell it.

    Attributes:
        again: draws that left the range.
        kept: examples that stay in their key, because all their draws did.
    """

    def __init__(self, earlier: Iterable[Mapping[str, Any]] = ()) -> None:
        told = [line for line in earlier if {type(line.get(name)) for name in ("drawn_again", "kept_key")} <= {float}]
        self.again, self.kept = (told[-1]["drawn_again"], told[-1]["kept_key"]) if told else (0.0, 0.0)

    def note(self, batch: Mapping[str, Any]) -> None:
        """Takes a batch of the next step."""
        outside = batch.get(OUTSIDE, np.zeros(0))
        self.again += float(outside.sum())
        self.kept += float((outside == DRAWS).sum())

    def figures(self) -> dict[str, float]:
        """What a report holds of it."""
        return {"drawn_again": self.again, "kept_key": self.kept}

    def told(self) -> str:
        """A sentence for the end."""
        return (
            f"{self.again:,.0f} draws of another key left the range. After each came another draw, but for "
            f"{self.kept:,.0f} examples after {DRAWS} draws: they stayed in their key"
        )


def without_counts(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a model is shown of a batch."""
    return {name: values for name, values in batch.items() if name != OUTSIDE}


# === Validation ===


class Windows:
    """A split whose records are cut into windows that do not overlap: each element is in exactly one of them.

    They stand in the order of a hash of record and place, so that the first of them are of many pieces.

    Args:
        reader: of whole pieces or longer windows.
        window: elements of a window.
        pad: what stands behind the last element of a piece.
    """

    def __init__(self, reader: Reader, window: int, pad: int) -> None:
        self.reader, self.window, self.pad = reader, window, pad
        self.layout: Layout = layout_of(reader.features)
        counts = -(-_lengths(reader, self.layout) // window)
        record = np.repeat(np.arange(len(reader)), counts)
        first = (np.arange(len(record)) - np.repeat(np.cumsum(counts) - counts, counts)) * window
        hashes = map(stable_hash, record.tolist(), first.tolist())
        order = np.argsort(np.fromiter(hashes, np.uint64, len(record)), kind="stable")
        self._record, self._first = record[order], first[order]

    def __len__(self) -> int:
        return len(self._record)

    @property
    def shards(self) -> Shards:
        """Of the records."""
        return self.reader.shards

    @property
    def corrupt(self) -> Mapping[int, str]:
        """What is wrong with each corrupt record met so far, by its number."""
        return self.reader.corrupt

    def record(self, number: int) -> Record:
        """A whole record; see `Reader.record`."""
        return self.reader.record(number)

    def records(self, numbers: Iterable[int]) -> list[int]:
        """The records of some windows, each once, in order."""
        return sorted({int(self._record[number]) for number in numbers})

    def in_order(self, batch: int, limit: int = 0, rows: slice = slice(None)) -> Iterator[dict[str, Any]]:
        """Every window once (or the first `limit`); see `Reader.in_order`."""
        count = min(len(self), limit) if limit else len(self)
        for start in range(0, count, batch):
            numbers = np.arange(start, start + batch)[rows]
            chosen = np.minimum(numbers, count - 1)
            # A piece may have several windows in a batch; each is read once.
            records, row = np.unique(self._record[chosen], return_inverse=True)
            columns, weights = self.reader.read(records)
            yield {**self._cut(columns, row, self._first[chosen]), EXAMPLE_WEIGHT: weights[row] * (numbers < count)}

    def _cut(self, columns: Mapping[str, Any], row: Array, first: Array) -> dict[str, Array]:
        """The windows that begin at these places of these rows."""
        rows = [
            self.layout.part({name: values[at] for name, values in columns.items()}, place, self.window, self.pad)
            for at, place in zip(row.tolist(), first.tolist(), strict=True)
        ]
        return {name: np.stack([record[name] for record in rows]) for name in columns}


def _lengths(reader: Reader, layout: Layout) -> Array:
    """How many elements each record has, int64 [record]; 0 for one that is corrupt and passed over."""
    found = []
    for start in range(0, len(reader), _CHUNK):
        columns, weights = reader.read(np.arange(start, min(start + _CHUNK, len(reader))))
        rows = ({name: columns[name][row] for name in layout.names} for row in range(len(weights)))
        found += [layout.real_length(record) * bool(weight) for record, weight in zip(rows, weights, strict=True)]
    return np.array(found, np.int64)
