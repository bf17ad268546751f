"""Performance RNN: a stack of LSTM layers over tokens of music.

Oore et al. 2018, arXiv:1808.03715, and the code published with it: three layers of 512 units, no dropout, batches of
64, Adam at 1e-3, gradients clipped to a norm of 3. It works with any representation whose records hold `tokens` and
whose ids after the last event are BOS and PAD; `--voices 4 --metre 16` tells it which voice of a raster, and which
place in the bar, the next token is for. Every window begins with an empty state, also where sampling slides on. Where
we differ: ids are embedded in `--hidden` numbers before the first layer, instead of being multiplied with its kernel;
initial weights are drawn by their path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.errors import UsageError
from schemas.settings import setting
from trainer.layers.next_token import TokenFamily, check_places, sample_tokens
from trainer.layers.sampling import Sampler

if TYPE_CHECKING:
    import keras

    from schemas.feature import Feature, Record
    from schemas.music import Piece
    from schemas.representation import Representation


@dataclass(frozen=True)
class PerformanceRNN(TokenFamily):
    """The settings of the family, and what it promises as a `trainer.task.Task`."""

    layers: int = setting(3, help="LSTM layers")
    hidden: int = setting(512, help="width of embedding and layers")
    dropout: float = setting(0.0, help="share of each layer's output set to zero")
    voices: int = setting(0, help="voices that have a vector each, where steps hold one token a voice; 0 for none")
    metre: int = setting(0, help="steps of a bar that have a vector each; 0 for none")

    def __post_init__(self) -> None:
        for name in ("layers", "hidden"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} {getattr(self, name)}: must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"--dropout {self.dropout}: must be 0 or more and below 1")
        check_places(self.voices, self.metre)

    def build(self, features: Mapping[str, Feature]) -> keras.Model:
        """The network, built, for windows as `features["tokens"]` declares them."""
        from trainer.layers.places import place_embedding
        from trainer.layers.recurrent import RecurrentDecoder

        tokens = features["tokens"]
        vocabulary = int(tokens.maximum or 0) - 1  # the largest id is PAD = size + 1
        places = place_embedding(self.voices, self.metre, self.hidden)
        model = RecurrentDecoder(vocabulary, self.hidden, self.layers, self.dropout, places, name="performance_rnn")
        model.window = int(tokens.shape[0] or 0)
        model.build((None, model.window))
        return model

    def longest(self, model: keras.Model) -> int | None:
        """None: a state can be carried on for ever."""
        return None

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
        """`count` records; see `trainer.task.Task`. Raises UsageError where nothing would be new."""
        from trainer.backends import current

        sampler = sampler.for_kind(self.samplers, "this family")
        compile_function = current().compile_function
        return sample_tokens(model, compile_function, representation, given, count, length, seed, sampler, None)
