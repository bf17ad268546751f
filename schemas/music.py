"""Music in memory: notes and controllers as parallel arrays in ticks, a tempo map, and what is done to them.

Ticks are integers, so nothing is lost by reading; seconds are float64 on request, computed in the order of operations
of pretty_midi and note-seq, so that they are equal to the last bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

SUSTAIN = 64
"""The controller of the sustain pedal: 64 and more is down."""
PART_NAMES = "part_names"
"""Label of a piece: what its file calls each part, those without notes too. For people, and to tell voices; no encoding
and no fingerprint looks at it."""
TRACK_PARTS = "track_parts"
"""Label of a piece: the place in PART_NAMES of every track. Without it a track's number is the place."""
BAR_TICKS = "bar_ticks"
"""Label of a piece: where its bars begin, and where the last one ends; metre alone does not tell an upbeat."""
TITLE = "title"
"""Label of a piece: what it is called, where that is known."""

_NOTE_DTYPES = {
    "start": np.int64,
    "end": np.int64,
    "pitch": np.int16,
    "velocity": np.int16,
    "program": np.uint8,
    "track": np.int32,
    "drum": np.bool_,
}
_CONTROL_DTYPES = {"tick": np.int64, "number": np.uint8, "value": np.uint8, "track": np.int32}

Array = npt.NDArray[Any]


class InvalidMusic(ValueError):
    """A piece that no performance can have. `reason` is a short word for the ledger."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Notes:
    """Notes as parallel arrays [note], sorted by start, pitch, track, end.

    Attributes:
        start: int64 tick of the onset.
        end: int64 tick where the key is released (after `apply_sustain`: where the sound ends).
        pitch: int16 MIDI pitch 0..127.
        velocity: int16 1..127.
        program: uint8 General MIDI program 0..127.
        track: int32 number of the instrument inside the file.
        drum: bool, true on the percussion channel.
    """

    start: Array
    end: Array
    pitch: Array
    velocity: Array
    program: Array
    track: Array
    drum: Array

    def __len__(self) -> int:
        return len(self.start)

    @classmethod
    def of(
        cls, start: Any, end: Any, pitch: Any, velocity: Any, program: Any = 0, track: Any = 0, drum: Any = False
    ) -> "Notes":
        """Notes from anything array-like, sorted. Scalars serve all notes."""
        given = {
            "start": start,
            "end": end,
            "pitch": pitch,
            "velocity": velocity,
            "program": program,
            "track": track,
            "drum": drum,
        }
        count = len(np.atleast_1d(np.asarray(start)))
        arrays: dict[str, Array] = {
            name: np.broadcast_to(np.asarray(value, _NOTE_DTYPES[name]), (count,)) for name, value in given.items()
        }
        order = np.lexsort((arrays["end"], arrays["track"], arrays["pitch"], arrays["start"]))
        return cls(**{name: value[order] for name, value in arrays.items()})

    @classmethod
    def empty(cls) -> "Notes":
        """No notes."""
        return cls.of([], [], [], [])

    def select(self, chosen: Array) -> "Notes":
        """The notes of a mask or an index array [chosen]."""
        return Notes(**{item.name: getattr(self, item.name)[chosen] for item in fields(self)})


@dataclass(frozen=True, eq=False)
class Controls:
    """Controllers as parallel arrays [event], sorted by tick: int64 tick, uint8 number, uint8 value, int32 track."""

    tick: Array
    number: Array
    value: Array
    track: Array

    def __len__(self) -> int:
        return len(self.tick)

    @classmethod
    def of(cls, tick: Any, number: Any, value: Any, track: Any = 0) -> "Controls":
        """Controls from anything array-like, sorted by tick; order at one tick is kept."""
        given = {"tick": tick, "number": number, "value": value, "track": track}
        count = len(np.atleast_1d(np.asarray(tick)))
        arrays: dict[str, Array] = {
            name: np.broadcast_to(np.asarray(item, _CONTROL_DTYPES[name]), (count,)) for name, item in given.items()
        }
        order = np.argsort(arrays["tick"], kind="stable")
        return cls(**{name: item[order] for name, item in arrays.items()})

    @classmethod
    def empty(cls) -> "Controls":
        """No controllers."""
        return cls.of([], [], [])

    def select(self, chosen: Array) -> "Controls":
        """The events of a mask or an index array [chosen]."""
        return Controls(**{item.name: getattr(self, item.name)[chosen] for item in fields(self)})


@dataclass(frozen=True, eq=False)
class TempoMap:
    """Ticks to seconds.

    Attributes:
        ticks_per_quarter: ticks in a quarter note.
        ticks: int64 [change], where a tempo begins; the first is 0.
        microseconds_per_quarter: float64 [change].
        stretch: every time in seconds is multiplied by it.
    """

    ticks_per_quarter: int
    ticks: Array
    microseconds_per_quarter: Array
    stretch: float = 1.0

    @classmethod
    def constant(cls, ticks_per_quarter: int, microseconds_per_quarter: float = 500_000.0) -> "TempoMap":
        """One tempo from beginning to end."""
        return cls(ticks_per_quarter, np.zeros(1, np.int64), np.array([microseconds_per_quarter], np.float64))

    @cached_property
    def _segments(self) -> tuple[Array, Array, Array]:
        """First tick, first second and seconds per tick of each stretch of constant tempo."""
        starts, seconds, scales = [0], [0.0], [60.0 / (120.0 * self.ticks_per_quarter)]
        for tick, tempo in zip(self.ticks.tolist(), self.microseconds_per_quarter.tolist(), strict=True):
            scale = 60.0 / ((6e7 / tempo) * self.ticks_per_quarter)
            if tick == 0:
                starts, seconds, scales = [0], [0.0], [scale]
            elif scale != scales[-1]:  # a repeated tempo must not add a rounding
                seconds.append(seconds[-1] + scales[-1] * (tick - starts[-1]))
                starts.append(tick)
                scales.append(scale)
        return np.array(starts, np.int64), np.array(seconds), np.array(scales)

    def seconds(self, ticks: Any) -> Array:
        """Seconds (float64, same shape) of ticks."""
        starts, seconds, scales = self._segments
        ticks = np.asarray(ticks, np.int64)
        if len(starts) == 1:
            times = scales[0] * ticks
        else:
            segment = np.searchsorted(starts, ticks, "right") - 1
            times = seconds[segment] + scales[segment] * (ticks - starts[segment])
        return np.asarray(times * self.stretch if self.stretch != 1.0 else times)


@dataclass(frozen=True, eq=False)
class Piece:
    """One piece of music: what a corpus parses, a representation encodes and a model gives back.

    Attributes:
        name: item name, for messages and keys.
        notes: all notes of all instruments.
        controls: controller events, the sustain pedal among them.
        tempo: ticks to seconds.
        time_signatures: (tick, numerator, denominator), sorted.
        key_signatures: (tick, sharps (negative: flats), minor), sorted.
        audio: a handle with read(start, stop), or None.
        labels: what a corpus knows beside the notes.
    """

    name: str
    notes: Notes
    controls: Controls = field(default_factory=Controls.empty)
    tempo: TempoMap = field(default_factory=lambda: TempoMap.constant(480))
    time_signatures: tuple[tuple[int, int, int], ...] = ()
    key_signatures: tuple[tuple[int, int, bool], ...] = ()
    audio: Any = None
    labels: Mapping[str, Any] = field(default_factory=dict)

    def start_seconds(self) -> Array:
        """Onset of every note in seconds, float64 [note]."""
        return self.tempo.seconds(self.notes.start)

    def end_seconds(self) -> Array:
        """End of every note in seconds, float64 [note]."""
        return self.tempo.seconds(self.notes.end)

    @cached_property
    def seconds(self) -> float:
        """Where the last note ends, 0 without notes."""
        return float(self.tempo.seconds(self.notes.end.max())) if len(self.notes) else 0.0

    def pitch_span(self) -> tuple[int, int] | None:
        """Lowest and highest pitch that transposition would move (drums stay), or None."""
        pitches = self.notes.pitch[~self.notes.drum] if self.notes.drum.any() else self.notes.pitch
        return (int(pitches.min()), int(pitches.max())) if len(pitches) else None

    def part_of(self, track: int) -> int:
        """The place of the part that a track belongs to, from 0."""
        places = self.labels.get(TRACK_PARTS, ())
        return int(places[track]) if track < len(places) else track

    def part_name(self, part: int) -> str:
        """What the file calls the part at a place, "" where it does not."""
        names = self.labels.get(PART_NAMES, ())
        return str(names[part]) if 0 <= part < len(names) else ""


def validate(piece: Piece) -> None:
    """Raises InvalidMusic where arrays contradict each other or a value is outside what MIDI can say."""
    notes, controls = piece.notes, piece.controls
    _check_lengths(notes, "notes")
    _check_lengths(controls, "controls")
    if not piece.tempo.ticks_per_quarter > 0 or not (piece.tempo.microseconds_per_quarter > 0).all():
        raise InvalidMusic("bad-tempo", f"{piece.name}: ticks per quarter and tempos must be above 0")
    if not np.isfinite(piece.tempo.stretch) or piece.tempo.stretch <= 0:
        raise InvalidMusic("bad-tempo", f"{piece.name}: stretch {piece.tempo.stretch} must be above 0")
    if len(controls) and controls.tick.min() < 0:
        raise InvalidMusic("negative-time", f"{piece.name}: a controller lies before the beginning")
    if not len(notes):
        return
    if notes.start.min() < 0 or (notes.end < notes.start).any():
        raise InvalidMusic("negative-time", f"{piece.name}: a note begins before 0 or ends before it begins")
    if notes.pitch.min() < 0 or notes.pitch.max() > 127:
        raise InvalidMusic("bad-pitch", f"{piece.name}: pitch outside 0..127: {notes.pitch.min()}..{notes.pitch.max()}")
    if notes.velocity.min() < 1 or notes.velocity.max() > 127:
        raise InvalidMusic("bad-velocity", f"{piece.name}: velocity outside 1..127")


def _check_lengths(arrays: Any, what: str) -> None:
    lengths = {item.name: len(getattr(arrays, item.name)) for item in fields(arrays)}
    if len(set(lengths.values())) > 1:
        raise InvalidMusic("ragged", f"{what} of different lengths: {lengths}")


def transpose(piece: Piece, semitones: int) -> Piece:
    """The piece, higher by semitones; drums stay. Raises ValueError where a note would leave 0..127."""
    if semitones == 0:
        return piece
    span = piece.pitch_span()
    if span and not 0 <= span[0] + semitones <= span[1] + semitones <= 127:
        raise ValueError(
            f"{piece.name}: {semitones:+d} semitones would take pitches {span[0]}..{span[1]} out of 0..127"
        )
    shift = np.where(piece.notes.drum, 0, semitones).astype(np.int16) if piece.notes.drum.any() else np.int16(semitones)
    return replace(piece, notes=replace(piece.notes, pitch=piece.notes.pitch + shift))


def stretch(piece: Piece, factor: float) -> Piece:
    """The piece with every time in seconds multiplied by a factor; ticks stay."""
    return piece if factor == 1 else replace(piece, tempo=replace(piece.tempo, stretch=piece.tempo.stretch * factor))


def apply_sustain(piece: Piece) -> Piece:
    """Notes that sound as long as the pedal holds them; the pedal's controllers are gone afterwards.

    A note whose key is released while the pedal is down ends where the pedal goes up or where the same pitch is
    struck again, whichever is first; a key still held is cut the same way by a new onset under the pedal. Of two
    notes struck at one tick under the pedal one remains. A pedal still down at the end holds until the last event of
    the file. Events at one tick count in the order pedal down, pedal up, onset, release (models: Performance RNN,
    Onsets and Frames; note-seq's rule). Each instrument has a pedal of its own; drums are left alone.
    """
    pedal = piece.controls.number == SUSTAIN
    if not pedal.any():
        return piece
    notes, sustain = piece.notes, piece.controls.select(pedal)
    rest = piece.controls.select(~pedal)
    melodic = ~notes.drum
    ends, keep = notes.end.copy(), np.ones(len(notes), bool)
    last = int(max(sustain.tick.max(), notes.end[melodic].max(initial=0)))
    for track in np.unique(sustain.track):
        chosen = np.flatnonzero(melodic & (notes.track == track))
        events = sustain.select(sustain.track == track)
        ends[chosen], keep[chosen] = _sustained_ends(notes.select(chosen), events, last)
    held = replace(notes, end=ends)
    order = np.lexsort((ends, notes.track, notes.pitch, notes.start))
    return replace(piece, notes=held.select(order[keep[order]]), controls=rest)


def _sustained_ends(notes: Notes, pedal: Controls, last: int) -> tuple[Array, Array]:
    """New end of each note of one instrument, int64 [note], and whether it remains, bool [note]."""
    up_ticks = np.unique(pedal.tick[pedal.value < 64])
    times = np.unique(pedal.tick)
    down_after = ~np.isin(times, up_ticks)  # down and up at one tick: up is the later

    def is_down(ticks: Array) -> Array:
        at = np.searchsorted(times, ticks, "right") - 1
        return np.where(at >= 0, down_after[np.maximum(at, 0)], False)

    ups = np.append(up_ticks, last)
    sounding = np.where(is_down(notes.end), ups[np.searchsorted(up_ticks, notes.end, "right")], notes.end)
    strike = _next_strikes(notes, is_down)
    ends = np.minimum(sounding, strike)
    keep = strike > notes.start
    return ends, keep


_NEVER = np.iinfo(np.int64).max


def _next_strikes(notes: Notes, is_down: Any) -> Array:
    """Tick at which a later onset of the same pitch ends each note, int64 [note]; a huge number where none does.

    An onset while the key is still held ends the note only under the pedal; one after the release always may.
    """
    order = np.lexsort((np.arange(len(notes)), notes.start, notes.pitch))
    start, end, pitch = notes.start[order], notes.end[order], notes.pitch[order].astype(np.int64)
    places = np.arange(len(order))
    under_pedal = np.flatnonzero(is_down(start))
    next_under_pedal = np.append(under_pedal, len(order))[np.searchsorted(under_pedal, places, "right")]
    # One line on which every pitch has a stretch of its own, so that one search serves all pitches.
    line = pitch * (int(end.max(initial=0)) + 2)
    next_after_release = np.searchsorted(line + start, line + end, "right")
    strike = np.minimum(next_under_pedal, next_after_release)
    found = strike < len(order)
    found[found] = pitch[strike[found]] == pitch[found]
    strikes = np.full(len(order), _NEVER)
    strikes[order[found]] = start[strike[found]]
    return strikes
