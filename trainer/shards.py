"""The shards of a split, mapped into memory: where each record lies, and its bytes once both checksums are right."""

from __future__ import annotations

import mmap
import os
import stat
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np

from schemas.errors import InputError, UsageError
from schemas.hashing import file_sha256
from schemas.manifest import Manifest, Shard
from schemas.naming import index_name
from schemas.record import (
    FRAMING_BYTES,
    MASK_DELTA,
    MAX_RECORD_BYTES,
    CorruptRecord,
    index_limit,
    masked_crc,
    read_index,
)
from trainer.spans import Bytes, join

Array = np.ndarray[Any, Any]
_HEADER_BYTES, _TRAILER_BYTES = 12, 4
_VERIFY = "Run `stretto verify` on its folder."
_CUT_OFF = "its index says that it reaches past the end of the file"
_SKIP = "Run `stretto verify` on its folder; --on-corrupt skip goes on without such records."


@dataclass(frozen=True)
class Shards:
    """The mapped shards of a split and where their records lie.

    Attributes:
        paths, maps: of the shards that hold records.
        shard, offset, length: of every record, int64 [record]; length with the framing.
        first: number of the first record of each shard.
    """

    paths: tuple[str, ...]
    maps: tuple[mmap.mmap | bytes, ...]
    shard: Array
    offset: Array
    length: Array
    first: tuple[int, ...]

    def corrupt(self, record: int, what: str) -> CorruptRecord:
        """The error that names a record's shard, its number there and its place."""
        shard = int(self.shard[record])
        return CorruptRecord(self.paths[shard], record - self.first[shard], int(self.offset[record]), what, _SKIP)

    def check_whole(self) -> None:
        """Raises CorruptRecord for the first record that its shard is too short to hold."""
        sizes = np.array([len(data) for data in self.maps])
        missing = np.flatnonzero(self.offset + self.length > sizes[self.shard])
        if missing.size:
            raise self.corrupt(int(missing[0]), _CUT_OFF)

    def payloads(self, records: Array) -> Bytes:
        """The bytes of records (int64 [record]), framing and both checksums checked. Raises CorruptRecord."""
        framed, sums, crc, maps = [], [], google_crc32c.value, self.maps
        offset, length = self.offset[records], self.length[records]
        places = zip(self.shard[records].tolist(), offset.tolist(), (offset + length).tolist(), strict=True)
        for shard, begin, end in places:
            record = maps[shard][begin:end]
            framed.append(record)
            sums.append(crc(record[_HEADER_BYTES:-_TRAILER_BYTES]))
        joined = join(framed)
        self._refuse(records, joined.end - joined.begin != length, _CUT_OFF)
        payloads = Bytes(joined.data, joined.begin + _HEADER_BYTES, joined.end - _TRAILER_BYTES)
        self._check(records, payloads, np.array(sums, np.uint32))
        return payloads

    def _check(self, records: Array, payloads: Bytes, sums: Array) -> None:
        """Compares the framing around payloads with what their lengths and checksums (CRC-32C, uint32) ask for."""
        lengths = (payloads.end - payloads.begin).tolist()
        headers = np.frombuffer(b"".join(map(_header, lengths)), np.uint8).reshape(-1, _HEADER_BYTES)
        self._refuse(
            records,
            (payloads.at(payloads.begin - _HEADER_BYTES, _HEADER_BYTES) != headers).any(axis=1),
            "its length, or the checksum of that, does not match its index",
        )
        masked = ((sums >> np.uint32(15)) | (sums << np.uint32(17))) + np.uint32(MASK_DELTA)
        stored = payloads.at(payloads.end, _TRAILER_BYTES).view("<u4")[:, 0]
        self._refuse(records, stored != masked, "checksum of the payload does not match")

    def _refuse(self, records: Array, wrong: Array, what: str) -> None:
        if wrong.any():
            raise self.corrupt(int(records[int(np.argmax(wrong))]), what)


_HEADERS: dict[int, bytes] = {}


def _header(length: int) -> bytes:
    """The framing before a payload: its length and that length's checksum."""
    if length not in _HEADERS:
        text = length.to_bytes(8, "little")
        _HEADERS[length] = text + masked_crc(text).to_bytes(4, "little")
    return _HEADERS[length]


def open_shards(folder: str, manifest: Manifest, split: str) -> Shards:
    """The shards of a split, mapped.

    Raises:
        UsageError: the split holds no records.
        InputError: a shard or an index is missing, or an index or a shard's size is not what the manifest says. A shard
            that is too short is accepted here.
    """
    chosen = [shard for shard in manifest.shards_of(split) if shard.records]
    if not chosen:
        raise UsageError(
            f"{folder}: its split {split!r} holds no records; it has {', '.join(manifest.splits) or 'none'}"
        )
    paths = tuple(os.path.join(folder, shard.name) for shard in chosen)
    maps = tuple(_mapped(path, shard) for path, shard in zip(paths, chosen, strict=True))
    table = np.concatenate([_index(folder, shard) for shard in chosen])
    counts = [shard.records for shard in chosen]
    owner = np.repeat(np.arange(len(chosen)), counts)
    first = tuple(np.cumsum([0, *counts[:-1]]).tolist())
    return Shards(paths, maps, owner, table[:, 0].copy(), table[:, 1].copy(), first)


def _mapped(path: str, shard: Shard) -> mmap.mmap | bytes:
    try:
        # Without O_NONBLOCK the mere opening of a named pipe waits for a writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > shard.bytes:
                found = f"{status.st_size} bytes, or no regular file"
                raise InputError(f"{path}: {found}; the manifest says {shard.bytes} bytes. {_VERIFY}")
            # What is empty cannot be mapped.
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if status.st_size else b""
    except FileNotFoundError:
        raise InputError(f"{path}: this shard is missing. {_VERIFY}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. {_VERIFY}") from error


def _index(folder: str, shard: Shard) -> Array:
    """Offset and length of each record, int64 [record, 2]: one behind the other, from the beginning to the end."""
    path = os.path.join(folder, index_name(shard.name))
    if not os.path.exists(path):
        raise InputError(f"{path}: this index is missing. {_VERIFY}")
    index = read_index(path, index_limit(shard.records))
    if len(index) != shard.records:
        raise InputError(f"{path}: {len(index)} records, the manifest says {shard.records}. {_VERIFY}")
    if file_sha256(path) != shard.index_sha256:
        raise InputError(f"{path}: its sha256 is not what the manifest says. {_VERIFY}")
    _check_index(path, index, shard)
    return index


def _check_index(path: str, index: Array, shard: Shard) -> None:
    offset, length = index[:, 0], index[:, 1]
    bad = np.flatnonzero((length < FRAMING_BYTES) | (length > MAX_RECORD_BYTES + FRAMING_BYTES))
    if not bad.size:
        ends = np.cumsum(length)
        bad = np.flatnonzero(offset != ends - length)
        if not bad.size and ends[-1] != shard.bytes:
            bad = np.array([len(index) - 1])
    if bad.size:
        number = int(bad[0])
        raise InputError(
            f"{path}: record {number} at byte {offset[number]}, of {length[number]} bytes: does not lie behind the one "
            f"before it in a shard of {shard.bytes} bytes. {_VERIFY}"
        )
