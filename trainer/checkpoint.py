"""Checkpoints: whole or not there, and the newest valid one is found again.

A checkpoint is a folder named by its step. It is written beside the others under another name: weights and optimiser
by Orbax, then `state.json` (step, position in the data, fingerprints, score) and, last, `files.json` with the sha256 of
every other file; then it is renamed. Only after that older ones are removed. So whatever happens while one is saved, a
full disk or a kill, harms none that is there. One that is damaged later is skipped, by name.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from media.storage import sync_folder
from schemas.errors import InputError, MachineError, UsageError
from trainer.arrays import disk_reason, read_arrays, write_arrays
from trainer.saved import Saved, fault, read_saved, seal

CHECKPOINTS = "checkpoints"
_SCRATCH = ".saving"
_REMOVED = ".removing"
_LEFT_OVER = re.compile(r"\.saving.*|\.removing.*|[0-9]+\.orbax-checkpoint-tmp.*")
_STEP = re.compile(r"0|[1-9][0-9]{0,17}")


class Checkpoints:
    """The checkpoints of one run.

    Args:
        run: folder of the run.
        keep: how many of the newest ones stay when another one is saved; the best one stays too.
        keep_every: those of steps that are multiples of this stay for good; 0 for none.
    """

    def __init__(self, run: str, keep: int = 3, keep_every: int = 0) -> None:
        self.folder = os.path.abspath(os.path.join(run, CHECKPOINTS))
        self.keep, self.keep_every = keep, keep_every
        self._whole: dict[int, bool] = {}
        """What was found, or made, since this object was: reading gigabytes again before each removal says no more."""

    def steps(self) -> list[int]:
        """Steps that have a folder, valid or not, ascending."""
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        return sorted(int(name) for name in names if _STEP.fullmatch(name))

    def fault(self, step: int) -> str:
        """What is wrong with a checkpoint; "" for a valid one."""
        found = fault(self.path(step), step)
        self._whole[step] = not found
        return found

    def newest(self, limit: int | None = None) -> tuple[int | None, list[str]]:
        """The newest valid step (of at most `limit`), and a sentence for each newer checkpoint that was skipped."""
        skipped = []
        for step in reversed(self.steps()):
            if limit is not None and step > limit:
                continue
            fault = self.fault(step)
            if not fault:
                return step, skipped
            skipped.append(f"skipped checkpoint {self.path(step)}: {fault}")
        return None, skipped

    def best(self) -> int | None:
        """The valid step with the lowest score; the newest valid one where none was scored."""
        return self._best([step for step in self.steps() if not self.fault(step)])

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
        faults = {step: self.fault(step) for step in self.steps()}
        damaged = [f"passed over checkpoint {self.path(step)}: {fault}" for step, fault in faults.items() if fault]
        for sentence in damaged:
            print(f"stretto: {sentence}", file=sys.stderr)
        valid = [step for step, fault in faults.items() if not fault]
        if damaged and not valid:
            raise InputError(f"{self.folder}: no valid checkpoint: all of {known} are damaged. Train the run again.")
        if not valid:
            raise UsageError(f"{self.folder}: no checkpoint yet. Train the run first.")
        return valid[-1] if which == "last" else self._best(valid) or 0

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
        self._whole[saved.step] = True
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
            shutil.rmtree(path, ignore_errors=True)
        return [f"removed {path}: saving or removing a checkpoint was cut short" for path in left]

    def path(self, step: int) -> str:
        """The folder of a step's checkpoint."""
        return os.path.join(self.folder, str(step))

    def _best(self, valid: Sequence[int]) -> int | None:
        scored = [(state.score, -state.step) for state in map(self.state, valid) if state.score is not None]
        if scored:
            return -min(scored)[1]
        return max(valid, default=None)

    def _write(self, saved: Saved, parts: Mapping[str, list[Any]]) -> None:
        scratch = os.path.join(self.folder, _SCRATCH)
        os.makedirs(self.folder, exist_ok=True)
        write_arrays(scratch, parts)
        seal(scratch, saved)
        self._delete([step for step in self.steps() if step == saved.step])
        os.rename(scratch, self.path(saved.step))
        sync_folder(self.folder)

    def _says_that_it_is_full(self, needed: int) -> str:
        # Orbax writes in several threads; the error that it raises may be one that follows from the disk's.
        return os.strerror(errno.ENOSPC) if shutil.disk_usage(self.folder).free < needed else ""

    def _not_saved(self, step: int, needed: int, reason: str) -> str:
        older = ", ".join(str(item) for item in self.steps() if item != step) or "none"
        free = shutil.disk_usage(self.folder).free
        return (
            f"{self.folder}: the checkpoint of step {step} could not be saved: {reason}. It needs more than the "
            f"{needed / 1e6:,.1f} MB of its arrays, {free / 1e6:,.1f} MB are free. Older checkpoints are as they were "
            f"({older}). Free some space and type the same command again: it continues."
        )

    def _prune(self) -> None:
        steps = self.steps()
        whole = [step for step in steps if self._is_whole(step)]
        newest = whole[-self.keep :]
        kept = {*newest, self._best(whole), *(step for step in steps if step > newest[0])}
        if self.keep_every:
            kept |= {step for step in steps if step % self.keep_every == 0}
        self._delete([step for step in steps if step not in kept])

    def _is_whole(self, step: int) -> bool:
        if step not in self._whole:
            self.fault(step)
        return self._whole[step]

    def _delete(self, steps: Sequence[int]) -> None:
        for step in steps:
            # Another name first: a deletion that is cut short leaves no half of a checkpoint.
            removed = os.path.join(self.folder, f"{_REMOVED}-{step}")
            os.rename(self.path(step), removed)
            self._whole.pop(step, None)
            if os.path.isdir(removed) and not os.path.islink(removed):
                shutil.rmtree(removed)
            else:
                os.unlink(removed)
