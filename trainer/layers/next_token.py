"""What families share that predict a sequence of ids one after the other: data, loss, likelihood, samples.

Importing this costs nothing: families are imported before a backend is chosen. A model reads BOS and the tokens before
each one, `model(tokens, start=…, training=…)`, and is a `trainer.layers.decoding.Stepwise` where it is sampled from.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from schemas.errors import UsageError
from schemas.hashing import generator
from schemas.registry import resolve
from schemas.representations import REPRESENTATIONS
from trainer.layers.sampling import TOKEN_SAMPLERS, Sampler
from trainer.task import EXAMPLE_WEIGHT, Batch, Context, Difference, Sum, Tensor

if TYPE_CHECKING:
    import keras

    from schemas.feature import Record
    from schemas.manifest import Manifest
    from schemas.music import Piece

TOGETHER = 16  # samples that are made at once


# === Data ===


def needs(manifest: Manifest, voices: int) -> list[Difference]:
    """What keeps a dataset from being used: it must hold windows of tokens of one length, in as many voices."""
    tokens = manifest.features.get("tokens")
    if tokens is None or not {"start_token", "piece_tokens"} <= manifest.features.keys():
        remedy = "--representation raster" if voices else "--representation events"
        return [Difference("representation", "tokens", manifest.representation, remedy)]
    if len(tokens.shape) != 1 or not tokens.shape[0]:
        return [
            Difference(
                "window", "a fixed number of tokens, such as 2048", "whole pieces of any length", "--window 2048"
            )
        ]
    if tokens.maximum is None:
        return [Difference("vocabulary", "a largest id", "none in features.json", "--representation events")]
    there = voices_of(manifest.representation)
    if voices and voices != there:
        remedy = "--representation raster" if voices == 4 else ""
        return [Difference("voices", f"{voices}, step by step (--voices)", str(there or "none"), remedy)]
    return []


def voices_of(representation: str) -> int:
    """How many voices a representation lays side by side, 0 where it knows none."""
    if representation not in REPRESENTATIONS:
        return 0
    return int(getattr(resolve(REPRESENTATIONS, representation, "representation"), "voices", 0))


def check_places(voices: int, metre: int) -> None:
    """Raises UsageError for numbers of voices or steps in a bar that cannot be."""
    for name, value in (("voices", voices), ("metre", metre)):
        if value < 0:
            raise UsageError(f"--{name} {value}: must be 0 (none) or more")
    if metre and not voices:
        raise UsageError(f"--metre {metre}: counts steps, and only --voices says how many tokens a step has")


# === Loss and likelihood ===


class TokenFamily:
    """What such families answer alike, as methods of `trainer.task.Task`; a family is a frozen dataclass beside it."""

    samplers: ClassVar[tuple[str, ...]] = TOKEN_SAMPLERS
    in_blocks: ClassVar[bool] = False
    voices: int

    def needs(self, manifest: Manifest) -> list[Difference]:
        """What keeps a dataset from being used: it must hold windows of tokens of one length, in as many voices."""
        return needs(manifest, self.voices)

    def objectives(self) -> list[NextToken]:
        """One: the cross-entropy of the next token."""
        return [NextToken()]

    def log_likelihood(self, model: keras.Model, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Nats, weight and whether the token was the likeliest, float32 [batch, token].

        Padding and rows that only fill a batch have weight 0.
        """
        return nats_of_tokens(model, batch, training=False)


@dataclass(frozen=True)
class NextToken:
    """Cross-entropy of each token given those before it in its window, in nats."""

    name: str = "next_token"
    repeat: int = 1

    def variables(self, model: keras.Model) -> list[Any]:
        """All of them."""
        return list(model.trainable_variables)

    def loss(self, model: keras.Model, batch: Batch, context: Context) -> tuple[Tensor, Tensor, dict[str, Sum]]:
        """Sum of nats over real tokens, their number, and how many of them were the likeliest."""
        from keras import ops

        nats, weight, right = nats_of_tokens(model, batch, training=context.training)
        tokens = ops.sum(weight)
        return ops.sum(nats), tokens, {"accuracy": (ops.sum(right * weight), tokens)}

    def active(self, step: int, logs: Mapping[str, float]) -> bool:
        """Always."""
        return True


def nats_of_tokens(model: Any, batch: Batch, training: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Nats, weight, and whether the target was the likeliest, float32 [batch, token]."""
    from keras import ops

    tokens = ops.cast(batch["tokens"], "int32")
    before = ops.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=model.vocabulary)
    logits = model(before, start=ops.cast(batch["start_token"], "int32"), training=training)
    targets = ops.minimum(tokens, model.vocabulary - 1)
    chosen = ops.take_along_axis(logits, targets[:, :, None], axis=-1)[:, :, 0]
    weight = _weight(batch, tokens.shape[1])
    right = ops.cast(chosen >= ops.max(logits, axis=-1), "float32")
    return (ops.logsumexp(logits, axis=-1) - chosen) * weight, weight, right


def _weight(batch: Batch, window: int) -> Tensor:
    """1 for a real token of an example that counts, else 0; float32 [batch, token]."""
    from keras import ops

    left = ops.cast(batch["piece_tokens"], "int32") - ops.cast(batch["start_token"], "int32")
    real = ops.arange(window)[None, :] < left[:, None]
    return ops.cast(real, "float32") * ops.cast(batch[EXAMPLE_WEIGHT], "float32")[:, None]


# === Samples ===


def sample_tokens(
    model: Any,
    compile_function: Callable[..., Any],
    representation: Any,
    given: Piece | None,
    count: int,
    length: int | float,
    seed: int,
    sampler: Sampler,
    longest: int | None,
) -> Iterator[Record]:
    """`count` token records, see `trainer.task.Task.sample`.

    Raises UsageError where positions would have to go past the `longest` they reach, or nothing would be new.
    """
    from trainer.layers.decoding import Decoding

    known = np.zeros(0, np.int32) if given is None else np.asarray(representation.tokens(given), np.int32)
    check_length(representation, known, length, longest)
    window = model.window if isinstance(length, float) else min(model.window, _rounded_up(length))
    decoding = Decoding(model, compile_function, sampler, window, getattr(representation, "voices", 1))
    for first in range(0, count, TOGETHER):
        parts = decoding.blocks(known, min(TOGETHER, count - first), generator(seed, first, "sample"))
        yield from map(_record, _until(representation, known, parts, length, longest))


def check_length(representation: Any, given: np.ndarray, length: int | float, longest: int | None) -> None:
    """Raises UsageError where the length is past what positions reach, or not past what is given."""
    if isinstance(length, int) and longest is not None and length > longest:
        raise _too_long(f"--length {length}", longest)
    have = len(given) if isinstance(length, int) else representation.count_seconds(given)
    if len(given) and have >= length:
        raise UsageError(
            f"--length {length:g}: what is given has {have:g}, so nothing would be new. Ask for more, or give less."
        )


def _too_long(what: str, longest: int) -> UsageError:
    return UsageError(
        f"{what}: this run has rotary positions and was trained on {longest} tokens. "
        f"Ask for less, or slide on past them with --allow-longer."
    )


def _rounded_up(length: int, step: int = 64) -> int:
    """A window for music of this length; rounded, so that near lengths share a compiled loop."""
    return -(-length // step) * step


def _until(
    representation: Any, given: np.ndarray, parts: Iterator[np.ndarray], length: int | float, longest: int | None
) -> Iterator[np.ndarray]:
    """Tokens uint16 of each sample, the given ones first, cut at the length."""
    first = next(parts)
    rows = np.concatenate([np.broadcast_to(given, (len(first), len(given))), first], axis=1)
    while not _enough(representation, rows, length):
        if longest is not None and rows.shape[1] >= longest:
            raise _too_long(f"--length {length:g}s takes more than {longest} tokens", longest)
        rows = np.concatenate([rows, next(parts)], axis=1)
    for row in rows.astype(np.uint16):
        yield row[: length if isinstance(length, int) else _first(representation, row, length)]


def _enough(representation: Any, rows: np.ndarray, length: int | float) -> bool:
    if isinstance(length, int):
        return rows.shape[1] >= length
    return all(representation.count_seconds(row) >= length for row in rows)


def _first(representation: Any, tokens: np.ndarray, seconds: float) -> int:
    """How many tokens it takes to last this long."""
    return bisect_left(range(len(tokens)), seconds, key=lambda count: representation.count_seconds(tokens[:count]))


def _record(tokens: np.ndarray) -> Record:
    return {"tokens": tokens, "start_token": np.int64(0), "piece_tokens": np.int64(len(tokens))}
