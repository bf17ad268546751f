"""START HERE: training on one screen: what is checked before anything heavy is imported, what is built, the loop."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from media.storage import cannot_write, write_atomic
from schemas.documents import read_json
from schemas.errors import InputError, MachineError, UsageError
from schemas.feature import features_to_json
from schemas.hashing import canonical_json, fingerprint
from schemas.manifest import Manifest, read_manifest
from schemas.registry import resolve
from schemas.representations import from_settings
from schemas.settings import to_json
from trainer.accelerators import check_precision, check_used, gpus
from trainer.backends import choose, current, set_backend
from trainer.checkpoint import Checkpoints
from trainer.config import Run, TrainSettings, differences, refused, run_to_json
from trainer.devices import Launch, Processes, check_batch, parse_mesh, parse_steps, processes_of
from trainer.loaded import CONFIG, build_model, read_config
from trainer.meeting import Asked, Dismissed, dismiss, meet
from trainer.models import FAMILIES
from trainer.redraw import features_seen, readers
from trainer.task import Difference
from trainer.telling import tell, tell_at_once

LOCK = ".lock"
COMPLETED = "COMPLETED"
SAME_WEIGHTS = ("model.activation", "model.clip_distance")
"""Settings of networks whose weights have the same shapes."""
Config = Mapping[str, Any]
Changes = Mapping[str, tuple[Any, Any]]


def train(
    run: Run, data: str, output: str, launch: Launch | None = None, dry_run: bool = False, as_json: bool = False
) -> int:
    """Trains a run on a dataset into a folder, or continues what is there. Returns the exit code 0.

    Args:
        run: what to train, and how.
        data: folder of a finished dataset.
        output: folder of the run; made where it is missing.
        launch: the processes that train it together; this one alone, where it is not given.
        dry_run: print what would be done, and stop.
        as_json: print the result as JSON.

    Raises:
        UsageError: the dataset does not fit, the folder is no run, or holds one with other settings.
        InputError: the dataset is unfinished or damaged.
        MachineError: another process trains in this folder, or it cannot be made or written to.
        DivergedError: the loss is no longer a finite number.
        Interrupted: stopped by SIGTERM or Ctrl-C, saved; or a process that is to train with this one is missing.
    """
    began, launch = time.monotonic(), launch or Launch()
    run = replace(run, settings=replace(run.settings, backend=choose(run.settings.backend)))
    launch.check_profile(run.settings.steps)
    manifest = read_manifest(data)
    check_needs(run, manifest, data)
    config = configuration(run, manifest, data)
    check_init(run, config)
    if dry_run:
        print(json.dumps({"output": output, **config}, indent=1))
        return 0
    job = Job(run, manifest, data, output, config, processes_of(launch, run.settings.backend), launch, began)
    if not job.processes.is_chief:
        train_along(job)
        return 0
    make_folder(output)
    with locked(output):
        changes = prepare_folder(output, config)
        if finished(output, run.settings.steps):
            say_without_effect(output, run.settings.steps, changes)
            if job.processes.count > 1:
                dismiss(job.processes, job.launch.join_seconds, f"{output} is finished")
        else:
            scores = in_company(job, changes)
            done = {"step": run.settings.steps, "validation": dict(scores)}
            write_atomic(os.path.join(output, COMPLETED), json.dumps(done, indent=1).encode())
        print_result(output, as_json)
    return 0


@dataclass(frozen=True)
class Job:
    """What one process is to do.

    Attributes:
        run, manifest, data, output: what to train, on which dataset (and its folder), and where to.
        config: what config.json holds.
        processes: who trains together.
        launch: how this process was started.
        began: `time.monotonic()` when it began.
    """

    run: Run
    manifest: Manifest
    data: str
    output: str
    config: Config
    processes: Processes
    launch: Launch
    began: float


def train_along(job: Job) -> None:
    """What every process but the first does: it neither prepares the folder nor writes what came out."""
    try:
        in_company(job, {})
    except Dismissed as reason:
        tell(str(reason))


def in_company(job: Job, changes: Changes) -> Mapping[str, float]:
    """`run_loop`; what it raises while other processes are connected ends this one at once (`stretto.ended`)."""
    try:
        return run_loop(job, changes)
    except Exception as error:
        # What connects processes waits for the others when Python ends, and they for this one.
        error.at_once = job.processes.count > 1  # type: ignore[attr-defined]
        raise


def run_loop(job: Job, changes: Changes) -> Mapping[str, float]:
    """Meets the other processes, imports Keras with the chosen backend, builds everything and trains.

    Returns the figures of the last validation.
    """
    run, manifest, settings = job.run, job.manifest, job.run.settings
    with Stop() as stop:
        devices = connect(job, stop)
        stop.take_back()  # backends that connect processes answer SIGTERM themselves
        from trainer.backends.update import Update
        from trainer.course import Course
        from trainer.loop import loop

        with devices.scope():
            model = build_model(run, features_seen(settings, manifest))
            update = Update(model, run.task.objectives(), settings, devices)
        representation = from_settings(manifest.representation, manifest.settings)
        read = readers(settings, manifest, job.data)
        parts = (manifest, representation, *read, update, parse_steps(job.launch.profile), job.began)
        return loop(Course(run, job.config, changes, job.output, *parts), stop)


def asked_of(job: Job) -> Asked:
    """What must be the same for every process. The same data may lie elsewhere for another one."""
    newest = Checkpoints(job.output).newest()[0]
    config = {**job.config, "data": job.config["data"]["fingerprint"]}
    return Asked(fingerprint(config), -1 if newest is None else newest)


def connect(job: Job, stop: Stop) -> Any:
    """The devices of the run, once all its processes are there."""
    settings, processes, mesh = job.run.settings, job.processes, parse_mesh(job.run.settings.mesh)
    asked = asked_of(job) if processes.count > 1 else None
    if asked is not None:
        meet(processes, job.launch.join_seconds, asked, stop)
    set_backend(settings.backend)
    current().prepare(settings.deterministic, mesh, processes)
    current().join(processes, job.launch.join_seconds)
    if processes.count > 1 and not processes.meeting and not current().same_everywhere(str(asked)):
        raise UsageError(
            "the processes of this run were asked to train different things, or see different checkpoints: give "
            "all the same settings, the same data and one folder that all of them see"
        )
    devices = current().Devices(mesh, processes)
    if devices.kind == "cpu" and (idle := check_used(gpus(), settings.backend, job.launch.allow_cpu)):
        tell(f"stretto: {idle}")
    check_precision(settings.precision, devices.capability)
    check_batch(settings.batch, settings.accumulate, devices.mesh, processes)
    return devices


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
            "features": features_to_json(features_seen(run.settings, manifest)),
        },
    }


def check_needs(run: Run, manifest: Manifest, data: str) -> None:
    """Raises UsageError with both sides, and the command that would make the right dataset, unless the data fit."""
    found = run.task.needs(replace(manifest, features=features_seen(run.settings, manifest)))
    if not manifest.records("train"):
        found = [*found, Difference("split train", "records", "none", "--splits train=0.8,validation=0.1,test=0.1")]
    if found:
        sides = "; ".join(
            f"{item.what}: {run.name} needs {item.needed}, the dataset has {item.found}" for item in found
        )
        remedies = " ".join(item.remedy for item in found if item.remedy)
        cut = " (or train on parts of whole pieces: --redraw-crop N)" if "window" in [i.what for i in found] else ""
        raise UsageError(
            f"{data} does not fit: {sides}. "
            f"Make one that does: stretto prepare {manifest.corpus} --input DIR --output DIR {remedies}{cut}".rstrip()
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
    old = with_defaults(read_config(source))
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
    changes = differences(with_defaults(old), config)
    bad = [f"{name}: {changes[name][0]!r} there, {changes[name][1]!r} here" for name in refused(changes)]
    if old["data"]["fingerprint"] != config["data"]["fingerprint"]:
        bad.append(f"data: trained on {old['data']['path']}, which differs from {config['data']['path']}")
    if bad:
        raise UsageError(
            f"{output} holds a run with another configuration: {'; '.join(bad)}. "
            f"Choose another --output (with --init {output} to begin with its weights), or the old settings."
        )
    return changes


def with_defaults(config: Config) -> Config:
    """A stored configuration, with what stood for the settings that it is older than.

    Raises UsageError where its family is unknown.
    """
    family = resolve(FAMILIES, config["family"], "model family")
    groups = {"train": TrainSettings(), "model": family()}
    return {**config, **{name: {**to_json(default), **config[name]} for name, default in groups.items()}}


def finished(output: str, steps: int) -> bool:
    """Whether the run has made this many steps already, and what it made is there; else its mark is taken away."""
    path = os.path.join(output, COMPLETED)
    if not os.path.exists(path):
        return False
    done = read_completed(output)["step"]
    newest, skipped = Checkpoints(output).newest()
    if done >= steps and newest == done:
        return True
    if done >= steps:
        for sentence in (f"{output} was finished, but its last checkpoint is not whole any more", *skipped):
            tell(sentence)
    os.remove(path)
    return False


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
    words = [f"--{name.partition('.')[2].replace('_', '-')} {new}" for name, (_, new) in changes.items()]
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


class Stop:
    """Notes SIGTERM and Ctrl-C, so that the step in hand can be finished and saved; a second Ctrl-C ends at once.

    Attributes:
        requested: whether either has come.
        by_hand: whether it was Ctrl-C.
    """

    requested = False
    by_hand = False

    def __enter__(self) -> Stop:
        self._old = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def take_back(self) -> None:
        """Takes the signals again from a library that has put an answer of its own in their place."""
        for number in self._old:
            if not (number == signal.SIGINT and self.by_hand):
                signal.signal(number, self._note)

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.requested = True
        if number == signal.SIGINT and not self.by_hand:
            self.by_hand = True
            # The system's own end, because Python would wait for a step, or a compiler, to come back.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            tell_at_once(b"stretto: saving after this step; Ctrl-C again ends at once, without")


def print_result(output: str, as_json: bool) -> None:
    """The last lines of `train`: where the run is and what it reached."""
    done = read_completed(output)
    if as_json:
        print(json.dumps({"run": output, **done, "best": Checkpoints(output).best()}))
        return
    scores = ", ".join(f"{name} {value:.4f}" for name, value in done["validation"].items())
    print(f"finished: {output}, step {done['step']}, validation {scores or 'none'}")
    print(f"next: stretto evaluate {output} | stretto sample {output} --output DIR | stretto monitor {output}")
