"""What training says and writes of itself: metrics.jsonl, logs/, TensorBoard, a line for the person who waits."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from media.storage import cannot_write, write_atomic
from schemas.documents import parse_json
from schemas.errors import InputError
from schemas.hashing import canonical_json
from schemas.music import Piece
from schemas.naming import readable
from trainer.corrupt import CorruptRecords, sentences
from trainer.course import Course, Place
from trainer.examples_hash import examples_hash
from trainer.goodput import Spent
from trainer.order import order
from trainer.redraw import Redraws
from trainer.summaries import Summaries
from trainer.task import EXAMPLE_WEIGHT
from trainer.telling import tell

METRICS = "metrics.jsonl"
LOG = "logs/train.jsonl"
_SECONDS_BETWEEN_LINES = 5
_PER_STEP = ("weight", "gradient_norm", "weight_norm")


class NotFinite(Exception):
    """A figure of a step is no finite number, so training is over.

    Attributes:
        step: the first such step, counted from 1.
        what: name of the figure.
        value: what it is.
        validation: numbers of the validation records it is of; None where it is of the step's own batch.
    """

    def __init__(self, step: int, what: str, value: float, validation: range | None = None) -> None:
        super().__init__(f"step {step}: {what} is {value}")
        self.step, self.what, self.value, self.validation = step, what, value, validation


def check_finite(step: int, logs: Mapping[str, float]) -> None:
    """Raises NotFinite unless every figure of a step is a finite number."""
    for name, value in logs.items():
        if not math.isfinite(value):
            raise NotFinite(step, name, value)


class Journal:
    """A file with a line of JSON for each report, cut back to the step that training goes on from.

    Attributes:
        damaged: how many lines could not be read, and are left out.
        seconds: lines of kind "goodput" that were there, those after the step too: their time was spent.

    Raises:
        MachineError: the file cannot be written; from `write` too.
    """

    def __init__(self, path: str, step: int) -> None:
        self.path, self.damaged = path, 0
        # Which settings were changed stays told: a run that falls back behind the change goes on with them.
        found = list(self._lines())
        self.seconds = [line for line in found if line.get("kind") == "goodput"]
        kept = [line for line in found if line["step"] <= step or line.get("kind") == "change"]
        write_atomic(path, b"".join(map(_as_bytes, kept)))

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Appends a line: `kind` is "train", "validation", "goodput", "devices", "change", "corrupt" or "said"."""
        line = _as_bytes({"step": step, "kind": kind, **values})
        try:
            with open(self.path, "ab") as file:
                file.write(line)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def lines(self, kind: str) -> Iterator[dict[str, Any]]:
        """The lines of one kind."""
        return (line for line in self._lines() if line.get("kind") == kind)

    def _lines(self) -> Iterator[dict[str, Any]]:
        """The lines that can be read; the last one may have been cut short by a kill or a full disk."""
        if not os.path.exists(self.path):
            return
        with open(self.path, "rb") as file:
            for number, text in enumerate(file, 1):
                if not text.endswith(b"\n"):
                    return
                try:
                    line = parse_json(text, f"{self.path}, line {number}")
                except InputError:
                    line = None
                if isinstance(line, dict) and type(line.get("step")) is int:
                    yield line
                else:
                    self.damaged += 1


def _as_bytes(line: Mapping[str, Any]) -> bytes:
    # A file's name may hold bytes that are no text: question marks, because JSON can be read again only without them.
    return (canonical_json(line) + "\n").encode("utf-8", "replace")


class Watch:
    """Collects the logs of steps and reports their means, how fast it goes and how long it will take.

    Logs stay on the device until a report needs them, so that the next step can begin before the last one is read.
    """

    def __init__(self, course: Course, place: Place, summaries: Summaries) -> None:
        self.course, self.place, self.summaries = course, place, summaries
        self.journal = Journal(os.path.join(course.reports, METRICS), place.step)
        self.log = Journal(os.path.join(course.reports, LOG), place.step)
        self.corrupt = CorruptRecords(self.journal.lines("corrupt"))
        self.redraws = Redraws(self.journal.lines("train"))
        self.pending: list[tuple[Mapping[str, Any], float]] = []
        self.spent = Spent(course.began, self.journal.seconds, place.step)
        self.waited, self.shapes, self.examples = 0.0, dict[str, Any](), 0
        self.began = self.since = self.said = time.monotonic()
        self.first = place.step
        for journal in (self.journal, self.log):
            if journal.damaged:
                self.say(f"{journal.path}: {journal.damaged} damaged lines are left out")

    def say(self, sentence: str) -> None:
        """A line for the person who waits, kept in logs/ too; of several processes the first one speaks."""
        if self.course.processes.is_chief:
            tell(sentence)
        self.log.write(self.place.step, "said", {"sentence": readable(sentence)})

    def show(self, name: str, pieces: list[Piece], folder: str = "") -> None:
        """Pieces to be seen and heard in TensorBoard, and in a folder; of several processes the first shows them."""
        if not self.course.processes.is_chief:
            return
        with self.spending("showing"):
            for sentence in self.summaries.pieces(self.place.step, name, pieces, folder):
                self.say(sentence)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A `with` block whose time counts as waiting for input."""
        before = time.monotonic()
        with self.spent.on("input"):
            yield
        self.waited += time.monotonic() - before

    @contextmanager
    def spending(self, what: str) -> Iterator[None]:
        """A `with` block of something that is no step (`trainer.goodput.LOST`): speed is measured without it."""
        before = time.monotonic()
        with self.spent.on(what):
            yield
        self.since += time.monotonic() - before

    @contextmanager
    def stepping(self, batch: Mapping[str, Any]) -> Iterator[None]:
        """A `with` block that makes a step; tells where it was compiled again, and why."""
        count, before = self.course.update.compilations, time.monotonic()
        yield
        shapes = {name: (str(value.dtype), tuple(value.shape)) for name, value in batch.items()}
        if self.course.update.compilations > count:
            seconds = time.monotonic() - before
            self.spent.add("compiling", seconds)
            self.since += seconds
            if count:
                why = changed_shapes(self.shapes, shapes) or "not for the batch, whose shapes are as they were"
                self.say(f"step {self.place.step}: compiled again, which took {seconds:.1f} s: {why}")
        self.shapes = shapes

    def look_at(self, batch: Mapping[str, Any]) -> None:
        """Notes which examples the next step is made of, and the corrupt ones, which have weight 0 in its batch."""
        self.examples = (self.examples + examples_hash(batch)) % 2**64
        self.redraws.note(batch)
        rows = np.flatnonzero(batch[EXAMPLE_WEIGHT] == 0)
        if rows.size:
            train, settings = self.course.train, self.course.run.settings
            numbers = order(settings.seed, self.place.position, settings.batch, len(train))
            numbers = numbers[self.course.processes.rows(settings.batch)]
            self.corrupt.note("train", train, numbers[rows].tolist())

    def record(self, logs: Mapping[str, Any], rate: float) -> None:
        """Takes the logs of the step that was just made."""
        self.pending.append((logs, rate))

    def check(self) -> None:
        """Raises NotFinite, with the first such step since the last report; corrupt records are told before.

        It, or `report`, comes before every checkpoint, so that none is saved of a state that has diverged.
        """
        try:
            for step, row in enumerate(self._rows(), self.place.step - len(self.pending) + 1):
                check_finite(step, row)
        except NotFinite:
            self._corrupt()
            raise

    def report(self) -> None:
        """Writes the means since the last report. Raises NotFinite as `check` does; then no means are written."""
        if not self.pending:
            return
        self.check()
        rows = self._rows()
        figures = means(rows)
        weight = figures.pop("weight", 0.0)
        rate = self.pending[-1][1]
        values = {**figures, "learning_rate": rate, **self._speed(len(rows), weight), **self._told()}
        spent = self.spent.figures()
        self.journal.write(self.place.step, "train", {**values, "examples": f"{self.examples:016x}"})
        self.journal.write(self.place.step, "goodput", spent)
        self.summaries.scalars(self.place.step, {**values, "goodput": spent["goodput"]})
        self._progress(values)
        self.pending, self.waited, self.examples, self.since = [], 0.0, 0, time.monotonic()

    def started(self) -> None:
        """The steps begin: what was spent until now is written, so that a process killed soon is not forgotten."""
        self.spent.started()
        self.journal.write(self.place.step, "goodput", self.spent.figures())

    def report_spent(self) -> None:
        """Writes and says where the time went, what came after the last report too."""
        self.journal.write(self.place.step, "goodput", self.spent.figures())
        self.say(self.spent.told())

    def _rows(self) -> list[dict[str, float]]:
        return [{name: float(value) for name, value in logs.items()} for logs, _ in self.pending]

    def _speed(self, steps: int, weight: float) -> dict[str, float]:
        settings, seconds = self.course.run.settings, max(1e-9, time.monotonic() - self.since)
        return {
            "examples_per_second": steps * settings.batch / seconds,
            "tokens_per_second": steps * weight / seconds,
            "input_wait": self.waited / seconds,
            "epoch": self.place.position / len(self.course.train),
        }

    def _told(self) -> dict[str, float]:
        """What was not trained on as it was written, so far: corrupt records, draws that left the range."""
        settings, corrupt = self.course.run.settings, self._corrupt()
        if not settings.redraw_transpose:
            return corrupt
        if self.place.step == settings.steps and self.redraws.again:
            self.say(self.redraws.told())
        return {**corrupt, **self.redraws.figures()}

    def _corrupt(self) -> dict[str, float]:
        """Tells the corrupt records that are new; how many there are in all, where they are passed over."""
        new = self.corrupt.take()
        for one in new:
            self.journal.write(self.place.step, "corrupt", one)
        for sentence in sentences(new):
            self.say(f"step {self.place.step}: {sentence}")
        return {"corrupt_records": float(len(self.corrupt))} if self.course.run.settings.on_corrupt == "skip" else {}

    def report_scores(self, scores: Mapping[str, float]) -> None:
        """Writes figures of the validation split, and tells its corrupt records."""
        if self.course.validation:
            self.corrupt.note("validation", self.course.validation, list(self.course.validation.corrupt))
            self._corrupt()
        if not scores:
            return
        self.journal.write(self.place.step, "validation", scores)
        self.summaries.scalars(self.place.step, scores, on="eval")
        self.say(
            f"step {self.place.step}: validation " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        )

    def _progress(self, values: Mapping[str, float]) -> None:
        now, steps = time.monotonic(), self.course.run.settings.steps
        done = self.place.step - self.first
        if now - self.said < _SECONDS_BETWEEN_LINES and self.place.step < steps:
            return
        left = (now - self.began) / max(1, done) * (steps - self.place.step)
        self.say(
            f"step {self.place.step}/{steps}: loss {values.get('loss', math.nan):.4f}, "
            f"{values['tokens_per_second']:,.0f} tokens/s, {left / 60:.1f} min left"
        )
        self.said = now


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What is reported of the logs of some steps.

    The loss and the objective's other figures are means over what they are of, so a batch of which records were passed
    over counts for what is left of it; where nothing was left in any step they are left out. Norms and weights are
    means over steps.
    """
    found = {}
    for name in rows[-1]:
        prefix, _, last = name.rpartition("/")
        have = [row for row in rows if name in row]
        weight = f"{prefix}/weight" if f"{prefix}/weight" in rows[-1] else "weight"
        per_step = last in _PER_STEP or weight not in rows[-1]
        weights = [1.0 if per_step else row[weight] for row in have]
        if sum(weights) > 0:
            found[name] = float(np.average([row[name] for row in have], weights=weights))
    return found


def changed_shapes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs between two batches, each {name: (type, shape)}; "" for nothing."""
    return ", ".join(
        f"{name} is {_shape(new.get(name))}, was {_shape(old.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _shape(found: tuple[str, tuple[int, ...]] | None) -> str:
    return "missing" if found is None else f"{found[0]}{list(found[1])}"
