"""Likelihood of token sequences: nats per token, nats per note, bits per second of music, a bigram baseline, copied runs.

All three figures are one sum of nats divided once. Nats per token depends on the encoding and on how much context each token had;
only nats per note and bits per second can be compared between encodings. BOS is given and never scored; padding counts nowhere.
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
            self.nats + other.nats, self.tokens + other.tokens, self.notes + other.notes, self.seconds + other.seconds)

    def figures(self) -> dict[str, float]:
        """Everything, named."""
        return {
            "nats_per_token": self.nats_per_token, "nats_per_note": self.nats_per_note,
            "bits_per_second": self.bits_per_second, "nats": self.nats, "tokens": self.tokens, "notes": self.notes,
            "seconds": self.seconds,
        }


NOTHING = Likelihood(0.0, 0, 0, 0.0)


def bigram_counts(windows: Iterable[Array], size: int) -> Array:
    """How often each id follows each other one, int64 [size + 1, size]; a window [token] begins after BOS, id `size`."""
    counts = np.zeros((size + 1) * size, np.int64)
    for part in _joined(windows, size):
        before, after = part[:-1], part[1:]
        counts += np.bincount(before[after < size] * size + after[after < size], minlength=len(counts))
    return counts.reshape(size + 1, size)


def _joined(windows: Iterable[Array], size: int, tokens: int = 1 << 22) -> Iterator[Array]:
    """Windows laid end to end with BOS before each, in parts of a few million ids: one count a part, not one a window."""
    parts: list[Array] = []
    for window in windows:
        parts += [np.array([size], np.int64), np.asarray(window, np.int64)]
        if sum(map(len, parts[-2:])) * len(parts) // 2 > tokens:
            yield np.concatenate(parts)
            parts = []
    if parts:
        yield np.concatenate(parts)


def bigram_nats(counts: Array, tokens: Array) -> Array:
    """Nats of each token of a window [token] under a bigram with 0.1 added to every count, float64 [token]."""
    size = counts.shape[1]
    before = np.concatenate([[size], tokens[:-1]]).astype(np.int64)
    rows = counts[before].sum(axis=1) + PSEUDO_COUNT * size
    return np.log(rows) - np.log(counts[before, tokens] + PSEUDO_COUNT)


def longest_copied_run(sample: Array, corpus: Iterable[Array]) -> int:
    """The most consecutive tokens of a sample [token] that occur in one sequence of the corpus.

    A suffix automaton of the sample is walked along the corpus, so the time grows with their sum, not with their product.
    """
    automaton = _Suffixes(np.asarray(sample).tolist())
    return max((automaton.longest(np.asarray(sequence).tolist()) for sequence in corpus), default=0)


class _Suffixes:
    """The suffix automaton of a sequence: every run of it is a path (Blumer et al. 1985)."""

    def __init__(self, sequence: list[int]) -> None:
        self.next: list[dict[int, int]] = [{}]
        self.link, self.length = [-1], [0]
        last = 0
        for token in sequence:
            last = self._extend(last, token)

    def _state(self, steps: dict[int, int], link: int, length: int) -> int:
        self.next.append(steps)
        self.link.append(link)
        self.length.append(length)
        return len(self.next) - 1

    def _extend(self, last: int, token: int) -> int:
        new = self._state({}, 0, self.length[last] + 1)
        while last != -1 and token not in self.next[last]:
            self.next[last][token] = new
            last = self.link[last]
        if last != -1:
            self.link[new] = self._suffix(last, token)
        return new

    def _suffix(self, state: int, token: int) -> int:
        """The state that a step from here leads to, divided from longer runs where it holds some."""
        found = self.next[state][token]
        if self.length[found] == self.length[state] + 1:
            return found
        copy = self._state(dict(self.next[found]), self.link[found], self.length[state] + 1)
        self.link[found] = copy
        while state != -1 and self.next[state].get(token) == found:
            self.next[state][token] = copy
            state = self.link[state]
        return copy

    def longest(self, sequence: list[int]) -> int:
        """Length of the longest run that both have."""
        state = reached = best = 0
        for token in sequence:
            while state and token not in self.next[state]:
                state = self.link[state]
                reached = self.length[state]
            state = self.next[state].get(token, 0)
            reached = reached + 1 if state else 0
            best = max(best, reached)
        return best
