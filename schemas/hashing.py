"""Hashes that are the same in every process, on every machine, in every version.

Three things hang on them: the order of records in a shard, the split of a group, and every random draw. Python's own
`hash()` is salted per process, and seeds made by adding numbers collide, so neither is used anywhere. A change in
this file changes every dataset: it would need a new schema version.
"""

import hashlib
import json
from typing import Any

import numpy as np

_SEPARATOR = "\x1f"
_CHUNK_BYTES = 1 << 20


def stable_hash(*parts: object) -> int:
    """64 bits of BLAKE2b over the UTF-8 of the parts joined by U+001F, little-endian."""
    text = _SEPARATOR.join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def generator(seed: int, key: object, purpose: str) -> np.random.Generator:
    """A random generator of its own for (seed, key, purpose)."""
    return np.random.Generator(np.random.PCG64(stable_hash(seed, key, purpose)))


def uniform(seed: int, key: object, purpose: str) -> float:
    """A number in [0, 1) that depends on (seed, key, purpose) alone."""
    return stable_hash(seed, key, purpose) / 2**64


def canonical_json(value: Any) -> str:
    """One text for one value: keys sorted, no spaces, no NaN. Raises ValueError for NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_sha256(path: str) -> str:
    """sha256 (hex) of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
