"""A worker process on this machine: Beam's harness, without what it does not need, that ends when its launcher does."""

import contextlib
import ctypes
import logging
import os
import shlex
import signal
import sys
import threading
import time

from beam_pipelines.beam_import import without_unneeded_packages
from beam_pipelines.folder import Folder
from beam_pipelines.lock import join_workers
from beam_pipelines.outcome import tell
from media.storage import cannot_write

_POLL_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1
_NOISY = "apache_beam.runners.worker.sdk_worker_main"


def command(building: str) -> str:
    """The shell command that starts a worker of this process for a folder."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    call = f"main({building!r}, {os.getpid()})"
    code = f"import sys; sys.path.insert(0, {root!r}); from beam_pipelines.worker import main; {call}"
    # exec: the worker must be the launcher's own child, not a shell's. -P: the folder that a user stands in, which may
    # be a stranger's download, holds data; without it a logging.py there would be run in place of Python's.
    # trap: Ctrl-C reaches every process of a terminal; what it means is the launcher's business.
    return f"trap '' INT; exec {shlex.quote(sys.executable)} -P -c {shlex.quote(code)}"


def main(building: str, launcher: int) -> None:
    """Serves the launcher until it says stop or dies. Exits with 4 where the folder cannot be written."""
    end_with(launcher)
    _join(Folder(building))
    with without_unneeded_packages():
        from apache_beam.runners.worker import sdk_worker_main
    # What the harness has to say goes to the launcher; Beam's import has put a second way to the screen.
    logging.getLogger().handlers.clear()
    # Two warnings that every local worker prints and nobody can act on.
    logging.getLogger(_NOISY).setLevel(logging.ERROR)
    # The harness prints the traceback of every failure, which goes to the launcher anyway.
    with open(os.devnull, "w", encoding="utf-8") as nothing, contextlib.redirect_stderr(nothing):
        sdk_worker_main.main(sys.argv)


def _join(folder: Folder) -> None:
    try:
        join_workers(folder.root)
    except OSError as error:
        failure = cannot_write(folder.path("workers"), error)
        tell(folder, failure)
        sys.exit(failure.exit_code)


def end_with(parent: int) -> None:
    """Ends this process soon after its parent, which may be killed before it can say goodbye."""
    if sys.platform == "linux":
        # At once, and also while native code does not let go of the interpreter; elsewhere the thread below must do.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before we asked to be told

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-launcher", daemon=True).start()
