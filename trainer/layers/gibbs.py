"""Filling the cells of a score with a model of any cell given all others: ancestral, pseudo-Gibbs, Gibbs, annealed.

Huang et al. 2017, "Counterpoint by Convolution" (arXiv:1903.07227), section 5: blocked Gibbs whose share of redrawn
cells falls from p_max to p_min over the first alpha of the sweeps (Yao et al. 2014). The chosen cells of a sweep are
drawn at once, each from its own distribution. Everything but the model is NumPy, so equal seeds redraw equal cells on
every backend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.layers.sampling import Sampler

Array = np.ndarray[Any, Any]
Logits = Callable[[Array, Array], Array]
"""(classes int32 [score, step, voice], known float32 [score, step, voice]) -> logits [score, step, voice, class].

A cell that is not known must not change what comes out.
"""

CONSTANTS = {"coconet": (0.1, 0.9, 0.7, 0), "harmoniser": (0.03, 0.9, 0.85, 128)}
"""p_min, p_max, alpha and sweeps of both published annealings; 0 sweeps: one for each cell."""


@dataclass(frozen=True)
class Filled:
    """Scores whose cells are all filled, and how sure the model was on the way.

    Attributes:
        cells: classes int32 [score, step, voice].
        nats: float64 [sweep, score], mean -log p of the cells a sweep drew; NaN where it drew none.
    """

    cells: Array
    nats: Array


def fill(logits: Logits, cells: Array, known: Array, sampler: Sampler, generator: np.random.Generator) -> Filled:
    """Draws every cell with `known` == 0; the known ones stay.

    Args:
        logits: the model.
        cells: classes int32 [score, step, voice]; what stands where nothing is known does not matter.
        known: float32 [score, step, voice], 1 or 0.
        sampler: how; its `sampler` is one of `sampling.CELL_SAMPLERS`.
        generator: of all that is drawn.
    """
    free = known < 0.5
    if sampler.sampler == "ancestral":
        return _ordered(logits, cells, free, sampler.temperature, generator)
    first, nats = _drawn(logits, cells, free, free, sampler.temperature, generator)
    cells, found = np.where(free, first, cells), [nats]
    count = sweeps(sampler, free)
    for sweep in range(count):
        chosen = _chosen(sampler, free, share(sampler, sweep, count), generator)
        fresh, nats = _drawn(logits, cells, chosen, chosen, sampler.temperature, generator)
        cells = np.where(chosen, fresh, cells)
        found.append(nats)
    return Filled(cells.astype(np.int32), np.array(found))


def sweeps(sampler: Sampler, free: Array) -> int:
    """How many sweeps a sampler makes over scores whose free cells [score, step, voice] are these."""
    if sampler.gibbs_steps:
        return sampler.gibbs_steps
    published = CONSTANTS[sampler.anneal][3] if sampler.sampler == "annealed" else 0
    return published or int(free.sum(axis=(1, 2)).max(initial=0))


def share(sampler: Sampler, sweep: int, count: int) -> float:
    """The share of free cells that a sweep of `count` redraws, p_n of the paper; `gibbs` has one for all."""
    if sampler.sampler == "gibbs":
        return sampler.gibbs_rate
    low, high, alpha, _ = CONSTANTS[sampler.anneal]
    return max(low, high - (high - low) * sweep / (alpha * count))


def _chosen(sampler: Sampler, free: Array, part: float, generator: np.random.Generator) -> Array:
    """Which free cells a sweep redraws, bool [score, step, voice]: a share of them, or one."""
    noise = generator.random(free.shape)
    if sampler.sampler == "pseudo-gibbs":
        return _one_each(np.where(free, noise, 2.0), free)
    return np.asarray(free & (noise < part))


def _one_each(rank: Array, free: Array) -> Array:
    """The free cell of lowest rank of each score, bool [score, step, voice]; none where none is free."""
    flat = rank.reshape(len(rank), -1)
    chosen = np.zeros(flat.shape, bool)
    chosen[np.arange(len(flat)), flat.argmin(axis=1)] = True
    return np.asarray(chosen.reshape(rank.shape) & free)


def _ordered(logits: Logits, cells: Array, free: Array, temperature: float, generator: np.random.Generator) -> Filled:
    """One free cell after the other, in an order of its own for each score."""
    rank = np.where(free, generator.random(free.shape), 2.0)
    left, found = free.copy(), []
    for _ in range(int(free.sum(axis=(1, 2)).max(initial=0))):
        chosen = _one_each(np.where(left, rank, 3.0), left)
        fresh, nats = _drawn(logits, cells, left, chosen, temperature, generator)
        cells, left = np.where(chosen, fresh, cells), left & ~chosen
        found.append(nats)
    return Filled(cells.astype(np.int32), np.array(found).reshape(len(found), len(cells)))


def _drawn(
    logits: Logits, cells: Array, hidden: Array, chosen: Array, temperature: float, generator: np.random.Generator
) -> tuple[Array, Array]:
    """Classes [score, step, voice] drawn given all cells that are not hidden, and mean nats [score] of the chosen."""
    scores = np.asarray(logits(cells.astype(np.int32), 1.0 - hidden.astype(np.float32)), np.float64)
    spread = np.exp(scores / temperature - (scores / temperature).max(axis=-1, keepdims=True))
    cumulated = spread.cumsum(axis=-1)
    noise = generator.random(cells.shape)[..., None] * cumulated[..., -1:]
    fresh = np.minimum((cumulated <= noise).sum(axis=-1), scores.shape[-1] - 1)
    return fresh, mean_nats(scores, fresh, chosen)


def nats_of(logits: Array, classes: Array) -> Array:
    """-log softmax of the classes, integers [...], float64 [...] from logits [..., class]."""
    wide = logits.astype(np.float64)
    top = wide.max(axis=-1)
    total = top + np.log(np.exp(wide - top[..., None]).sum(axis=-1))
    return np.asarray(total - np.take_along_axis(wide, classes[..., None].astype(np.int64), axis=-1)[..., 0])


def mean_nats(scores: Array, cells: Array, chosen: Array) -> Array:
    """Mean -log softmax(scores) of chosen cells, float64 [score]; NaN for a score of which none is chosen."""
    nats = nats_of(scores, cells)
    count = chosen.sum(axis=(1, 2))
    return np.where(count > 0, (nats * chosen).sum(axis=(1, 2)) / np.maximum(count, 1), np.nan)


def ordered_nats(logits: Logits, cells: Array, known: Array, generator: np.random.Generator) -> Array:
    """Mean nats of the cells that are not known, one after the other in a random order: float64 [score].

    By the chain rule this is the likelihood of the whole, for that order (Uria et al. 2014); teacher-forced, so each
    cell is given those before it as they are. NaN where all cells are known.
    """
    left = known < 0.5
    count = left.sum(axis=(1, 2))
    rank, total = np.where(left, generator.random(left.shape), 2.0), np.zeros(len(cells))
    for _ in range(int(count.max(initial=0))):
        chosen = _one_each(np.where(left, rank, 3.0), left)
        scores = np.asarray(logits(cells.astype(np.int32), 1.0 - left.astype(np.float32)), np.float64)
        total += np.nan_to_num(mean_nats(scores, cells, chosen))
        left = left & ~chosen
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
