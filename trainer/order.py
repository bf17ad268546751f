"""The order of training examples: a pure function of seed and position, so that a run continues anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from schemas.hashing import stable_hash

Array = np.ndarray[Any, Any]
_ROUNDS = 6
_BLOCK = 8192


def permutation(seed: int, epoch: int, size: int, places: Array) -> Array:
    """Which of `size` records stand at these places (int64) of an epoch: a bijection of 0..size-1.

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
    """The records of examples start..start+count-1, int64 [count].

    Example n is record `permutation(seed, n // size)[n % size]`: epoch after epoch, each in an order of its own.
    """
    numbers = np.arange(start, start + count, dtype=np.int64)
    epochs = numbers // size
    found = np.empty(count, np.int64)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        here = epochs == epoch
        found[here] = permutation(seed, epoch, size, numbers[here] % size)
    return found


def order_in_parts(seed: int, start: int, part: int, size: int) -> Iterator[Array]:
    """The records of each next `part` examples, int64 [part], for ever. Computed for many at once, which is cheaper."""
    count = max(1, _BLOCK // part) * part
    while True:
        yield from order(seed, start, count, size).reshape(-1, part)
        start += count
