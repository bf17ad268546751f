"""New tokens one after the other from a model that keeps a state: one compiled loop a window, windows that slide on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from keras import ops

from trainer.layers.sampling import Sampler, draw

Tensor = Any
Array = np.ndarray[Any, Any]
Compile = Callable[[Any, Callable[..., Any]], Callable[..., Any]]
"""(model, function) -> the function compiled by the running backend; see `trainer.backends`."""
BLOCK_TOKENS = 256  # new tokens between two looks at how long the music has become


class Stepwise(Protocol):
    """A model that can be asked for one token after the other.

    Its state, the keys and values of a decoder or the memory of a recurrent network, is a flat list of tensors whose
    first axis is the batch. `start` is the place in the piece of the window's first token, an integer scalar.
    """

    vocabulary: int
    """Ids that can be predicted; this id itself is BOS."""

    def empty_state(self, batch: int, window: int) -> list[Tensor]:
        """The state before the first token of a window."""
        ...

    def read(self, tokens: Tensor, length: Tensor, window: int, start: Tensor) -> list[Tensor]:
        """The state after the first `length` of ids [batch, token]; those behind them must leave no trace in it."""
        ...

    def step(self, tokens: Tensor, state: list[Tensor], position: Tensor, start: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Float32 logits [batch, vocabulary] after ids [batch, 1] at a place of the window, and the new state."""
        ...


def before(model: Any, tokens: Tensor) -> Tensor:
    """What a model reads to predict tokens [batch, token]: BOS, then all but the last."""
    return ops.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=model.vocabulary)


def filled_places(
    model: Stepwise,
    sampler: Sampler,
    tokens: Tensor,
    state: list[Tensor],
    noise: Tensor,
    first: Tensor,
    stop: Tensor,
    start: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    """Draws the tokens of places first..stop - 1 of a window; returns all tokens and the state.

    Args:
        model: what predicts them.
        sampler: how a token is drawn.
        tokens: int32 [batch, window]; those before `first` are known.
        state: of what is read to predict the tokens before `first`.
        noise: uniform in [0, 1), float32 [batch, window].
        first: int32 scalar, the first place to draw; place 0 is predicted from BOS alone.
        stop: int32 scalar, the place after the last.
        start: int32 scalar, the place of the window in its piece.
    """
    batch = tokens.shape[0]

    def step(place: Tensor, tokens: Tensor, *state: Tensor) -> Any:
        last = ops.slice(tokens, (0, ops.maximum(place - 1, 0)), (batch, 1))
        logits, new = model.step(ops.where(place == 0, model.vocabulary, last), list(state), place, start)
        drawn = draw(logits, ops.slice(noise, (0, place), (batch, 1))[:, 0], sampler)
        return place + 1, ops.slice_update(tokens, (0, place), drawn[:, None]), *new

    _, tokens, *state = ops.while_loop(lambda place, *_: place < stop, step, (first, tokens, *state))
    return tokens, state


class Decoding:
    """Compiled once for each shape, it continues any number of pieces.

    Args:
        model: what predicts tokens.
        compile_function: of the running backend.
        sampler: how a token is drawn.
        window: tokens that are read at once, at most the trained length.
        grid: windows begin at places that are multiples of this: 4 where four tokens are one step. At most half the
            window.
    """

    def __init__(
        self, model: Stepwise, compile_function: Compile, sampler: Sampler, window: int, grid: int = 1
    ) -> None:
        self.window, self.grid = window, grid
        self._empty = compile_function(model, lambda rows: model.empty_state(rows.shape[0], window))
        self._read = compile_function(
            model, lambda tokens, length, start: model.read(before(model, tokens), length, window, start)
        )
        self._fill = compile_function(model, lambda *arrays: filled_places(model, sampler, *arrays))

    def blocks(self, given: Array, count: int, generator: np.random.Generator) -> Iterator[Array]:
        """Blocks int32 [count, some tokens] that follow the given tokens [token], without end.

        Where a window is full, its later half becomes the beginning of the next one, which the model reads as it reads
        a window in training: from BOS, without what came before. Of a given piece that fills a window only that much
        of its end is read.
        """
        start = 0 if len(given) < self.window else self._later_half(len(given))
        known = given[None, start:]
        while True:
            noise = generator.random((count, self.window), dtype=np.float32)
            for block in self._filled(known, noise, start):
                yield block
                known = np.concatenate([np.broadcast_to(known, (count, known.shape[1])), block], axis=1)
            passed = self._later_half(known.shape[1])
            known, start = known[:, passed:], start + passed

    def _later_half(self, length: int) -> int:
        """Where the next window begins in so many tokens."""
        first = length - self.window // 2
        return first - first % self.grid

    def _filled(self, known: Array, noise: Array, start: int) -> Iterator[Array]:
        """The blocks that fill a window, begun at place `start` of a piece, after known ids [one or batch, token]."""
        first, count = known.shape[1], len(noise)
        tokens = np.zeros((count, self.window), np.int32)
        tokens[:, :first] = known
        state = self.state(known, count, start)
        while first < self.window:
            stop = min(first + BLOCK_TOKENS, self.window)
            filled, state = self.fill(tokens, state, noise, first, stop, start)
            tokens = np.asarray(ops.convert_to_numpy(filled))
            yield tokens[:, first:stop]
            first = stop

    def fill(self, tokens: Array, state: list[Tensor], noise: Array, first: int, stop: int, start: int = 0) -> Any:
        """The function `fill`, compiled."""
        return self._fill(tokens, state, noise, *(np.asarray(place, np.int32) for place in (first, stop, start)))

    def state(self, known: Array, count: int, start: int = 0) -> list[Tensor]:
        """The state after known ids [one or batch, token]; they are read row by row: attention is square in a row."""
        real = known.shape[1]
        if not real:
            return list(self._empty(np.zeros(count, np.int32)))
        length = min(self.window, 1 << (real - 1).bit_length())  # few lengths, so that few are compiled
        padded = np.zeros((len(known), length), np.int32)
        padded[:, :real] = known
        places = np.asarray(real, np.int32), np.asarray(start, np.int32)
        rows = [self._read(row[None], *places) for row in padded] * (count // len(known))
        return [ops.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*rows, strict=True)]
