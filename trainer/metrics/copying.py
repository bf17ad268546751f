"""How much of a sample was learnt by heart: the longest run of tokens that it shares with the training pieces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_INVERSE = pow(_BASE, -1, 1 << 64)


def longest_copied_runs(samples: Sequence[Array], corpus: Iterable[Array]) -> list[int]:
    """For each sample [token] the most consecutive tokens of it that occur in one sequence of the corpus.

    Each sequence is first asked, by hashes, whether it holds a run longer than the best one so far; few do, and only
    these are searched exactly. So a corpus of 10^8 tokens takes minutes.
    """
    best = [0] * len(samples)
    automata: dict[int, _Suffixes] = {}
    wanted = [_Hashed(sample) for sample in samples]
    for sequence in corpus:
        hashed = _Hashed(sequence)
        for number, sample in enumerate(samples):
            if hashed.shares(wanted[number], best[number] + 1):
                automaton = automata.setdefault(number, _Suffixes(sample.tolist()))
                best[number] = max(best[number], automaton.longest(sequence.tolist()))
    return best


class _Hashed:
    """Hashes of all runs of one length, from sums of powers modulo 2^64."""

    def __init__(self, tokens: Array) -> None:
        size = len(tokens)
        scrambled = (tokens.astype(np.uint64) + np.uint64(1)) * np.uint64(0xD6E8FEB86659FD93)
        self.inverse = _powers(_INVERSE, size + 1)
        self.sums = np.concatenate(
            [np.zeros(1, np.uint64), np.cumsum(scrambled * _powers(_BASE, size), dtype=np.uint64)]
        )

    def runs(self, length: int) -> Array:
        """One hash for each run of this many tokens, uint64 [run]."""
        return (self.sums[length:] - self.sums[:-length]) * self.inverse[: len(self.sums) - length]

    def shares(self, other: _Hashed, length: int) -> bool:
        """Whether both probably have a run of this length in common; certainly not if False."""
        if min(len(self.sums), len(other.sums)) <= length:
            return False
        return bool(np.isin(other.runs(length), self.runs(length)).any())


def _powers(base: int, count: int) -> Array:
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)


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
