"""Checkpoints: whole or not there, and the newest valid one is found again.

A checkpoint is a folder named by its step. Orbax writes weights and optimiser into it and moves it into place; then
`state.json` (step, position in the data, fingerprints, score) and, last, `files.json` with the sha256 of every other
file. Where that list is missing or wrong the checkpoint is no checkpoint: it is skipped, by name.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from media.storage import write_atomic
from schemas.errors import InputError, UsageError
from schemas.feature import Feature, features_from_json
from schemas.hashing import file_sha256
from schemas.representations import from_settings
from trainer.backends import current, set_backend
from trainer.config import Run, run_from_json

CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
_STATE = "state.json"
_FILES = "files.json"


@dataclass(frozen=True)
class Saved:
    """What is known of a checkpoint beside its arrays.

    Attributes:
        step: updates made.
        position: training examples consumed.
        data: fingerprint of the dataset.
        configuration: fingerprint of the run's settings.
        score: loss on the validation split, lower is better; None where it was not measured.
        logs: of the last step.
    """

    step: int
    position: int
    data: str
    configuration: str
    score: float | None
    logs: Mapping[str, float]


class Checkpoints:
    """The checkpoints of one run.

    Args:
        run: folder of the run.
        keep: how many of the newest ones stay when another one is saved; the best one stays too.
    """

    def __init__(self, run: str, keep: int = 3) -> None:
        self.folder, self.keep = os.path.abspath(os.path.join(run, CHECKPOINTS)), keep

    def steps(self) -> list[int]:
        """Steps that have a folder, valid or not, ascending."""
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        return sorted(int(name) for name in names if name.isdecimal())

    def fault(self, step: int) -> str:
        """What is wrong with a checkpoint; "" for a valid one."""
        folder = self._of(step)
        try:
            with open(os.path.join(folder, _FILES), encoding="utf-8") as file:
                listed = json.load(file)
        except FileNotFoundError:
            return f"{_FILES} is missing, so saving it was not finished"
        except ValueError as error:
            return f"{_FILES}: {error}"
        if listed.keys() != _checksums(folder, names_only=True).keys():
            return "files are missing or unknown"
        wrong = [name for name, digest in _checksums(folder).items() if listed[name] != digest]
        return f"{wrong[0]}: sha256 does not match" if wrong else ""

    def newest(self) -> tuple[int | None, list[str]]:
        """The newest valid step, and a sentence for each newer checkpoint that was skipped."""
        skipped = []
        for step in reversed(self.steps()):
            fault = self.fault(step)
            if not fault:
                return step, skipped
            skipped.append(f"skipped checkpoint {self._of(step)}: {fault}")
        return None, skipped

    def best(self) -> int | None:
        """The valid step with the lowest score; the newest valid one where none was scored."""
        states = [self.state(step) for step in self.steps() if not self.fault(step)]
        scored = [(state.score, -state.step) for state in states if state.score is not None]
        if scored:
            return -min(scored)[1]
        return states[-1].step if states else None

    def choose(self, which: str) -> int:
        """The step of "best", "last" or a number. Raises UsageError where there is no such valid checkpoint."""
        known = ", ".join(map(str, self.steps())) or "none"
        if which in ("best", "last"):
            step = self.best() if which == "best" else self.newest()[0]
            if step is None:
                raise UsageError(f"{self.folder}: no valid checkpoint (folders there: {known}). Train the run first.")
            for damaged in self.steps():
                if fault := self.fault(damaged):
                    print(f"stretto: passed over checkpoint {self._of(damaged)}: {fault}", file=sys.stderr)
            return step
        if not which.isdecimal() or int(which) not in self.steps():
            raise UsageError(f"--checkpoint {which}: choose best, last or one of {known}")
        if fault := self.fault(int(which)):
            raise InputError(f"{self._of(int(which))}: {fault}. Choose another of {known}.")
        return int(which)

    def state(self, step: int) -> Saved:
        """What is known of a checkpoint beside its arrays."""
        with open(os.path.join(self._of(step), _STATE), encoding="utf-8") as file:
            return Saved(**json.load(file))

    def save(self, saved: Saved, weights: Sequence[Any], optimiser: Sequence[Any]) -> None:
        """Writes a checkpoint, then removes what is neither among the newest nor the best."""
        import orbax.checkpoint as ocp

        self.remove_after(saved.step - 1)
        parts = {"weights": list(weights), "optimiser": list(optimiser)}
        with self._manager() as manager:
            args = {name: ocp.args.StandardSave(arrays) for name, arrays in parts.items() if arrays}
            manager.save(saved.step, args=ocp.args.Composite(**args))
            manager.wait_until_finished()
        folder = self._of(saved.step)
        write_atomic(os.path.join(folder, _STATE), json.dumps(vars(saved), indent=1).encode())
        write_atomic(os.path.join(folder, _FILES), json.dumps(_checksums(folder), indent=1).encode())
        self._prune()

    def restore(self, step: int, **abstract: Sequence[Any]) -> dict[str, list[Any]]:
        """The arrays of a checkpoint: `weights`, `optimiser` or both, as their abstract trees say."""
        import orbax.checkpoint as ocp

        args = {name: ocp.args.StandardRestore(list(tree)) for name, tree in abstract.items() if tree}
        with self._manager() as manager:
            found = manager.restore(step, args=ocp.args.Composite(**args))
        return {name: list(found[name]) if name in args else [] for name in abstract}

    def remove_after(self, step: int) -> None:
        """Removes the checkpoints of later steps, valid or not: training goes on from `step`."""
        self._delete([item for item in self.steps() if item > step])

    def _prune(self) -> None:
        steps = self.steps()
        kept = {*steps[-self.keep :], self.best()}
        self._delete([step for step in steps if step not in kept])

    def _delete(self, steps: Sequence[int]) -> None:
        import shutil

        for step in steps:
            # The list goes first: a deletion that is cut short leaves no checkpoint that looks whole.
            if os.path.exists(path := os.path.join(self._of(step), _FILES)):
                os.remove(path)
            shutil.rmtree(self._of(step))

    def _of(self, step: int) -> str:
        return os.path.join(self.folder, str(step))

    def _manager(self) -> Any:
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False, cleanup_tmp_directories=True)
        return ocp.CheckpointManager(self.folder, options=options)


def _checksums(folder: str, names_only: bool = False) -> dict[str, str]:
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            relative = os.path.relpath(path, folder)
            if relative != _FILES:
                found[relative] = "" if names_only else file_sha256(path)
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Loaded:
    """A trained run, ready to score and sample.

    Attributes:
        folder: of the run.
        run: its settings; `run.task` is the family.
        model: built, with the weights of the checkpoint.
        representation: of the data it was trained on.
        features: of that data.
        data: path of the dataset as it was given to `train`, made absolute.
        saved: step, position, score of the checkpoint.
    """

    folder: str
    run: Run
    model: Any
    representation: Any
    features: Mapping[str, Feature]
    data: str
    saved: Saved

    @property
    def task(self) -> Any:
        """The family with its settings."""
        return self.run.task


def read_config(folder: str) -> dict[str, Any]:
    """config.json of a run. Raises UsageError where the folder is no run."""
    try:
        with open(os.path.join(folder, CONFIG), encoding="utf-8") as file:
            config = dict(json.load(file))
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{folder}: not a run ({CONFIG} is missing). `stretto train … --output {folder}` makes one."
        ) from None
    except ValueError as error:
        raise InputError(f"{os.path.join(folder, CONFIG)}: not JSON: {error}") from error
    if missing := {"name", "family", "model", "train", "data"} - set(config):
        # A dataset has a file of this name too.
        raise UsageError(f"{folder}: not a run ({CONFIG} says no {', '.join(sorted(missing))}). Give a run's folder.")
    return config


def load_run(folder: str, checkpoint: str = "best") -> Loaded:
    """A run with the weights of its "best", "last" or numbered checkpoint. Call it before anything imports Keras.

    Raises:
        UsageError: the folder is no run, or has no such checkpoint.
        InputError: the checkpoint is damaged.
    """
    config = read_config(folder)
    run = run_from_json(config)
    checkpoints = Checkpoints(folder)
    step = checkpoints.choose(checkpoint)
    set_backend(run.settings.backend)
    data = config["data"]
    features = features_from_json(data["features"])
    model = build_model(run, features)
    restore_weights(model, checkpoints, step)
    representation = from_settings(data["representation"], data["settings"])
    return Loaded(folder, run, model, representation, features, data["path"], checkpoints.state(step))


def build_model(run: Run, features: Mapping[str, Feature]) -> Any:
    """The run's network in its precision, weights not yet set."""
    import keras

    keras.config.set_dtype_policy(run.settings.precision)
    return run.task.build(features)


def restore_weights(model: Any, checkpoints: Checkpoints, step: int) -> None:
    """Gives a built model the weights of a checkpoint of a model built alike."""
    backend = current()
    found = checkpoints.restore(step, weights=backend.abstract(model.variables))
    backend.restore(model.variables, found["weights"])
