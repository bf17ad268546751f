"""The events of one MIDI track, checked: what is wrong, and at which byte; else what a reader must find there.

symusic is fast but trusts its input: it steps wrongly over escapes (F7), takes a real-time message for a running
status, reads a tempo of the wrong length from its neighbours and drops notes that are never released. So every track is
checked before it is handed over. Long stretches of plain channel messages are checked as arrays: in them every third
byte below 0x80 ends a delta time. Only the rest (meta events, system messages, damage) is taken event by event.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LAST_TICK = (1 << 31) - 1
MOST_SINGLE_EVENTS = 1_000_000
"""Events of one file that are taken singly, some seconds' worth. Music has some ten thousand."""
_TOO_MANY = "too-many-events"

_END_OF_TRACK, _TEMPO, _NAME = 0x2F, 0x51, 0x03
_CONDUCTING = (_TEMPO, 0x58, 0x59)  # tempo, time and key signature
_LONGEST_NAME = 200
_DATA_BYTES = {0x80: 2, 0x90: 2, 0xA0: 2, 0xB0: 2, 0xC0: 1, 0xD0: 1, 0xE0: 2}
_SYSTEM_DATA_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1, 0xF6: 0, 0xF8: 0, 0xFA: 0, 0xFB: 0, 0xFC: 0, 0xFE: 0}
_PLAIN_BEFORE_MANY = 8
"""Channel messages taken singly before what follows is looked at as arrays, which costs as much as thirty of them."""
_MOST_BEFORE_MANY = 1024
_SHORT_STRETCH_BYTES = 200
_FIRST_BLOCK = 128
# From the end of a delta time to the first data byte, by the byte between or after: 1 under running status, 2 behind a
# status byte that takes two data bytes; any other byte ends a stretch.
_STEP = np.array([1 if byte < 0x80 else 0 if byte & 0xF0 in (0xC0, 0xD0, 0xF0) else 2 for byte in range(256)], np.int32)

Array = npt.NDArray[Any]


class Damage(Exception):
    """An event that has no meaning. `reason` is a word for the ledger, `offset` the byte of the file."""

    def __init__(self, reason: str, message: str, offset: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.offset = offset


@dataclass(frozen=True, slots=True)
class TrackFacts:
    """What a track holds.

    Attributes:
        note_ons: notes that begin.
        end_tick: the tick of its last event.
        ended: whether an end-of-track event was there.
        stop: the byte of the file behind the last event that counts.
        system: (byte of the file, data bytes) of system messages other than F0; -1 data bytes where a length follows.
        singles: events that were taken singly, those of the tracks before included.
        name: the first that it bears, at most 200 bytes.
        only_conducts: whether it has tempos or signatures, and not one message to an instrument.
    """

    note_ons: int
    end_tick: int
    ended: bool
    stop: int
    system: tuple[tuple[int, int], ...]
    singles: int
    name: bytes = b""
    only_conducts: bool = False


def check_track(data: bytes, start: int, stop: int, singles: int = 0) -> TrackFacts:
    """Checks the events in data[start:stop]. `singles` is that of the track before in the file.

    Raises:
        Damage: with the offset in `data`.
    """
    walk = _Walk(data, start, stop, singles)
    walk.run()
    singles = walk.singles
    if walk.ended and walk.at < stop:
        singles = _refuse_notes_after_end(data, walk.at, stop, singles)
    conducts = walk.conducts and not walk.speaks
    return TrackFacts(
        walk.note_ons, walk.tick, walk.ended, walk.at, tuple(walk.system), singles, walk.name or b"", conducts
    )


def _refuse_notes_after_end(data: bytes, start: int, stop: int, singles: int) -> int:
    """Padding behind the end of a track is harmless; notes there are music that only some readers play.

    Returns the events that were taken singly so far.
    """
    rest = _Walk(data, start, stop, singles)
    try:
        rest.run()
    except Damage as error:
        # Padding has no meaning, and need have none; but it may not cost more than a track.
        if error.reason == _TOO_MANY:
            raise
    if rest.note_ons:
        message = f"{rest.note_ons} notes begin behind the end-of-track event: it is not known which end is meant"
        raise Damage("notes-after-end", message, start)
    return rest.singles


class _Walk:
    """A walk over the events of one track. `run` ends behind its end-of-track event, or at the end of its bytes."""

    __slots__ = (
        "_patience",
        "_plain",
        "_start",
        "_stretches",
        "at",
        "conducts",
        "data",
        "ended",
        "name",
        "note_ons",
        "running",
        "singles",
        "speaks",
        "stop",
        "system",
        "tick",
    )

    def __init__(self, data: bytes, start: int, stop: int, singles: int = 0) -> None:
        self.data, self.at, self.stop = data, start, stop
        self.running = 0
        self.tick = self.note_ons = self._plain = 0
        self.singles = singles
        self._patience = _PLAIN_BEFORE_MANY
        self.ended = self.conducts = self.speaks = False
        self.name: bytes | None = None
        self.system: list[tuple[int, int]] = []
        self._start = start
        self._stretches: _Stretches | None = None

    def run(self) -> None:
        """To the end. Raises Damage."""
        while self.at < self.stop and not self.ended:
            if self._plain < self._patience:
                self._one()
            else:
                self._many()
        if self.tick > LAST_TICK:
            raise Damage(
                "too-many-ticks", f"ends at tick {self.tick}; {LAST_TICK} is the last that can be read", self.at
            )

    def _many(self) -> None:
        """Takes a stretch of channel messages with two data bytes at once, however long it is."""
        self._plain = 0
        if self._stretches is None:
            self._stretches = _Stretches(np.frombuffer(self.data, np.uint8, self.stop - self._start, self._start))
        found = self._stretches.take(self.at - self._start, self.running)
        # A track made so that each look finds little must not be looked at often.
        is_short = self._start + found.stop - self.at < _SHORT_STRETCH_BYTES
        self._patience = min(2 * self._patience, _MOST_BEFORE_MANY) if is_short else _PLAIN_BEFORE_MANY
        self.at = self._start + found.stop
        self.tick += found.ticks
        self.note_ons += found.note_ons
        self.running = found.running

    def _one(self) -> None:
        self.singles += 1
        if self.singles > MOST_SINGLE_EVENTS:
            raise Damage(_TOO_MANY, f"over {MOST_SINGLE_EVENTS} events that are no notes", self.at)
        begin = self.at
        self.tick += self._quantity("delta time", begin)
        if self.at >= self.stop:
            raise Damage("damaged-midi", "the track ends behind a delta time, without an event", begin)
        status = self.data[self.at]
        if status >= 0xF0:
            self._plain = 0
            self._system_or_meta(status)
        else:
            self._plain += 1
            self._channel_message(status)

    def _quantity(self, what: str, begin: int) -> int:
        """A number of 1 to 4 bytes of 7 bits each."""
        value, data = 0, self.data
        for place in range(self.at, min(self.at + 4, self.stop)):
            byte = data[place]
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                self.at = place + 1
                return value
        if self.stop - self.at < 4:
            raise Damage("damaged-midi", f"the track ends inside a {what}", begin)
        raise Damage("damaged-midi", f"a {what} of more than 4 bytes", self.at)

    def _channel_message(self, status: int) -> None:
        at = self.at
        if status >= 0x80:
            self.running, self.speaks = status, True
            at += 1
        elif not self.running:
            raise Damage("damaged-midi", f"data byte {status:#04x} where an event must begin with a status byte", at)
        count = _DATA_BYTES[self.running & 0xF0]
        values = self.data[at : min(at + count, self.stop)]
        if len(values) < count:
            raise Damage("damaged-midi", f"the track ends inside an event of status {self.running:#04x}", self.at)
        if max(values) > 0x7F:
            bad = next(place for place, value in enumerate(values) if value > 0x7F)
            message = f"data byte {values[bad]:#04x} of an event of status {self.running:#04x} is above 0x7f"
            raise Damage("damaged-midi", message, at + bad)
        if self.running & 0xF0 == 0x90 and values[1]:
            self.note_ons += 1
        self.at = at + count

    def _system_or_meta(self, status: int) -> None:
        if status == 0xFF:
            self._meta()
        elif status in (0xF0, 0xF7):
            self._exclusive(status)
        elif status in _SYSTEM_DATA_BYTES:
            self._system(status)
        else:
            raise Damage("damaged-midi", f"status byte {status:#04x} has no meaning", self.at)

    def _meta(self) -> None:
        # Running status goes on behind a meta event, though the format forbids it: many old programs wrote it so.
        begin = self.at
        if begin + 1 >= self.stop:
            raise Damage("damaged-midi", "the track ends inside a meta event", begin)
        kind = self.data[begin + 1]
        self.at += 2
        length = self._length(f"meta event {kind:#04x}", begin)
        if kind == _TEMPO:
            self._check_tempo(length, begin)
        elif kind == _NAME and self.name is None:
            self.name = self.data[self.at : self.at + min(length, _LONGEST_NAME)]
        self.conducts |= kind in _CONDUCTING
        self.at += length
        self.ended = kind == _END_OF_TRACK

    def _check_tempo(self, length: int, begin: int) -> None:
        if length != 3:
            raise Damage("bad-tempo", f"a tempo of {length} bytes, it has 3", begin)
        if not any(self.data[self.at : self.at + 3]):
            raise Damage("bad-tempo", "a tempo of 0 microseconds a quarter note", begin)

    def _exclusive(self, status: int) -> None:
        begin = self.at
        self.at += 1
        length = self._length(f"system message {status:#04x}", begin)
        if status == 0xF7:
            self.system.append((begin, -1))
        self.at += length
        self.running = 0

    def _length(self, what: str, begin: int) -> int:
        length = self._quantity(f"length of a {what}", begin)
        if self.at + length > self.stop:
            message = f"a {what} of {length} bytes, but the track ends after {self.stop - self.at}"
            raise Damage("damaged-midi", message, begin)
        return length

    def _system(self, status: int) -> None:
        count = _SYSTEM_DATA_BYTES[status]
        if self.at + 1 + count > self.stop:
            raise Damage("damaged-midi", f"the track ends inside a system message {status:#04x}", self.at)
        self.system.append((self.at, count))
        self.at += 1 + count
        self.running = 0


@dataclass(slots=True)
class _Stretch:
    """Channel messages with two data bytes: the byte behind the last, its status, and what is counted of all."""

    stop: int
    running: int
    ticks: int = 0
    note_ons: int = 0


class _Stretches:
    """A track's bytes, cut where stretches of channel messages with two data bytes end.

    In such a stretch the bytes below 0x80 come in threes: the end of a delta time, the first and the second data byte.
    Between them lie only status bytes (behind a delta time) and beginnings of long delta times (before its end).
    """

    def __init__(self, track: Array) -> None:
        self._track = track
        self._low = np.flatnonzero(track < 0x80)

    def take(self, at: int, running: int) -> "_Stretch":
        """The stretch that begins at a byte, under the status of what comes before it; it may be empty."""
        first, block, found = int(np.searchsorted(self._low, at)), _FIRST_BLOCK, _Stretch(at, running)
        while size := min(block, (len(self._low) - first) // 3):
            count = self._add(found, self._low[first : first + 3 * size])
            if count < size:
                break
            first, block = first + 3 * size, 8 * block
        return found

    def _add(self, found: "_Stretch", low: Array) -> int:
        """Adds the messages in order at the beginning of a block to what was found; returns how many these are."""
        ends, ones, twos = low.reshape(-1, 3).T.astype(np.int32, order="C")
        heads = self._track.take(ends + 1)
        long = ends - np.append(np.int32(found.stop), twos[:-1] + 1)
        good = (ones - ends == _STEP.take(heads)) & (twos - ones == 1) & (long <= 3)
        good[0] &= heads[0] >= 0x80 or _STEP[found.running] == 2
        count = len(good) if good.all() else int(good.argmin())
        if count:
            self._count_notes(found, heads[:count], twos[:count])
            found.ticks += self._ticks(ends[:count], long[:count])
            found.stop = int(twos[count - 1]) + 1
        return count

    def _count_notes(self, found: "_Stretch", heads: Array, twos: Array) -> None:
        """Counts the notes that begin, a stretch under one status after the other, and keeps the last status."""
        starts = np.flatnonzero(heads >= 0x80)
        statuses = heads.take(starts)
        if not len(starts) or starts[0]:
            starts, statuses = np.append(0, starts), np.append(np.uint8(found.running), statuses)
        sounding = np.append(0, np.cumsum(self._track.take(twos) > 0, dtype=np.int32))
        counts = np.diff(sounding.take(np.append(starts, len(heads))))
        found.note_ons += int((counts * (statuses & 0xF0 == 0x90)).sum())
        found.running = int(statuses[-1])

    def _ticks(self, ends: Array, long: Array) -> int:
        ticks = int(self._track.take(ends).sum(dtype=np.int64))
        for back in (1, 2, 3):
            places = np.flatnonzero(long >= back)
            ends, long = ends.take(places), long.take(places)
            ticks += int((self._track.take(ends - back) & 0x7F).sum(dtype=np.int64)) << 7 * back
        return ticks
