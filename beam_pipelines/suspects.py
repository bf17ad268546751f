"""Suspects: inputs that were being read when a process died. They are read again in a process of their own.

A file can take the whole process with it: a parser's native code crashes, or never comes back, or fills the memory.
Without this the same command would die at the same file for ever. An input that was merely unlucky passes, so that
kills do not change the dataset.
"""

import contextlib
import os
import pickle
import subprocess
import sys

from beam_pipelines.folder import Folder, read_value, write_value

_PATIENCE_SECONDS = 300.0
_READING = "reading-"


class Reading:
    """Notes which input this process is reading, so that it is known should the process die."""

    def __init__(self, folder: Folder) -> None:
        self._path = folder.path("progress", f"{_READING}{os.getpid()}")

    def begin(self, name: str) -> None:
        """This input is read from now on."""
        with open(self._path, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(name)

    def end(self) -> None:
        """Nothing is being read."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


def gather_suspects(folder: Folder) -> frozenset[str]:
    """Names of the inputs that dead processes were reading, in this run's past and before; remembered in the folder."""
    path = folder.path("progress", "suspects.json")
    names = set(read_value(path) or [])
    for entry in os.listdir(folder.path("progress")):
        if entry.startswith(_READING):
            with open(folder.path("progress", entry), encoding="utf-8", errors="surrogatepass") as file:
                names.add(file.read())
            os.unlink(folder.path("progress", entry))
    if names:
        write_value(path, sorted(names))
    return frozenset(names)


def read_suspects(folder: Folder) -> frozenset[str]:
    """What the launcher gathered."""
    return frozenset(read_value(folder.path("progress", "suspects.json")) or [])


def survives(function: str, *arguments: object) -> str:
    """Calls "module:function" in a process of its own; "" where it comes back, else how that process ended."""
    module, _, name = function.partition(":")
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = (
        f"import sys, pickle; sys.path[:0] = {[root, *sys.path]!r}; from {module} import {name}; "
        f"{name}(*pickle.load(sys.stdin.buffer))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=pickle.dumps(arguments),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {_PATIENCE_SECONDS:.0f} s"
    return "" if done.returncode == 0 else f"ended with {done.returncode}"
