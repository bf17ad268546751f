"""The lock on a folder being built: held by one launcher, freed by the system when its process dies, however it does.

Workers of a killed launcher may live a moment longer. They hold a second lock together, and a new launcher waits for
them, so that nobody finishes or writes behind its back.
"""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator

from schemas.errors import MachineError

_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.1


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Holds the folder, which must exist. Raises MachineError, naming the process, where another build holds it."""
    descriptor = _locked_file(os.path.join(folder, "lock"))
    try:
        os.ftruncate(descriptor, 0)
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        os.write(descriptor, json.dumps(holder).encode())
        _wait_for_workers(folder)
        yield
    finally:
        os.close(descriptor)


def _locked_file(path: str) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise MachineError(f"{path}: cannot be written: {error.strerror}. Choose another --output.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 1000, 0).decode(errors="replace")
            os.close(descriptor)
            raise MachineError(
                f"{os.path.dirname(path)}: another build is writing here ({holder}). "
                "Wait for it, end it, or choose another --output."
            ) from error
        # A build that just finished may have removed the file between our opening and our locking it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)


def join_workers(folder: str) -> int:
    """Marks this process as one that writes into the folder, until it ends; returns the open file."""
    descriptor = os.open(os.path.join(folder, "workers"), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    os.write(descriptor, f"{os.getpid()} {os.getppid()}\n".encode())
    return descriptor


def workers_of(folder: str, launcher: int) -> list[int]:
    """Processes that joined the folder as children of a launcher, dead or alive."""
    with contextlib.suppress(FileNotFoundError), open(os.path.join(folder, "workers"), encoding="ascii") as file:
        pairs = [line.split() for line in file]
        return [int(pair[0]) for pair in pairs if len(pair) == 2 and pair[1] == str(launcher)]
    return []


def _wait_for_workers(folder: str) -> None:
    descriptor = os.open(os.path.join(folder, "workers"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    deadline = time.monotonic() + _WAIT_SECONDS
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return os.ftruncate(descriptor, 0)
            except OSError as error:
                if time.monotonic() > deadline:
                    raise MachineError(
                        f"{folder}: workers of an earlier build are still writing. End them and try again."
                    ) from error
            time.sleep(_POLL_SECONDS)
    finally:
        os.close(descriptor)
