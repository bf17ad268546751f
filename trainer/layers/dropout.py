"""Dropout whose random state has a name that stays: that of its owner, so that a checkpoint finds it again."""

from __future__ import annotations

from typing import Any

import keras

from schemas.hashing import stable_hash

Tensor = Any


class Dropout(keras.layers.Layer):
    """Sets a share of its input to zero in training and scales the rest up.

    Keras's own layer numbers its seeds by order of creation in the process; a checkpoint needs a name that stays.
    """

    def __init__(self, rate: float, owner: str, **layer: Any) -> None:
        super().__init__(**layer)
        self.rate = rate
        if rate:
            path = f"{owner}/{self.name}"
            self.seed = keras.random.SeedGenerator(stable_hash(path) % 2**31, name=f"{path.replace('/', '_')}_seed")

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Anything in, the same shape out."""
        return keras.random.dropout(x, self.rate, seed=self.seed) if training and self.rate else x
