"""Noise without a generator: integers hashed from (seed, contents of an example, number of the draw).

So the noise of an example does not hang on who else is in its batch or how far it is padded, and TensorFlow and JAX
draw the same bits, which their own generators do not. The mixing function is Wellons's `lowbias32` (bijective, bias
below 0.2 % of a bit); uint32 arithmetic wraps alike on both backends. It is no cryptography.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

Tensor = Any
_GOLDEN = 0x9E3779B9  # 2^32 divided by the golden ratio: the steps of a Weyl sequence


def mixed(x: Tensor) -> Tensor:
    """Each uint32 as another one, whose every bit hangs on every bit of it; 0 stays 0."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = ops.bitwise_xor(x, ops.bitwise_right_shift(x, _word(shift))) * _word(factor)
    return ops.bitwise_xor(x, ops.bitwise_right_shift(x, _word(16)))


def digest(seed: Tensor, values: Tensor, counts: Tensor) -> Tensor:
    """One uint32 for each example, of the seed (int32 scalar) and those of its values that count.

    Args:
        seed: another one gives other noise.
        values: integers [batch, place], 0 or more.
        counts: bool [batch, place]; a value that does not count, and how many of those there are, changes nothing.
    """
    places = _places(values.shape[1])
    words = mixed(mixed(_cast(values) + _word(1)) + places)
    # A sum that wraps: the order of adding does not matter, and what does not count adds nothing.
    whole = ops.sum(ops.where(counts, words, ops.zeros_like(words)), axis=1)
    return mixed(ops.cast(whole, "uint32") + mixed(_cast(seed) + _word(_GOLDEN)))


def noise(digests: Tensor, number: int, count: int) -> Tensor:
    """Draw number `number` of each example: uint32 [batch, count], for digests uint32 [batch]."""
    return mixed(mixed(digests + _word((number + 1) * _GOLDEN))[:, None] + _places(count))


def below(words: Tensor, limits: Tensor) -> Tensor:
    """Each uint32 as an int32 in 0..limit-1, uniform but for 1 in 2^31 / limit; limits are int32, 1 or more."""
    return ops.mod(_halved(words, 1), limits)


def shares(words: Tensor) -> Tensor:
    """Each uint32 as a float32 in [0, 1): its upper 24 bits, which a float32 holds exactly."""
    return ops.cast(_halved(words, 8), "float32") * 2.0**-24


def ranks(words: Tensor, counts: Tensor) -> Tensor:
    """The rank of each word among those of its row that count, int32 [..., place]; the others come after them.

    Of equal words the first comes first: both backends sort so.
    """
    keys = ops.where(counts, _halved(words, 2), np.int32(2**31 - 1))
    return ops.cast(ops.argsort(ops.argsort(keys, axis=-1), axis=-1), "int32")


def _halved(words: Tensor, bits: int) -> Tensor:
    """The upper bits of each uint32, at least one dropped, as int32."""
    return ops.cast(ops.bitwise_right_shift(words, _word(bits)), "int32")


def _places(count: int) -> Tensor:
    """A word for each place, the same however many follow: uint32 [count]."""
    return ops.convert_to_tensor(np.arange(1, count + 1, dtype=np.uint32) * np.uint32(_GOLDEN))


def _word(value: int) -> Tensor:
    return ops.convert_to_tensor(np.uint32(value % 2**32))


def _cast(x: Tensor) -> Tensor:
    return ops.cast(ops.cast(x, "int32"), "uint32")
