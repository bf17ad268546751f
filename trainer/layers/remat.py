"""Rematerialisation: what a block computed on the way is computed again for the gradient, instead of kept.

Chen et al. 2016, arXiv:1604.06174. Memory then grows with what stands between the blocks; a step costs about one more
forward pass. Seeds and averages are those of a model without it, values too but for rounding: a compiler may join other
operations then, which shows in bfloat16.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import keras

from trainer.backends import current

Tensor = Any


class InBlocks(keras.Model):
    """A network of blocks, one after the other, that can forget what is inside them.

    Attributes:
        blocks: layers whose output has the shape of their first input.
        remat: whether it forgets in training.
    """

    blocks: list[keras.layers.Layer]
    remat = False

    def through(self, x: Tensor, *others: Tensor, training: bool) -> Tensor:
        """`x` through all blocks; `others` go into each of them too."""
        for block in self.blocks:
            if self.remat and training:
                x = current().recomputed(partial(block, training=True), block.variables, x, *others)
            else:
                x = block(x, *others, training=training)
        return x
