"""Where a token stands in a score: a vector for the voice that it is for, and one for its place in the bar.

A raster of voices is read step by step, so both follow from the token's place in its piece alone. Bars are counted
from the first step of the piece: an upbeat moves them, alike in the whole piece.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

Tensor = Any


class PlaceEmbedding(keras.layers.Layer):
    """Vectors of voice and metre of the tokens that are to be predicted.

    Args:
        voices: tokens of a step, one for each voice, in an order that stays; 0 for no vectors of voices.
        metre: steps of a bar; 0 for no vectors of metre. Without voices each token is a step.
        width: of the vectors.

    Call arguments:
        start: place of the window's first token in its piece, integers [batch], or a scalar for all.
        position: integer scalar, place of the first token in the window.
        length: how many tokens.

    Returns:
        [batch or 1, token, width].
    """

    def __init__(self, voices: int, metre: int, width: int, **layer: Any) -> None:
        super().__init__(**layer)
        self.voices, self.metre, self.width = voices, metre, width
        normal = keras.initializers.RandomNormal(stddev=width**-0.5)
        self.voice_initializer, self.metre_initializer = normal, normal

    def build(self, shape: Any = None) -> None:
        """Makes the tables; the shape of the input says nothing."""
        if self.voices:
            self.voice_vectors = self.add_weight(
                shape=(self.voices, self.width), name="voice", initializer=self.voice_initializer
            )
        if self.metre:
            self.metre_vectors = self.add_weight(
                shape=(self.metre, self.width), name="metre", initializer=self.metre_initializer
            )

    def call(self, start: Tensor, position: Tensor | int, length: int) -> Tensor:
        """See the class."""
        first = ops.reshape(ops.cast(start, "int32"), (-1, 1)) + ops.cast(position, "int32")
        places = first + ops.arange(length, dtype="int32")[None, :]
        found = []
        if self.voices:
            found.append(ops.take(self.voice_vectors, places % self.voices, axis=0))
        if self.metre:
            found.append(ops.take(self.metre_vectors, places // max(1, self.voices) % self.metre, axis=0))
        return ops.cast(sum(found[1:], found[0]), self.compute_dtype)


def place_embedding(voices: int, metre: int, width: int) -> PlaceEmbedding | None:
    """Vectors of voice and metre for a model of this width, None where neither is asked for."""
    return PlaceEmbedding(voices, metre, width, name="places") if voices or metre else None
