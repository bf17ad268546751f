"""`stretto prepare` that is struck at an exact place: when it is about to change the n-th file of some name.

Python tells a process of its own file operations before they happen (audit events). So a kill can be placed between
two renames, which no watcher from outside would hit; or the disk becomes full, or an input changes, right then.
Run as: python -m tests.hostile.dying_prepare BLOW prepare …
"""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PATHS = {"open": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.truncate": 1, "os.link": 2}
"""How many of an event's first arguments are paths."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Blow:
    """Where a process is struck, and how.

    Attributes:
        path: regular expression that the path must match; of a rename the old and the new name, joined by " -> ".
        event: the kind of operation, "" for any that changes something.
        times: at the how-maniest such operation.
        worker: whether only workers are struck.
        launcher: whether it is the process that started the worker which dies in its place (and the worker with it).
        fill: the folder whose disk is full from then on, in place of a death.
        run: the shell command that is run then, in place of a death.
    """

    path: str = ""
    event: str = ""
    times: int = 1
    worker: bool = False
    launcher: bool = False
    fill: str = ""
    run: str = ""


def changed_paths(event: str, arguments: tuple) -> str | None:
    """What an audit event is about to change, or None where it changes no file."""
    if event not in _PATHS:
        return None
    if event == "open" and (isinstance(arguments[0], int) or not (arguments[2] or 0) & _WRITES):
        return None
    paths = arguments[: _PATHS[event]]
    return " -> ".join(os.fsdecode(path) if isinstance(path, str | bytes) else str(path) for path in paths)


def on_change(act: Callable[[str, str], None]) -> None:
    """Calls `act` with the kind and the paths of each change that this process is about to make to a file."""

    def hook(event: str, arguments: tuple) -> None:
        paths = changed_paths(event, arguments)
        if paths is not None:
            act(event, paths)

    sys.addaudithook(hook)


def arm(blow: Blow) -> None:
    """Makes this process be struck at its place."""
    found = 0

    def count(event: str, paths: str) -> None:
        nonlocal found
        if blow.event in ("", event) and re.search(blow.path, paths):
            found += 1
            if found == blow.times:
                _strike(blow)

    on_change(count)


def _strike(blow: Blow) -> None:
    if blow.run:
        subprocess.run(blow.run, shell=True, check=True)
    elif blow.fill:
        fill(blow.fill)
    else:
        os.kill(os.getppid() if blow.launcher else os.getpid(), signal.SIGKILL)
        time.sleep(60)


def fill(disk: str) -> None:
    """Writes until nothing more fits."""
    ballast = os.open(os.path.join(disk, "ballast"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for size in (1 << 20, 1 << 12, 1):
        with contextlib.suppress(OSError):
            while os.write(ballast, bytes(size)):
                pass
    os.close(ballast)


def words(blow: Blow) -> list[str]:
    """The command in front of `prepare …`."""
    return [sys.executable, "-m", "tests.hostile.dying_prepare", json.dumps(asdict(blow))]


def main(arguments: list[str]) -> int:
    """Arms this process, or with several workers these, and runs the command."""
    import beam_pipelines.launch
    import stretto

    def command(building: str) -> str:
        call = f"serve({arguments[0]!r}, {building!r}, {os.getpid()})"
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.hostile.dying_prepare import serve; {call}"
        return f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)}"

    beam_pipelines.launch.command = command
    blow = Blow(**json.loads(arguments[0]))
    if not (blow.worker or blow.launcher):
        arm(blow)
    return stretto.main(arguments[1:])


def serve(blow: str, building: str, launcher: int) -> None:
    """An armed worker."""
    from beam_pipelines.worker import main as serve_launcher

    arm(Blow(**json.loads(blow)))
    serve_launcher(building, launcher)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
