"""Which cells of a score are hidden from a model that is to guess them, drawn by hashing (`trainer.layers.noise`).

All take bool [batch, step, voice], the cells that can be hidden at all, and the digest of each example, uint32
[batch]; all return bool [batch, step, voice] with at least one hidden cell wherever one can be.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from trainer.layers.noise import below, noise, ranks, shares

Tensor = Any
_SIZES, _CELLS = 0, 1  # draws


def orderless(can: Tensor, digests: Tensor) -> Tensor:
    """A number of cells that is uniform in 1..all of them, then that many of them, each set as likely as another.

    The training of orderless NADE (Uria et al. 2014): the next cell of a random order after a random number of them.
    """
    flat = ops.reshape(can, (-1, can.shape[1] * can.shape[2]))
    count = ops.sum(ops.cast(flat, "int32"), axis=1)
    size = 1 + below(noise(digests, _SIZES, 1)[:, 0], ops.maximum(count, 1))
    return _lowest(can, digests, size)


def bernoulli(can: Tensor, digests: Tensor, share: float) -> Tensor:
    """Each cell by itself with probability `share`, and one where that leaves none."""
    drawn = shares(noise(digests, _CELLS, can.shape[1] * can.shape[2])) < share
    return (can & ops.reshape(drawn, ops.shape(can))) | _lowest(can, digests, ops.ones_like(digests, dtype="int32"))


def _lowest(can: Tensor, digests: Tensor, size: Tensor) -> Tensor:
    """`size` (int32 [batch]) of the cells that can be hidden, all alike."""
    flat = ops.reshape(can, (-1, can.shape[1] * can.shape[2]))
    chosen = ranks(noise(digests, _CELLS, flat.shape[1]), flat) < size[:, None]
    return ops.reshape(flat & chosen, ops.shape(can))


def erased(can: Tensor, digests: Tensor, fewest: int, most: int) -> Tensor:
    """Of each voice a number of steps uniform in fewest..most, each voice and step by itself; all, where it has fewer.

    A small harmoniser's protocol; there one mask served a whole batch.
    """
    steps, voices = can.shape[1], can.shape[2]
    sizes = fewest + below(
        noise(digests, _SIZES, voices), ops.ones_like(digests, dtype="int32")[:, None] * (most - fewest + 1)
    )
    words = ops.reshape(noise(digests, _CELLS, steps * voices), (-1, steps, voices))
    rank = ranks(ops.transpose(words, (0, 2, 1)), ops.transpose(can, (0, 2, 1)))
    return can & ops.transpose(rank < sizes[:, :, None], (0, 2, 1))
