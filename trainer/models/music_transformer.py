"""Music Transformer: a causal decoder over tokens of music, whose attention learns distances.

Huang et al. 2018, arXiv:1809.04281. It works with any representation whose records hold `tokens` and whose ids after
the last event are BOS and PAD. `--positions sinusoidal` is the paper's baseline, `--positions rotary`
(arXiv:2104.09864) the modern one. `--voices 4 --metre 16` tells it which voice of a raster, and which place in the bar,
the next token is for. Where we differ from the paper: initial weights are drawn by their path; a learning rate per
step, not per token; dropout inside attention is a setting of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from schemas.errors import UsageError
from schemas.settings import setting
from trainer.layers.next_token import TokenFamily, check_places, sample_tokens
from trainer.layers.sampling import Sampler

if TYPE_CHECKING:
    import keras

    from schemas.feature import Feature, Record
    from schemas.music import Piece
    from schemas.representation import Representation

POSITIONS = ("relative", "sinusoidal", "rotary")

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
class MusicTransformer(TokenFamily):
    """The settings of the family, and what it promises as a `trainer.task.Task`."""

    in_blocks: ClassVar[bool] = True

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
    attention_dropout: float = setting(0.0, help="share of what a token attends to that is set to zero")
    token_dropout: float = setting(0.0, help="share of the tokens before it that the model is not told")
    voices: int = setting(0, help="voices that have a vector each, where steps hold one token a voice; 0 for none")
    metre: int = setting(0, help="steps of a bar that have a vector each; 0 for none")

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "attention", "feed_forward", "heads", "max_distance"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be 1 or more")
        if self.positions not in POSITIONS:
            raise UsageError(f"--positions {self.positions}: choose one of {', '.join(POSITIONS)}")
        check_places(self.voices, self.metre)
        for name in ("dropout", "attention_dropout", "token_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be 0 or more and below 1")
        if self.attention % self.heads:
            raise UsageError(f"--heads {self.heads} does not divide --attention {self.attention}: choose one that does")
        if self.positions == "rotary" and self.attention // self.heads % 2:
            raise UsageError(
                f"--positions rotary turns pairs: --attention {self.attention} / --heads {self.heads} must be even"
            )
        if self.positions == "sinusoidal" and self.hidden % 2:
            raise UsageError(f"--positions sinusoidal adds pairs: --hidden {self.hidden} must be even")

    def build(self, features: Mapping[str, Feature]) -> keras.Model:
        """The decoder, built, for windows as `features["tokens"]` declares them."""
        from trainer.layers.decoder import Decoder
        from trainer.layers.places import place_embedding

        tokens = features["tokens"]
        vocabulary = int(tokens.maximum or 0) - 1  # the largest id is PAD = size + 1
        blocks = [self._block(index) for index in range(self.layers)]
        places = place_embedding(self.voices, self.metre, self.hidden)
        sinusoidal = self.positions == "sinusoidal"
        dropout = (self.dropout, self.token_dropout)
        model = Decoder(vocabulary, self.hidden, sinusoidal, blocks, *dropout, places, name="music_transformer")
        model.window = int(tokens.shape[0] or 0)
        model.build((None, model.window))
        return model

    def _block(self, index: int) -> Any:
        from trainer.layers.attention import CausalAttention
        from trainer.layers.decoder import Block
        from trainer.layers.dropout import Dropout

        name, distances = f"block_{index:02d}", (self.max_distance, self.clip_distance)
        dropout = Dropout(self.attention_dropout, f"{name}/attention", name="dropout")
        attention = CausalAttention(
            self.heads, self.attention, self.positions, *distances, dropout=dropout, name="attention"
        )
        return Block(attention, self.feed_forward, self.activation, self.dropout, name=name)

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

        sampler = sampler.for_kind(self.samplers, "this family")
        compile_function, longest = current().compile_function, None if sampler.allow_longer else self.longest(model)
        return sample_tokens(model, compile_function, representation, given, count, length, seed, sampler, longest)
