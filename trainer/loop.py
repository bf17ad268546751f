"""The only loop: step, log, evaluate, save, and go on where an earlier process stopped."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NoReturn

import numpy as np

from media.midi import write_midi
from media.storage import write_atomic
from schemas.errors import Interrupted, MachineError, StrettoError
from schemas.music import Piece
from schemas.naming import readable
from trainer.backends import current
from trainer.checkpoint import Checkpoints
from trainer.course import Course, Place, advance, restore, save, step_seed, stream
from trainer.divergence import DIVERGED, diverged
from trainer.loaded import CONFIG
from trainer.profiling import Profile
from trainer.saving import Saving
from trainer.schedule import schedule_of
from trainer.stopping import Stopping, stopped
from trainer.summaries import Summaries, decoded
from trainer.together import Together
from trainer.watch import NotFinite, Watch

SAMPLES = "samples"
_SHOWN = 2
_SAMPLE_LENGTH = 512


def loop(course: Course, asked: Stopping) -> Mapping[str, float]:
    """Trains until `run.settings.steps` and returns the last validation figures.

    Raises:
        DivergedError: a loss or a norm is no finite number; the state before that step is saved.
        Interrupted: a stop was asked for; the state is saved.
        MachineError: the disk is full or fails; the checkpoints are as they were.
    """
    settings, stop = course.run.settings, Together(asked, course.processes)
    checkpoints = Checkpoints(course.folder, settings.keep, settings.keep_every, course.manifest.fingerprint)
    place, told = restore(course, checkpoints)
    with Saving(checkpoints) as saving:
        try:
            return run(course, saving, place, told, stop)
        except NotFinite as found:
            error = diverged(course, saving, place, found, stop)
        except StrettoError:
            raise
        except Exception as failed:
            if current().is_out_of_memory(failed):
                raise no_room(course, checkpoints, failed) from failed
            if course.processes.count == 1 or not current().is_lost_peer(failed):
                raise
            saving.wait()
            raise lost(course, checkpoints, place, failed) from failed
    raise error


def no_room(course: Course, checkpoints: Checkpoints, failed: Exception) -> MachineError:
    """The error of a device whose memory is too small, with what needs less and may be changed."""
    settings = course.run.settings
    less = [f"--accumulate {2 * settings.accumulate}"] if settings.batch % (2 * settings.accumulate) == 0 else []
    less += ["--remat"] if course.run.task.in_blocks and not settings.remat else []
    less += ["--precision mixed_bfloat16"] if settings.precision == "float32" and not checkpoints.steps() else []
    remedy = f"Type the same command with {' or '.join([*less, 'a smaller --batch'])}"
    return MachineError(f"{course.folder}: the device has too little memory. {remedy}. ({_first_line(failed)})")


def lost(course: Course, checkpoints: Checkpoints, place: Place, failed: Exception) -> Interrupted:
    """The error of a process that is left alone: it cannot save, because it may be in the middle of a step."""
    newest = max(checkpoints.steps(), default=None)
    saved, then = ("nothing is saved yet", "begin anew") if newest is None else (f"step {newest} is saved", "continue")
    return Interrupted(
        f"{course.folder}: another process was lost after step {place.step}; {saved}. Start all of them again with the "
        f"same command: they {then}. ({_first_line(failed)})"
    )


def _first_line(failed: Exception) -> str:
    return readable((str(failed).strip().splitlines() or [type(failed).__name__])[0][:200])


def run(course: Course, saving: Saving, place: Place, told: list[str], stop: Together) -> Mapping[str, float]:
    """The steps from a place to the last; `told` is said before them."""
    settings = course.run.settings
    schedule, evaluate, scores = schedule_of(settings), make_evaluate(course), {}
    with ExitStack() as stack:
        summaries = stack.enter_context(Summaries(course.reports, place.step))
        batches = stack.enter_context(stream(course, place))
        watch = Watch(course, place, summaries)
        begin(course, watch, told)
        watch.started()
        profile = stack.enter_context(Profile(course.reports, course.profile, watch.say))
        while place.step < settings.steps:
            if stop.requested:
                end_early(course, saving, watch, stop)
            saving.check()
            profile.at(place)
            one_step(course, watch, batches, schedule(place.step), stop)
            if is_time(place.step, settings.checkpoint_every, settings.steps):
                scores = keep(course, saving, watch, evaluate, stop)
            elif is_time(place.step, settings.log_every, settings.steps):
                watch.report()
            if is_time(place.step, settings.sample_every, settings.steps) and not stop.requested:
                show_samples(course, watch)
        if not scores:  # an earlier process ended between its last checkpoint and the end
            scores = score(watch, evaluate, stop)
        if stop.requested and not scores:
            end_early(course, saving, watch, stop)
        with watch.spending("saving"):
            settle(course, saving)
        watch.report_spent()
        summaries.hparams(course.config, {f"validation/{name}": value for name, value in scores.items()})
    return scores


def one_step(
    course: Course, watch: Watch, batches: Iterator[Mapping[str, Any]], learning_rate: float, stop: Together
) -> None:
    """Waits for a batch, updates the weights once, and notes both."""
    with watch.waiting():
        batch = next(batches)
    watch.look_at(batch)
    with watch.stepping(batch):
        advance(course, watch.place, batch, learning_rate, stop)
    watch.record(watch.place.logs, learning_rate)


def keep(course: Course, saving: Saving, watch: Watch, evaluate: Any, stop: Together) -> Mapping[str, float]:
    """Reports, scores the validation split and begins to save. Returns the scores."""
    watch.report()
    scores = score(watch, evaluate, stop)
    with watch.spending("saving"):
        save(course, saving, watch.place, scores.get("loss"))
    return scores


def score(watch: Watch, evaluate: Any, stop: Together) -> Mapping[str, float]:
    """Scores the validation split, and reports that."""
    with watch.spending("evaluating"):
        scores: Mapping[str, float] = evaluate(watch.place.step, stop)
    watch.report_scores(scores)
    return scores


def settle(course: Course, saving: Saving) -> None:
    """Waits until the last checkpoint is written, in every process: one that left earlier would count as lost.

    Raises MachineError in each where the first process, which writes it, could not.
    """
    failed = None
    try:
        saving.wait()
    except MachineError as error:
        failed = error
    everywhere = all_say(course, failed is None)
    if failed is not None:
        raise failed
    if not everywhere:
        raise MachineError(f"{course.folder}: process 0 could not write the last checkpoint, and says why")


def all_say(course: Course, yes: bool) -> bool:
    """Whether all processes of a run say yes; each waits for all others."""
    if course.processes.count == 1:
        return yes
    from keras import ops

    devices, batch = course.update.devices, course.run.settings.batch
    own = np.full(len(range(batch)[course.processes.rows(batch)]), yes, np.float32)
    count = devices.compile_sums(course.update.model, lambda said: {"yes": ops.sum(said["yes"])})
    return float(count(devices.batch({"yes": own}))["yes"]) == batch


def is_time(step: int, every: int, steps: int) -> bool:
    """Whether something that is done every so many steps is due; it always is after the last one. 0: it never is."""
    return every > 0 and (step % every == 0 or step == steps)


def begin(course: Course, watch: Watch, told: list[str]) -> None:
    """Says where training begins, records changed settings; before the first step shows settings and data."""
    for sentence in told:
        watch.say(sentence)
    if course.changes:
        watch.journal.write(watch.place.step, "change", {name: list(pair) for name, pair in course.changes.items()})
    devices = course.update.devices
    laid_out = {"mesh": str(devices.mesh), "kind": devices.kind, "processes": devices.processes.count}
    watch.journal.write(watch.place.step, "devices", laid_out)
    if devices.count > 1:
        watch.say(f"{devices.count} devices ({devices.kind}), {laid_out['mesh']}, {devices.processes.count} processes")
    if course.processes.is_chief:
        # Also where nothing changed: the dataset may lie elsewhere now.
        write_atomic(os.path.join(course.folder, CONFIG), json.dumps(course.config, indent=1).encode())
        if os.path.exists(old := os.path.join(course.folder, DIVERGED)):
            os.remove(old)
    if not watch.place.step:
        watch.summaries.configuration(course.config, f"{course.run.name}: {course.run.expected}")
        if course.processes.is_chief:
            watch.show("first_batch", first_pieces(course))


def end_early(course: Course, saving: Saving, watch: Watch, stop: Together) -> NoReturn:
    """Saves, and only then reports: a disk without room for another line has lost no step. Raises Interrupted."""
    watch.check()
    with watch.spending("saving"):
        save(course, saving, watch.place, None)
        settle(course, saving)
    watch.report()
    where = f"at step {watch.place.step} of {course.run.settings.steps}, the state is saved"
    raise stopped(course.folder, stop.by_hand, where)


# === Evaluation ===


def make_evaluate(course: Course) -> Any:
    """A function that scores the validation split: {"loss": …, "accuracy": …}, nothing where there is no such split.

    It takes the step and what may ask for a stop: then it gives up, with nothing. It raises NotFinite where the sum of
    a batch is no finite number.
    """
    update, settings = course.update, course.run.settings
    compiled = update.devices.compile_sums(update.model, update.scores)

    def evaluate(step: int, stop: Together) -> dict[str, float]:
        found: dict[str, np.ndarray[Any, Any]] = {}
        reader, limit, rows = course.validation, settings.evaluate_examples, course.processes.rows(settings.batch)
        batches = reader.in_order(settings.batch, limit, rows) if reader else iter(())
        for number, batch in enumerate(batches):
            if stop.requested:
                return {}
            for name, pair in stop.read(compiled(update.devices.batch(stop.marked(batch)))).items():
                total, weight = float(pair[0]), float(pair[1])
                if not math.isfinite(total):
                    first = number * settings.batch
                    last = min(first + settings.batch, min(len(reader), limit or len(reader)))
                    raise NotFinite(step, f"validation {name}", total, validation=range(first, last))
                found[name] = found.get(name, 0) + np.array([total, weight])
        return {name: float(total / weight) for name, (total, weight) in found.items() if weight}

    return evaluate


# === Music on the way ===


def first_pieces(course: Course) -> list[Piece]:
    """The first training examples as the model sees them."""
    seed = course.run.settings.seed
    return decoded(course.representation, [course.train.example(seed, number) for number in range(_SHOWN)])


def show_samples(course: Course, watch: Watch) -> None:
    """Shows music that the model makes, and keeps it as MIDI, picture and sound under samples/."""
    folder = os.path.join(course.folder, SAMPLES)
    with watch.spending("showing"):
        pieces = samples(course, watch.place.step)
    for number, piece in enumerate(pieces if course.processes.is_chief else ()):
        write_atomic(os.path.join(folder, f"step-{watch.place.step}-{number}.mid"), write_midi(piece))
    watch.show("sample", pieces, folder)


def samples(course: Course, step: int) -> list[Piece]:
    """Music that the model makes of nothing."""
    from trainer.layers.sampling import Sampler

    seed, model = step_seed(course.run.settings.seed, step), course.update.model
    length = min(_SAMPLE_LENGTH, model.window)
    records = course.run.task.sample(
        model, course.representation, None, _SHOWN, length, seed, Sampler(likelihood=False)
    )
    return decoded(course.representation, records)
