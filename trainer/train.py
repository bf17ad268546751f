"""START HERE: training on one screen: what is checked before anything heavy is imported, what is built, the loop."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from media.storage import write_atomic
from schemas.errors import MachineError, UsageError
from schemas.feature import features_to_json
from schemas.hashing import canonical_json
from schemas.manifest import Manifest, read_manifest
from schemas.representations import from_settings
from trainer.backends import choose, current, set_backend
from trainer.checkpoint import CONFIG, Checkpoints, build_model, read_config, restore_weights
from trainer.config import Run, differences, refused, run_to_json
from trainer.data import Reader
from trainer.task import Difference

LOCK = ".lock"
COMPLETED = "COMPLETED"
SAME_WEIGHTS = ("model.activation", "model.clip_distance")
"""Settings of networks whose weights have the same shapes."""
Config = Mapping[str, Any]
Changes = Mapping[str, tuple[Any, Any]]


def train(run: Run, data: str, output: str, dry_run: bool = False, as_json: bool = False) -> int:
    """Trains a run on a dataset into a folder, or continues what is there. Returns the exit code 0.

    Args:
        run: what to train, and how.
        data: folder of a finished dataset.
        output: folder of the run; made where it is missing.
        dry_run: print what would be done, and stop.
        as_json: print the result as JSON.

    Raises:
        UsageError: the dataset does not fit, the folder is no run, or holds one with other settings.
        InputError: the dataset is unfinished or damaged.
        MachineError: another process trains in this folder, or it cannot be made.
        DivergedError: the loss is no longer a finite number.
        Interrupted: stopped by SIGTERM, saved.
    """
    run = replace(run, settings=replace(run.settings, backend=choose(run.settings.backend)))
    manifest = read_manifest(data)
    check_needs(run, manifest, data)
    config = configuration(run, manifest, data)
    check_init(run, config)
    if dry_run:
        print(json.dumps({"output": output, **config}, indent=1))
        return 0
    make_folder(output)
    with locked(output):
        changes = prepare_folder(output, config)
        if not finished(output, run.settings.steps):
            run_loop(run, manifest, data, output, config, changes)
        print_result(output, as_json)
    return 0


def run_loop(run: Run, manifest: Manifest, data: str, output: str, config: Config, changes: Changes) -> None:
    """Imports Keras with the chosen backend, builds everything, trains, and marks the run as completed."""
    with Stop() as stop:
        set_backend(run.settings.backend)
        current().prepare(run.settings.deterministic)
        from trainer.backends.update import Update
        from trainer.loop import Course, loop

        update = Update(first_model(run, manifest, output), run.task.objectives(), run.settings)
        representation = from_settings(manifest.representation, manifest.settings)
        splits = (
            Reader(data, manifest, "train"),
            Reader(data, manifest, "validation") if manifest.records("validation") else None,
        )
        scores = loop(Course(run, config, changes, output, manifest, representation, *splits, update), stop)
    done = {"step": run.settings.steps, "validation": dict(scores)}
    write_atomic(os.path.join(output, COMPLETED), json.dumps(done, indent=1).encode())


def first_model(run: Run, manifest: Manifest, output: str) -> Any:
    """The network with its first weights: drawn from the seed, or those of the run that `--init` names.

    A run that continues has weights of its own, and must not depend on whether the other one is still there.
    """
    from trainer.layers.initial import draw_initial

    model = build_model(run, manifest.features)
    draw_initial(model, run.settings.seed)
    if run.settings.init and Checkpoints(output).newest()[0] is None:
        source = Checkpoints(run.settings.init)
        restore_weights(model, source, source.choose("best"))
    return model


# === Before anything heavy is imported ===


def configuration(run: Run, manifest: Manifest, data: str) -> dict[str, Any]:
    """What config.json holds: the run with every setting, and of the data what is needed to use it without them."""
    return {
        **run_to_json(run),
        "data": {
            "path": os.path.abspath(data),
            "fingerprint": manifest.fingerprint,
            "corpus": manifest.corpus,
            "representation": manifest.representation,
            "settings": dict(manifest.settings),
            "features": features_to_json(manifest.features),
        },
    }


def check_needs(run: Run, manifest: Manifest, data: str) -> None:
    """Raises UsageError with both sides, and the command that would make the right dataset, unless the data fit."""
    found = run.task.needs(manifest)
    if not manifest.records("train"):
        found = [*found, Difference("split train", "records", "none", "--splits train=0.8,validation=0.1,test=0.1")]
    if found:
        sides = "; ".join(
            f"{item.what}: {run.name} needs {item.needed}, the dataset has {item.found}" for item in found
        )
        remedies = " ".join(item.remedy for item in found if item.remedy)
        raise UsageError(
            f"{data} does not fit: {sides}. "
            f"Make one that does: stretto prepare {manifest.corpus} --input DIR --output DIR {remedies}".rstrip()
        )


def make_folder(output: str) -> None:
    """Makes the folder of a run where it is missing. Raises MachineError where that is not possible."""
    try:
        os.makedirs(output, exist_ok=True)
    except OSError as error:
        raise MachineError(f"{output}: cannot be made: {error.strerror}. Choose another --output.") from error


def check_init(run: Run, config: Config) -> None:
    """Raises UsageError, naming what differs, where the weights of the run that `--init` names do not fit."""
    source = run.settings.init
    if not source or not os.path.isdir(source):
        return  # a run that continues has weights of its own; a new one is told when they are looked for
    old = read_config(source)
    network = [name for name in differences(old, config) if name == "family" or name.startswith("model.")]
    network = [name for name in network if name not in SAME_WEIGHTS]
    if canonical_json(old["data"]["features"]) != canonical_json(config["data"]["features"]):
        network.append("features of the data")
    if network:
        raise UsageError(
            f"--init {source}: its weights do not fit, because of: {', '.join(network)}. "
            f"Give the same settings, or begin without --init."
        )


def prepare_folder(output: str, config: Config) -> Changes:
    """Writes config.json into a new folder, or returns the settings that are to change in the run that is there.

    Raises:
        UsageError: the folder holds something else, or a run whose settings or data may not change to these.
    """
    if not os.path.exists(os.path.join(output, CONFIG)):
        if set(os.listdir(output)) - {LOCK}:
            raise UsageError(f"{output}: not empty and not a run. Choose another --output.")
        write_atomic(os.path.join(output, CONFIG), json.dumps(config, indent=1).encode())
        return {}
    old = read_config(output)
    changes = differences(old, config)
    bad = [f"{name}: {changes[name][0]!r} there, {changes[name][1]!r} here" for name in refused(changes)]
    if old["data"]["fingerprint"] != config["data"]["fingerprint"]:
        bad.append(f"data: trained on {old['data']['path']}, which differs from {config['data']['path']}")
    if bad:
        raise UsageError(
            f"{output} holds a run with another configuration: {'; '.join(bad)}. "
            f"Choose another --output (with --init {output} to begin with its weights), or the old settings."
        )
    return changes


def finished(output: str, steps: int) -> bool:
    """Whether the run has made this many steps already. A mark of fewer steps is taken away: there is more to do."""
    path = os.path.join(output, COMPLETED)
    if not os.path.exists(path):
        return False
    with open(path, encoding="utf-8") as file:
        if json.load(file)["step"] >= steps:
            return True
    os.remove(path)
    return False


@contextmanager
def locked(output: str) -> Iterator[None]:
    """Keeps other processes from training in a folder; the lock ends with this process, however it ends.

    Raises:
        MachineError: another process has it.
    """
    with open(os.path.join(output, LOCK), "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise MachineError(
                f"{output}: process {file.read().strip() or '?'} is training there. "
                "Wait for it, or stop it and run this again."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


class Stop:
    """Notes a SIGTERM, so that the step in hand can be finished and saved."""

    requested = False

    def __enter__(self) -> Stop:
        self._old = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGTERM, self._old)

    def _note(self, number: int, frame: object) -> None:
        self.requested = True


def print_result(output: str, as_json: bool) -> None:
    """The last lines of `train`: where the run is and what it reached."""
    with open(os.path.join(output, COMPLETED), encoding="utf-8") as file:
        done = json.load(file)
    if as_json:
        print(json.dumps({"run": output, **done, "best": Checkpoints(output).best()}))
        return
    scores = ", ".join(f"{name} {value:.4f}" for name, value in done["validation"].items())
    print(f"finished: {output}, step {done['step']}, validation {scores or 'none'}")
    print(f"next: stretto evaluate {output} | stretto sample {output} --output DIR | stretto monitor {output}")
