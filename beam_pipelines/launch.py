"""Launching a graph: the engine, its workers, and a watch over a local run, which a dead worker makes wait for ever."""

import argparse
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from beam_pipelines.beam_import import without_unneeded_packages
from beam_pipelines.config import LOCAL_RUNNERS, Build
from beam_pipelines.folder import Folder
from beam_pipelines.lock import workers_of
from beam_pipelines.outcome import explained, reserve
from beam_pipelines.progress import Display
from beam_pipelines.seal import PENDING
from beam_pipelines.worker import command
from media.storage import cannot_write
from schemas.errors import Interrupted, StoppedByHand, UsageError
from schemas.manifest import COMPLETED
from schemas.registry import check_name, nearest

with without_unneeded_packages():
    import apache_beam as beam
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
    from apache_beam.transforms.environments import SubprocessSDKEnvironment

_POLL_SECONDS = 0.2
_KILL_SECONDS = 20.0
_SILENCE_SECONDS = 1800.0
_AGAIN = "What was finished is kept: run the same command again to continue."
_TOLD_TO_STOP = f"the build was told to stop. {_AGAIN}"
_ASKED_TO_STOP: ContextVar[threading.Event | None] = ContextVar("asked_to_stop", default=None)


def check_beam_options(options: Sequence[str]) -> None:
    """Raises UsageError for `--runner` after `--`, and for an option that Beam does not know and would pass over."""
    for option in options:
        if option == "--runner" or option.startswith("--runner="):
            value = option.partition("=")[2] or "DirectRunner"
            raise UsageError(f"{option} after -- is not read. Write it before: stretto prepare … --runner {value}")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for kind in [PipelineOptions, *_subclasses(PipelineOptions)]:
        kind._add_argparse_args(parser) if "_add_argparse_args" in vars(kind) else None
    _, unknown = parser.parse_known_args(list(options))
    if unknown:
        known = [name for action in parser._actions for name in action.option_strings]
        guess = nearest(unknown[0].partition("=")[0], known)
        raise UsageError(f"{unknown[0]} is no Beam option." + (f" Did you mean {guess}?" if guess else ""))


def check_runner(name: str) -> None:
    """Raises UsageError, with the nearest name, for a runner that Beam does not have."""
    check_name(name, StandardOptions.KNOWN_RUNNER_NAMES, "runner")


def _subclasses(kind: type) -> Iterator[Any]:
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)


@dataclass(frozen=True)
class Engine:
    """Where the graph runs: Beam's options, a runner or its name, and how many processes there are."""

    options: PipelineOptions
    runner: Any
    workers: int


def engine(build: Build, workers: int, beam_options: Sequence[str]) -> Engine:
    """The engine of a build. Here it is Beam's FnApiRunner: the DirectRunner first tries to download another one."""
    options = PipelineOptions(list(beam_options))
    if build.runner not in LOCAL_RUNNERS:
        return Engine(options, build.runner, workers)
    direct = options.view_as(DirectOptions)
    direct.direct_num_workers = workers
    if workers == 1:
        direct.direct_running_mode = "in_memory"
        return Engine(options, FnApiRunner(), 1)
    # No mode, so that the runner starts our worker, which is lighter than the one it would choose itself.
    direct.direct_running_mode = None
    environment = SubprocessSDKEnvironment.from_command_string(command(build.building))
    return Engine(options, FnApiRunner(default_environment=environment), workers)


def run(where: Engine, graph: Callable[[Any], None], display: Display) -> None:
    """Runs the graph to its end. Raises what a stage told of, or Interrupted where it stands still for good."""
    reserve(display.folder)
    with _temporary_files_in(display.folder.path("progress", "scratch")):
        pipeline = beam.Pipeline(runner=where.runner, options=where.options)
    graph(pipeline)
    failure: list[BaseException] = []
    lost: list[str] = []

    def work() -> None:
        try:
            pipeline.run().wait_until_finish()
        except BaseException as error:  # noqa: BLE001  every failure is raised again by the thread that waits
            failure.append(error)

    thread = threading.Thread(target=work, name="graph", daemon=True)
    workers: set[int] = set()
    with _losses(lost):
        thread.start()
        try:
            _watch(thread, lost, display, workers)
        finally:
            display.close()
            if thread.is_alive():
                end_workers(display.folder, workers)
    if failure:
        error = _told(display.folder, failure[0])
        _remove_remains(display.folder)
        raise error from failure[0]


@contextmanager
def _temporary_files_in(place: str) -> Iterator[None]:
    """Beam makes a folder for each pipeline in /tmp, where each killed build would leave one, and which may be full."""
    before = tempfile.tempdir
    try:
        os.makedirs(place, exist_ok=True)
        tempfile.tempdir = place
        yield
    except OSError as error:
        raise cannot_write(str(error.filename or place), error) from error
    finally:
        tempfile.tempdir = before


def _told(folder: Folder, error: BaseException) -> BaseException:
    return explained(folder, error) if isinstance(error, Exception) else error


def _remove_remains(folder: Folder) -> None:
    """Removes what workers wrote when somebody had removed their folder: it is no build's, and in the way of one."""
    # The launcher makes the file of the workers, and only a commit whose seal is there removes it.
    if not any(os.path.lexists(folder.path(name)) for name in ("workers", PENDING, COMPLETED)):
        shutil.rmtree(folder.root, ignore_errors=True)


def _watch(thread: threading.Thread, lost: Sequence[str], display: Display, workers: set[int]) -> None:
    while thread.is_alive():
        thread.join(_POLL_SECONDS)
        display.update()
        # The file of their names goes when the build is committed, before they do.
        workers.update(workers_of(display.folder.root, os.getpid()))
        if (asked := _ASKED_TO_STOP.get()) and asked.is_set():
            raise Interrupted(_TOLD_TO_STOP)
        if lost:
            raise explained(display.folder, Interrupted(f"the build stopped: {lost[0]}. {_AGAIN}"))
        if time.monotonic() - display.last_change > _SILENCE_SECONDS:
            raise Interrupted(f"the build stopped: nothing was finished for {_SILENCE_SECONDS:.0f} s. {_AGAIN}")


@contextmanager
def _losses(lost: list[str]) -> Iterator[None]:
    """Notes workers that die: the local engine says so in a thread of its own and then waits for ever."""
    before = threading.excepthook

    def notice(details: threading.ExceptHookArgs) -> None:
        if isinstance(details.exc_value, RuntimeError) and "Worker subprocess exited" in str(details.exc_value):
            lost.append(f"a worker process died ({details.exc_value}; killed for lack of memory?)")
        elif not details.exc_type.__module__.startswith("grpc"):
            # The engine's own threads lose their connections with the worker; what happened is said once, by us.
            before(details)

    threading.excepthook = notice
    engine_log = logging.getLogger("apache_beam")
    level = engine_log.level
    if logging.getLogger().getEffectiveLevel() > logging.INFO:
        # A failure reaches us as an exception; a lost worker would fill the screen with a dozen tracebacks first.
        engine_log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        threading.excepthook = before
        engine_log.setLevel(level)


@contextmanager
def terminated() -> Iterator[None]:
    """Lets SIGTERM (a machine is taken away) and Ctrl-C end the build like a lost worker: what is finished is kept."""
    asked = threading.Event()

    def stop(number: int, frame: object) -> None:
        # Remembered too: what runs just now may take our exception for its own failure, and swallow it.
        asked.set()
        raise Interrupted(_TOLD_TO_STOP)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, known = signal.signal(signal.SIGTERM, stop), _ASKED_TO_STOP.set(asked)
    try:
        yield
    except KeyboardInterrupt as request:
        raise StoppedByHand(f"stopped by Ctrl-C. {_AGAIN}") from request
    finally:
        _ASKED_TO_STOP.reset(known)
        signal.signal(signal.SIGTERM, before)


def end_workers(folder: Folder, known: Iterable[int] = ()) -> None:
    """Kills what is left of this process's workers: the local engine waits for them even when the interpreter ends."""
    deadline = time.monotonic() + _KILL_SECONDS
    while time.monotonic() < deadline:
        for pid in {*known, *workers_of(folder.root, os.getpid())}:
            if _is_living_child(pid):
                os.kill(pid, signal.SIGKILL)
        if not any(thread.name == "run_worker" for thread in threading.enumerate()):
            return
        time.sleep(_POLL_SECONDS)


def _is_living_child(pid: int) -> bool:
    # A number that is no child of ours any more may belong to somebody else by now.
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False
