"""What a model family must offer to be trained, scored and sampled: the protocols Task and Objective.

A family is one frozen dataclass whose fields are its settings and whose methods are those of `Task`. Nothing here,
and nothing that is executed when a family's file is imported, may import Keras: flags are parsed before the backend
is chosen. Arrays and tensors are therefore typed `Tensor`, which is `Any` on purpose; their shapes stand in the
docstrings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import keras

    from schemas.feature import Feature, Record
    from schemas.manifest import Manifest
    from schemas.music import Piece
    from schemas.representation import Representation

Tensor = Any
Batch = Mapping[str, Tensor]
Sum = tuple[Tensor, Tensor]

EXAMPLE_WEIGHT = "example_weight"
"""Key of every batch beside its features: float32 [batch], 1 for an example that counts, 0 for one that only fills."""
STOPPING = "stopping"
"""Key of the batches of several processes: float32 [batch], 1 in the rows of one that was asked to stop."""


@dataclass(frozen=True)
class Difference:
    """One thing in which a dataset differs from what a task can work with: both sides, and what would change it."""

    what: str
    needed: str
    found: str
    remedy: str = ""
    """Flags of `stretto prepare` that make a dataset which fits, such as "--representation events"."""


@dataclass(frozen=True)
class Context:
    """What a loss may use beside the model and the batch.

    `training`: whether dropout and the like are on. `seed`: int32 scalar, another one in every step and micro-batch.
    `gradient(fn, x)`: gradient of the scalar `fn(x)` by `x`, shaped as `x`, on the backend in use (gradient penalties).
    """

    training: bool
    seed: Tensor
    gradient: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]


class Objective(Protocol):
    """One quantity to be minimised and the part of the model that moves for it."""

    name: str
    repeat: int
    """How many updates it gets in a step (5 for a critic, else 1)."""

    def variables(self, model: keras.Model) -> list[Any]:
        """Trainable variables that this objective moves, in a stable order."""
        ...

    def loss(self, model: keras.Model, batch: Batch, context: Context) -> tuple[Tensor, Tensor, dict[str, Sum]]:
        """Total and weight (float32 scalars), and {name: (total, weight)} for the logs; the loss is total / weight.

        Sums, not means: the step adds totals, weights and gradients over micro-batches and devices and divides once.
        """
        ...

    def active(self, step: int, logs: Mapping[str, float]) -> bool:
        """Whether it is to be minimised in this step, given the logs of the last one."""
        ...


class Task(Protocol):
    """A model family with its settings: a frozen dataclass, each field a flag of `stretto train`.

    Attributes:
        samplers: how it can be sampled, names of `trainer.layers.sampling.SAMPLERS`; the first is its own choice.
        in_blocks: whether its network is one of blocks that can be computed again (`trainer.layers.remat`).
    """

    samplers: ClassVar[tuple[str, ...]]
    in_blocks: ClassVar[bool]

    def needs(self, manifest: Manifest) -> list[Difference]:
        """What keeps a dataset from being used by this task; nothing if it fits."""
        ...

    def build(self, features: Mapping[str, Feature]) -> keras.Model:
        """The network, built (every variable there), for records of these features.

        A network that reads tokens has `window`, the number of tokens it is trained on at once.
        """
        ...

    def longest(self, model: keras.Model) -> int | None:
        """The most tokens that may be read at once without being told that it is past training; None for any number."""
        ...

    def objectives(self) -> Sequence[Objective]:
        """What is minimised in each step, in this order."""
        ...

    def log_likelihood(self, model: keras.Model, batch: Batch) -> tuple[Tensor, ...]:
        """Negative log-likelihood in nats and weight of every target; float32 [batch, time], 0 where none counts.

        Families that predict tokens add whether each was the likeliest.
        """
        ...

    def sample(
        self,
        model: keras.Model,
        representation: Representation,
        given: Piece | None,
        count: int,
        length: int | float,
        seed: int,
        sampler: Any,
    ) -> Iterator[Record]:
        """`count` records of new music, primed by `given` where there is one (and beginning with it).

        `length` as int is in the representation's own unit (tokens), as float in seconds of music. `representation`
        turns `given` into what the model reads; `sampler` is a `trainer.layers.sampling.Sampler`.
        """
        ...
