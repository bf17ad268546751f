"""A few pieces of a dataset as its shards hold them: the first original of each split, to be looked at."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from schemas.errors import InputError
from schemas.feature import Record, RecordError
from schemas.manifest import Manifest, Shard
from schemas.music import Piece
from schemas.naming import SPLITS, parse_key
from schemas.record import from_example, read_records
from schemas.representation import Representation

SHOWN_SECONDS = 30.0


@dataclass(frozen=True)
class Example:
    """The beginning of one piece, decoded."""

    split: str
    item: str
    piece: Piece
    seconds: float


def example_pieces(folder: str, manifest: Manifest, representation: Representation) -> Iterator[Example]:
    """One piece of each split, its first seconds only. A shard that cannot be read has none."""
    for split in SPLITS:
        shards = [shard for shard in manifest.shards_of(split) if shard.records]
        if not shards:
            continue
        try:
            item, records = _original(folder, shards[0], manifest)
        except (InputError, RecordError, OSError, ValueError):
            # A page about a damaged dataset is still a page; what is damaged is for `verify` to say.
            continue
        piece = representation.decode(records)
        yield Example(split, item, beginning(piece, SHOWN_SECONDS), piece.seconds)


def _original(folder: str, shard: Shard, manifest: Manifest) -> tuple[str, list[Record]]:
    """The item of a shard that comes first by name, and the records of its original."""
    item, records = "", []
    for payload in read_records(os.path.join(folder, shard.name)):
        record = from_example(payload, manifest.all_features)
        key = parse_key(record["key"].decode())
        if not key.is_original or (item and key.item > item):
            continue
        if key.item != item:
            item, records = key.item, []
        records.append(record)
    if not records:
        raise ValueError(f"{shard.name}: no original in this shard")
    return item, records


def beginning(piece: Piece, seconds: float) -> Piece:
    """What sounds before a time: later notes are left out, longer ones are cut there (to the nearest tick)."""
    notes = piece.notes.select(piece.start_seconds() < seconds)
    start, end = piece.tempo.seconds(notes.start), piece.tempo.seconds(notes.end)
    share = np.minimum(1.0, (seconds - start) / np.maximum(end - start, 1e-9))
    ticks = np.round((notes.end - notes.start) * share).astype(np.int64)
    return replace(piece, notes=replace(notes, end=notes.start + ticks))
