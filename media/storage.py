"""Where bytes live: read, write and list files by path; local folders now, buckets when the [gcp] extra comes.

Every path of the command line passes through here, so that a bucket needs one file, not twenty. A file is either wholly
written or not there (temporary name, fsync, rename), and nothing outside the folder that the user named is ever read
through it.
"""

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterator

from schemas.errors import InputError, MachineError

BUCKET_PREFIX = "gs://"


def local(path: str | os.PathLike[str]) -> str:
    """Returns the path as a string if it lies on this machine; raises MachineError for a bucket."""
    text = os.fspath(path)
    if text.startswith(BUCKET_PREFIX):
        raise MachineError(
            f"{text}: buckets come with the [gcp] extra in a later version. Give a folder on this machine."
        )
    return text


def read_bytes(path: str | os.PathLike[str], limit_bytes: int | None = None) -> bytes:
    """Returns the bytes of one regular file.

    Args:
        path: the file. A pipe or a device is refused, because reading one may never end.
        limit_bytes: refuse a file that is larger, before it fills the memory.

    Raises:
        InputError: no such file, not a regular file, not readable, or larger than the limit.
        MachineError: the path is in a bucket.
    """
    name = local(path)
    try:
        # Without O_NONBLOCK the mere opening of a named pipe waits for a writer.
        with os.fdopen(os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            _check_readable(name, os.fstat(file.fileno()), limit_bytes)
            data = file.read() if limit_bytes is None else file.read(limit_bytes + 1)
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}. Check the path and its permissions.") from error
    if limit_bytes is not None and len(data) > limit_bytes:
        raise InputError(f"{name}: grew past the limit of {limit_bytes:,} bytes while it was read.")
    return data


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file so that readers see the old bytes or the new ones, never a part; makes missing folders.

    Raises:
        MachineError: the disk is full, the folder may not be written to, or the path is in a bucket.
    """
    name = os.path.abspath(local(path))
    folder = os.path.dirname(name)
    try:
        os.makedirs(folder, exist_ok=True)
        scratch = _write_scratch(folder, data)
        try:
            os.replace(scratch, name)
        except OSError:
            _remove(scratch)
            raise
        sync_folder(folder)
    except OSError as error:
        raise _cannot_write(name, error) from error


def list_files(root: str | os.PathLike[str]) -> list[str]:
    """Returns the files below `root`, relative to it with '/' between the parts, sorted by code point.

    A link to a file inside `root` counts as a file. A link to a folder is not entered: what it holds inside `root` is
    listed in its own place. Links that lead out of `root` are left out; `links_left_out` names them.

    Raises:
        InputError: `root` is no folder, or a folder below it may not be read.
    """
    return sorted(name for name, kept in _entries(local(root)) if kept)


def links_left_out(root: str | os.PathLike[str]) -> list[str]:
    """Returns what `list_files` leaves out, sorted: links out of `root`, broken links, pipes and devices."""
    return sorted(name for name, kept in _entries(local(root)) if not kept)


def inside(root: str | os.PathLike[str], relative: str) -> str:
    """Returns the path of `relative` below `root`, for names that come from a file and may be hostile.

    Raises:
        InputError: the name is empty or absolute, holds a NUL, or leads out of `root` by '..' or through a link.
    """
    folder = local(root)
    if not relative or "\0" in relative or os.path.isabs(relative):
        raise InputError(f"{folder}: {relative!r} is not a path relative to this folder.")
    path = os.path.normpath(os.path.join(folder, relative))
    if not _is_below(os.path.realpath(folder), os.path.realpath(path)):
        raise InputError(f"{folder}: {relative!r} leads out of this folder. Correct the name or the link.")
    return path


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Makes renames in a folder survive a power cut."""
    handle = os.open(local(folder), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network and overlay file systems cannot sync a folder; the rename itself has still happened.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _check_readable(name: str, status: os.stat_result, limit_bytes: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{name}: is not a regular file.")
    if limit_bytes is not None and status.st_size > limit_bytes:
        raise InputError(f"{name}: has {status.st_size:,} bytes, more than the limit of {limit_bytes:,}.")


def _write_scratch(folder: str, data: bytes) -> str:
    # One name for each process and thread: what a killed process left behind is overwritten, never read.
    scratch = os.path.join(folder, f".stretto-{os.getpid()}-{threading.get_ident()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(scratch, flags, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        _remove(scratch)
        raise
    return scratch


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _cannot_write(name: str, error: OSError) -> MachineError:
    remedy = (
        "Free some space and run again." if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Choose another place."
    )
    return MachineError(f"{name}: cannot be written: {error.strerror}. {remedy}")


def _entries(root: str) -> Iterator[tuple[str, bool]]:
    if not os.path.isdir(root):
        raise InputError(f"{root}: is not a folder. Check the path.")
    real_root = os.path.realpath(root)
    for folder, folders, files in os.walk(root, onerror=_refuse_folder):
        prefix = os.path.relpath(folder, root).replace(os.sep, "/") + "/"
        for name in files + [name for name in folders if os.path.islink(os.path.join(folder, name))]:
            path = os.path.join(folder, name)
            stays = not os.path.islink(path) or _is_below(real_root, os.path.realpath(path))
            if not (stays and os.path.isdir(path)):
                yield (prefix + name).removeprefix("./"), stays and os.path.isfile(path)


def _refuse_folder(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be listed: {error.strerror}. Check its permissions.") from error


def _is_below(real_root: str, real_path: str) -> bool:
    return os.path.commonpath([real_root, real_path]) == real_root
