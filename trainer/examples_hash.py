"""A number that says which examples a step was made of, whoever read which of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from schemas.hashing import stable_hash

Array = np.ndarray[Any, Any]


def examples_hash(batch: Mapping[str, Array]) -> int:
    """64 bits of all examples of a batch, {name: [row, ...]}.

    It is a sum over rows, modulo 2^64: so the hashes of the rows that several processes read add up to the hash of
    the whole, and the order of the rows in their batch does not matter. It is no cryptography.
    """
    total = 0
    for name, values in sorted(batch.items()):
        rows = np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint8)
        words = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8))).view(np.uint64)
        factors = _factors(name, words.shape[1])
        # Two rounds, so that rows with two words exchanged, or moved by one, are others.
        mixed = (words ^ (words >> np.uint64(29))) * factors
        lines = (mixed ^ (mixed >> np.uint64(32))).sum(axis=1, dtype=np.uint64)
        total += int((lines * factors[0] ^ (lines >> np.uint64(31))).sum(dtype=np.uint64))
    return total % 2**64


@cache
def _factors(name: str, count: int) -> Array:
    """An odd number for each word of a row."""
    draw = np.random.default_rng(stable_hash(name, "examples hash"))
    return draw.integers(0, 2**63, count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
