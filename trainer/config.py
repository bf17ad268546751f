"""Run: every choice of one training run, frozen. Importing this costs nothing: no Keras, no backend."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.errors import UsageError
from schemas.registry import check_name, resolve
from schemas.settings import from_json, parse_integers, setting, to_json
from trainer.devices import parse_mesh
from trainer.task import Task

BACKENDS = ("auto", "tensorflow", "jax")
PRECISIONS = ("float32", "mixed_bfloat16")
OPTIMISERS = ("adam", "adamw")
SCHEDULES = ("rsqrt", "cosine", "constant")
ON_CORRUPT = ("fail", "skip")
_MOST_SEMITONES = 127

_MORE_OR_LESS = ("steps", "batch", "accumulate", "remat", "mesh", "checkpoint_every", "sample_every", "log_every")
CHANGEABLE = frozenset({*_MORE_OR_LESS, "keep", "keep_every", "on_corrupt"})
"""Settings that a run may be continued with other values of; `steps` may only grow."""


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained, whichever family it is of. Durations are counted in steps (updates of the weights)."""

    steps: int = setting(100_000, help="updates of the weights in all; a run may be continued with more")
    batch: int = setting(8, help="examples in one update")
    seed: int = setting(0, help="seed of initial weights, order of the examples and dropout")
    backend: str = setting("auto", help="auto takes TensorFlow where it is installed, else JAX", choices=BACKENDS)
    precision: str = setting(
        "float32", help="mixed_bfloat16 computes in bfloat16 and keeps float32 weights", choices=PRECISIONS
    )
    mesh: str = setting(
        "",
        help="devices: data=N copies of the model that share a batch, model=M devices that share a copy (JAX); "
        "without it all there are, side by side",
        metavar="data=N,model=M",
    )
    accumulate: int = setting(1, help="parts a batch is computed in, to save memory; must divide --batch")
    remat: bool = setting(
        False, help="compute the inside of each block again for the gradient instead of keeping it, to save memory"
    )
    deterministic: bool = setting(
        False, help="same bits in every run on accelerators too, at some cost in speed; on a CPU this is always so"
    )
    init: str = setting("", help="folder of a finished run whose best weights this one begins with")
    optimiser: str = setting("adam", help="rule of the update", choices=OPTIMISERS)
    learning_rate: float = setting(1e-3, help="highest learning rate, reached at the end of the warm-up")
    schedule: str = setting("rsqrt", help="how the learning rate moves after the warm-up", choices=SCHEDULES)
    warmup: int = setting(4000, help="steps in which the learning rate rises from 0")
    beta1: float = setting(0.9, help="decay of the first moment, per step")
    beta2: float = setting(0.98, help="decay of the second moment, per step")
    epsilon: float = setting(1e-9, help="added to the root of the second moment")
    weight_decay: float = setting(0.0, help="decay of matrices per unit of learning rate (adamw)")
    clip: float = setting(0.0, help="largest global norm of the gradient; 0 clips nothing")
    redraw_crop: int = setting(
        0, help="tokens or steps of a window that is drawn from each training record when its turn comes; 0 draws none"
    )
    redraw_transpose: tuple[int, ...] = setting(
        (),
        help="semitones, one of which is drawn for each training record when its turn comes: -6..6, or 0,5,7",
        parse=parse_integers,
        metavar="LOW..HIGH",
    )
    on_corrupt: str = setting(
        "fail",
        help="skip goes on where a record of a shard is not what was written: it counts nothing, and is reported",
        choices=ON_CORRUPT,
    )
    checkpoint_every: int = setting(
        1000, help="steps between checkpoints; each is preceded by an evaluation on validation"
    )
    keep: int = setting(3, help="newest checkpoints that are kept, beside the best one")
    keep_every: int = setting(0, help="steps between checkpoints that are kept for good; 0 keeps none so")
    evaluate_examples: int = setting(0, help="validation examples scored before each checkpoint; 0 takes all")
    sample_every: int = setting(0, help="steps between samples in TensorBoard and samples/; 0 makes none")
    log_every: int = setting(50, help="steps between lines in metrics.jsonl and points in TensorBoard")

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "checkpoint_every", "log_every", "keep"):
            _at_least(name, getattr(self, name), 1)
        for name in ("seed", "warmup", "evaluate_examples", "sample_every", "keep_every", "clip", "weight_decay"):
            _at_least(name, getattr(self, name), 0)
        for name in ("learning_rate", "epsilon", "redraw_crop"):
            _at_least(name, getattr(self, name), 0)
        if any(abs(semitones) > _MOST_SEMITONES for semitones in self.redraw_transpose):
            raise UsageError(f"--redraw-transpose {self.redraw_transpose}: must lie in -127..127")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"--{name} {getattr(self, name)}: must be 0 or more and below 1")
        try:
            parse_mesh(self.mesh)
        except ValueError as error:
            raise UsageError(f"--mesh {self.mesh}: {error}") from error
        if self.batch % self.accumulate:
            raise UsageError(
                f"--accumulate {self.accumulate} does not divide --batch {self.batch}: choose one that does"
            )

    @property
    def redraws(self) -> bool:
        """Whether training examples are drawn anew when their turn comes."""
        return bool(self.redraw_crop or self.redraw_transpose)


def _at_least(name: str, value: float, minimum: int) -> None:
    if not minimum <= value < math.inf:
        raise UsageError(f"--{name.replace('_', '-')} {value}: must be {minimum} or more")


@dataclass(frozen=True)
class Run:
    """A named run: a family with its settings, and how it is trained.

    Attributes:
        name: what is typed after `stretto train`.
        family: key of the family in `trainer.models.FAMILIES`.
        task: the family's dataclass with its settings.
        settings: how it is trained.
        sizes: {size: {field of the task: value}} for `--size`; empty where there is one size only.
        expected: what comes out of it, with the figures and where they are from.
        command: how it is started.
    """

    name: str
    family: str
    task: Task
    settings: TrainSettings
    sizes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    expected: str = ""
    command: str = ""

    def sized(self, size: str) -> Run:
        """This run at one of its sizes. Raises UsageError where it has none, or not this one."""
        if not self.sizes:
            raise UsageError(f"{self.name} has one size only: leave --size out")
        check_name(size, self.sizes, "size")
        return replace(self, task=replace(self.task, **self.sizes[size]))  # type: ignore[type-var]


def run_to_json(run: Run) -> dict[str, Any]:
    """What config.json holds of a run: name, family, and both groups of settings with every default written out."""
    return {"name": run.name, "family": run.family, "model": to_json(run.task), "train": to_json(run.settings)}


def run_from_json(values: Mapping[str, Any]) -> Run:
    """The inverse of `run_to_json`. Raises UsageError for an unknown family or setting."""
    from trainer.models import FAMILIES

    kind = resolve(FAMILIES, values["family"], "model family")
    return Run(
        values["name"], values["family"], from_json(kind, values["model"]), from_json(TrainSettings, values["train"])
    )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings in which two `run_to_json` differ: {"train.batch": (old, new)}; a key that one lacks counts as None."""
    found = {}
    for group in ("name", "family", "model", "train"):
        left, right = _named(group, old.get(group)), _named(group, new.get(group))
        for key in sorted(left.keys() | right.keys()):
            if left.get(key) != right.get(key):
                found[key] = (left.get(key), right.get(key))
    return found


def _named(group: str, value: Any) -> dict[str, Any]:
    return {f"{group}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {group: value}


def refused(changes: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """Those of `differences` that a run may not be continued with."""
    names = []
    for key, (old, new) in changes.items():
        group, _, name = key.partition(".")
        shrinks = name == "steps" and new < old
        if group != "train" or name not in CHANGEABLE or shrinks:
            names.append(key)
    return names
