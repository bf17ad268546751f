"""Dropout whose random state has a name that stays: that of its owner, so that a checkpoint finds it again."""

from __future__ import annotations

from typing import Any

import keras

from schemas.hashing import stable_hash
from trainer.backends import current

Tensor = Any


class Seeds(keras.random.SeedGenerator):
    """The seeds of one layer, other ones in each copy of a model that runs the step by itself."""

    def next(self, ordered: bool = True) -> Tensor:
        """Seed and counter, integers [2]; the counter moves on."""
        seed = super().next(ordered)
        return seed + keras.ops.stack([keras.ops.cast(current().replica(), seed.dtype), 0])


class Dropout(keras.layers.Layer):
    """Sets a share of its input to zero in training and scales the rest up.

    Keras's own layer numbers its seeds by order of creation in the process; a checkpoint needs a name that stays.

    Args:
        rate: the share.
        owner: path of the layer it belongs to.
        whole: zero whole vectors (the last axis) instead of single numbers.
    """

    def __init__(self, rate: float, owner: str, whole: bool = False, **layer: Any) -> None:
        super().__init__(**layer)
        self.rate, self.whole = rate, whole
        if rate:
            path = f"{owner}/{self.name}"
            self.seed = Seeds(stable_hash(path) % 2**31, name=f"{path.replace('/', '_')}_seed")

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Anything in, the same shape out."""
        if not (training and self.rate):
            return x
        shape = (*keras.ops.shape(x)[:-1], 1) if self.whole else None
        return keras.random.dropout(x, self.rate, noise_shape=shape, seed=self.seed)
