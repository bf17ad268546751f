"""Checkpoints: whole or not there, and the newest valid one is found again.

A checkpoint is a folder named by its step. It is written beside the others under another name: weights and optimiser
by Orbax, then `state.json` (step, position in the data, fingerprints, score) and, last, `files.json` with the sha256 of
every other file; then it is renamed. Only after that older ones are removed. So whatever happens while one is saved, a
full disk or a kill, harms none that is there. One that is damaged later is skipped, by name.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from media.storage import sync_folder
from schemas.errors import InputError, MachineError, UsageError
from trainer.saved import Saved, fault, read_saved, seal

CHECKPOINTS = "checkpoints"
_SCRATCH = ".saving"
_REMOVED = ".removing"
_LEFT_OVER = re.compile(r"\.saving.*|\.removing.*|[0-9]+\.orbax-checkpoint-tmp.*")
_STEP = re.compile(r"0|[1-9][0-9]{0,17}")
_OS_ERROR = re.compile(r"os_error_code='([0-9]+)'")


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
            self.clear()
            if not (reason := _machine_says(error)):
                raise
            raise MachineError(self._not_saved(saved.step, arrays, reason)) from error
        self._whole[saved.step] = True
        self.remove_after(saved.step)
        self._prune()

    def restore(self, step: int, **abstract: Sequence[Any]) -> dict[str, list[Any]]:
        """The arrays of a checkpoint: `weights`, `optimiser` or both, as their abstract trees say.

        Raises:
            InputError: the checkpoint holds other arrays, or cannot be read.
        """
        import orbax.checkpoint as ocp

        trees = {name: list(tree) for name, tree in abstract.items() if tree}
        try:
            for name, tree in trees.items():
                _check_arrays(name, tree, os.path.join(self.path(step), name))
            args = {name: ocp.args.StandardRestore(tree) for name, tree in trees.items()}
            with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
                found = checkpointer.restore(self.path(step), args=ocp.args.Composite(**args))
        except InputError as error:
            raise InputError(f"{self.path(step)}: {error}") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            # Its checksums are right, so it was written like this: by another version, or by a stranger.
            raise InputError(f"{self.path(step)}: its arrays cannot be read: {_last_line(error)}") from error
        return {name: list(found[name]) if name in trees else [] for name in abstract}

    def remove_after(self, step: int) -> None:
        """Removes the checkpoints of later steps, valid or not: training goes on from `step`."""
        self._delete([item for item in self.steps() if item > step])

    def clear(self) -> None:
        """Removes what a process that was killed while saving or removing left behind."""
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else []:
            if _LEFT_OVER.fullmatch(name):
                shutil.rmtree(os.path.join(self.folder, name), ignore_errors=True)

    def path(self, step: int) -> str:
        """The folder of a step's checkpoint."""
        return os.path.join(self.folder, str(step))

    def _best(self, valid: Sequence[int]) -> int | None:
        scored = [(state.score, -state.step) for state in map(self.state, valid) if state.score is not None]
        if scored:
            return -min(scored)[1]
        return max(valid, default=None)

    def _write(self, saved: Saved, parts: Mapping[str, list[Any]]) -> None:
        import orbax.checkpoint as ocp

        scratch = os.path.join(self.folder, _SCRATCH)
        os.makedirs(self.folder, exist_ok=True)
        args = {name: ocp.args.StandardSave(arrays) for name, arrays in parts.items()}
        with _quietly(), ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(scratch, args=ocp.args.Composite(**args))
        seal(scratch, saved)
        self._delete([step for step in self.steps() if step == saved.step])
        os.rename(scratch, self.path(saved.step))
        sync_folder(self.folder)

    def _not_saved(self, step: int, arrays: Mapping[str, Sequence[Any]], reason: str) -> str:
        needed = sum(array.nbytes for items in arrays.values() for array in items) / 1e6
        older = ", ".join(str(item) for item in self.steps() if item != step) or "none"
        return (
            f"{self.folder}: the checkpoint of step {step} could not be saved: {reason}. It needs up to {needed:,.1f} "
            f"MB, {shutil.disk_usage(self.folder).free / 1e6:,.1f} MB are free. Older ones are as they were ({older}). "
            "Free some space and type the same command again: it continues."
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


@contextmanager
def _quietly() -> Iterator[None]:
    """Keeps to itself what Orbax prints about an error in its threads, each time with a traceback; it raises it too."""
    log, shown = logging.getLogger("absl"), sys.excepthook
    disabled, log.disabled = log.disabled, True
    sys.excepthook = lambda *error: None
    try:
        yield
    finally:
        log.disabled, sys.excepthook = disabled, shown


def _machine_says(error: Exception) -> str:
    """What the disk said, also where only Orbax's text tells it; "" where the error is not the machine's."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, MachineError):
        return str(error).rstrip(".")
    found = _OS_ERROR.search(str(error))
    return os.strerror(int(found[1])) if found else ""


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1][:300]


def _check_arrays(part: str, wanted: Sequence[Any], folder: str) -> None:
    """Raises InputError unless the arrays on disk are those wanted: Orbax would cast, cut or fill up in silence."""
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        there = checkpointer.metadata(folder).item_metadata.tree
    if not isinstance(there, (list, tuple)) or len(there) != len(wanted):
        count = len(there) if isinstance(there, (list, tuple)) else "no list of"
        raise InputError(f"{part}: {count} arrays there, {len(wanted)} in this network")
    for number, (found, want) in enumerate(zip(there, wanted, strict=True)):
        have, need = (found.shape, np.dtype(found.dtype)), (tuple(want.shape), np.dtype(want.dtype))
        if have != need:
            raise InputError(f"{part}: array {number} is {have[1]}{have[0]} there, {need[1]}{need[0]} in this network")
        chunk = found.storage.chunk_shape if found.storage else None
        if chunk and any(piece > max(1, whole) for piece, whole in zip(chunk, want.shape, strict=True)):
            raise InputError(f"{part}: array {number} is stored in pieces of {chunk}, larger than itself")
