"""Corrupt records that are passed over: each is told once, however often its turn comes or a run is continued."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.data import Reader
from trainer.redraw import Windows

Told = dict[str, Any]
_NAMED = 5
"""Sentences for the person who waits; metrics.jsonl names all."""


class CorruptRecords:
    """The corrupt records of a run.

    Args:
        earlier: those that earlier processes told, as `take` gave them.
    """

    def __init__(self, earlier: Iterable[Mapping[str, Any]] = ()) -> None:
        self._seen = {_place(one) for one in earlier}
        self._new: list[Told] = []

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, split: str, reader: Reader | Windows, numbers: Iterable[int]) -> None:
        """Takes the numbers of records that were passed over; those that were taken before count no second time."""
        for number in numbers:
            told = described(split, reader, number)
            if _place(told) not in self._seen:
                self._seen.add(_place(told))
                self._new.append(told)

    def take(self) -> list[Told]:
        """Those that have come since this was last asked: {split, shard, record, offset, what}."""
        taken, self._new = self._new, []
        return taken


def _place(told: Mapping[str, Any]) -> str:
    # A text, whatever a journal holds.
    return f"{told.get('split')} {told.get('shard')} {told.get('record')}"


def described(split: str, reader: Reader | Windows, number: int) -> Told:
    """Where a corrupt record of a split lies, and what is wrong with it."""
    error = reader.shards.corrupt(number, reader.corrupt[number])
    place = {"shard": os.path.basename(error.shard), "record": error.record, "offset": error.offset}
    return {"split": split, **place, "what": error.what}


def sentences(corrupt: list[Told]) -> list[str]:
    """A few of them for a person, and how many more there are."""
    lines = [
        f"corrupt, passed over: {one['shard']}: record {one['record']} at byte {one['offset']}: {one['what']}"
        for one in corrupt[:_NAMED]
    ]
    more = len(corrupt) - _NAMED
    return [*lines, f"corrupt, passed over: {more} more records"] if more > 0 else lines
