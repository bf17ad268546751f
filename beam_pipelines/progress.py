"""Progress: workers append a byte for every finished input, the launcher sums the sizes and says how long it will take.

The local engine has no live metrics, and files work the same for threads and processes, dead or alive.
"""

import contextlib
import os
import sys
import time
from dataclasses import dataclass, field

from beam_pipelines.folder import Folder, read_value
from media.storage import cannot_write

SURVEY, DECIDE, WRITE = "survey", "decide", "write"
_LINE_SECONDS = 15.0


class Ticks:
    """One worker's bytes for one stage; opened at the first, so that idle workers leave no file."""

    def __init__(self, folder: Folder, stage: str) -> None:
        self._path = folder.path("progress", f"{stage}-{os.getpid()}")
        self._file = -1

    def done(self) -> None:
        """One more input is finished. Raises MachineError where that cannot be written down."""
        try:
            if self._file < 0:
                os.makedirs(os.path.dirname(self._path), exist_ok=True)
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            os.write(self._file, b".")
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Closes the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def ticks(folder: Folder) -> dict[str, int]:
    """Stage -> finished inputs of this run."""
    counts = {SURVEY: 0, DECIDE: 0, WRITE: 0}
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(folder.path("progress")):
            stage = entry.name.partition("-")[0]
            if stage in counts:
                with contextlib.suppress(FileNotFoundError):
                    counts[stage] += entry.stat().st_size
    return counts


def forget_ticks(folder: Folder) -> None:
    """Removes the bytes of an earlier run."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder.path("progress")):
            if name.partition("-")[0] in (SURVEY, DECIDE, WRITE):
                os.unlink(folder.path("progress", name))


@dataclass
class Display:
    """Shows the progress of one run on standard error: a living line on a terminal, a line now and then elsewhere.

    Attributes:
        folder: the folder being built.
        to_survey: inputs that have to be read.
        quiet: show nothing.
    """

    folder: Folder
    to_survey: int
    quiet: bool = False
    last_change: float = field(default_factory=time.monotonic)
    _counts: dict[str, int] = field(default_factory=dict)
    _began: dict[str, float] = field(default_factory=dict)
    _shown: float = field(default_factory=time.monotonic)

    def update(self) -> None:
        """Reads the counts and shows them."""
        now, counts = time.monotonic(), ticks(self.folder)
        if counts != self._counts:
            self.last_change, self._counts = now, counts
        line = self._line(counts, now)
        living = sys.stderr.isatty()
        if line and not self.quiet and (living or now - self._shown > _LINE_SECONDS):
            self._shown = now
            print(f"\r{line}\x1b[K" if living else line, end="" if living else "\n", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the living line."""
        if not self.quiet and sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _line(self, counts: dict[str, int], now: float) -> str:
        if counts[SURVEY] < self.to_survey:
            return self._stage("survey", SURVEY, counts[SURVEY], self.to_survey, now)
        plan = read_value(self.folder.plan)
        if plan is None or not plan["to_write"]:
            return ""
        return self._stage("write", WRITE, counts[WRITE], plan["to_write"], now)

    def _stage(self, verb: str, stage: str, done: int, total: int, now: float) -> str:
        began = self._began.setdefault(stage, now)
        left = f", {_duration((now - began) / done * (total - done))} left" if done and now - began > 1 else ""
        return f"{verb}: {done} of {total} inputs{left}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
