"""One training run, ready to go: what it needs, where it stands, and how its state is put back, moved on and saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from schemas.errors import InputError
from schemas.hashing import fingerprint, stable_hash
from schemas.manifest import Manifest
from trainer.backends import current
from trainer.checkpoint import Checkpoints
from trainer.config import Run
from trainer.data import Prefetch, Reader
from trainer.loaded import restore_weights
from trainer.saved import Saved

if TYPE_CHECKING:  # it imports Keras, and ten seconds with it
    from trainer.backends.update import Update


class Stopping(Protocol):
    """Whether the process was asked to stop, and whether it was a person at the keyboard."""

    requested: bool
    by_hand: bool


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
    """

    run: Run
    config: Mapping[str, Any]
    changes: Mapping[str, tuple[Any, Any]]
    folder: str
    manifest: Manifest
    representation: Any
    train: Reader
    validation: Reader | None
    update: Update


def stream(course: Course, place: Place) -> Prefetch:
    """The batches from a place on; use it in a `with` statement."""
    settings = course.run.settings
    return Prefetch(course.train.shuffled(settings.seed, place.position, settings.batch))


def advance(course: Course, place: Place, batch: Mapping[str, Any], rate: float) -> None:
    """Makes one update of the weights, and moves the place on."""
    settings = course.run.settings
    place.logs = course.update(batch, rate, step_seed(settings.seed, place.step), active(course, place))
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
    left = checkpoints.clear()
    step, skipped = checkpoints.newest(limit)
    if step is None and skipped and limit is None:
        raise InputError(
            f"{checkpoints.folder}: no checkpoint is whole ({'; '.join(skipped)}). "
            "Repair one, or move this folder away: the same command then begins anew."
        )
    if step is None:
        begin_weights(course)
        return Place(), [*left, *skipped, "no checkpoint is whole: beginning anew"] if left or skipped else []
    backend, (weights, optimiser) = current(), parts(course.update)
    found = checkpoints.restore(step, weights=backend.abstract(weights), optimiser=backend.abstract(optimiser))
    backend.restore([*weights, *optimiser], [*found["weights"], *found["optimiser"]])
    saved = checkpoints.state(step)
    place = Place(saved.step, saved.position, saved.logs)
    return place, [*left, *skipped, f"continuing from step {step}, checkpoint {checkpoints.path(step)}"]


def begin_weights(course: Course) -> None:
    """The state before the first step: weights drawn from the seed, or those of the run that `--init` names."""
    from trainer.layers.initial import draw_initial

    settings, model = course.run.settings, course.update.model
    course.update.begin_optimisers()
    draw_initial(model, settings.seed)
    if settings.init:
        source = Checkpoints(settings.init)
        restore_weights(model, source, source.choose("best"), "best")


def parts(update: Update) -> tuple[list[Any], list[Any]]:
    """The variables of a model and of its optimisers."""
    count = len(update.model.variables)
    return update.variables[:count], update.variables[count:]


def save(course: Course, checkpoints: Checkpoints, place: Place, score: float | None) -> None:
    """Writes a checkpoint of this place, unless there is a whole one already.

    Raises:
        MachineError: the disk is full or fails; older checkpoints are as they were.
    """
    if place.step in checkpoints.steps() and not checkpoints.fault(place.step):
        return
    backend, (weights, optimiser) = current(), parts(course.update)
    logs = {name: float(value) for name, value in place.logs.items()}
    saved = Saved(
        place.step, place.position, course.manifest.fingerprint, fingerprint(dict(course.config)), score, logs
    )
    checkpoints.save(saved, backend.values(weights), backend.values(optimiser))
