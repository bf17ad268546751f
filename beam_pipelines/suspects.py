"""Suspects: inputs that were being written when a process died. They are tried in a process of their own first.

Every input was read by a process that can be killed before it is written, so this is the second line: should encoding
one end its worker, the same command must not die at the same input for ever. An input that was merely unlucky passes,
so that kills do not change the dataset.
"""

import contextlib
import os

from beam_pipelines.folder import Folder, read_value, write_value

_WRITING = "writing-"


class Writing:
    """Notes which input this process is writing, so that it is known should the process die."""

    def __init__(self, folder: Folder) -> None:
        self._path = folder.path("progress", f"{_WRITING}{os.getpid()}")

    def begin(self, name: str) -> None:
        """This input is written from now on."""
        with open(self._path, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(name)

    def end(self) -> None:
        """Nothing is being written."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


def gather_suspects(folder: Folder) -> frozenset[str]:
    """Names of the inputs that dead processes were writing, in this run's past and before; remembered in the folder."""
    path = folder.path("progress", "suspects.json")
    names = set(read_value(path) or [])
    marks = [folder.path("progress", name) for name in os.listdir(folder.path("progress")) if name.startswith(_WRITING)]
    for mark in marks:
        with open(mark, encoding="utf-8", errors="surrogatepass") as file:
            names.add(file.read())
    if names:
        write_value(path, sorted(names))
    for mark in marks:  # when all is remembered: a kill before costs nothing
        os.unlink(mark)
    return frozenset(names)


def read_suspects(folder: Folder) -> frozenset[str]:
    """What the launcher gathered."""
    return frozenset(read_value(folder.path("progress", "suspects.json")) or [])
