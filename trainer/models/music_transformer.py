"""Music Transformer: a causal decoder over tokens of music, whose attention learns distances.

Huang et al. 2018, arXiv:1809.04281. It works with any representation whose records hold `tokens` and whose ids after
the last event are BOS and PAD. `--positions sinusoidal` is the paper's baseline, `--positions rotary`
(arXiv:2104.09864) the modern one. Where we differ from the paper: no dropout inside attention; initial weights are
drawn by their path; a learning rate per step, not per token.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from schemas.errors import UsageError
from schemas.hashing import generator
from schemas.settings import setting
from trainer.layers.sampling import TOKEN_SAMPLERS, Sampler
from trainer.task import EXAMPLE_WEIGHT, Batch, Context, Difference, Sum, Tensor

if TYPE_CHECKING:
    import keras

    from schemas.feature import Feature, Record
    from schemas.manifest import Manifest
    from schemas.music import Piece
    from schemas.representation import Representation

POSITIONS = ("relative", "sinusoidal", "rotary")
TOGETHER = 16  # samples that are made at once

SIZES: dict[str, dict[str, int]] = {
    size: {"layers": layers, "hidden": width, "attention": width, "heads": heads, "feed_forward": 4 * width}
    for size, layers, width, heads in (
        ("tiny", 3, 128, 4),
        ("small", 6, 384, 6),
        ("base", 12, 768, 12),
        ("large", 28, 1024, 16),
    )
}
"""Sizes of the rotary run: 0.6, 10.6, 85 and 352 million weights."""


@dataclass(frozen=True)
class MusicTransformer:
    """The settings of the family, and what it promises as a `trainer.task.Task`."""

    samplers: ClassVar[tuple[str, ...]] = TOKEN_SAMPLERS

    layers: int = setting(6, help="blocks of attention and feed-forward")
    hidden: int = setting(256, help="width of the stream between the blocks")
    attention: int = setting(256, help="width of queries, keys and values, all heads together")
    feed_forward: int = setting(2048, help="width inside the feed-forward networks")
    heads: int = setting(8, help="attention heads; must divide --attention")
    positions: str = setting("relative", help="how places are known", choices=POSITIONS)
    max_distance: int = setting(1024, help="relative: distances, in tokens, that have a vector of their own")
    clip_distance: bool = setting(
        False, help="relative: distances beyond share the last vector (Shaw et al.) instead of none"
    )
    activation: str = setting("relu", help="inside the feed-forward networks", choices=("relu", "gelu"))
    dropout: float = setting(0.1, help="share set to zero after the embedding and after each sub-layer")

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "attention", "feed_forward", "heads", "max_distance"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be 1 or more")
        if self.positions not in POSITIONS:
            raise UsageError(f"--positions {self.positions}: choose one of {', '.join(POSITIONS)}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"--dropout {self.dropout}: must be 0 or more and below 1")
        if self.attention % self.heads:
            raise UsageError(f"--heads {self.heads} does not divide --attention {self.attention}: choose one that does")
        if self.positions == "rotary" and self.attention // self.heads % 2:
            raise UsageError(
                f"--positions rotary turns pairs: --attention {self.attention} / --heads {self.heads} must be even"
            )
        if self.positions == "sinusoidal" and self.hidden % 2:
            raise UsageError(f"--positions sinusoidal adds pairs: --hidden {self.hidden} must be even")

    def needs(self, manifest: Manifest) -> list[Difference]:
        """What keeps a dataset from being used: it must hold windows of tokens of one length."""
        tokens = manifest.features.get("tokens")
        if tokens is None or not {"start_token", "piece_tokens"} <= manifest.features.keys():
            return [Difference("representation", "tokens", manifest.representation, "--representation events")]
        if len(tokens.shape) != 1 or not tokens.shape[0]:
            return [
                Difference(
                    "window", "a fixed number of tokens, such as 2048", "whole pieces of any length", "--window 2048"
                )
            ]
        if tokens.maximum is None:
            return [Difference("vocabulary", "a largest id", "none in features.json", "--representation events")]
        return []

    def build(self, features: Mapping[str, Feature]) -> keras.Model:
        """The decoder, built, for windows as `features["tokens"]` declares them."""
        from trainer.layers.decoder import Decoder

        tokens = features["tokens"]
        vocabulary = int(tokens.maximum or 0) - 1  # the largest id is PAD = size + 1
        blocks = [self._block(index) for index in range(self.layers)]
        model = Decoder(
            vocabulary, self.hidden, self.positions == "sinusoidal", blocks, self.dropout, name="music_transformer"
        )
        model.window = int(tokens.shape[0] or 0)
        model.build((None, model.window))
        return model

    def _block(self, index: int) -> Any:
        from trainer.layers.attention import CausalAttention
        from trainer.layers.decoder import Block

        attention = CausalAttention(
            self.heads, self.attention, self.positions, self.max_distance, self.clip_distance, name="attention"
        )
        return Block(attention, self.feed_forward, self.activation, self.dropout, name=f"block_{index:02d}")

    def objectives(self) -> list[NextToken]:
        """One: the cross-entropy of the next token."""
        return [NextToken()]

    def log_likelihood(self, model: keras.Model, batch: Batch) -> tuple[Tensor, Tensor]:
        """(nats, weight), float32 [batch, token]; padding and rows that only fill a batch have weight 0."""
        nats, weight, _ = _score(model, batch, training=False)
        return nats, weight

    def longest(self, model: keras.Model) -> int | None:
        """The most tokens that positions can be trusted for, or None; rotary ones only know the trained length."""
        return model.window if self.positions == "rotary" else None

    def sample(
        self,
        model: keras.Model,
        representation: Representation,
        given: Piece | None,
        count: int,
        length: int | float,
        seed: int,
        sampler: Sampler,
    ) -> Iterator[Record]:
        """`count` records; see `trainer.task.Task`.

        Raises UsageError where rotary positions would have to go past the trained length, or nothing would be new.
        """
        from trainer.backends import current
        from trainer.layers.decoding import Decoding

        sampler = sampler.for_kind(self.samplers, "this family")
        start = np.zeros(0, np.int32) if given is None else np.asarray(representation.tokens(given), np.int32)
        longest = None if sampler.allow_longer else self.longest(model)
        check_length(representation, start, length, longest)
        window = model.window if isinstance(length, float) else min(model.window, _rounded_up(length))
        decoding = Decoding(model, current().compile_function, sampler, window)
        for first in range(0, count, TOGETHER):
            parts = decoding.blocks(start, min(TOGETHER, count - first), generator(seed, first, "sample"))
            yield from map(_record, _until(representation, start, parts, length, longest))

    def judge(self, reference: Sequence[Piece], produced: Sequence[Piece]) -> dict[str, float]:
        """How far the produced music's plain statistics lie from real music's; 0 is equal."""
        from trainer.metrics.style import differences

        return differences(reference, produced)


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

        nats, weight, right = _score(model, batch, training=context.training)
        tokens = ops.sum(weight)
        return ops.sum(nats), tokens, {"accuracy": (ops.sum(right * weight), tokens)}

    def active(self, step: int, logs: Mapping[str, float]) -> bool:
        """Always."""
        return True


def _score(model: Any, batch: Batch, training: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Nats, weight, and whether the target was the likeliest, float32 [batch, token]."""
    from keras import ops

    tokens = ops.cast(batch["tokens"], "int32")
    logits = model(ops.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=model.vocabulary), training=training)
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
