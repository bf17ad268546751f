"""Whole pieces cut into windows, and what a model makes of every token of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.window import window_starts
from trainer.task import EXAMPLE_WEIGHT

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Segment:
    """A window of a piece: its tokens, where it begins, and how many at its beginning are context and not scored."""

    piece: str
    start: int
    tokens: Array
    context: int


@dataclass(frozen=True)
class Scored:
    """Of every token of a segment, context too: nats, float64 [token]; whether it was the likeliest, bool [token]."""

    nats: Array
    right: Array


def segments(piece: str, tokens: Array, window: int, hop: int) -> Iterator[Segment]:
    """The windows of a piece, tokens [token]; each token is scored in exactly one of them."""
    for start in window_starts(len(tokens), window, hop):
        yield Segment(piece, start, tokens[start : start + window], window - hop if start else 0)


def batch_of(parts: Sequence[Segment], window: int, batch: int) -> dict[str, Array]:
    """Segments as one batch of a fixed shape, each at its place in its piece; rows that only fill it have weight 0."""
    tokens = np.zeros((batch, window), np.uint16)
    starts, ends = np.zeros(batch, np.int64), np.zeros(batch, np.int64)
    for row, part in enumerate(parts):
        tokens[row, : len(part.tokens)] = part.tokens
        starts[row], ends[row] = part.start, part.start + len(part.tokens)
    weight = (np.arange(batch) < len(parts)).astype(np.float32)
    return {"tokens": tokens, "start_token": starts, "piece_tokens": ends, EXAMPLE_WEIGHT: weight}


def score(model: Any, task: Any, parts: Sequence[Segment], window: int, batch: int) -> Iterator[Scored]:
    """What the model makes of each segment."""
    from trainer.backends import current

    names = sorted(batch_of([], window, batch))

    def scores(*arrays: Any) -> Any:
        nats, _, right = task.log_likelihood(model, dict(zip(names, arrays, strict=True)))
        return nats, right

    compiled = current().compile_function(model, scores)
    for first in range(0, len(parts), batch):
        some = parts[first : first + batch]
        arrays = batch_of(some, window, batch)
        nats, right = (np.asarray(found, np.float64) for found in compiled(*(arrays[name] for name in names)))
        for row, part in enumerate(some):
            real = slice(0, len(part.tokens))
            yield Scored(nats[row, real], right[row, real] > 0)
