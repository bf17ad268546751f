"""MIDI files made at random from their grammar, and damage that keeps the rest whole: so that a fuzzer gets deep."""

import struct
from collections.abc import Callable
from random import Random

DIVISIONS = (480, 480, 480, 480, 96, 96, 1, 24, 32767, 0, 0x8000, 0xE250, 0xE728, 0xE878, 0xE350, 0xFFFF)
META_KINDS = (0x00, 0x01, 0x03, 0x20, 0x21, 0x2F, 0x51, 0x54, 0x58, 0x59, 0x7F, 0x80, 0xFF)
META_LENGTHS = {0x51: 3, 0x58: 4, 0x59: 2, 0x54: 5, 0x20: 1, 0x21: 1, 0x2F: 0, 0x00: 2}
END_OF_TRACK = b"\x00\xff\x2f\x00"


def number(value: int, padding: int = 0) -> bytes:
    """A variable-length quantity; `padding` puts empty groups before it, which some writers do."""
    groups = [value & 127]
    while value := value >> 7:
        groups.append(value & 127 | 128)
    return bytes([*[128] * padding, *reversed(groups)])


def made_file(draw: Random) -> bytes:
    """A file; half of them are right in every event."""
    odd = draw.choice((0.0, 0.0, 0.01, 0.2))
    tracks = [made_track(draw, odd) for _ in range(draw.choice((0, 1, 1, 1, 2, 3, 20)))]
    kind = draw.choice((0, *[1] * 16, 2, draw.randrange(1 << 16)))
    promised = len(tracks) if draw.random() < 0.9 else draw.randrange(1 << draw.randrange(1, 17))
    header = chunk(b"MThd", struct.pack(">HHH", kind, promised, draw.choice(DIVISIONS)))
    return header + b"".join(chunk(b"MTrk", track) for track in tracks)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk with its length."""
    return kind + struct.pack(">I", len(body)) + body


def made_track(draw: Random, odd: float) -> bytes:
    """Events of one track, some under running status, with its end or without; `odd` is the share of odd ones."""
    parts, running, sounding = [], 0, []
    for _ in range(draw.randrange(1, draw.choice((4, 30, 300)))):
        if draw.random() < odd:
            event, running = odd_event(draw, running)
            parts.append(number(draw.randrange(1 << 34)) + event)
            continue
        if sounding and draw.random() < 0.4:
            event, running = status_and_data(draw, sounding.pop(), running)
        else:
            event, running = right_event(draw, running)
            if running & 0xF0 == 0x90 and len(event) < 4 and event[-1]:
                sounding.append(bytes([running - 16, event[-2], 64]))
        delta = draw.choice((0, 0, 1, 10, 120, 480, 20_000)) if draw.random() < 0.98 else draw.randrange(1 << 28)
        parts.append(number(delta) + event)
    if not odd:
        parts += [b"\0" + message for message in sounding]
    return b"".join(parts) + (END_OF_TRACK if draw.random() < 0.9 else b"")


def right_event(draw: Random, running: int) -> tuple[bytes, int]:
    """One event that has a meaning, and the running status after it."""
    chance = draw.random()
    if chance < 0.85:
        status = draw.choice((0x80, 0x90, 0x90, 0xA0, 0xB0, 0xC0, 0xD0, 0xE0)) | draw.choice((0, 0, 1, 9, 15))
        data = [draw.choice((60, 64, 127, draw.randrange(128))), draw.choice((0, 64, 127, draw.randrange(128)))]
        return status_and_data(draw, bytes([status, *data[: 1 if status & 0xE0 == 0xC0 else 2]]), running)
    if chance < 0.97:
        kind = draw.choice((0x00, 0x01, 0x03, 0x20, 0x21, 0x51, 0x54, 0x58, 0x59, 0x7F))
        body = draw.randbytes(META_LENGTHS.get(kind, draw.randrange(6)))
        return bytes([0xFF, kind]) + number(len(body)) + body, running
    body = draw.randbytes(draw.randrange(8))
    return draw.choice((b"\xf0" + number(len(body)) + body, b"\xf7" + number(len(body)) + body, b"\xf8")), 0


def status_and_data(draw: Random, message: bytes, running: int) -> tuple[bytes, int]:
    """A message of a channel, mostly without its status byte where that is the running one."""
    return (message[1:] if message[0] == running and draw.random() < 0.8 else message), message[0]


def odd_event(draw: Random, running: int) -> tuple[bytes, int]:
    """An event that may have no meaning: lengths that do not fit, data bytes too large, reserved status bytes."""
    kind = draw.choice(META_KINDS)
    length = draw.choice((META_LENGTHS.get(kind, 1), draw.randrange(300)))
    body = draw.randbytes(draw.choice((length, length, draw.randrange(300))))
    return draw.choice(
        (
            (bytes([0xFF, kind]) + number(length, draw.choice((0, 1, 5))) + body, running),
            (bytes([draw.choice((0xF0, 0xF7))]) + number(length) + body, 0),
            (bytes([draw.randrange(0x80, 0x100)]) + draw.randbytes(draw.randrange(4)), draw.choice((0, running))),
            (draw.randbytes(draw.randrange(1, 4)), running),
        )
    )


def damaged(data: bytes, draw: Random) -> bytes:
    """The file with one to four things wrong that were not before."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        data = draw.choice(DAMAGES)(data, draw)
    return data


def _place(data: bytes, draw: Random) -> int:
    return draw.randrange(len(data) + 1)


def _changed_byte(data: bytes, draw: Random) -> bytes:
    place = _place(data, draw)
    return data[:place] + bytes([draw.choice((0, 0x7F, 0x80, 0xFF, draw.randrange(256)))]) + data[place + 1 :]


def _cut_off(data: bytes, draw: Random) -> bytes:
    return data[: _place(data, draw)]


def _without_a_piece(data: bytes, draw: Random) -> bytes:
    place = _place(data, draw)
    return data[:place] + data[place + draw.randrange(1, 9) :]


def _with_an_event(data: bytes, draw: Random) -> bytes:
    place = _place(data, draw)
    return data[:place] + number(draw.randrange(200)) + draw.choice((right_event, odd_event))(draw, 0)[0] + data[place:]


def _with_a_piece_twice(data: bytes, draw: Random) -> bytes:
    first, last = sorted((_place(data, draw), _place(data, draw)))
    return data[:last] + data[first : min(last, first + 4096)] + data[last:]


def _with_another_length(data: bytes, draw: Random) -> bytes:
    place = _chunk_place(data, draw) + 4
    length = draw.choice((0, 1, 5, 0xFFFFFFFF, 0x7FFFFFFF, len(data), draw.randrange(1 << 16)))
    return data[:place] + struct.pack(">I", length) + data[place + 4 :]


def _with_right_lengths(data: bytes, draw: Random) -> bytes:
    """Every track as long as the bytes up to the next one, so that damage before is read and not refused at once."""
    head, *tracks = data.split(b"MTrk")
    return head + b"".join(chunk(b"MTrk", track[4:]) for track in tracks)


def _with_another_header(data: bytes, draw: Random) -> bytes:
    place = draw.choice((8, 10, 12))
    value = draw.choice((0, 1, 2, *DIVISIONS, draw.randrange(1 << 16)))
    return data[:place] + struct.pack(">H", value) + data[place + 2 :]


def _wrapped(data: bytes, draw: Random) -> bytes:
    return b"RIFF" + struct.pack("<I", len(data) + 12) + b"RMID" + b"data" + struct.pack("<I", len(data)) + data


def _chunk_place(data: bytes, draw: Random) -> int:
    places = [place for place in range(len(data)) if data[place : place + 3] == b"MTr"]
    return draw.choice(places or [0])


def _with_another_track(data: bytes, draw: Random) -> bytes:
    place = _chunk_place(data, draw)
    return data[:place] + chunk(draw.choice((b"MTrk", b"MTrk", b"XFIH")), made_track(draw, 0.01)) + data[place:]


DAMAGES: tuple[Callable[[bytes, Random], bytes], ...] = (
    _changed_byte,
    _changed_byte,
    _cut_off,
    _without_a_piece,
    _with_an_event,
    _with_a_piece_twice,
    _with_another_length,
    _with_right_lengths,
    _with_right_lengths,
    _with_another_header,
    _wrapped,
    _with_another_track,
)
