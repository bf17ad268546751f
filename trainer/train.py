"""START HERE: training on one screen: what is checked before anything heavy is imported, what is built, the loop."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from media.storage import write_atomic
from schemas.errors import Interrupted, StrettoError, UsageError
from schemas.feature import features_to_json
from schemas.hashing import canonical_json, fingerprint
from schemas.manifest import Manifest, read_manifest
from schemas.representations import from_settings
from trainer.accelerators import check_precision, check_used, gpus
from trainer.backends import choose, current, set_backend
from trainer.checkpoint import Checkpoints
from trainer.config import Run, differences, run_to_json
from trainer.devices import Launch, Processes, check_batch, parse_mesh, parse_steps, processes_of
from trainer.fitting import check_needs
from trainer.heaps import limit_heaps
from trainer.loaded import build_model, read_config
from trainer.meeting import Asked, Dismissed, dismiss, meet, refuse
from trainer.redraw import features_seen, readers
from trainer.run_folder import (
    COMPLETED,
    Changes,
    Config,
    finished,
    is_finished,
    locked,
    make_folder,
    prepare_folder,
    read_completed,
    say_without_effect,
    with_defaults,
)
from trainer.stopping import Stop, stopped
from trainer.telling import tell

SAME_WEIGHTS = ("model.activation", "model.clip_distance")
"""Settings of networks whose weights have the same shapes."""


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
    job = prepared(run, data, output, launch or Launch())
    if dry_run:
        print(json.dumps({"output": output, **job.config}, indent=1))
    elif job.processes.is_chief:
        with in_folder(job) as (changes, done):
            lead(job, changes, done)
            print_result(output, as_json)
    else:
        train_along(job)
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


def check_remat(run: Run) -> None:
    """Raises UsageError where there is nothing that could be computed again."""
    if run.settings.remat and not run.task.in_blocks:
        raise UsageError(f"--remat: {run.family} has no blocks that could be computed again. Leave it out.")


def prepared(run: Run, data: str, output: str, launch: Launch) -> Job:
    """What this process is to do, once what can be known without a backend is known to fit."""
    began, backend = time.monotonic(), choose(run.settings.backend)
    run = replace(run, settings=replace(run.settings, backend=backend))
    launch.check_profile(run.settings.steps)
    check_remat(run)
    manifest = read_manifest(data)
    check_needs(run, manifest, data)
    config, processes = configuration(run, manifest, data), processes_of(launch, backend)
    check_init(run, config)
    if (mesh := parse_mesh(run.settings.mesh)).data:
        check_batch(run.settings.batch, run.settings.accumulate, mesh, processes)
    return Job(run, manifest, data, output, config, processes, launch, began)


@contextmanager
def in_folder(job: Job) -> Iterator[tuple[Changes, bool]]:
    """Makes, locks and prepares the run's folder: what is to change in its run, and whether that is finished.

    Raises what `make_folder`, `locked`, `prepare_folder` and `finished` do, once the other processes are told.
    """
    with ExitStack() as held:
        try:
            make_folder(job.output)
            held.enter_context(locked(job.output))
            found = prepare_folder(job.output, job.config), finished(job.output, job.run.settings.steps)
        except StrettoError as error:
            held.close()  # telling takes a while, and whoever corrects the command meanwhile should find it free
            refuse(job.processes, job.launch.join_seconds, error)
            raise
        yield found


def lead(job: Job, changes: Changes, done: bool) -> None:
    """What the first process does, alone in the run's folder: trains, unless the run is finished, and marks its end."""
    steps = job.run.settings.steps
    if done:
        say_without_effect(job.output, steps, changes)
        if job.processes.count > 1:
            dismiss(job.processes, job.launch.join_seconds, f"{job.output} is finished")
        return
    reached = {"step": steps, "validation": dict(in_company(job, changes))}
    write_atomic(os.path.join(job.output, COMPLETED), json.dumps(reached, indent=1).encode())


def train_along(job: Job) -> None:
    """What every process but the first does: it neither prepares the folder nor writes what came out."""
    # Where there is no address to be told at, the first process ends without a word to the others.
    if not job.processes.meeting and is_finished(job.output, job.run.settings.steps):
        tell(f"{job.output} is finished")
        return
    try:
        in_company(job, {})
    except Dismissed as reason:
        tell(str(reason))


def in_company(job: Job, changes: Changes) -> Mapping[str, float]:
    """`run_loop`; what it raises while other processes are connected ends this one at once (`stretto.ended`).

    Raises Interrupted where another process is lost before the first step; the loop tells those that are lost later.
    """
    try:
        with telling_lost(job):
            return run_loop(job, changes)
    except Exception as error:
        # What connects processes waits for the others when Python ends, and they for this one.
        error.at_once = job.processes.count > 1  # type: ignore[attr-defined]
        raise


@contextmanager
def telling_lost(job: Job) -> Iterator[None]:
    """A `with` block in which a backend's error that says that another process is gone becomes Interrupted."""
    try:
        yield
    except StrettoError:
        raise
    except Exception as failed:
        chosen = "keras" in sys.modules  # before that nothing connects processes but our own meeting
        if job.processes.count == 1 or not chosen or not current().is_lost_peer(failed):
            raise
        raise Interrupted(
            f"{job.output}: another process was lost while training began; what was saved is as it was. Start all of "
            "them again with the same command."
        ) from failed


def run_loop(job: Job, changes: Changes) -> Mapping[str, float]:
    """Meets the other processes, imports Keras with the chosen backend, builds everything and trains.

    Returns the figures of the last validation.
    """
    run, manifest, settings = job.run, job.manifest, job.run.settings
    limit_heaps(os.environ)
    with Stop() as stop:
        devices = connect(job, stop)
        stop.take_back()  # backends that connect processes answer SIGTERM themselves
        from trainer.backends.update import Update
        from trainer.course import Course
        from trainer.loop import loop

        give_up_early(job, stop)
        with devices.scope():
            model = build_model(run, features_seen(settings, manifest))
            update = Update(model, run.task.objectives(), settings, devices)
        representation = from_settings(manifest.representation, manifest.settings)
        read = readers(settings, manifest, job.data)
        parts = (manifest, representation, *read, update, parse_steps(job.launch.profile), job.began)
        give_up_early(job, stop)
        return loop(Course(run, job.config, changes, job.output, *parts), stop)


def give_up_early(job: Job, stop: Stop) -> None:
    """Raises Interrupted where this process, alone, was asked to stop while it began: nothing is new, so not saved."""
    if stop.requested and job.processes.count == 1:
        raise stopped(job.output, stop.by_hand, "before it made a step")


def asked_of(job: Job) -> Asked:
    """What must be the same for every process. The same data may lie elsewhere for another one."""
    newest = Checkpoints(job.output).newest()[0]
    config = {**job.config, "data": job.config["data"]["fingerprint"], "processes": job.processes.count}
    return Asked(fingerprint(config), -1 if newest is None else newest)


def connect(job: Job, stop: Stop) -> Any:
    """The devices of the run, once all its processes are there."""
    settings, processes, mesh = job.run.settings, job.processes, parse_mesh(job.run.settings.mesh)
    asked = asked_of(job) if processes.count > 1 else None
    if asked is not None:
        meet(processes, job.launch.join_seconds, asked, stop, job.output)
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


def print_result(output: str, as_json: bool) -> None:
    """The last lines of `train`: where the run is and what it reached."""
    done = read_completed(output)
    if as_json:
        print(json.dumps({"run": output, **done, "best": Checkpoints(output).best()}))
        return
    scores = ", ".join(f"{name} {value:.4f}" for name, value in done["validation"].items())
    print(f"finished: {output}, step {done['step']}, validation {scores or 'none'}")
    print(f"next: stretto evaluate {output} | stretto sample {output} --output DIR | stretto monitor {output}")
