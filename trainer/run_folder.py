"""The folder of a run before and after training: one process at a time, one configuration, a mark at its end."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from media.storage import cannot_write, write_atomic
from schemas.documents import read_json
from schemas.errors import InputError, MachineError, UsageError
from schemas.registry import resolve
from schemas.settings import to_json
from trainer.checkpoint import Checkpoints
from trainer.config import TrainSettings, differences, refused
from trainer.loaded import CONFIG, read_config
from trainer.models import FAMILIES
from trainer.telling import tell

LOCK = ".lock"
COMPLETED = "COMPLETED"
Config = Mapping[str, Any]
Changes = Mapping[str, tuple[Any, Any]]


def make_folder(output: str) -> None:
    """Makes the folder of a run where it is missing. Raises MachineError where that is not possible."""
    try:
        os.makedirs(output, exist_ok=True)
    except OSError as error:
        raise MachineError(f"{output}: cannot be made: {error.strerror}. Choose another --output.") from error


def prepare_folder(output: str, config: Config) -> Changes:
    """Writes config.json into a new folder, or returns the settings that are to change in the run that is there.

    Where nothing was made with the settings of before, none bind: new ones take their place.

    Raises:
        UsageError: the folder holds something else, or a run whose settings or data may not change to these.
    """
    path = os.path.join(output, CONFIG)
    if os.path.exists(path):
        changes, bad = _changes(read_config(output), config)
        if not bad:
            return changes
        if Checkpoints(output).steps() or os.path.exists(os.path.join(output, COMPLETED)):
            raise UsageError(
                f"{output} holds a run with another configuration: {'; '.join(bad)}. "
                f"Choose another --output (with --init {output} to begin with its weights), or the old settings."
            )
        tell(f"{output}: no step is saved there, so these settings take the place of those before")
    elif set(os.listdir(output)) - {LOCK}:
        raise UsageError(f"{output}: not empty and not a run. Choose another --output.")
    write_atomic(path, json.dumps(config, indent=1).encode())
    return {}


def _changes(old: Config, config: Config) -> tuple[Changes, list[str]]:
    """The settings in which a run differs from what is asked, and in words those that may not change."""
    changes = differences(with_defaults(old), config)
    bad = [f"{name}: {changes[name][0]!r} there, {changes[name][1]!r} here" for name in refused(changes)]
    if old["data"]["fingerprint"] != config["data"]["fingerprint"]:
        bad.append(f"data: trained on {old['data']['path']}, which differs from {config['data']['path']}")
    return changes, bad


def with_defaults(config: Config) -> Config:
    """A stored configuration, with what stood for the settings that it is older than.

    Raises UsageError where its family is unknown.
    """
    family = resolve(FAMILIES, config["family"], "model family")
    groups = {"train": TrainSettings(), "model": family()}
    return {**config, **{name: {**to_json(default), **config[name]} for name, default in groups.items()}}


def finished(output: str, steps: int) -> bool:
    """Whether the run has made this many steps already, and what it made is there; else its mark is taken away.

    Raises InputError where the mark is none.
    """
    if is_finished(output, steps):
        return True
    path = os.path.join(output, COMPLETED)
    if not os.path.exists(path):
        return False
    if read_completed(output)["step"] >= steps:
        skipped = Checkpoints(output).newest()[1]
        for sentence in (f"{output} was finished, but its last checkpoint is not whole any more", *skipped):
            tell(sentence)
    os.remove(path)
    return False


def is_finished(output: str, steps: int) -> bool:
    """The same, and only looks: for processes that do not own the folder. Raises InputError where the mark is none."""
    if not os.path.exists(os.path.join(output, COMPLETED)):
        return False
    done = read_completed(output)["step"]
    return done >= steps and Checkpoints(output).newest()[0] == done


def read_completed(output: str) -> dict[str, Any]:
    """What the mark of a finished run says: step and validation figures. Raises InputError where it is no such mark."""
    path = os.path.join(output, COMPLETED)
    done = read_json(path, limit_bytes=1 << 20, depth=4)
    figures = done.get("validation") if isinstance(done, dict) else None
    if not isinstance(figures, dict) or type(done.get("step")) is not int or not _are_numbers(figures.values()):
        raise InputError(f"{path}: is not the mark of a finished run. Remove it and type the same command again.")
    return dict(done)


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(type(value) in (int, float) for value in values)


def say_without_effect(output: str, steps: int, changes: Changes) -> None:
    """Names the settings that a finished run cannot take any more."""
    # A mesh that nobody typed is as many devices as there are.
    words = [f"--{name.partition('.')[2].replace('_', '-')} {new}" for name, (_, new) in changes.items() if new != ""]
    if words:
        tell(
            f"stretto: {output} is finished at step {steps}, so this had no effect: {' '.join(words)}. "
            "With more --steps it goes on with it."
        )


@contextmanager
def locked(output: str) -> Iterator[None]:
    """Keeps other processes from training in a folder; the lock ends with this process, however it ends.

    Raises:
        MachineError: another process has it.
    """
    path = os.path.join(output, LOCK)
    try:
        file = open(path, "a+", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise MachineError(
                f"{output}: process {file.read(20).strip() or '?'} is training there. "
                "Wait for it, or stop it and run this again."
            ) from None
        _note_owner(path)
        yield


def _note_owner(path: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(str(os.getpid()))
    except OSError as error:
        raise cannot_write(path, error) from error
