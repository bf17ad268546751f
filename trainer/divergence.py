"""What is left behind when training diverges: the step, the examples of its batch, and a saved state before it.

Figures are looked at when they are reported, some steps late, so that good steps cost nothing. When one is no finite
number the run goes back to the newest checkpoint before that step (or to its beginning), makes the steps up to it
again, looking at each, and saves. Several processes do not go back: what was saved before stays.
"""

from __future__ import annotations

import json
import os
from typing import Any

from media.storage import write_atomic
from schemas.errors import DivergedError, InputError, MachineError, StrettoError
from trainer.checkpoint import Checkpoints
from trainer.course import Course, Place, advance, restore, save, stream
from trainer.data import Reader
from trainer.order import order
from trainer.redraw import Windows
from trainer.saving import Saving
from trainer.schedule import schedule_of
from trainer.telling import tell
from trainer.together import Together
from trainer.watch import NotFinite, check_finite

DIVERGED = "diverged.json"
_NAMED = 3
"""Keys of examples in the message; the file holds all."""


def diverged(course: Course, saving: Saving, place: Place, found: NotFinite, stop: Together) -> DivergedError:
    """Saves the state before the step that was found, writes diverged.json, and returns the error that ends the run.

    Args:
        course: the run.
        saving: its checkpoints.
        place: where training stood when it was found.
        found: the first step with a figure that is no finite number.
        stop: going back is given up where `stop.requested`; what there is then is an older checkpoint.
    """
    checkpoints, examples = saving.checkpoints, examples_of(course, place, found)
    wanted = before(course, place, found.step)
    if course.processes.count == 1:
        step, saved = state_before(course, saving, wanted, stop)
    else:
        # They would have to agree on the step that each goes back to, and only one of them knows what is saved.
        saving.wait()
        step, saved = _newest(checkpoints, wanted.step)
    rate = schedule_of(course.run.settings)(found.step - 1)
    told = {
        "step": found.step,
        "what": found.what,
        "value": str(found.value),
        "learning_rate": rate,
        "split": "train" if found.validation is None else "validation",
        "examples": examples,
        "checkpoint": step,
    }
    return DivergedError(
        f"step {found.step}: {found.what} is {found.value}, at learning rate {rate:.3g}. Its batch: "
        f"{_shown(examples)}; {_written(course, told)}. State before it: {saved}. Look at these examples, or start "
        f"another run with a lower --learning-rate or with --clip 1{_hint(course, checkpoints)}."
    )


def _hint(course: Course, checkpoints: Checkpoints) -> str:
    # Where none was scored, the best is the newest, which may be on its way to ruin.
    best = checkpoints.best()
    if best is None or checkpoints.state(best).score is None:
        return ""
    return f" (--init {course.folder} begins with this one's best weights, of step {best})"


def _shown(examples: list[dict[str, Any]]) -> str:
    keys = ", ".join(example["key"] for example in examples[:_NAMED])
    return keys + (f" and {len(examples) - _NAMED} more" if len(examples) > _NAMED else "")


def _written(course: Course, told: dict[str, Any]) -> str:
    path = os.path.join(course.folder, DIVERGED)
    if not course.processes.is_chief:
        return f"{path} names all"
    try:
        write_atomic(path, (json.dumps(told, indent=1) + "\n").encode())
    except MachineError as error:
        return f"that cannot be kept ({error})"
    return f"{path} names all"


def examples_of(course: Course, place: Place, found: NotFinite) -> list[dict[str, Any]]:
    """Key, shard and number there of each example that the figure is of."""
    if found.validation is not None:
        assert course.validation is not None
        return [_example(course.validation, number) for number in course.validation.records(found.validation)]
    settings = course.run.settings
    position = before(course, place, found.step).position
    numbers = order(settings.seed, position, settings.batch, len(course.train))
    return [_example(course.train, int(number)) for number in numbers]


def before(course: Course, place: Place, step: int) -> Place:
    """Where this process stood before a step; `place` is where it stands."""
    return Place(step - 1, place.position - (place.step - step + 1) * course.run.settings.batch)


def _example(reader: Reader | Windows, number: int) -> dict[str, Any]:
    shard = int(reader.shards.shard[number])
    key = reader.record(number)["key"].decode("utf-8", "backslashreplace")
    if number in reader.corrupt:
        key = "a corrupt record, passed over"
    return {
        "key": key,
        "shard": os.path.basename(reader.shards.paths[shard]),
        "record": number - reader.shards.first[shard],
    }


def state_before(course: Course, saving: Saving, wanted: Place, stop: Together) -> tuple[int | None, str]:
    """Saves the state of a place. Returns the newest step up to it that is saved, and a phrase that says so."""
    reason, target, checkpoints = "", wanted, saving.checkpoints
    while target.step >= 0:
        try:
            saving.wait()
            if checkpoints.newest(target.step)[0] == target.step:
                break
            save(course, saving, replay(course, checkpoints, target, stop), None)
            saving.wait()
            break
        except NotFinite as earlier:
            # Only where the device does not repeat its bits: what was good is bad now, and an earlier state is due.
            target = before(course, target, earlier.step)
        except StrettoError as error:
            reason = f"; that of step {target.step} could not be saved ({error})"
            break
    step, phrase = _newest(checkpoints, wanted.step)
    return step, phrase + reason


def _newest(checkpoints: Checkpoints, limit: int) -> tuple[int | None, str]:
    """The newest whole checkpoint up to a step, and a phrase that says so."""
    found, _ = checkpoints.newest(limit)
    return found, "none is saved" if found is None else checkpoints.path(found)


def replay(course: Course, checkpoints: Checkpoints, target: Place, stop: Together) -> Place:
    """Makes the steps after the newest valid checkpoint again, up to `target`.

    Raises:
        NotFinite: as training does.
        InputError: these steps were made with another batch size, so they would be others.
    """
    place, told = restore(course, checkpoints, target.step)
    tell(f"training diverged: going back to step {place.step}, to save the state of step {target.step}")
    for sentence in told[:-1]:
        tell(sentence)
    if place.position + (target.step - place.step) * course.run.settings.batch != target.position:
        raise InputError(
            f"the batch size was another one in some of the steps after {place.step}, so they cannot be made again"
        )
    schedule = schedule_of(course.run.settings)
    with stream(course, place) as batches:
        while place.step < target.step and not stop.requested:
            advance(course, place, next(batches), schedule(place.step), stop)
            check_finite(place.step, {name: float(value) for name, value in place.logs.items()})
    return place
