"""A stack of pre-norm Transformer blocks over tokens, for whole sequences and, with a cache, one token at a time.

Layer normalisation before each sub-layer, dropout and the residual after it, one normalisation at the end; the
embedding is scaled by the root of its width and not shared with the output (arXiv:1809.04281 and the library it was
trained with).
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from trainer.layers.attention import Cache, CausalAttention
from trainer.layers.dropout import Dropout
from trainer.layers.places import PlaceEmbedding
from trainer.layers.positions import sinusoids
from trainer.layers.remat import InBlocks

Tensor = Any


def _norm(name: str) -> keras.layers.LayerNormalization:
    return keras.layers.LayerNormalization(epsilon=1e-6, name=name)


class Block(keras.layers.Layer):
    """Attention and a feed-forward network, each normalised before and added after.

    Call arguments: as `CausalAttention`, and `training`. Returns what it returns.
    """

    def __init__(
        self, attention: CausalAttention, feed_forward: int, activation: str, dropout: float, **layer: Any
    ) -> None:
        super().__init__(**layer)
        self.attention = attention
        self.attention_norm, self.feed_forward_norm = _norm("attention_norm"), _norm("feed_forward_norm")
        self.attention_dropout = Dropout(dropout, self.name, name="attention_dropout")
        self.feed_forward_dropout = Dropout(dropout, self.name, name="feed_forward_dropout")
        self.widen = keras.layers.Dense(
            feed_forward, activation=activation, kernel_initializer="glorot_uniform", name="widen"
        )

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Builds the parts; the narrowing layer needs the width of the input."""
        self.narrow = keras.layers.Dense(
            shape[-1], kernel_initializer="glorot_uniform", name="narrow", dtype=self.dtype_policy
        )
        for part in (self.attention_norm, self.attention, self.feed_forward_norm, self.widen):
            part.build(shape)
        self.narrow.build((*shape[:-1], self.widen.units))

    def call(
        self, inputs: Tensor, cache: Cache | None = None, position: Tensor | int = 0, training: bool = False
    ) -> Any:
        """See the class."""
        mixed = self.attention(self.attention_norm(inputs), training=training, cache=cache, position=position)
        if cache is not None:
            mixed, cache = mixed
        x = inputs + self.attention_dropout(mixed, training=training)
        x = x + self.feed_forward_dropout(self.narrow(self.widen(self.feed_forward_norm(x))), training=training)
        return x if cache is None else (x, cache)


class Decoder(InBlocks):
    """Logits of the next token.

    Args:
        vocabulary: ids that can be predicted; the id after them, BOS, can be given.
        hidden: width of the residual stream.
        sinusoidal: whether sinusoids of the places are added to the embedding.
        blocks: the blocks, first to last.
        dropout: share of the embedding set to zero in training.
        token_dropout: share of the given tokens that are not told in training, only their places.
        places: adds vectors of the tokens' places in their piece to the embedding, or None.

    Call arguments:
        tokens: ids [batch, token]; an id above BOS (padding) is read as BOS.
        start: place in its piece of the window's first token, integers [batch], or a scalar for all.
        cache, position: one cache for each block, and the place in the window, as in `CausalAttention`.

    Returns:
        float32 logits [batch, token, vocabulary]; with a cache also the new caches.
    """

    def __init__(
        self,
        vocabulary: int,
        hidden: int,
        sinusoidal: bool,
        blocks: list[Block],
        dropout: float,
        token_dropout: float = 0.0,
        places: PlaceEmbedding | None = None,
        **model: Any,
    ) -> None:
        super().__init__(**model)
        self.vocabulary, self.hidden, self.sinusoidal, self.blocks = vocabulary, hidden, sinusoidal, blocks
        self.places = places
        normal = keras.initializers.RandomNormal(stddev=hidden**-0.5)
        self.embedding = keras.layers.Embedding(vocabulary + 1, hidden, embeddings_initializer=normal, name="embedding")
        self.dropout = Dropout(dropout, self.name, name="dropout")
        self.token_dropout = Dropout(token_dropout, self.name, whole=True, name="token_dropout")
        self.norm = _norm("norm")
        self.logits = keras.layers.Dense(
            vocabulary, kernel_initializer="glorot_uniform", name="logits", dtype="float32"
        )

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Builds every part for ids [batch, token]."""
        self.embedding.build(shape)
        if self.places is not None:
            self.places.build()
        inner = (*shape, self.hidden)
        for part in (*self.blocks, self.norm, self.logits):
            part.build(inner)

    def call(
        self,
        tokens: Tensor,
        start: Tensor | int = 0,
        cache: list[Cache] | None = None,
        position: Tensor | int = 0,
        training: bool = False,
    ) -> Any:
        """See the class."""
        x = self._embed(tokens, start, position, training)
        if cache is None:
            return self.logits(self.norm(self.through(x, training=training)))
        caches = []
        for block, old in zip(self.blocks, cache, strict=True):
            x, new = block(x, cache=old, position=position)
            caches.append(new)
        return self.logits(self.norm(x)), caches

    def _embed(self, tokens: Tensor, start: Tensor | int, position: Tensor | int, training: bool) -> Tensor:
        x = self.embedding(ops.minimum(ops.cast(tokens, "int32"), self.vocabulary))
        x = self.token_dropout(x, training=training)
        if self.places is not None:
            x = x + self.places(start=start, position=position, length=tokens.shape[1])
        x = x * self.hidden**0.5
        if self.sinusoidal:
            x = x + ops.cast(sinusoids(ops.arange(tokens.shape[1]) + position, self.hidden), x.dtype)
        return self.dropout(x, training=training)

    # === One token after the other: `trainer.layers.decoding.Stepwise` ===

    def empty_state(self, batch: int, window: int) -> list[Tensor]:
        """Keys and values of `window` places, all zero."""
        return [part for block in self.blocks for part in block.attention.empty_cache(batch, window)]

    def read(self, tokens: Tensor, length: Tensor, window: int, start: Tensor) -> list[Tensor]:
        """Keys and values of ids [batch, token]; the places from `length` on are written again before they are read."""
        _, state = self._cached(tokens, self.empty_state(tokens.shape[0], window), 0, start)
        return state

    def step(self, tokens: Tensor, state: list[Tensor], position: Tensor, start: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Float32 logits [batch, vocabulary] after ids [batch, 1] at a place, and the keys and values with theirs."""
        logits, state = self._cached(tokens, state, position, start)
        return logits[:, 0], state

    def _cached(self, tokens: Tensor, state: list[Tensor], position: Any, start: Any) -> tuple[Tensor, list[Tensor]]:
        paired = list(zip(state[::2], state[1::2], strict=True))
        logits, caches = self(tokens, start=start, cache=paired, position=position)
        return logits, [part for cache in caches for part in cache]
