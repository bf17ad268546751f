"""A stack of LSTM layers over tokens, for whole sequences and, with a state, one token at a time.

Hochreiter and Schmidhuber 1997 with a forget gate (Gers et al. 2000), to whose input 1 is added (Jozefowicz et al.
2015), so that it begins open. What comes from below is multiplied for all tokens at once; only the product with the
layer's own output waits for the token before.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from trainer.layers.dropout import Dropout
from trainer.layers.places import PlaceEmbedding

Tensor = Any
State = tuple[Tensor, Tensor]
"""Output [batch, unit] in the precision that is computed in, and memory [batch, unit] in float32."""


class LSTM(keras.layers.Layer):
    """Long short-term memory.

    Args:
        units: width of output and memory.

    Call arguments:
        inputs: [batch, token, hidden].
        state: before the first token; nothing, that is zeros, without one.

    Returns:
        The outputs and the memories after each token, each [batch, token, unit].
    """

    def __init__(self, units: int, **layer: Any) -> None:
        super().__init__(autocast=False, **layer)  # or Keras would cut the memory to what is computed in
        self.units = units
        self.kernel_initializer = keras.initializers.GlorotUniform()
        self.recurrent_kernel_initializer = keras.initializers.Orthogonal()

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Makes the kernels: input, forget, memory and output gate side by side."""
        wide = 4 * self.units
        self.kernel = self.add_weight(shape=(shape[-1], wide), name="kernel", initializer=self.kernel_initializer)
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, wide), name="recurrent_kernel", initializer=self.recurrent_kernel_initializer
        )
        self.bias = self.add_weight(shape=(wide,), name="bias", initializer="zeros")

    def call(self, inputs: Tensor, state: State | None = None) -> State:
        """See the class."""
        first, bias, kernel = (
            ops.cast(item, self.compute_dtype) for item in (self.kernel, self.bias, self.recurrent_kernel)
        )
        below = ops.transpose(ops.matmul(inputs, first) + bias, (1, 0, 2))  # [token, batch, 4 unit]
        state = self.empty_state(ops.shape(below)[1]) if state is None else state
        if below.shape[0] == 1:
            output, memory = _next(state, below[0], kernel)
            return output[:, None], memory[:, None]

        def step(state: State, below: Tensor) -> tuple[State, State]:
            # What is kept of a step must look like the state: TensorFlow's scan in Keras asks for it.
            new = _next(state, below, kernel)
            return new, new

        _, (outputs, memories) = ops.scan(step, state, below)
        return ops.transpose(outputs, (1, 0, 2)), ops.transpose(memories, (1, 0, 2))

    def empty_state(self, batch: Any) -> State:
        """The state before anything was read."""
        return ops.zeros((batch, self.units), self.compute_dtype), ops.zeros((batch, self.units), "float32")


def _next(state: State, below: Tensor, kernel: Tensor) -> State:
    """The state after one more token, of what comes from below, [batch, 4 unit]."""
    output, memory = state
    gates = ops.cast(below + ops.matmul(output, kernel), "float32")
    write, keep, new, show = ops.split(gates, 4, axis=-1)
    memory = ops.sigmoid(keep + 1.0) * memory + ops.sigmoid(write) * ops.tanh(new)
    return ops.cast(ops.sigmoid(show) * ops.tanh(memory), output.dtype), memory


class RecurrentDecoder(keras.Model):
    """Logits of the next token.

    Args:
        vocabulary: ids that can be predicted; the id after them, BOS, can be given.
        hidden: width of embedding, outputs and memories.
        layers: how many LSTM layers.
        dropout: share of each layer's output set to zero in training.
        places: adds vectors of the tokens' places in their piece to the embedding, or None.

    Call arguments:
        tokens: ids [batch, token]; an id above BOS (padding) is read as BOS.
        start: place in its piece of the window's first token, integers [batch], or a scalar for all.

    Returns:
        float32 logits [batch, token, vocabulary].
    """

    def __init__(
        self, vocabulary: int, hidden: int, layers: int, dropout: float, places: PlaceEmbedding | None, **model: Any
    ) -> None:
        super().__init__(**model)
        self.vocabulary, self.hidden, self.places = vocabulary, hidden, places
        normal = keras.initializers.RandomNormal(stddev=hidden**-0.5)
        self.embedding = keras.layers.Embedding(vocabulary + 1, hidden, embeddings_initializer=normal, name="embedding")
        self.recurrent = [LSTM(hidden, name=f"lstm_{index:02d}") for index in range(layers)]
        self.dropouts = [Dropout(dropout, f"lstm_{index:02d}", name="dropout") for index in range(layers)]
        self.logits = keras.layers.Dense(
            vocabulary, kernel_initializer="glorot_uniform", name="logits", dtype="float32"
        )

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Builds every part for ids [batch, token]."""
        self.embedding.build(shape)
        if self.places is not None:
            self.places.build()
        for part in (*self.recurrent, self.logits):
            part.build((*shape, self.hidden))

    def call(self, tokens: Tensor, start: Tensor | int = 0, training: bool = False) -> Tensor:
        """See the class."""
        outputs, _ = self._run(tokens, start, 0, None, training)
        return self.logits(outputs)

    def _run(
        self, tokens: Tensor, start: Any, position: Any, state: list[Tensor] | None, training: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """The last layer's outputs, and outputs and memories of every layer after each token, in turn."""
        x = self.embedding(ops.minimum(ops.cast(tokens, "int32"), self.vocabulary))
        if self.places is not None:
            x = x + self.places(start=start, position=position, length=tokens.shape[1])
        x, found = x * self.hidden**0.5, []
        for index, (layer, dropout) in enumerate(zip(self.recurrent, self.dropouts, strict=True)):
            outputs, memories = layer(x, state=None if state is None else tuple(state[2 * index : 2 * index + 2]))
            found += [outputs, memories]
            x = dropout(outputs, training=training)
        return x, found

    # === One token after the other: `trainer.layers.decoding.Stepwise` ===

    def empty_state(self, batch: int, window: int) -> list[Tensor]:
        """Zeros; how long the window is makes no difference."""
        return [part for layer in self.recurrent for part in layer.empty_state(batch)]

    def read(self, tokens: Tensor, length: Tensor, window: int, start: Tensor) -> list[Tensor]:
        """The state after the first `length` of ids [batch, token]."""
        _, found = self._run(tokens, start, 0, None)
        return [ops.take(states, length - 1, axis=1) for states in found]

    def step(self, tokens: Tensor, state: list[Tensor], position: Tensor, start: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Float32 logits [batch, vocabulary] after ids [batch, 1] at a place of the window, and the state then."""
        outputs, found = self._run(tokens, start, position, state)
        return self.logits(outputs)[:, 0], [states[:, 0] for states in found]
