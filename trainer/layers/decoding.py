"""New tokens one after the other from a cached decoder: one compiled loop for a window, windows that slide on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from keras import ops

from trainer.layers.decoder import Decoder
from trainer.layers.sampling import Sampler, draw

Tensor = Any
Array = np.ndarray[Any, Any]
Compile = Callable[[Any, Callable[..., Any]], Callable[..., Any]]
"""(model, function) -> the function compiled by the running backend; see `trainer.backends`."""
BLOCK_TOKENS = 256  # new tokens between two looks at how long the music has become


def read(model: Decoder, tokens: Tensor, window: int) -> list[Tensor]:
    """Caches for a window, as a flat list, of a decoder that reads to predict tokens [batch, token] and those after.

    Places whose tokens are not known yet may be read as well: they are written again before anything attends to them.
    """
    _, caches = model(before(model, tokens), cache=model.empty_cache(tokens.shape[0], window))
    return _flat(caches)


def before(model: Decoder, tokens: Tensor) -> Tensor:
    """What a decoder reads to predict tokens [batch, token]: BOS, then all but the last."""
    return ops.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=model.vocabulary)


def fill(
    model: Decoder, sampler: Sampler, tokens: Tensor, caches: list[Tensor], noise: Tensor, start: Tensor, stop: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Draws the tokens of places start..stop - 1 of a window; returns all tokens and the caches.

    Args:
        model: the decoder.
        sampler: how a token is drawn.
        tokens: int32 [batch, window]; those before `start` are known.
        caches: flat, of the places before `start`.
        noise: uniform in [0, 1), float32 [batch, window].
        start: int32 scalar, the first place to draw; place 0 is predicted from BOS alone.
        stop: int32 scalar, the place after the last.
    """
    batch = tokens.shape[0]

    def step(place: Tensor, tokens: Tensor, *caches: Tensor) -> Any:
        last = ops.slice(tokens, (0, ops.maximum(place - 1, 0)), (batch, 1))
        logits, new = model(ops.where(place == 0, model.vocabulary, last), cache=_paired(caches), position=place)
        drawn = draw(logits[:, 0], ops.slice(noise, (0, place), (batch, 1))[:, 0], sampler)
        return place + 1, ops.slice_update(tokens, (0, place), drawn[:, None]), *_flat(new)

    _, tokens, *caches = ops.while_loop(lambda place, *_: place < stop, step, (start, tokens, *caches))
    return tokens, caches


def _paired(flat: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _flat(caches: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    return [part for cache in caches for part in cache]


class Decoding:
    """Compiled once for each shape, it continues any number of pieces.

    Args:
        model: the decoder.
        compile_function: of the running backend.
        sampler: how a token is drawn.
        window: tokens that are attended to at once, at most the trained length.
    """

    def __init__(self, model: Decoder, compile_function: Compile, sampler: Sampler, window: int) -> None:
        self.window = window
        self._empty = compile_function(model, lambda rows: _flat(model.empty_cache(rows.shape[0], window)))
        self._read = compile_function(model, lambda tokens: read(model, tokens, window))
        self._fill = compile_function(model, lambda *arrays: fill(model, sampler, *arrays))

    def blocks(self, given: Array, count: int, generator: np.random.Generator) -> Iterator[Array]:
        """Blocks int32 [count, some tokens] that follow the given tokens [token], without end.

        Where a window is full, its later half becomes the beginning of the next one, which the model reads as it reads
        a window in training: from BOS, without what came before. Of a given piece that fills a window only that much
        of its end is read.
        """
        kept = self.window // 2
        known = given[None, :] if len(given) < self.window else given[None, len(given) - kept :]
        while True:
            noise = generator.random((count, self.window), dtype=np.float32)
            for block in self._filled(known, noise):
                yield block
                known = np.concatenate([np.broadcast_to(known, (count, known.shape[1])), block], axis=1)
            known = known[:, self.window - kept :]

    def _filled(self, known: Array, noise: Array) -> Iterator[Array]:
        """The blocks that fill a window after known tokens [one or batch, token]."""
        start, count = known.shape[1], len(noise)
        tokens = np.zeros((count, self.window), np.int32)
        tokens[:, :start] = known
        caches = self.caches(known, count)
        while start < self.window:
            stop = min(start + BLOCK_TOKENS, self.window)
            filled, caches = self.fill(tokens, caches, noise, start, stop)
            tokens = np.asarray(ops.convert_to_numpy(filled))
            yield tokens[:, start:stop]
            start = stop

    def fill(self, tokens: Array, caches: list[Tensor], noise: Array, start: int, stop: int) -> Any:
        """The function `fill`, compiled."""
        return self._fill(tokens, caches, noise, np.asarray(start, np.int32), np.asarray(stop, np.int32))

    def caches(self, known: Array, count: int) -> list[Tensor]:
        """Caches of known tokens [one or batch, token] for a batch, read row by row: attention is square in a row."""
        if not known.shape[1]:
            return list(self._empty(np.zeros(count, np.int32)))
        length = min(self.window, 1 << (known.shape[1] - 1).bit_length())  # few lengths, so that few are compiled
        padded = np.zeros((len(known), length), np.int32)
        padded[:, : known.shape[1]] = known
        rows = [self._read(row[None]) for row in padded] * (count // len(known))
        return [ops.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*rows, strict=True)]
