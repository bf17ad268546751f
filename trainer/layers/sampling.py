"""How music is drawn from a model, and the drawing of the next token from logits.

The noise is given, so that equal seeds give equal music on one backend.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from schemas.errors import UsageError
from schemas.settings import setting

Tensor = Any
TOKEN_SAMPLERS = ("temperature", "greedy", "top-k", "nucleus")
CELL_SAMPLERS = ("annealed", "gibbs", "pseudo-gibbs", "ancestral")
SAMPLERS = (*TOKEN_SAMPLERS, *CELL_SAMPLERS)
ANNEALINGS = ("coconet", "harmoniser")


@dataclass(frozen=True)
class Sampler:
    """How tokens or cells are drawn. Imported without Keras, because its fields are flags.

    The first four samplers draw one token after the other, the last four the cells of a score; with "" a family takes
    the first that it knows.
    """

    sampler: str = setting(
        "",
        help="tokens: temperature, greedy, top-k, nucleus; cells of a score: annealed, gibbs, pseudo-gibbs, ancestral; "
        "without it the first of these that the run can do",
        choices=("", *SAMPLERS),
    )
    temperature: float = setting(1.0, help="logits are divided by this; below 1 is safer, above 1 wilder")
    top_k: int = setting(32, help="top-k: draw among this many likeliest tokens")
    top_p: float = setting(
        0.95, help="nucleus: draw among the likeliest tokens that hold this share of the probability"
    )
    allow_longer: bool = setting(
        False, help="go on past the trained length with positions that are only known within it"
    )

    gibbs_steps: int = setting(
        0, help="cells: sweeps; 0 takes those of --anneal (annealed), else as many as there are cells to fill"
    )
    gibbs_rate: float = setting(0.25, help="gibbs: share of the cells to fill that each sweep draws again")
    anneal: str = setting(
        "coconet", help="annealed: which published constants (p_min, p_max, alpha, sweeps)", choices=ANNEALINGS
    )
    likelihood: bool = setting(
        True, help="cells: say what the filled cells cost the model, which takes a pass through the network for each"
    )
    fill_rests: bool = setting(False, help="cells: rests of the voices that are given are filled too")

    def __post_init__(self) -> None:
        if self.sampler and self.sampler not in SAMPLERS:
            raise UsageError(f"--sampler {self.sampler}: choose one of {', '.join(SAMPLERS)}")
        if self.anneal not in ANNEALINGS:
            raise UsageError(f"--anneal {self.anneal}: choose one of {', '.join(ANNEALINGS)}")
        if self.gibbs_steps < 0:
            raise UsageError(f"--gibbs-steps {self.gibbs_steps}: must be 0 or more")
        if not 0 < self.gibbs_rate <= 1:
            raise UsageError(f"--gibbs-rate {self.gibbs_rate}: must be above 0 and at most 1")
        if not self.temperature > 0:
            raise UsageError(f"--temperature {self.temperature}: must be above 0; runs on tokens have --sampler greedy")
        if self.top_k < 1:
            raise UsageError(f"--top-k {self.top_k}: must be 1 or more")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"--top-p {self.top_p}: must be above 0 and at most 1")

    def for_kind(self, known: tuple[str, ...], what: str) -> Sampler:
        """This sampler for a family that knows these; `what` names it. Raises UsageError where it is another."""
        if not self.sampler:
            return replace(self, sampler=known[0])
        if self.sampler not in known:
            raise UsageError(f"--sampler {self.sampler}: {what} is sampled with one of {', '.join(known)}")
        return self


def draw(logits: Tensor, noise: Tensor, sampler: Sampler) -> Tensor:
    """Ids int32 [batch] from float32 logits [batch, vocabulary] and uniform noise [batch] in [0, 1).

    The id is the first whose cumulated probability exceeds the noise, so an id of probability 0 is never drawn.
    """
    from keras import ops

    if sampler.sampler == "greedy":
        return ops.cast(ops.argmax(logits, axis=-1), "int32")
    probabilities = ops.softmax(_shortened(logits / sampler.temperature, sampler), axis=-1)
    cumulated = ops.cumsum(probabilities, axis=-1)
    below = cumulated <= noise[:, None] * cumulated[:, -1:]
    return ops.minimum(ops.sum(ops.cast(below, "int32"), axis=-1), logits.shape[-1] - 1)


def _shortened(logits: Tensor, sampler: Sampler) -> Tensor:
    """The logits with minus infinity for what may not be drawn; ties with the last one allowed stay."""
    from keras import ops

    if sampler.sampler == "top-k":
        least = ops.top_k(logits, min(sampler.top_k, logits.shape[-1]))[0][:, -1:]
    elif sampler.sampler == "nucleus":
        ordered = ops.flip(ops.sort(logits, axis=-1), axis=-1)
        probabilities = ops.softmax(ordered, axis=-1)
        before = ops.cumsum(probabilities, axis=-1) - probabilities
        least = ops.min(ops.where(before < sampler.top_p, ordered, float("inf")), axis=-1, keepdims=True)
    else:
        return logits
    return ops.where(logits >= least, logits, float("-inf"))
