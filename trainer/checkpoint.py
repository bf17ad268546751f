"""Checkpoints: whole or not there, and the newest valid one is found again.

A checkpoint is a folder named by its step. It is written beside the others under another name: weights and optimiser
by Orbax, then `state.json` (step, position in the data, fingerprints, score) and, last, `files.json` with the sha256 of
every other file; then it is renamed. Only after that older ones are removed. So whatever happens while one is saved, a
full disk or a kill, harms none that is there. One that is damaged later is skipped, by name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from media.storage import sync_folder
from schemas.errors import InputError, MachineError, UsageError
from schemas.naming import readable
from trainer.arrays import disk_reason, read_arrays, write_arrays
from trainer.saved import STATE, Saved, glanced_at, read_saved, seal, whole
from trainer.telling import tell

CHECKPOINTS = "checkpoints"
_SCRATCH = ".saving"
_REMOVED = ".removing"
_LEFT_OVER = re.compile(r"\.saving.*|\.removing.*|[0-9]+\.orbax-checkpoint-tmp.*")
_ATTEMPTS = 3
_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
_STEP = re.compile(r"0|[1-9][0-9]{0,17}")


class Checkpoints:
    """The checkpoints of one run.

    Args:
        run: folder of the run.
        keep: how many of the newest ones stay when another one is saved; the best one stays too.
        keep_every: those of steps that are multiples of this stay for good; 0 for none.
        data: fingerprint of the dataset that the run is trained on; a checkpoint of another one is not valid.
    """

    def __init__(self, run: str, keep: int = 3, keep_every: int = 0, data: str = "") -> None:
        self.folder = os.path.abspath(os.path.join(run, CHECKPOINTS))
        self.keep, self.keep_every, self.data = keep, keep_every, data
        self._known: dict[int, Saved | None] = {}
        """What was found, or made, since this object was, None where it is damaged: reading gigabytes again before each
        removal says no more."""

    def steps(self) -> list[int]:
        """Steps that have a folder, valid or not, ascending."""
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        return sorted(int(name) for name in names if _STEP.fullmatch(name))

    def fault(self, step: int) -> str:
        """What is wrong with a checkpoint; "" for a valid one."""
        self._known[step] = None
        try:
            self._known[step] = self._of_these_data(whole(self.path(step), step))
        except InputError as error:
            return str(error)
        return ""

    def newest(self, limit: int | None = None) -> tuple[int | None, list[str]]:
        """The newest valid step (of at most `limit`), and a sentence for each newer checkpoint that was skipped."""
        step, damaged = self._first(item for item in reversed(self.steps()) if limit is None or item <= limit)
        return step, [f"skipped checkpoint {readable(self.path(item))}: {fault}" for item, fault in damaged.items()]

    def best(self) -> int | None:
        """The valid step with the lowest score; the newest valid one where none was scored."""
        return self._found("best")[0]

    def choose(self, which: str) -> int:
        """The step of "best", "last" or a number; says which damaged ones were passed over.

        Raises:
            UsageError: there is no such checkpoint.
            InputError: it is damaged, or all are.
        """
        known = ", ".join(map(str, self.steps())) or "none"
        if which not in ("best", "last"):
            if not _STEP.fullmatch(which) or int(which) not in self.steps():
                raise UsageError(f"--checkpoint {which}: choose best, last or one of {known}")
            if fault := self.fault(int(which)):
                raise InputError(f"{self.path(int(which))}: {fault}. Choose another of {known}.")
            return int(which)
        step, damaged = self._found(which)
        for item, fault in sorted(damaged.items()):
            tell(f"stretto: passed over checkpoint {self.path(item)}: {fault}")
        if step is None and damaged:
            raise InputError(f"{self.folder}: no valid checkpoint: all of {known} are damaged. Train the run again.")
        if step is None:
            raise UsageError(f"{self.folder}: no checkpoint yet. Train the run first.")
        return step

    def state(self, step: int) -> Saved:
        """What is known of a checkpoint beside its arrays. Raises InputError where that cannot be read."""
        return read_saved(self.path(step))

    def save(self, saved: Saved, weights: Sequence[Any], optimiser: Sequence[Any]) -> None:
        """Writes a checkpoint, then removes later ones and what is neither new, nor best, nor to be kept for good.

        Raises:
            MachineError: the disk is full or fails; what was there before still is.
        """
        arrays = {"weights": list(weights), "optimiser": list(optimiser)}
        self.clear()
        try:
            self._write(saved, {name: items for name, items in arrays.items() if items})
        except (OSError, MachineError, ValueError, RuntimeError) as error:
            needed = sum(array.nbytes for items in arrays.values() for array in items)
            reason = disk_reason(error) or self._says_that_it_is_full(needed)
            self.clear()
            if not reason:
                raise
            raise MachineError(self._not_saved(saved.step, needed, reason)) from error
        self._known[saved.step] = saved
        self.remove_after(saved.step)
        self._prune()

    def restore(self, step: int, **abstract: Sequence[Any]) -> dict[str, list[Any]]:
        """The arrays of a checkpoint: `weights`, `optimiser` or both, as their abstract trees say.

        Raises:
            InputError: the checkpoint holds other arrays, or cannot be read.
        """
        return read_arrays(self.path(step), abstract)

    def remove_after(self, step: int) -> None:
        """Removes the checkpoints of later steps, valid or not: training goes on from `step`."""
        self._delete([item for item in self.steps() if item > step])

    def clear(self) -> list[str]:
        """Removes what a process that ended while it saved or removed a checkpoint left; a sentence for each."""
        names = sorted(os.listdir(self.folder)) if os.path.isdir(self.folder) else []
        left = [os.path.join(self.folder, name) for name in names if _LEFT_OVER.fullmatch(name)]
        for path in left:
            with contextlib.suppress(OSError):
                _remove(path)
        gone = [readable(path) for path in left if not os.path.lexists(path)]
        return [f"removed {path}: saving or removing a checkpoint was cut short" for path in gone]

    def path(self, step: int) -> str:
        """The folder of a step's checkpoint."""
        return os.path.join(self.folder, str(step))

    def _of_these_data(self, saved: Saved) -> Saved:
        if self.data and saved.data != self.data:
            found = readable(saved.data)[:64]
            raise InputError(f"{STATE}: data is {found}, which is not the fingerprint of the run's dataset")
        return saved

    def _first(self, steps: Iterable[int]) -> tuple[int | None, dict[int, str]]:
        """The first valid one of some steps, and what is wrong with those before it: reading them all takes long."""
        damaged = {}
        for step in steps:
            if not (found := self.fault(step)):
                return step, damaged
            damaged[step] = found
        return None, damaged

    def _found(self, which: str) -> tuple[int | None, dict[int, str]]:
        """The "best" or "last" valid step, and what is wrong with those passed over.

        Those that a running training removes meanwhile count as neither; it has saved another one before.
        """
        for _ in range(_ATTEMPTS):
            steps, faults = self.steps(), dict[int, str]()
            step, damaged = self._first(self._by_score(steps, faults) if which == "best" else reversed(steps))
            there = self.steps()
            if step is not None or set(steps) >= set(there):
                break
        return step, {item: found for item, found in {**damaged, **faults}.items() if item in there}

    def _by_score(self, steps: Sequence[int], faults: dict[int, str]) -> list[int]:
        """Steps by their scores, the lowest first, then those without one, the newest first; fills `faults`."""
        places = []
        for step in steps:
            try:
                saved = self._known.get(step) or self._of_these_data(glanced_at(self.path(step), step))
                places.append((saved.score is None, saved.score or 0.0, -step))
            except InputError as error:
                faults[step] = str(error)
        return [-place for _, _, place in sorted(places)]

    def _write(self, saved: Saved, parts: Mapping[str, list[Any]]) -> None:
        scratch = os.path.join(self.folder, _SCRATCH)
        os.makedirs(self.folder, exist_ok=True)
        if os.path.lexists(scratch):
            raise OSError(errno.EEXIST, f"{scratch} is in the way and cannot be removed")
        write_arrays(scratch, parts)
        seal(scratch, saved)
        self._delete([step for step in self.steps() if step == saved.step])
        os.rename(scratch, self.path(saved.step))
        sync_folder(self.folder)

    def _says_that_it_is_full(self, needed: int) -> str:
        # Orbax writes in several threads; the error that it raises may be one that follows from the disk's.
        return os.strerror(errno.ENOSPC) if self._free() < needed else ""

    def _free(self) -> int:
        # Where the very folder could not be made, it lies in one that is there.
        folder = self.folder
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        return shutil.disk_usage(folder).free

    def _not_saved(self, step: int, needed: int, reason: str) -> str:
        remedy = "Free some space" if reason in _FULL else "See to that disk"
        older = ", ".join(str(item) for item in self.steps() if item != step) or "none"
        return (
            f"{self.folder}: the checkpoint of step {step} could not be saved: {reason}. It needs more than the "
            f"{needed / 1e6:,.1f} MB of its arrays, {self._free() / 1e6:,.1f} MB are free. Older checkpoints are as "
            f"they were ({older}). {remedy} and type the same command again: it continues."
        )

    def _prune(self) -> None:
        steps = self.steps()
        newest = list(islice(filter(self._is_whole, reversed(steps)), self.keep))
        best = next(filter(self._is_whole, self._by_score(steps, {})), None)
        kept = {*newest, best, *(step for step in steps if newest and step > newest[-1])}
        if self.keep_every:
            kept |= {step for step in steps if step % self.keep_every == 0}
        for step in steps:
            if step not in kept:
                try:
                    self._delete([step])
                except MachineError as error:
                    # The new one is saved, and nothing hangs on an old one's removal: it is tried again each time.
                    tell(f"stretto: {error}")

    def _is_whole(self, step: int) -> bool:
        if step not in self._known:
            self.fault(step)
        return self._known[step] is not None

    def _delete(self, steps: Sequence[int]) -> None:
        for step in steps:
            # Another name first: a deletion that is cut short leaves no half of a checkpoint.
            removed = os.path.join(self.folder, f"{_REMOVED}-{step}")
            try:
                os.rename(self.path(step), removed)
                self._known.pop(step, None)
                _remove(removed)
            except OSError as error:
                raise MachineError(
                    f"{self.path(step)}: this checkpoint cannot be removed: {error.strerror}. Check its permissions."
                ) from error


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
