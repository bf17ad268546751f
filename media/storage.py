"""Where bytes live: read, write and list files by path; local folders and zip archives now, buckets when [gcp] comes.

Every path of the command line passes through here, so that a bucket needs one file, not twenty. A file is either wholly
written or not there (temporary name, fsync, rename), and nothing outside the folder that the user named is ever read
through it, whatever names and links are put into it, and while it is read.
"""

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterator

from media.archive import archive_at, is_archive
from schemas.errors import InputError, MachineError, Unreadable

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
        with open(name, "rb", opener=_not_waiting) as file:
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
        raise cannot_write(name, error) from error


def list_files(root: str | os.PathLike[str]) -> list[str]:
    """Returns the files below `root`, relative to it with '/' between the parts, sorted by code point.

    `root` is a folder or a zip archive. A link to a file inside a folder counts as a file. A link to a folder is not
    entered: what it holds inside `root` is listed in its own place. Links that lead out of `root` are left out;
    `links_left_out` names them.

    Raises:
        InputError: `root` is neither, a folder below it may not be read, or the archive is refused.
    """
    name = local(root)
    if is_archive(name):
        return sorted(archive_at(name).members)
    return sorted(name for name, kept in _entries(name) if kept)


def links_left_out(root: str | os.PathLike[str]) -> list[str]:
    """Returns what `list_files` leaves out, sorted: links out of `root`, broken links, pipes and devices."""
    name = local(root)
    single = is_archive(name) or os.path.isfile(name)
    return [] if single else sorted(name for name, kept in _entries(name) if not kept)


def read_below(root: str | os.PathLike[str], relative: str, limit_bytes: int) -> bytes:
    """Returns the bytes of a regular file below `root`, for names that come from a file and may be hostile.

    Every folder on the way is opened by itself and no link is followed that was not looked at, so that a link which is
    put there at any moment leads nowhere. Unreadable names no path of this machine: its message stands in datasets.

    Raises:
        Unreadable: `path-escapes-root` (nothing outside was opened), `missing-file`, `not-a-file`, `too-large`,
            `no-access`; for an archive also the reasons of `media.archive.Archive.read`.
        InputError: `root` is an archive that is refused whole.
        MachineError: `root` is in a bucket.
    """
    folder = local(root)
    path = _checked_relative(relative)
    if is_archive(folder):
        return archive_at(folder).read(path, limit_bytes)
    try:
        with open(path, "rb", opener=lambda path, _: _open_below(folder, path)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable("not-a-file", f"{relative} is a folder or a device, not a file")
            if status.st_size > limit_bytes:
                raise Unreadable(
                    "too-large", f"{relative} has {status.st_size} bytes; files over {limit_bytes} are not read"
                )
            data = file.read(limit_bytes + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unreadable("missing-file", f"{relative} is listed, but there is no such file") from error
    except IsADirectoryError as error:
        raise Unreadable("not-a-file", f"{relative} is a folder, not a file") from error
    except OSError as error:
        raise Unreadable("no-access", f"{relative} cannot be read: {error.strerror or error}") from error
    if len(data) > limit_bytes:
        raise Unreadable("too-large", f"{relative} grew past {limit_bytes} bytes while it was read")
    return data


def modified(root: str | os.PathLike[str], path: str) -> int:
    """When a file below `root` was last changed, in ns since 1970; of an archive, when it was; 0 where not known."""
    status = _status(root, path)
    return status.st_mtime_ns if status else 0


def size_of(root: str | os.PathLike[str], path: str) -> int:
    """The bytes of a file below `root`, unpacked where that is an archive; 0 where not known."""
    name = local(root)
    if is_archive(name):
        member = archive_at(name).members.get(path)
        return member.size if member else 0
    status = _status(root, path)
    return status.st_size if status else 0


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


def _checked_relative(relative: str) -> str:
    path = os.path.normpath(relative) if relative else ""
    if not path or "\0" in path or os.path.isabs(path) or path.split(os.sep, 1)[0] == os.pardir:
        raise _escape(relative)
    return path


def _escape(relative: str) -> Unreadable:
    return Unreadable("path-escapes-root", f"{relative!r} leads out of the input folder, so it was not opened")


def _open_below(folder: str, path: str) -> int:
    try:
        return _open_without_links(folder, path)
    except OSError as error:
        # A link at the end says ELOOP, one on the way ENOTDIR.
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
    real_folder = os.path.realpath(folder)
    target = os.path.realpath(os.path.join(folder, path))
    if not _is_below(real_folder, target):
        raise _escape(path)
    try:
        return _open_without_links(real_folder, os.path.relpath(target, real_folder))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _escape(path) from error
        raise


def _open_without_links(folder: str, path: str) -> int:
    """Opens a file below a folder; OSError where any part of the path is a link."""
    parts = path.split(os.sep)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in parts[:-1]:
        try:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
        finally:
            os.close(handle)
        handle = inner
    try:
        # Not blocking, because opening a named pipe that nobody writes to would wait for ever.
        return os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=handle)
    finally:
        os.close(handle)


def _status(root: str | os.PathLike[str], path: str) -> os.stat_result | None:
    name = local(root)
    try:
        # A corpus of one file may be named by it.
        return os.stat(
            name if is_archive(name) or os.path.isfile(name) else os.path.join(name, _checked_relative(path))
        )
    except (OSError, Unreadable):
        return None


def cannot_write(name: str, error: OSError) -> MachineError:
    """The error that names a file which could not be written, why, and what to do."""
    again = "run the same command again"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = f"Free some space and {again}."
    elif error.errno == errno.ENOENT:
        remedy = f"Its folder was removed meanwhile. Leave it alone and {again}."
    else:
        remedy = f"Make it possible and {again}, or choose another place."
    return MachineError(f"{name}: cannot be written: {error.strerror or error}. {remedy}")


def _not_waiting(path: str, flags: int) -> int:
    # Without O_NONBLOCK the mere opening of a named pipe waits for a writer.
    return os.open(path, flags | os.O_NONBLOCK)


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


def _entries(root: str) -> Iterator[tuple[str, bool]]:
    if not os.path.isdir(root):
        raise InputError(f"{root}: is not a folder and no .zip archive. Check the path.")
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
