"""Scores a model of cells: what it costs to guess the cells of whole pieces, window by window.

Protocols. `masked`: the training loss, over masks drawn as validation draws them; its first mask is validation's own.
`orderless`: each cell given those before it in a random order of all cells of its window, as they really are.
`chronological`: the same in order of time, soprano to bass in each step. `framewise`: the steps of a window in random
order; within a step the model is given its own likeliest guesses of the voices before, and sees the truth when the
step is over. Huang et al. 2017 call `orderless` and `framewise` note-wise and frame-wise. Of several orders a piece's
probabilities, not its nats, are averaged: a mean of likelihoods is a likelihood. Figures that see the future in other
voices and steps do not compare with those of a causal model; only `chronological` does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.grid import VOICES
from schemas.hashing import generator
from schemas.window import window_starts
from trainer.layers.gibbs import nats_of
from trainer.metrics.ngram import NAMES
from trainer.metrics.scores import of_cells, standard_error
from trainer.task import EXAMPLE_WEIGHT
from trainer.telling import tell

Array = np.ndarray[Any, Any]
PROTOCOLS = ("masked", "orderless", "chronological", "framewise")
STEPS_AT_ONCE = 2048
_SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Window:
    """A part of a piece: cells uint8 [step, voice], and the place of the first step."""

    piece: str
    start: int
    cells: Array


def windows(pieces: Mapping[str, Array], length: int) -> list[Window]:
    """Pieces {name: cells [step, voice]} cut into windows that do not overlap."""
    return [
        Window(name, start, cells[start : start + length])
        for name, cells in pieces.items()
        for start in window_starts(len(cells), length, length)
    ]


def evaluate_cells(
    task: Any, model: Any, pieces: Mapping[str, Array], length: int, protocol: str, orders: int, batch: int
) -> dict[str, Any]:
    """The figures of a protocol, named; `nll_cell` and `nll_frame` are nats a cell and a step.

    Args:
        task: a family whose networks guess cells, such as Coconet.
        model: its network.
        pieces: {name: cells uint8 [step, voice]}.
        length: steps of a window.
        protocol: one of PROTOCOLS.
        orders: how many orders are averaged, or masks drawn; the chronological order is one.
        batch: windows that are read at once; 0 takes as many as hold 2,048 steps.
    """
    parts, batch = windows(pieces, length), batch or max(1, STEPS_AT_ONCE // length)
    if protocol == "masked":
        return masked(task, model, parts, length, orders, batch)
    orders = 1 if protocol == "chronological" else orders
    read = Progress(task.compiled(model), orders * sum(_passes(some) for some in _grouped(parts, batch)))
    walk = own_guesses if protocol == "framewise" else one_by_one
    found = []
    for order in range(orders):
        nats: dict[str, list[Array]] = {}
        for some in _grouped(parts, batch):
            for part, spent in zip(some, walk(task, read, some, _ranks(some, protocol, order)), strict=True):
                nats.setdefault(part.piece, []).append(spent[: len(part.cells)])
        found.append({piece: np.concatenate(rows) for piece, rows in nats.items()})
    return {"window": length, "orders": orders, **ordered_figures(pieces, found, _outside(task, pieces))}


# === The network, read again and again ===


class Progress:
    """The compiled network, and a line now and then that says how far it is: each order reads it once for each cell."""

    def __init__(self, forward: Callable[..., Array], passes: int) -> None:
        self.forward, self.passes, self.done = forward, passes, 0
        self.began = self.told = time.monotonic()

    def __call__(self, real: Array, classes: Array, known: Array) -> Array:
        """As `Coconet.compiled`."""
        found = self.forward(real, classes, known)
        self.done, now = self.done + 1, time.monotonic()
        if now - self.told > _SECONDS_BETWEEN_LINES:
            left = (now - self.began) / self.done * (self.passes - self.done)
            tell(f"{self.done:,} of {self.passes:,} passes through the network, {left / 60:.1f} min left")
            self.told = now
        return found


def _grouped(parts: Sequence[Window], batch: int) -> Iterator[Sequence[Window]]:
    """Windows in batches, those of a length together: a batch takes as many passes as its longest has cells."""
    ordered = sorted(parts, key=lambda part: -len(part.cells))
    for start in range(0, len(ordered), batch):
        yield ordered[start : start + batch]


def _passes(parts: Sequence[Window]) -> int:
    return max(part.cells.size for part in parts)


def _ranks(parts: Sequence[Window], protocol: str, order: int) -> list[Array]:
    """When each cell of each window is guessed, int64 [step, voice] from 0."""
    return [_rank(part, protocol, order) for part in parts]


def _rank(part: Window, protocol: str, order: int) -> Array:
    steps, voices = part.cells.shape
    if protocol == "chronological":
        return np.arange(part.cells.size).reshape(steps, voices)
    draw = generator(order, f"{part.piece}/{part.start}", "order of cells")
    if protocol == "framewise":
        return draw.permutation(steps)[:, None] * voices + np.argsort(draw.random((steps, voices)), axis=1)
    return draw.permutation(part.cells.size).reshape(steps, voices)


@dataclass
class _Scores:
    """Windows side by side, padded to one shape, and where each of their cells stands in its order."""

    classes: Array
    real: Array
    rank: Array

    @classmethod
    def of(cls, task: Any, parts: Sequence[Window], ranks: Sequence[Array]) -> _Scores:
        """What lies past a window's end has rank -1, and is neither shown nor guessed; so has what has no class."""
        steps = max(len(part.cells) for part in parts)
        classes = np.full((len(parts), -(-steps // 16) * 16, parts[0].cells.shape[1]), -1, np.int32)
        real, rank = np.zeros(classes.shape[:2], np.float32), np.full(classes.shape, -1, np.int64)
        for row, (part, order) in enumerate(zip(parts, ranks, strict=True)):
            count = len(part.cells)
            classes[row, :count], real[row, :count], rank[row, :count] = task.classes(part.cells), 1, order
        return cls(classes, real, rank)

    def at(self, place: int) -> tuple[Array, Array, Array]:
        """Rows, steps and voices of the cells that are guessed at a place of the order."""
        rows, steps, voices = np.nonzero((self.rank == place) & (self.classes >= 0))
        return rows, steps, voices

    def known(self, place: int) -> Array:
        """float32, 1 for what comes before that place."""
        return ((self.rank >= 0) & (self.rank < place) & (self.classes >= 0)).astype(np.float32)


def one_by_one(task: Any, read: Callable[..., Array], parts: Sequence[Window], ranks: Sequence[Array]) -> Array:
    """Nats of every cell given those before it in its order, as they are; float64 [window, step, voice]."""
    scores = _Scores.of(task, parts, ranks)
    nats = np.where(scores.classes >= 0, 0.0, np.nan)
    for place in range(_passes(parts)):
        logits = read(scores.real, scores.classes, scores.known(place))
        chosen = scores.at(place)
        nats[chosen] = nats_of(logits[chosen], scores.classes[chosen])
    return nats


def own_guesses(task: Any, read: Callable[..., Array], parts: Sequence[Window], ranks: Sequence[Array]) -> Array:
    """The same where the voices before in a step are the model's own likeliest guesses until the step is over."""
    scores = _Scores.of(task, parts, ranks)
    nats, voices = np.where(scores.classes >= 0, 0.0, np.nan), scores.classes.shape[2]
    for place in range(_passes(parts)):
        if place % voices == 0:
            shown = scores.classes.copy()
        logits = read(scores.real, shown, scores.known(place))
        chosen = scores.at(place)
        nats[chosen] = nats_of(logits[chosen], scores.classes[chosen])
        shown[chosen] = logits[chosen].argmax(axis=-1)
    return nats


# === Figures ===


def ordered_figures(pieces: Mapping[str, Array], found: Sequence[Mapping[str, Array]], outside: int) -> dict[str, Any]:
    """Figures of nats [step, voice] of every piece in each order; cells that have no class are NaN, and in no mean."""
    rows = []
    for piece, cells in pieces.items():
        nats = np.array([np.nansum(order[piece]) for order in found])
        inside = int(np.isfinite(found[0][piece]).sum())
        together = float(np.log(len(nats)) - np.logaddexp.reduce(-nats))
        rows.append({"piece": piece, "steps": len(cells), "cells": inside, "nats": together, "orders": nats.tolist()})
    cells, steps = sum(row["cells"] for row in rows), sum(row["steps"] for row in rows)
    total = sum(row["nats"] for row in rows)
    mean = {piece: np.mean([order[piece] for order in found], axis=0).ravel() for piece in pieces}
    parts = of_cells({piece: item.ravel() for piece, item in pieces.items()}, mean, VOICES)
    return {
        "nll_cell": total / cells,
        "nll_frame": total / steps,
        "standard_error": standard_error([row["nats"] / row["cells"] for row in rows if row["cells"]]),
        "one_order": {**parts, "nll_frame": sum(float(np.nansum(nats)) for nats in mean.values()) / steps},
        "outside": outside,
        "cells": cells,
        "steps": steps,
        "pieces": rows,
    }


def _outside(task: Any, pieces: Mapping[str, Array]) -> int:
    """How many cells have no class of the network."""
    return sum(int((task.classes(cells) < 0).sum()) for cells in pieces.values())


def masked(task: Any, model: Any, parts: Sequence[Window], length: int, masks: int, batch: int) -> dict[str, Any]:
    """The training loss over masks, nats per erased cell, and the probability that this gives the right note."""
    from trainer.backends import current

    compiled = current().compile_function(model, lambda given, seed: task.log_likelihood(model, given, seed))
    rows: dict[str, Array] = {}
    for seed in range(masks):
        for start in range(0, len(parts), batch):
            some = parts[start : start + batch]
            nats, hidden = (
                np.asarray(item, np.float64) for item in compiled(batch_of(some, length, batch), np.int32(seed))
            )
            for row, part in enumerate(some):
                spent, count, can = nats[row].sum(), hidden[row].sum(), (task.classes(part.cells) >= 0).sum()
                sums = [spent, count, spent * can / max(count, 1), can]
                rows[part.piece] = rows.get(part.piece, np.zeros(4)) + sums
    total = np.sum(list(rows.values()), axis=0)
    return {
        "window": length,
        "orders": masks,
        **_masked_figures(total),
        "standard_error": standard_error([_masked_figures(row)["nats_per_window_cell"] for row in rows.values()]),
        "pieces": [{"piece": piece, **_masked_figures(row)} for piece, row in rows.items()],
    }


def _masked_figures(sums: Array) -> dict[str, float]:
    """Of (nats, erased cells, nats weighted as `orderless` training does, its weight)."""
    erased = float(sums[0] / max(sums[1], 1))
    return {
        "nats_per_erased": erased,
        "probability": float(np.exp(-erased)),
        "nats_per_window_cell": float(sums[2] / max(sums[3], 1)),
        "erased": float(sums[1]),
    }


def batch_of(parts: Sequence[Window], length: int, batch: int) -> dict[str, Array]:
    """Windows as records of one shape; rows that only fill the batch have weight 0."""
    cells = np.zeros((batch, length, parts[0].cells.shape[1]), np.uint8)
    starts, ends = np.zeros(batch, np.int64), np.zeros(batch, np.int64)
    for row, part in enumerate(parts):
        cells[row, : len(part.cells)] = part.cells
        starts[row], ends[row] = part.start, part.start + len(part.cells)
    weight = (np.arange(batch) < len(parts)).astype(np.float32)
    return {"pitches": cells, "start_step": starts, "piece_steps": ends, EXAMPLE_WEIGHT: weight}


def extent(result: Mapping[str, Any]) -> str:
    """How much was scored, for a person."""
    if result["protocol"] == "masked":
        return f", {sum(row['erased'] for row in result['pieces']):,.0f} cells erased by {result['orders']} masks"
    return f", {result['cells']:,} cells, {result['steps']:,} steps, {result['orders']} orders"


def figures(result: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    """What a table shows, and its value."""
    if result["protocol"] == "masked":
        yield "nats per erased cell", result["nats_per_erased"]
        yield "probability of the right note, exp of minus that", result["probability"]
        yield "nats per cell, each window by the mean of its own", result["nats_per_window_cell"]
        return
    yield "nats per cell", result["nll_cell"]
    yield f"standard error over {len(result['pieces'])} pieces", result["standard_error"]
    yield "nats per step", result["nll_frame"]
    one = result["one_order"]
    yield "nats per cell of one order, on average", one["nll_cell"]
    yield from ((f"the same, {voice}", value) for voice, value in one["voices"].items())
    yield "the same, cells that repeat their voice's last", one["repeated"]
    yield "the same, cells that change it", one["changed"]
    yield from told_floors(result)


def told_floors(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The floors that stand beside a result, and their values; nothing where there are none."""
    for name, value in result.get("floors", {}).items():
        yield f"nats per cell, {NAMES[name]} counted on train", value
