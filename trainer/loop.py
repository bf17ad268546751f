"""The only loop: step, log, evaluate, save, and go on where an earlier process stopped."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from media.midi import write_midi
from media.storage import write_atomic
from schemas.errors import DivergedError, Interrupted
from schemas.hashing import canonical_json, fingerprint, stable_hash
from schemas.manifest import Manifest
from schemas.music import Piece
from trainer.backends import current
from trainer.backends.update import Update
from trainer.checkpoint import CONFIG, Checkpoints, Saved
from trainer.config import Run
from trainer.data import Prefetch, Reader
from trainer.order import order
from trainer.schedule import schedule_of
from trainer.summaries import Summaries, decoded
from trainer.task import Context

METRICS = "metrics.jsonl"
LOG = "logs/train.jsonl"
SAMPLES = "samples"
_SHOWN = 2
_SAMPLE_LENGTH = 512


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


class Stopping(Protocol):
    """Whether the process was asked to stop."""

    requested: bool


def loop(course: Course, stop: Stopping) -> Mapping[str, float]:
    """Trains until `run.settings.steps` and returns the last validation figures.

    Raises:
        DivergedError: the loss of a step is not a finite number.
        Interrupted: a stop was asked for; the state is saved.
    """
    settings = course.run.settings
    checkpoints = Checkpoints(course.folder, settings.keep)
    place, told = restore(course, checkpoints)
    schedule, evaluate, scores = schedule_of(settings), make_evaluate(course), {}
    with Summaries(course.folder, place.step) as summaries, _stream(course, place) as batches:
        watch = Watch(course, place, summaries)
        begin(course, watch, told)
        while place.step < settings.steps:
            if stop.requested:
                watch.report()
                save(course, checkpoints, place, None)
                raise Interrupted(
                    f"{course.folder}: stopped at step {place.step} of {settings.steps}, the state is saved: "
                    "run the same command again"
                )
            rate = schedule(place.step)
            with watch.waiting():
                batch = next(batches)
            place.logs = course.update(batch, rate, step_seed(settings.seed, place.step), active(course, place))
            place.step, place.position = place.step + 1, place.position + settings.batch
            watch.record(place.logs, rate)
            saving = is_time(place.step, settings.checkpoint_every, settings.steps)
            if saving or is_time(place.step, settings.log_every, settings.steps):
                watch.report()
            if saving:
                scores = evaluate()
                watch.report_scores(scores)
                save(course, checkpoints, place, scores.get("loss"))
            if settings.sample_every and is_time(place.step, settings.sample_every, settings.steps):
                keep_samples(course, watch, samples(course, place.step))
        if not scores:  # an earlier process was killed between its last checkpoint and the end
            scores = evaluate()
        summaries.hparams(course.config, {f"validation/{name}": value for name, value in scores.items()})
    return scores


def is_time(step: int, every: int, steps: int) -> bool:
    """Whether something that is done every so many steps is due; it always is after the last one."""
    return step % every == 0 or step == steps


def begin(course: Course, watch: Watch, told: list[str]) -> None:
    """Says where training begins, records changed settings; before the first step shows settings and data."""
    for sentence in told:
        watch.say(sentence)
    if course.changes:
        watch.journal.write(watch.place.step, "change", {name: list(pair) for name, pair in course.changes.items()})
    # Also where nothing changed: the dataset may lie elsewhere now.
    write_atomic(os.path.join(course.folder, CONFIG), json.dumps(course.config, indent=1).encode())
    if not watch.place.step:
        watch.summaries.configuration(course.config, f"{course.run.name}: {course.run.expected}")
        watch.show("first_batch", first_pieces(course))


def _stream(course: Course, place: Place) -> Prefetch:
    settings = course.run.settings
    return Prefetch(course.train.shuffled(settings.seed, place.position, settings.batch))


def step_seed(seed: int, step: int) -> int:
    """What the losses of a step draw from: 31 bits of (seed, step)."""
    return stable_hash(seed, step, "step") % 2**31


def active(course: Course, place: Place) -> tuple[bool, ...]:
    """Which objectives move in the next step."""
    return tuple(objective.active(place.step, place.logs) for objective in course.update.objectives)


# === Evaluation ===


def make_evaluate(course: Course) -> Any:
    """A function that scores the validation split: {"loss": …, "accuracy": …}, nothing where there is no such split."""
    model, objective, settings = course.update.model, course.update.objectives[0], course.run.settings

    def sums(batch: Mapping[str, Any]) -> dict[str, Any]:
        total, weight, extras = objective.loss(model, batch, Context(False, np.int32(0), current().gradient))
        return {"loss": (total, weight), **extras}

    compiled = current().compile_function(model, sums)

    def evaluate() -> dict[str, float]:
        found: dict[str, np.ndarray[Any, Any]] = {}
        batches = (
            course.validation.in_order(settings.batch, settings.evaluate_examples) if course.validation else iter(())
        )
        for batch in batches:
            for name, pair in compiled(batch).items():
                found[name] = found.get(name, 0) + np.array([float(pair[0]), float(pair[1])])
        return {name: float(total / weight) for name, (total, weight) in found.items() if weight}

    return evaluate


# === Save and resume ===


def restore(course: Course, checkpoints: Checkpoints) -> tuple[Place, list[str]]:
    """Puts back the newest valid checkpoint. Returns its place, a fresh one without any, and what is to be said."""
    step, told = checkpoints.newest()
    checkpoints.remove_after(-1 if step is None else step)
    if step is None:
        return Place(), told
    backend, (weights, optimiser) = current(), parts(course.update)
    found = checkpoints.restore(step, weights=backend.abstract(weights), optimiser=backend.abstract(optimiser))
    backend.restore([*weights, *optimiser], [*found["weights"], *found["optimiser"]])
    saved = checkpoints.state(step)
    return Place(saved.step, saved.position, saved.logs), [*told, f"continuing from step {step}"]


def parts(update: Update) -> tuple[list[Any], list[Any]]:
    """The variables of a model and of its optimisers."""
    count = len(update.model.variables)
    return update.variables[:count], update.variables[count:]


def save(course: Course, checkpoints: Checkpoints, place: Place, score: float | None) -> None:
    """Writes a checkpoint of this place, unless there is one already."""
    if place.step in checkpoints.steps():
        return
    backend, (weights, optimiser) = current(), parts(course.update)
    logs = {name: float(value) for name, value in place.logs.items()}
    saved = Saved(
        place.step, place.position, course.manifest.fingerprint, fingerprint(dict(course.config)), score, logs
    )
    checkpoints.save(saved, backend.values(weights), backend.values(optimiser))


# === What is written and said ===


class Journal:
    """metrics.jsonl: one line of JSON for each report, cut back to the step that training goes on from."""

    def __init__(self, path: str, step: int) -> None:
        self.path = path
        kept = [line for line in _lines(path) if line["step"] <= step]
        write_atomic(path, "".join(canonical_json(line) + "\n" for line in kept).encode())

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Appends a line: `kind` is "train", "validation" or "change"."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(canonical_json({"step": step, "kind": kind, **values}) + "\n")


def _lines(path: str) -> Iterator[dict[str, Any]]:
    """The lines of a journal; one that was cut short by a kill is left out."""
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as file:
        for text in file:
            if text.endswith("\n"):
                yield json.loads(text)


class Watch:
    """Collects the logs of steps and reports their means, how fast it goes and how long it will take.

    Logs stay on the device until a report needs them, so that the next step can begin before the last one is read.
    """

    def __init__(self, course: Course, place: Place, summaries: Summaries) -> None:
        self.course, self.place, self.summaries = course, place, summaries
        self.journal = Journal(os.path.join(course.folder, METRICS), place.step)
        self.log = Journal(os.path.join(course.folder, LOG), place.step)
        self.pending: list[Mapping[str, Any]] = []
        self.rate, self.waited = 0.0, 0.0
        self.began = self.since = self.said = time.monotonic()
        self.first = place.step

    def say(self, sentence: str) -> None:
        """A line for the person who waits, kept in logs/ too."""
        print(sentence, file=sys.stderr, flush=True)
        self.log.write(self.place.step, "said", {"sentence": sentence})

    def show(self, name: str, pieces: list[Piece]) -> None:
        """Pieces to be seen and heard in TensorBoard."""
        for sentence in self.summaries.pieces(self.place.step, name, pieces):
            self.say(sentence)
        self.since = time.monotonic()

    def waiting(self) -> Waiting:
        """A `with` block whose time counts as waiting for input."""
        return Waiting(self)

    def record(self, logs: Mapping[str, Any], rate: float) -> None:
        """Takes the logs of the step that was just made."""
        self.pending.append(logs)
        self.rate = rate

    def report(self) -> None:
        """Writes the means since the last report. Raises DivergedError, naming the first step that is not finite."""
        if not self.pending:
            return
        rows = [{name: float(value) for name, value in logs.items()} for logs in self.pending]
        self._check(rows)
        values = {name: float(np.mean([row[name] for row in rows if name in row])) for name in rows[-1]}
        values.update(self._speed(len(rows), values.pop("weight", 0.0)))
        self.journal.write(self.place.step, "train", values)
        self.summaries.scalars(self.place.step, values)
        self._progress(values)
        self.pending, self.waited, self.since = [], 0.0, time.monotonic()

    def _check(self, rows: list[dict[str, float]]) -> None:
        for number, row in enumerate(rows):
            bad = [name for name, value in row.items() if not math.isfinite(value)]
            if bad:
                step = self.place.step - len(rows) + number + 1
                raise DivergedError(
                    f"step {step}: {bad[0]} is {row[bad[0]]}. Nothing was saved since; the last checkpoint is good. "
                    f"Start another run with a lower --learning-rate (now {self.rate:.3g}) or with --clip 1."
                )

    def _speed(self, steps: int, weight: float) -> dict[str, float]:
        settings, seconds = self.course.run.settings, max(1e-9, time.monotonic() - self.since)
        return {
            "learning_rate": self.rate,
            "examples_per_second": steps * settings.batch / seconds,
            "tokens_per_second": steps * weight / seconds,
            "input_wait": self.waited / seconds,
            "epoch": self.place.position / len(self.course.train),
        }

    def report_scores(self, scores: Mapping[str, float]) -> None:
        """Writes figures of the validation split."""
        if not scores:
            return
        self.journal.write(self.place.step, "validation", scores)
        self.summaries.scalars(self.place.step, scores, on="eval")
        self.say(
            f"step {self.place.step}: validation " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        )
        self.since = time.monotonic()

    def _progress(self, values: Mapping[str, float]) -> None:
        now, steps = time.monotonic(), self.course.run.settings.steps
        done = self.place.step - self.first
        if now - self.said < 5 and self.place.step < steps:
            return
        left = (now - self.began) / max(1, done) * (steps - self.place.step)
        self.say(
            f"step {self.place.step}/{steps}: loss {values.get('loss', math.nan):.4f}, "
            f"{values['tokens_per_second']:,.0f} tokens/s, {left / 60:.1f} min left"
        )
        self.said = now


class Waiting:
    """Adds the time spent in a `with` block to a watch."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *exception: object) -> None:
        self.watch.waited += time.monotonic() - self.began


def first_pieces(course: Course) -> list[Piece]:
    """The first training examples as the model sees them."""
    numbers = order(course.run.settings.seed, 0, _SHOWN, len(course.train))
    return decoded(course.representation, [course.train.record(int(number)) for number in numbers])


def keep_samples(course: Course, watch: Watch, pieces: list[Piece]) -> None:
    """Shows music the model made, and keeps it as MIDI files under samples/."""
    watch.show("sample", pieces)
    os.makedirs(os.path.join(course.folder, SAMPLES), exist_ok=True)
    for number, piece in enumerate(pieces):
        path = os.path.join(course.folder, SAMPLES, f"step-{watch.place.step}-{number}.mid")
        write_atomic(path, write_midi(piece))


def samples(course: Course, step: int) -> list[Piece]:
    """Music that the model makes of nothing."""
    from trainer.layers.sampling import Sampler

    seed = step_seed(course.run.settings.seed, step)
    records = course.run.task.sample(
        course.update.model, course.representation, None, _SHOWN, _SAMPLE_LENGTH, seed, Sampler(allow_longer=True)
    )
    return decoded(course.representation, records)
