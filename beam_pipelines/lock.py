"""The lock on a folder being built: held by one launcher, freed by the system when its process dies, however it does.

It lies beside the folder, not in it, so that the folder can get its final name with nothing of the kind in it, while
the lock is still held. Workers of a killed launcher may live a moment longer. They hold a second lock together, and a
new launcher waits for them, so that nobody finishes or writes behind its back.
"""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

from media.storage import cannot_write
from schemas.errors import MachineError

_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.1
_INTRODUCTION_SECONDS = 3.0


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Holds a folder, which is made; one that stays empty is removed.

    Raises:
        MachineError: another build holds it, its process is named; or folder or lock cannot be written.
    """
    path = os.path.abspath(folder) + ".lock"
    descriptor = _locked_file(path)
    try:
        _introduce(descriptor, path)
        _wait_for_workers(folder)
        yield
    finally:
        _remove_empty(folder)
        # Removed while it is held: whoever opened this file before finds out that it is the lock no more.
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


def _locked_file(path: str) -> int:
    while True:
        with _writing(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            with _writing(path):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A build that just finished may have removed the file between our opening and our locking it.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except BlockingIOError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise MachineError(
                f"{path.removesuffix('.lock')}: another build is writing here ({holder}). "
                "Wait for it, end it, or choose another --output."
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def remove_dead_lock(folder: str) -> None:
    """Removes the lock of a launcher that was killed when there was nothing left to do; one that is held stays."""
    path = os.path.abspath(folder) + ".lock"
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                os.unlink(path)
        finally:
            os.close(descriptor)


def _introduce(descriptor: int, path: str) -> None:
    """Says in the lock who holds it."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    text = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}).encode()
    with _writing(path):
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))


def _holder(descriptor: int) -> str:
    """Who holds the lock: it may have taken it a moment ago, when the file still names a dead process or nobody."""
    deadline = time.monotonic() + _INTRODUCTION_SECONDS
    while True:
        try:
            holder: dict[str, Any] = json.loads(os.pread(descriptor, 1000, 0))
            named = f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
            if holder["host"] != socket.gethostname() or _is_alive(holder["pid"]):
                return named
        except (ValueError, LookupError, TypeError):
            named = "it has not said which"
        if time.monotonic() > deadline:
            return named
        time.sleep(_POLL_SECONDS)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's process is a process too
    return True


def join_workers(folder: str) -> int:
    """Marks this process as one that writes into the folder, until it ends; returns the open file."""
    # The launcher has made the file. Where it is gone, so is the build.
    descriptor = os.open(os.path.join(folder, "workers"), os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
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
    """Makes folder and file of the workers, and waits until those of earlier launchers are dead."""
    path = os.path.join(folder, "workers")
    with _writing(path):
        os.makedirs(folder, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    deadline = time.monotonic() + _WAIT_SECONDS
    try:
        while not _is_free(descriptor, path):
            if time.monotonic() > deadline:
                raise MachineError(f"{folder}: workers of an earlier build are still writing. End them and try again.")
            time.sleep(_POLL_SECONDS)
        # The first line takes the room in which workers write theirs, so that no full disk keeps them from starting.
        with _writing(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"launcher, then each worker with its launcher\n", 0)
    finally:
        os.close(descriptor)


def _is_free(descriptor: int, path: str) -> bool:
    try:
        with _writing(path):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_empty(folder: str) -> None:
    """Removes a folder that holds nothing but the file of the workers."""
    with contextlib.suppress(OSError):
        if os.listdir(folder) == ["workers"]:
            os.unlink(os.path.join(folder, "workers"))
        os.rmdir(folder)


@contextlib.contextmanager
def _writing(path: str) -> Iterator[None]:
    """Turns what the system refuses into a MachineError; that somebody else holds a lock is no such thing."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
