"""One training run, ready to go: what it needs, where it stands, and how its state is put back, moved on and saved."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schemas.errors import InputError
from schemas.hashing import fingerprint, stable_hash
from schemas.manifest import Manifest
from trainer.arrays import shapes_of
from trainer.backends import current
from trainer.checkpoint import Checkpoints
from trainer.config import Run
from trainer.data import Prefetch, Reader
from trainer.devices import Processes
from trainer.loaded import restore_weights
from trainer.redraw import Windows, without_counts
from trainer.saved import Saved
from trainer.saving import Saving
from trainer.together import Together

if TYPE_CHECKING:  # it imports Keras, and ten seconds with it
    from trainer.backends.update import Update


@dataclass
class Place:
    """Where training stands: updates made, training examples consumed, logs of the last step."""

    step: int = 0
    position: int = 0
    logs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Course:
    """All that one training run needs, ready to go.

    Attributes:
        run: the settings.
        config: what config.json is to hold.
        changes: settings that differ from those it was started with: {name: (old, new)}.
        folder: where everything is written.
        manifest: of the dataset.
        representation: of the dataset, to make music of records.
        train: reader of the train split.
        validation: reader of the validation split, or None where that is empty.
        update: the model and the step.
        profile: the first step that is profiled, and the one after the last.
        began: `time.monotonic()` when this process began.
    """

    run: Run
    config: Mapping[str, Any]
    changes: Mapping[str, tuple[Any, Any]]
    folder: str
    manifest: Manifest
    representation: Any
    train: Reader
    validation: Reader | Windows | None
    update: Update
    profile: tuple[int, int] = (0, 0)
    began: float = field(default_factory=time.monotonic)

    @property
    def processes(self) -> Processes:
        """Those that train together, and which one this is."""
        return self.update.devices.processes

    @property
    def reports(self) -> str:
        """Where this process keeps what it has to tell: the chief in the run's folder, others each in one of logs/."""
        number = self.processes.number
        return os.path.join(self.folder, "logs", f"process-{number}") if number else self.folder


def stream(course: Course, place: Place) -> Prefetch:
    """The batches from a place on; use it in a `with` statement."""
    settings = course.run.settings
    rows = course.processes.rows(settings.batch)
    return Prefetch(course.train.shuffled(settings.seed, place.position, settings.batch, rows))


def advance(course: Course, place: Place, batch: Mapping[str, Any], rate: float, stop: Together) -> None:
    """Makes one update of the weights, and moves the place on."""
    settings = course.run.settings
    seed, moving = step_seed(settings.seed, place.step), active(course, place)
    place.logs = stop.read(course.update(stop.marked(without_counts(batch)), rate, seed, moving))
    place.step, place.position = place.step + 1, place.position + settings.batch


def step_seed(seed: int, step: int) -> int:
    """What the losses of a step draw from: 31 bits of (seed, step)."""
    return stable_hash(seed, step, "step") % 2**31


def active(course: Course, place: Place) -> tuple[bool, ...]:
    """Which objectives move in the next step."""
    return tuple(objective.active(place.step, place.logs) for objective in course.update.objectives)


# === State ===


def restore(course: Course, checkpoints: Checkpoints, limit: int | None = None) -> tuple[Place, list[str]]:
    """Puts back the newest valid checkpoint (of at most step `limit`), or how the run began where there is none.

    Returns its place, and what is to be said. Damaged checkpoints stay until another one is saved.

    Raises:
        InputError: the checkpoint holds arrays of another network, or there are some and none is whole.
    """
    left = checkpoints.clear() if course.processes.is_chief else []
    step, skipped = checkpoints.newest(limit)
    if step is None and skipped and limit is None:
        raise InputError(
            f"{checkpoints.folder}: no checkpoint is whole ({'; '.join(skipped)}). "
            "Repair one, or move this folder away: the same command then begins anew."
        )
    if step is None:
        begin_weights(course)
        return Place(), [*left, *skipped, "no checkpoint is whole: beginning anew"] if left or skipped else []
    weights, optimiser = parts(course.update)
    found = checkpoints.restore(step, weights=shapes_of(weights), optimiser=shapes_of(optimiser))
    with course.update.devices.scope():
        current().restore([*weights, *optimiser], [*found["weights"], *found["optimiser"]])
    course.update.place()
    saved = checkpoints.state(step)
    place = Place(saved.step, saved.position, saved.logs)
    return place, [*left, *skipped, f"continuing from step {step}, checkpoint {checkpoints.path(step)}"]


def begin_weights(course: Course) -> None:
    """The state before the first step: weights drawn from the seed, or those of the run that `--init` names."""
    from trainer.layers.initial import draw_initial

    settings, model = course.run.settings, course.update.model
    with course.update.devices.scope():
        course.update.begin_optimisers()
        draw_initial(model, settings.seed)
        if settings.init:
            source = Checkpoints(settings.init)
            restore_weights(model, source, source.choose("best"), "best")
    course.update.place()


def parts(update: Update) -> tuple[list[Any], list[Any]]:
    """The variables of a model and of its optimisers."""
    count = len(update.model.variables)
    return update.variables[:count], update.variables[count:]


def save(course: Course, saving: Saving, place: Place, score: float | None) -> None:
    """Begins to write a checkpoint of this place, unless there is a whole one; of several processes the chief does.

    Raises:
        MachineError: an earlier one could not be written, because the disk is full or fails.
    """
    saving.wait()
    if not course.processes.is_chief:
        return
    checkpoints = saving.checkpoints
    if place.step in checkpoints.steps() and not checkpoints.fault(place.step):
        return
    weights, optimiser = (current().values(variables) for variables in parts(course.update))
    logs = {name: float(value) for name, value in place.logs.items()}
    saved = Saved(
        place.step, place.position, course.manifest.fingerprint, fingerprint(dict(course.config)), score, logs
    )
    saving.begin(saved, weights, optimiser)
