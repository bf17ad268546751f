"""Likelihood of token sequences: nats per token, nats per note, bits per second of music, and a bigram to compare with.

All three figures are one sum of nats divided once. Nats per token depends on the encoding and on how much context
each token had; only nats per note and bits per second can be compared between encodings. BOS is given and never
scored; padding counts nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
PSEUDO_COUNT = 0.1
_WINDOWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Likelihood:
    """A sum of nats and what it was spent on: tokens, notes, and seconds of music."""

    nats: float
    tokens: int
    notes: int
    seconds: float

    @property
    def nats_per_token(self) -> float:
        """Cross-entropy of a token in nats; NaN where there is none."""
        return self.nats / self.tokens if self.tokens else float("nan")

    @property
    def nats_per_note(self) -> float:
        """All nats, those of shifts and releases too, divided by the number of onsets."""
        return self.nats / self.notes if self.notes else float("nan")

    @property
    def bits_per_second(self) -> float:
        """Bits for a second of music."""
        return self.nats / log(2) / self.seconds if self.seconds else float("nan")

    def __add__(self, other: Likelihood) -> Likelihood:
        return Likelihood(
            self.nats + other.nats, self.tokens + other.tokens, self.notes + other.notes, self.seconds + other.seconds
        )

    def figures(self) -> dict[str, float]:
        """Everything, named."""
        return {
            "nats_per_token": self.nats_per_token,
            "nats_per_note": self.nats_per_note,
            "bits_per_second": self.bits_per_second,
            "nats": self.nats,
            "tokens": self.tokens,
            "notes": self.notes,
            "seconds": self.seconds,
        }


NOTHING = Likelihood(0.0, 0, 0, 0.0)


def bigram_counts(windows: Iterable[Array], size: int) -> Array:
    """How often each id follows each other one, int64 [size + 1, size]; a window [token] follows BOS, id `size`."""
    counts = np.zeros((size + 1) * size, np.int64)
    for part in _joined(windows, size):
        before, after = part[:-1], part[1:]
        counts += np.bincount(before[after < size] * size + after[after < size], minlength=len(counts))
    return counts.reshape(size + 1, size)


def _joined(windows: Iterable[Array], size: int) -> Iterator[Array]:
    """Windows laid end to end with BOS before each, in parts: one count a part is much cheaper than one a window."""
    parts: list[Array] = []
    for window in windows:
        parts += [np.array([size], np.int64), np.asarray(window, np.int64)]
        if len(parts) >= _WINDOWS_AT_ONCE * 2:
            yield np.concatenate(parts)
            parts = []
    if parts:
        yield np.concatenate(parts)


def bigram_nats(counts: Array, tokens: Array) -> Array:
    """Nats of each token of a window [token] by a bigram with 0.1 added to every count, float64 [token]."""
    size = counts.shape[1]
    before = np.concatenate([[size], tokens[:-1]]).astype(np.int64)
    rows = counts[before].sum(axis=1) + PSEUDO_COUNT * size
    return np.log(rows) - np.log(counts[before, tokens] + PSEUDO_COUNT)
