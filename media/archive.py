"""Zip archives read with suspicion: members are listed and read in memory one by one, nothing is ever unpacked to disk.

An archive that tries something is refused whole: a member whose name leads out, members that share bytes, more members
or more bytes than a corpus can have. What is merely odd about one member (encrypted, a link, named twice, an unusual
compression) costs that member when it is read. A member's sizes and checksum are what the archive states of it, and are
held against what really comes out; a zip inside a zip is a file like any other and is not opened.
"""

import io
import os
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

from schemas.errors import InputError, Unreadable

SUFFIX = ".zip"
MOST_MEMBERS = 200_000
LARGEST_TOTAL = 1 << 40
"""Bytes that all members together may have."""
LARGEST_RATIO = 200
"""Bytes that may come out for one stored byte: text of one letter repeated is packed 1000 to 1, music 10 to 1."""
_FREE_OF_RATIO = 1 << 20
# What cannot be packed grows by some bytes for each 16 KB or more of it.
_LARGEST_LOSS = 1000
_FREE_OF_LOSS = 64
_FREE_OF_TOTAL_RATIO = 64 << 20
_LARGEST_DIRECTORY = 64 << 20
# What zipfile reads to find the list of members: the end of the file.
_END_AND_COMMENT = 1 << 17
_ENTRY = b"PK\x01\x02"
_LOCAL = struct.Struct("<4s2xHH16xHH")
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
# Bits of a member's flags: encrypted, patch data, strong encryption, hidden names.
_SECRET = 0x1 | 0x20 | 0x40 | 0x2000
_UTF8 = 0x800
_MAC = "__MACOSX"


@dataclass(frozen=True, slots=True)
class Member:
    """What an archive states of one file in it.

    Attributes:
        raw_name: its name as it stands in the archive.
        offset: where its local header begins, in bytes.
        end: where the next member or the directory begins.
        stored: bytes in the archive.
        size: bytes that come out.
        crc: CRC-32 of those.
        method: 0 stored, 8 deflated, others are not read.
        odd: why it is not read, as (reason, sentence), or None.
    """

    raw_name: bytes
    offset: int
    end: int
    stored: int
    size: int
    crc: int
    method: int
    odd: tuple[str, str] | None


@dataclass(frozen=True)
class Archive:
    """The files of a zip archive by name, in the archive's order; `where` names it in the messages of `read`.

    Those stand in datasets, so `where` is no path of this machine.
    """

    where: str
    members: dict[str, Member]
    _open: Callable[[], BinaryIO]

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of one member.

        Raises:
            Unreadable: `missing-file`, `too-large`, `archive-link`, `archive-encrypted`, `archive-compression`,
                `archive-duplicate`, `archive-ratio`; `damaged-archive` where the bytes are not what the archive says.
        """
        member = self.members.get(name)
        if member is None:
            raise Unreadable("missing-file", f"{name} is listed, but there is no such file in {self.where}")
        if member.odd:
            raise Unreadable(member.odd[0], f"{name} in {self.where} {member.odd[1]}")
        if member.size > limit:
            message = f"{name} in {self.where} has {member.size} bytes; files over {limit} are not read"
            raise Unreadable("too-large", message)
        try:
            with self._open() as file:
                data = _unpacked(member, _stored_bytes(file, member))
        except OSError as error:
            # The error itself would name the whole path.
            raise Unreadable("damaged-archive", f"{name} in {self.where}: {error.strerror or error}") from error
        except (zlib.error, struct.error, _Damage) as error:
            raise Unreadable("damaged-archive", f"{name} in {self.where}: {error}") from error
        return data


class _Damage(Exception):
    """A member is not what the archive states of it."""


def is_archive(path: str) -> bool:
    """Whether a path names a zip archive: a file, or a link to one, whose name ends in .zip."""
    return path.lower().endswith(SUFFIX) and not os.path.isdir(path)


def archive_at(path: str) -> Archive:
    """The archive in a file. One top folder that holds everything is entered, as if it had been named.

    Raises:
        InputError: there is no such file, it is no zip archive, or it is refused whole.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}. Check the path.") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: is not a regular file.")
    return _archive_as_it_is(path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


def archive_of(data: bytes, where: str) -> Archive:
    """The archive in some bytes; `where` names it. Raises InputError as `archive_at` does."""
    return Archive(where, _members(io.BytesIO(data), where), lambda: io.BytesIO(data))


# A process reads one archive, a test a few. The key changes with the file, so that what is stated is never stale.
@lru_cache(maxsize=4)
def _archive_as_it_is(path: str, key: tuple[int, ...]) -> Archive:
    def opened() -> BinaryIO:
        # Opened for each member: threads and forked processes share no position in the file.
        file = open(path, "rb", buffering=0, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns) != key:
            file.close()
            raise OSError("the archive was changed while it was read")
        return file

    try:
        with opened() as file:
            members = _members(file, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}. Check the file.") from error
    return Archive("the archive", _below_top(members), opened)


class _Bounded(io.RawIOBase):
    """A file whose directory is looked at before zipfile makes an object of every entry."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        super().__init__()
        self._file, self._where = file, where

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        if size > _LARGEST_DIRECTORY:
            raise InputError(f"{self._where}: its list of members has {size:,} bytes. Give the unpacked folder.")
        data = self._file.read(size if size >= 0 else _END_AND_COMMENT) or b""
        if data.count(_ENTRY) > MOST_MEMBERS:
            raise InputError(f"{self._where}: holds more than {MOST_MEMBERS:,} members. Give the unpacked folder.")
        return data


def _members(file: BinaryIO, where: str) -> dict[str, Member]:
    try:
        directory = zipfile.ZipFile(_Bounded(file, where))
    # zipfile is written for sound archives: what it raises for others depends on where they are damaged.
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OverflowError, EOFError) as error:
        raise InputError(f"{where}: is no zip archive that can be read: {error}. Fetch the file again.") from error
    with directory:
        entries, start = directory.infolist(), directory.start_dir
    _check_total(where, entries, start)
    ends = _ends(where, entries, start)
    names = [_safe_name(where, entry) for entry in entries]
    times = Counter(names)
    return {
        name: _member(entry, end, twice=times[name] > 1)
        for name, entry, end in zip(names, entries, ends, strict=True)
        if not entry.orig_filename.endswith("/")
    }


def _check_total(where: str, entries: list[zipfile.ZipInfo], stored: int) -> None:
    total = sum(entry.file_size for entry in entries)
    if total > LARGEST_TOTAL:
        raise InputError(f"{where}: its members have {total:,} bytes together, more than {LARGEST_TOTAL:,}.")
    if total > _FREE_OF_TOTAL_RATIO and total > LARGEST_RATIO * stored:
        raise InputError(f"{where}: {stored:,} bytes that unpack to {total:,}: this is no corpus but a zip bomb.")


def _ends(where: str, entries: list[zipfile.ZipInfo], start: int) -> list[int]:
    """Where each member must end at the latest. Raises InputError for two members that share bytes."""
    bounds = sorted({entry.header_offset for entry in entries} | {start})
    if len(bounds) <= len(entries):
        raise InputError(f"{where}: two members begin at the same byte: damaged, or a zip bomb.")
    following = dict(zip(bounds, bounds[1:], strict=False))
    ends = [following.get(entry.header_offset, start) for entry in entries]
    for entry, end in zip(entries, ends, strict=True):
        if entry.header_offset < 0 or entry.header_offset + _LOCAL.size + entry.compress_size > end:
            raise InputError(f"{where}: {entry.filename!r} overlaps what follows it: damaged, or a zip bomb.")
    return ends


def _safe_name(where: str, entry: zipfile.ZipInfo) -> str:
    """The name with '/' between its parts. Raises InputError for one that would lead out of a folder."""
    # Without regard to what this system makes of a backslash or a drive letter: an archive that tries is not read.
    parts = entry.orig_filename.replace("\\", "/").split("/")
    if "\0" in entry.orig_filename or parts[0] == "" or parts == ["."] or ".." in parts or parts[0][1:2] == ":":
        raise InputError(
            f"{where}: the member {entry.orig_filename!r} leads out of the folder that it would be unpacked to. "
            "Nothing of this archive is read."
        )
    return "/".join(part for part in entry.orig_filename.split("/") if part not in ("", "."))


def _member(entry: zipfile.ZipInfo, end: int, twice: bool) -> Member:
    raw_name = entry.orig_filename.encode("utf-8" if entry.flag_bits & _UTF8 else "cp437")
    return Member(
        raw_name,
        entry.header_offset,
        end,
        entry.compress_size,
        entry.file_size,
        entry.CRC,
        entry.compress_type,
        _oddity(entry, twice),
    )


def _oddity(entry: zipfile.ZipInfo, twice: bool) -> tuple[str, str] | None:
    mode = entry.external_attr >> 16
    if twice:
        return "archive-duplicate", "is named more than once, and which one is meant is not known"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "archive-link", "is a link or a device, not a file"
    if entry.flag_bits & _SECRET:
        return "archive-encrypted", "is encrypted"
    if entry.compress_type not in (_STORED, _DEFLATED):
        return "archive-compression", f"is packed by method {entry.compress_type}; only stored and deflated are read"
    if entry.file_size > _FREE_OF_RATIO and entry.file_size > LARGEST_RATIO * entry.compress_size:
        return "archive-ratio", f"unpacks {entry.compress_size} bytes to {entry.file_size}: no music is packed so well"
    if entry.compress_size > entry.file_size + entry.file_size // _LARGEST_LOSS + _FREE_OF_LOSS:
        # All that is stored is read before it is unpacked.
        return "damaged-archive", f"takes {entry.compress_size} bytes for {entry.file_size}: nothing is packed so badly"
    return None


def _below_top(members: dict[str, Member]) -> dict[str, Member]:
    tops = {name.partition("/")[0] if "/" in name else "" for name in members} - {_MAC}
    if len(tops) != 1 or "" in tops:
        return members
    top = tops.pop() + "/"
    return {name.removeprefix(top): member for name, member in members.items()}


def _stored_bytes(file: BinaryIO, member: Member) -> bytes:
    header = _exactly(file, member.offset, _LOCAL.size)
    signature, flags, method, name_length, extra_length = _LOCAL.unpack(header)
    if signature != b"PK\x03\x04" or flags & _SECRET or method != member.method:
        raise _Damage("its own header is not what the list of members says")
    if _exactly(file, member.offset + _LOCAL.size, name_length) != member.raw_name:
        raise _Damage("has another name in its own header than in the list of members")
    start = member.offset + _LOCAL.size + name_length + extra_length
    if start + member.stored > member.end:
        raise _Damage("overlaps what follows it")
    return _exactly(file, start, member.stored)


def _exactly(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    data = file.read(length) or b""
    if len(data) != length:
        raise _Damage(f"ends after {len(data)} of {length} bytes")
    return data


def _unpacked(member: Member, stored: bytes) -> bytes:
    data = stored if member.method == _STORED else _inflated(stored, member.size)
    if len(data) != member.size:
        raise _Damage(f"has another size than the {member.size} bytes that the archive states")
    if zlib.crc32(data) != member.crc:
        raise _Damage("its checksum (CRC-32) is wrong")
    return data


def _inflated(stored: bytes, size: int) -> bytes:
    """At most `size` + 1 bytes, whatever the stream holds."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    data = stream.decompress(stored, size + 1)
    if len(data) <= size and not stream.eof:
        raise _Damage("ends in the middle of its packed bytes")
    return data
