"""Causal self-attention that knows places by learnt distances, by rotation, or from its input alone (sinusoids).

Relative attention as in Huang et al. 2018 (arXiv:1809.04281): a table of distances for each layer and head, queries
scaled before both products, a zero vector beyond the table. Projections have no bias, as in the authors' code; a key
bias could not learn anyway, because it adds the same number to every logit of a query.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from trainer.backends import current
from trainer.layers.dropout import Dropout
from trainer.layers.positions import relative_logits, relative_logits_at, rotate

Tensor = Any
Cache = tuple[Tensor, Tensor]


class CausalAttention(keras.layers.Layer):
    """Each token attends to itself and to what came before it.

    Args:
        heads: attention heads.
        width: queries, keys and values of all heads together; a multiple of `heads` (twice it for "rotary").
        positions: "relative", "rotary", or "sinusoidal" (nothing is added here).
        max_distance: rows of the table of distances of "relative".
        clip: whether distances beyond the table share its last vector; else they get none.
        dropout: of what a token attends to, in training; None for none.

    Call arguments:
        inputs: [batch, token, hidden]; with a cache either one token or, at place 0, several.
        cache: keys and values of the places so far, each [batch, head, place, width / heads].
        position: integer scalar, the place of the first token.

    Returns:
        [batch, token, hidden]; with a cache also the cache that holds the new tokens.
    """

    def __init__(
        self,
        heads: int,
        width: int,
        positions: str,
        max_distance: int = 0,
        clip: bool = False,
        dropout: Dropout | None = None,
        **layer: Any,
    ) -> None:
        super().__init__(**layer)
        self.heads, self.width, self.depth = heads, width, width // heads
        self.positions, self.max_distance, self.clip = positions, max_distance, clip
        self.dropout = dropout

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Makes the projections and the table."""
        self.query, self.key, self.value = (
            self._projection(name, self.width, shape) for name in ("query", "key", "value")
        )
        self.output_projection = self._projection("output", shape[-1], (*shape[:-1], self.width))
        if self.positions == "relative":
            self.distances_initializer = keras.initializers.RandomNormal(stddev=self.depth**-0.5)
            self.distances = self.add_weight(
                shape=(self.heads, self.max_distance, self.depth),
                name="distances",
                initializer=self.distances_initializer,
            )

    def _projection(self, name: str, units: int, shape: tuple[int | None, ...]) -> keras.layers.Dense:
        layer = keras.layers.Dense(
            units, use_bias=False, kernel_initializer="glorot_uniform", name=name, dtype=self.dtype_policy
        )
        layer.build(shape)
        return layer

    def call(
        self, inputs: Tensor, cache: Cache | None = None, position: Tensor | int = 0, training: bool = False
    ) -> Any:
        """See the class."""
        query, key, value = (self._split(layer(inputs)) for layer in (self.query, self.key, self.value))
        if self.positions == "rotary":
            places = ops.arange(inputs.shape[1]) + position
            query, key = rotate(query, places), rotate(key, places)
        query = query * self.depth**-0.5
        if cache is None:
            return self.output_projection(self._join(self._attend(query, key, value, training)))
        keys, values = (
            ops.slice_update(old, (0, 0, position, 0), new) for old, new in zip(cache, (key, value), strict=True)
        )
        whole = inputs.shape[1] > 1
        mixed = self._attend(query, key, value) if whole else self._attend_at(query, keys, values, position)
        return self.output_projection(self._join(mixed)), (keys, values)

    def _split(self, x: Tensor) -> Tensor:
        return ops.transpose(ops.reshape(x, (_batch(x), x.shape[1], self.heads, self.depth)), (0, 2, 1, 3))

    def _join(self, x: Tensor) -> Tensor:
        return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (_batch(x), x.shape[2], self.width))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, training: bool = False) -> Tensor:
        """Whole sequences, [batch, head, token, depth] in and out; queries are scaled."""
        drops = training and self.dropout is not None and self.dropout.rate > 0
        if self.positions != "relative" and not drops:
            return _fused(query, key, value)
        places = ops.arange(query.shape[2])
        logits = ops.matmul(query, ops.swapaxes(key, 2, 3))
        if self.positions == "relative":
            logits = logits + relative_logits(query, self.distances, self.clip)
        weights = _weights(logits, places[None, :] <= places[:, None])
        return ops.matmul(self.dropout(weights, training=training) if self.dropout else weights, value)

    def _attend_at(self, query: Tensor, keys: Tensor, values: Tensor, position: Tensor) -> Tensor:
        """One token, [batch, head, 1, depth], over the places of a cache up to its own."""
        length = keys.shape[2]
        logits = ops.matmul(query, ops.swapaxes(keys, 2, 3))
        if self.positions == "relative":
            logits = logits + relative_logits_at(query, self.distances, self.clip, position, length)
        return ops.matmul(_weights(logits, ops.arange(length)[None, :] <= position), values)

    def empty_cache(self, batch: int, length: int) -> Cache:
        """Keys and values of `length` places, all zero."""
        zeros = ops.zeros((batch, self.heads, length, self.depth), dtype=self.compute_dtype)
        return zeros, zeros


def _fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention without a bias, by the backend's own kernel where it has one that was tried."""
    swapped = (ops.transpose(x, (0, 2, 1, 3)) for x in (query, key, value))
    # On TPUs Keras would take a kernel that nobody here has seen run.
    fused = None if current().has_fused_attention() else False
    mixed = ops.dot_product_attention(*swapped, scale=1.0, is_causal=True, flash_attention=fused)
    return ops.transpose(mixed, (0, 2, 1, 3))


def _batch(x: Tensor) -> int:
    """The size of the batch, -1 where it is open."""
    return -1 if x.shape[0] is None else x.shape[0]


def _weights(logits: Tensor, allowed: Tensor) -> Tensor:
    """Softmax of [batch, head, query, key] over the allowed keys [query, key]; the others get exactly 0."""
    weights = ops.softmax(ops.where(allowed, ops.cast(logits, "float32"), -1e30), axis=-1)
    return ops.cast(weights, logits.dtype)
