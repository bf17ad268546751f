"""New tokens one after the other from a cached decoder: one compiled loop for a window, windows that slide on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from keras import ops

from trainer.layers.decoder import Decoder
from trainer.layers.sampling import Sampler, draw

Tensor = Any
Compile = Callable[[Any, Callable[..., Any]], Callable[..., Any]]
"""(model, function) -> the function compiled by the running backend; see `trainer.backends`."""


def window_loop(model: Decoder, sampler: Sampler) -> Callable[..., Any]:
    """The function that fills places start..stop - 1 of a window.

    It takes tokens int32 [batch, window], the flat list of caches, noise float32 [batch, window], and int32 scalars
    known (places below it keep their token), start, stop; it returns tokens and caches. Place 0 is predicted from BOS
    alone.
    """

    def fill(tokens: Tensor, caches: list[Tensor], noise: Tensor, known: Tensor, start: Tensor, stop: Tensor) -> Any:
        batch = tokens.shape[0]

        def place(place: Tensor, tokens: Tensor, *caches: Tensor) -> Any:
            before = ops.slice(tokens, (0, ops.maximum(place - 1, 0)), (batch, 1))
            logits, new = model(ops.where(place == 0, model.vocabulary, before), cache=_paired(caches), position=place)
            drawn = draw(logits[:, 0], ops.slice(noise, (0, place), (batch, 1))[:, 0], sampler)[:, None]
            token = ops.where(place < known, ops.slice(tokens, (0, place), (batch, 1)), drawn)
            return place + 1, ops.slice_update(tokens, (0, place), token), *_flat(new)

        _, tokens, *caches = ops.while_loop(lambda place, *_: place < stop, place, (start, tokens, *caches))
        return tokens, caches

    return fill


def _paired(flat: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _flat(caches: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    return [part for cache in caches for part in cache]


def new_tokens(
    model: Decoder,
    compile_function: Compile,
    sampler: Sampler,
    given: np.ndarray,
    count: int,
    window: int,
    block: int,
    generator: np.random.Generator,
) -> Iterator[np.ndarray]:
    """Blocks int32 [count, <= block] of new tokens after the given ones [token], without end.

    Where a window is full, the later half of it becomes the beginning of the next one, which the model reads as it
    reads a window in
    training: from BOS, without what came before. Of a given piece that fills a window only that much of its end is
        read.
    """
    fill = compile_function(model, window_loop(model, sampler))
    context = np.broadcast_to(given, (count, len(given)))
    if len(given) >= window:
        context = context[:, -(window // 2) :]
    while True:
        known = context.shape[1]
        tokens = np.zeros((count, window), np.int32)
        tokens[:, :known] = context
        noise = generator.random((count, window), dtype=np.float32)
        caches, start = _flat(model.empty_cache(count, window)), 0
        for stop in [*range(min(known + block, window), window, block), window]:
            filled, caches = fill(tokens, caches, noise, *(np.asarray(n, np.int32) for n in (known, start, stop)))
            tokens = np.asarray(ops.convert_to_numpy(filled))
            yield tokens[:, max(start, known) : stop]
            start = stop
        context = tokens[:, -(window // 2) :]
