"""Where the header and the tracks of a MIDI file lie: its chunks are walked, no event is read."""

import struct
from dataclasses import dataclass

from schemas.errors import Unreadable

_HEADER_BYTES = 14
_MOST_TRACKS = 0xFFFF
_FRAME_RATES = {24: 24.0, 25: 25.0, 29: 30000 / 1001, 30: 30.0}
_LOOKS_LIKE = (
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\xfd7zXZ", "an xz archive: unpack it first"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file: run `git lfs pull`"),
    (b"<!doctype html", "a page of HTML, as servers send in place of a file: download it again"),
    (b"<html", "a page of HTML, as servers send in place of a file: download it again"),
    (b"<?xml", "XML"),
    (b"vti_", "notes of a web server about a file, not the file"),
    (b"cakewalk", "a project of Cakewalk: export it from there as MIDI"),
    (b"gif8", "a picture (GIF)"),
    (b"\x89PNG", "a picture (PNG)"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"%pdf", "a PDF"),
    (b"oggs", "sound (Ogg)"),
    (b"flac", "sound (FLAC)"),
    (b"id3", "sound (MP3)"),
    (b"riff", "a RIFF file that holds something else than MIDI"),
)


@dataclass(frozen=True, slots=True)
class Layout:
    """A MIDI file's header and where its tracks lie.

    Attributes:
        kind: 0 (one track), 1 (tracks at the same time) or 2 (tracks that are pieces of their own).
        ticks_per_quarter: resolution; where time is counted in film frames, ticks in a second of whole frames.
        ticks_per_second: where time is counted in film frames, else None.
        tracks: first byte of the events of each track, and the byte behind the last.
        left: first byte of what lies behind the last chunk and is none, and the byte behind it.
        plain: whether the file's header can be handed on as it is.
    """

    kind: int
    ticks_per_quarter: int
    ticks_per_second: float | None
    tracks: tuple[tuple[int, int], ...]
    left: tuple[int, int]
    plain: bool


@dataclass(frozen=True, slots=True)
class _Header:
    kind: int
    tracks: int
    ticks_per_quarter: int
    ticks_per_second: float | None
    stop: int
    plain: bool


def read_layout(data: bytes, name: str) -> Layout:
    """The chunks of a MIDI file. Raises Unreadable with the reasons that `media.midi` lists."""
    start, stop = _extent(data, name)
    header = _header(data, start, stop, name)
    tracks, rest = _tracks(data, header.stop, stop, header.tracks, name)
    _check_count(data, tracks, rest, stop, header, name)
    if header.kind == 2 and len(tracks) > 1:
        message = f"{name}: format 2, {len(tracks)} pieces of their own in one file, not one piece: split it"
        raise Unreadable("format-2", message, start + 8)
    plain = start == 0 and header.plain and len(tracks) == header.tracks
    return Layout(header.kind, header.ticks_per_quarter, header.ticks_per_second, tuple(tracks), (rest, stop), plain)


def _extent(data: bytes, name: str) -> tuple[int, int]:
    """First byte of the MIDI header and the byte behind the file's end, inside a RIFF wrapping where there is one."""
    if data[:4] == b"MThd":
        return 0, len(data)
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":
        return _inside_riff(data, name)
    if not data:
        raise Unreadable("empty-file", f"{name}: is empty", 0)
    if data[:7] == b"\xef\xbb\xbfMThd":
        message = f"{name}: begins with the mark of a UTF-8 text: a text editor saved it, which destroys MIDI"
        raise Unreadable("text-transfer", message, 0)
    if data[4:8] == b"\0\0\0\6" and data[14:18] == b"MTrk":
        message = f"{name}: begins with {data[:4]!r} where b'MThd' belongs; what follows is MIDI, but damaged"
        raise Unreadable("bad-header", message, 0)
    raise Unreadable("not-midi", f"{name}: begins with {data[:4]!r}, a MIDI file with b'MThd'; {_guess(data)}", 0)


def _guess(data: bytes) -> str:
    head = data[:32].lower()
    for mark, what in _LOOKS_LIKE:
        if data.startswith(mark) or head.startswith(mark):
            return f"it looks like {what}"
    if b"MThd" in data[:4096]:
        return f"the header of one lies at byte {data.index(b'MThd')}: something stands before it"
    return "it is not known what it is"


def _inside_riff(data: bytes, name: str) -> tuple[int, int]:
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            if at + 8 + size > len(data):
                message = f"{name}: the RIFF wrapping promises {size} bytes of MIDI, {len(data) - at - 8} are there"
                raise Unreadable("truncated", message, at)
            if data[at + 8 : at + 12] != b"MThd":
                raise Unreadable("not-midi", f"{name}: no MIDI header inside the RIFF wrapping", at + 8)
            return at + 8, at + 8 + size
        at += 8 + size + size % 2
    raise Unreadable("bad-header", f"{name}: a RIFF wrapping without a chunk 'data'", 12)


def _header(data: bytes, start: int, stop: int, name: str) -> _Header:
    if stop - start < _HEADER_BYTES:
        message = f"{name}: {stop - start} bytes, a MIDI header has {_HEADER_BYTES}"
        raise Unreadable("truncated", message, stop)
    length, kind, tracks, division = struct.unpack_from(">IHHH", data, start + 4)
    end = start + 8 + length
    if length < 6 or end > stop or b"MTrk" in data[start + _HEADER_BYTES : min(end, start + 4096)]:
        raise Unreadable("bad-header", f"{name}: a header chunk of {length} bytes, it has 6", start + 4)
    if kind > 2:
        message = f"{name}: format {kind}; only 0, 1 and 2 have a meaning, so it is not known what the tracks are"
        raise Unreadable("bad-format", message, start + 8)
    ticks, ticks_per_second = _resolution(division, start + 12, name)
    return _Header(kind, tracks, ticks, ticks_per_second, end, length == 6 and ticks_per_second is None)


def _resolution(division: int, offset: int, name: str) -> tuple[int, float | None]:
    """Ticks a quarter note, and ticks a second where time is counted in film frames."""
    if not division & 0x8000:
        if not division:
            raise Unreadable("bad-division", f"{name}: 0 ticks in a quarter note", offset)
        return division, None
    frames, ticks = 256 - (division >> 8), division & 0xFF
    if frames not in _FRAME_RATES or not ticks:
        raise Unreadable("bad-division", f"{name}: {frames} frames a second, {ticks} ticks a frame", offset)
    return frames * ticks, _FRAME_RATES[frames] * ticks


def _tracks(data: bytes, at: int, stop: int, promised: int, name: str) -> tuple[list[tuple[int, int]], int]:
    """The tracks, more than promised where more are there, and where bytes begin that are no chunk."""
    tracks: list[tuple[int, int]] = []
    while at + 8 <= stop:
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "big")
        if kind == b"MThd":
            raise Unreadable("two-files", f"{name}: a second MIDI file begins at byte {at}: take them apart", at)
        if kind != b"MTrk" and not (kind.isalnum() and at + 8 + length <= stop):
            break
        if kind == b"MTrk":
            _check_whole(data, at, length, stop, len(tracks), name)
            tracks.append((at + 8, at + 8 + length))
        if len(tracks) > _MOST_TRACKS:
            raise Unreadable("too-many-chunks", f"{name}: over {_MOST_TRACKS} tracks, more than a header can say", at)
        at += 8 + length
    left = data[at:stop] if stop - at < 8 else b""
    if left and len(tracks) < promised and left[:4] == b"MTrk"[: len(left)]:
        raise Unreadable("truncated", f"{name}: ends inside the head of track {len(tracks)}", at, len(tracks))
    return tracks, at


def _check_whole(data: bytes, at: int, length: int, stop: int, number: int, name: str) -> None:
    there = stop - at - 8
    if length <= there:
        return
    message = f"{name}: track {number} has {length} bytes by its head, {there} are there"
    if data[stop - 3 : stop] == b"\xff\x2f\x00":
        raise Unreadable("bad-track-length", f"{message}, which end as a track does: its length is wrong", at, number)
    raise Unreadable("truncated", message, at, number)


def _check_count(data: bytes, tracks: list[tuple[int, int]], rest: int, stop: int, header: _Header, name: str) -> None:
    """Refuses a file with fewer tracks than promised, and one with a track that the walk does not reach."""
    number, missed = len(tracks), data.find(b"MTrk", rest, stop)
    if missed >= 0 or (number < header.tracks and any(data[rest:stop])):
        found = f"the next begins at byte {missed}" if missed >= 0 else "there is none"
        message = f"{name}: track {number} should begin at byte {rest}; {found}"
        if not number:
            raise Unreadable("bad-header", f"{message}: the header is damaged", rest)
        message = f"{message}: the length of track {number - 1} is wrong"
        raise Unreadable("bad-track-length", message, tracks[-1][0] - 8, number - 1)
    if number < header.tracks:
        message = f"{name}: the header promises {header.tracks} tracks, {number} are there: music may be missing"
        raise Unreadable("missing-tracks", message, stop, number)
