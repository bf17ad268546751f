"""Coconet: a convolutional network that guesses the hidden cells of a score in four voices from the visible ones.

Huang et al. 2017, "Counterpoint by Convolution", arXiv:1903.07227. The default is the published size; `--joint
normalised` with kernels of 5 is the residual harmoniser that came after it, whose masks are `--masks erased`. Where we
differ: a class for rests, which have no row of their own; batch normalisation evaluates with the averages it kept in
training instead of estimating them again; the last convolution but one is as the others (theirs 2 x 2); the loss is
taken over hidden cells only; `erased` draws a mask for each example, not for each batch; the harmoniser's second
convolution reads the activation of the first. A hold is no class here: cells that hold are refused. With `--accumulate`
each part of a batch has statistics and masks of its own, so the loss is not that of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from schemas.errors import UsageError
from schemas.grid import RANGES, REST, VOICES
from schemas.hashing import generator
from schemas.settings import parse_span, setting
from trainer.layers.sampling import CELL_SAMPLERS, Sampler
from trainer.task import EXAMPLE_WEIGHT, Batch, Context, Difference, Sum, Tensor

if TYPE_CHECKING:
    import keras

    from schemas.feature import Feature, Record
    from schemas.manifest import Manifest
    from schemas.music import Piece
    from schemas.representation import Representation

JOINTS = ("plain", "normalised")
MASKS = ("orderless", "bernoulli", "erased")
TOGETHER = 16  # scores that are sampled at once
ROUND_STEPS = 16
"""Scores are padded to a multiple of this many steps, so that few lengths are compiled."""
KNOWN = "known"
"""A key that a batch may have: float32 [batch, step, voice], 1 for the cells that are shown; else masks are drawn."""


@dataclass(frozen=True)
class Coconet:
    """The settings of the family, and what it promises as a `trainer.task.Task`."""

    samplers: ClassVar[tuple[str, ...]] = CELL_SAMPLERS
    in_blocks: ClassVar[bool] = True

    blocks: int = setting(31, help="residual blocks of two convolutions; one more convolution before and after them")
    filters: int = setting(128, help="channels between the convolutions")
    kernel: int = setting(3, help="side of the blocks' kernels, in steps and semitones")
    head_kernel: int = setting(2, help="side of the last kernel")
    dilation: int = setting(
        1, help="largest gap in the kernels: 1, 2, 4 ... it doubles from block to block and begins anew"
    )
    separable: bool = setting(False, help="depthwise, then pointwise convolutions: fewer weights; slow on JAX on a CPU")
    joint: str = setting(
        "plain", help="plain: add, ReLU (Coconet); normalised: add, normalise, ReLU (harmoniser)", choices=JOINTS
    )
    gamma: float = setting(0.1, help="what the scales of the normalisations begin with")
    dropout: float = setting(0.0, help="share set to zero after each block")
    pitch_range: tuple[int, int] = setting(
        (36, 81), help="rows of the network, MIDI pitches; cells outside count nowhere", parse=parse_span,
        metavar="LOW..HIGH",
    )  # fmt: skip
    masks: str = setting(
        "orderless",
        help="cells to guess: orderless: 1 to all of them; bernoulli: each with --hide; erased: --erase of each voice",
        choices=MASKS,
    )
    hide: float = setting(0.5, help="bernoulli: probability that a cell is hidden")
    erase: tuple[int, int] = setting(
        (10, 19), help="erased: fewest and most steps hidden in each voice", parse=parse_span, metavar="LOW..HIGH"
    )

    def __post_init__(self) -> None:
        for name in ("blocks", "filters", "kernel", "head_kernel", "dilation"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be 1 or more")
        if self.dilation & (self.dilation - 1):
            raise UsageError(f"--dilation {self.dilation}: must be 1, 2, 4, 8 ...: it doubles from block to block")
        for name, choices in (("joint", JOINTS), ("masks", MASKS)):
            if getattr(self, name) not in choices:
                raise UsageError(f"--{name} {getattr(self, name)}: choose one of {', '.join(choices)}")
        if not 0 <= self.dropout < 1 or not 0 < self.hide <= 1:
            raise UsageError(f"--dropout {self.dropout} must be in 0..1 (not 1), --hide {self.hide} in 0..1 (not 0)")
        for name, lowest, highest in (("pitch_range", 0, 127), ("erase", 1, 1 << 20)):
            low, high = getattr(self, name)
            if not lowest <= low <= high <= highest:
                raise UsageError(f"--{name.replace('_', '-')} {low}..{high}: must lie in {lowest}..{highest}")

    @property
    def pitches(self) -> int:
        """Rows of the network; the class after them is the rest."""
        return self.pitch_range[1] - self.pitch_range[0] + 1

    def needs(self, manifest: Manifest) -> list[Difference]:
        """What keeps a dataset from being used: it must hold windows of one length of four voices' cells, no holds."""
        pitches = manifest.features.get("pitches")
        if pitches is None or not {"start_step", "piece_steps"} <= manifest.features.keys():
            return [Difference("representation", "cells", manifest.representation, "--representation voices")]
        if len(pitches.shape) != 2 or not pitches.shape[0] or pitches.shape[1] != len(VOICES):
            return [Difference("window", "a fixed number of steps, such as 64", f"{pitches.shape}", "--window 64")]
        found = []
        if manifest.settings.get("hold"):
            found.append(Difference("holds", "none: equal neighbours are one note", "holds", "--no-hold"))
        low, high = _extremes(str(manifest.settings.get("ranges")))
        if not self.pitch_range[0] <= low <= high <= self.pitch_range[1]:
            needed = f"pitches in {self.pitch_range[0]}..{self.pitch_range[1]} (--pitch-range)"
            found.append(Difference("ranges", needed, f"{low}..{high}", "--ranges vocal"))
        return found

    def build(self, features: Mapping[str, Feature]) -> keras.Model:
        """The network, built, for windows as `features["pitches"]` declares them."""
        from trainer.layers.convolution import CellNetwork

        stem = self._convolution("stem", 3, 1, separable=False)
        blocks = [self._block(index) for index in range(self.blocks)]
        model = CellNetwork(self.pitches, len(VOICES), stem, blocks, self.head_kernel, name="coconet")
        model.window = int(features["pitches"].shape[0] or 0)
        model.build(model.window)
        return model

    def _block(self, index: int) -> Any:
        from trainer.layers.convolution import Block

        dilation = 2 ** (index % self.dilation.bit_length())
        both = [self._convolution(name, self.kernel, dilation, self.separable) for name in ("first", "second")]
        normalised = self.joint == "normalised"
        return Block(*both, normalised, self.gamma, self.dropout, name=f"block_{index:02d}")

    def _convolution(self, name: str, kernel: int, dilation: int, separable: bool) -> Any:
        from trainer.layers.convolution import Convolution

        return Convolution(self.filters, kernel, dilation, separable, self.gamma, name=name)

    def objectives(self) -> list[HiddenCells]:
        """One: the cross-entropy of hidden cells."""
        return [HiddenCells(self)]

    def log_likelihood(self, model: keras.Model, batch: Batch, seed: Tensor = 0) -> tuple[Tensor, Tensor]:
        """(nats, weight), float32 [batch, step, voice], of each hidden cell given the visible ones; else weight 0.

        Hidden are those that `batch["known"]` does not show; without it those that a seed hides, 0 as validation does.
        Each cell is guessed without the other hidden ones, so only where one is hidden the sum is a likelihood.
        """
        nats, hidden, _ = _score(self, model, batch, seed, training=False)
        return nats, hidden

    def longest(self, model: keras.Model) -> int | None:
        """Any number: a convolution sees as far as it does wherever it stands."""
        return None

    def classes(self, pitches: Any) -> np.ndarray[Any, Any]:
        """Cells as classes of the network, int32: rows of the range, then the rest; -1 for what is neither."""
        cells = np.asarray(pitches).astype(np.int32)
        row = np.where((self.pitch_range[0] <= cells) & (cells <= self.pitch_range[1]), cells - self.pitch_range[0], -1)
        return np.where(cells == REST, self.pitches, row).astype(np.int32)

    def cells(self, classes: Any) -> np.ndarray[Any, Any]:
        """The inverse of `classes`: MIDI pitches and rests, uint8."""
        classes = np.asarray(classes)
        return np.where(classes >= self.pitches, REST, classes + self.pitch_range[0]).astype(np.uint8)

    def compiled(self, model: keras.Model) -> Callable[[Any, Any, Any], np.ndarray[Any, Any]]:
        """The compiled network: real [score, step], classes and known [score, step, voice] -> logits, all NumPy."""
        from trainer.backends import current

        fn = current().compile_function(model, lambda real, classes, known: model(classes, known, real, training=False))
        return lambda real, classes, known: np.asarray(
            fn(real.astype(np.float32), classes.astype(np.int32), known.astype(np.float32))
        )

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
        """`count` records; see `trainer.task.Task`. The voices that sing in `given` stay as they are in all its steps.

        `length` is in steps or seconds; what is given past it is left out. Beside its features a record has the float64
        `gibbs_nats` [sweep], mean nats of the cells that each sweep drew, and `nats_per_cell`, what the cells that were
        filled cost the model in one random order (unless the sampler asks for no likelihood).

        Raises:
            UsageError: a pitch that is given is outside the range of the network, or no cell is left to fill.
        """
        from trainer.layers.gibbs import fill, ordered_nats

        sampler = sampler.for_kind(self.samplers, "a score of cells")
        steps = _steps(representation, length)
        start = np.zeros((0, len(VOICES)), np.uint8) if given is None else np.asarray(representation.cells(given))
        classes, known = self._opening(start[:steps], steps, sampler.fill_rests)
        forward = self.compiled(model)
        for first in range(0, count, TOGETHER):
            shape, draw = (min(TOGETHER, count - first), *classes.shape), generator(seed, first, "sample")
            logits = partial(forward, np.broadcast_to(np.arange(shape[1]) < steps, shape[:2]))
            shown = np.broadcast_to(known, shape)
            found = fill(logits, np.broadcast_to(classes, shape), shown, sampler, draw)
            costs = ordered_nats(logits, found.cells, shown, draw) if sampler.likelihood else [None] * shape[0]
            for row, course, cost in zip(found.cells, found.nats.T, costs, strict=True):
                told = {} if cost is None else {"nats_per_cell": cost}
                yield {**self._record(row[:steps]), "gibbs_nats": course, **told}

    def _record(self, classes: Any) -> Record:
        cells = self.cells(classes)
        return {"pitches": cells, "start_step": np.int64(0), "piece_steps": np.int64(len(cells))}

    def _opening(self, start: Any, steps: int, fill_rests: bool) -> tuple[Any, Any]:
        """Classes and what of them is known [step, voice], padded; past the last step all is known and not read."""
        classes = self.classes(start)
        if (classes < 0).any():
            low, high = self.pitch_range
            raise UsageError(
                f"{int(np.asarray(start)[classes < 0][0])}: a pitch that is given is outside {low}..{high}"
            )
        known = np.repeat((classes < self.pitches).any(axis=0, keepdims=True), len(classes), axis=0)
        if fill_rests:
            known &= classes < self.pitches
        if steps == len(start) and known.all():
            raise UsageError(
                "what is given sings in all four voices to its end, so nothing is left to fill: give fewer"
            )
        after, padding = steps - len(start), -steps % ROUND_STEPS
        classes = np.pad(classes, ((0, after + padding), (0, 0)), constant_values=self.pitches)
        known = np.pad(np.pad(known, ((0, after), (0, 0))), ((0, padding), (0, 0)), constant_values=True)
        return classes, known.astype(np.float32)


@dataclass(frozen=True)
class HiddenCells:
    """Cross-entropy of hidden cells given the visible ones, in nats.

    With `orderless` masks each example's mean over its hidden cells counts as many times as it has cells: then the
    loss times the cells is the mean likelihood of the whole over all orders (Uria et al. 2014). With the other masks
    every hidden cell counts the same, as `nats_per_erased` always is.
    """

    task: Coconet
    name: str = "hidden_cells"
    repeat: int = 1

    def variables(self, model: keras.Model) -> list[Any]:
        """All of them."""
        return list(model.trainable_variables)

    def loss(self, model: keras.Model, batch: Batch, context: Context) -> tuple[Tensor, Tensor, dict[str, Sum]]:
        """Weighted sum of nats over hidden cells, its weight; nats and hits of hidden cells, share of cells outside."""
        from keras import ops

        nats, hidden, found = _score(self.task, model, batch, context.seed, training=context.training)
        erased, count = ops.sum(nats, axis=(1, 2)), ops.sum(hidden, axis=(1, 2))
        extras = {
            "nats_per_erased": (ops.sum(erased), ops.sum(count)),
            "accuracy": (ops.sum(found["right"] * hidden), ops.sum(count)),
            "outside": (ops.sum(found["outside"]), ops.sum(found["cells"])),
        }
        if self.task.masks != "orderless":
            return ops.sum(erased), ops.sum(count), extras
        weight = ops.sum(found["can"], axis=(1, 2))
        return ops.sum(erased * weight / ops.maximum(count, 1.0)), ops.sum(weight), extras

    def active(self, step: int, logs: Mapping[str, float]) -> bool:
        """Always."""
        return True


def _score(
    task: Coconet, model: Any, batch: Batch, seed: Tensor, training: bool
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Nats and 1 for hidden cells, else 0; and float32: `right`, `can` (be hidden), `cells` (real), `outside` of range.

    All [batch, step, voice].
    """
    from keras import ops

    cells = ops.cast(batch["pitches"], "int32")
    real = _real(batch, cells.shape[1])
    low, high = task.pitch_range
    sings, rests = (cells >= low) & (cells <= high), cells == REST
    can = (sings | rests) & (real > 0)[:, :, None]
    classes = ops.where(sings, cells - low, task.pitches)
    hidden = can & (batch[KNOWN] < 0.5) if KNOWN in batch else _hidden(task, cells, can, batch, seed)
    logits = model(classes, ops.cast(can & ~hidden, "float32"), real, training=training)
    chosen = ops.take_along_axis(logits, classes[..., None], axis=-1)[..., 0]
    hidden = ops.cast(hidden, "float32")
    right = ops.cast(chosen >= ops.max(logits, axis=-1), "float32")
    can, there = ops.cast(can, "float32"), ops.broadcast_to(real[:, :, None], ops.shape(cells))
    found = {"right": right, "can": can, "cells": there, "outside": there - can}
    return (ops.logsumexp(logits, axis=-1) - chosen) * hidden, hidden, found


def _hidden(task: Coconet, cells: Tensor, can: Tensor, batch: Batch, seed: Tensor) -> Tensor:
    """The cells to guess, bool [batch, step, voice]: drawn from the seed and what an example holds, by no generator."""
    from keras import ops

    from trainer.layers.masks import bernoulli, erased, orderless
    from trainer.layers.noise import digest

    count = cells.shape[1] * cells.shape[2]
    start = ops.cast(batch["start_step"], "int32")[:, None]
    values = ops.concatenate([start, ops.reshape(cells, (-1, count))], axis=1)
    counts = ops.concatenate([ops.ones_like(start, dtype="bool"), ops.reshape(can, (-1, count))], axis=1)
    digests = digest(seed, values, counts)
    if task.masks == "bernoulli":
        return bernoulli(can, digests, task.hide)
    return erased(can, digests, *task.erase) if task.masks == "erased" else orderless(can, digests)


def _real(batch: Batch, window: int) -> Tensor:
    """1 for a step of the piece in an example that counts, else 0; float32 [batch, step]."""
    from keras import ops

    left = ops.cast(batch["piece_steps"], "int32") - ops.cast(batch["start_step"], "int32")
    there = ops.arange(window)[None, :] < left[:, None]
    return ops.cast(there, "float32") * ops.cast(batch[EXAMPLE_WEIGHT], "float32")[:, None]


def _extremes(ranges: str) -> tuple[int, int]:
    """Lowest and highest pitch that any voice may have in these ranges; of unknown ones all."""
    low, high = np.transpose(RANGES.get(ranges, RANGES["any"]))
    return int(low.min()), int(high.max())


def _steps(representation: Any, length: int | float) -> int:
    """Steps in a length in steps (int) or seconds (float), 1 or more."""
    return length if isinstance(length, int) else int(representation.steps_in(length))
