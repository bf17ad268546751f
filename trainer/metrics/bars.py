"""A piece laid out in bars, or in seconds where it has none: what measures of structure look at.

Bars are those of the time signatures; pieces in four voices without any have bars of four quarters from their first
step; other music has seconds. A bar or a second is a unit, and has 16 steps. Drums are left out: they have no pitch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.grid import VOICES, voices_fault
from schemas.hashing import generator
from schemas.music import Notes, Piece, apply_sustain

Array = npt.NDArray[Any]

BARS, SECONDS = "bars", "seconds"
STEPS = 16
"""Steps of a unit."""
MAX_UNITS = 512
"""What is looked at of a piece at most: 512 bars, or eight and a half minutes."""
SOUNDS, STRUCK = 1, 2
"""Values of a roll. At the first step of a unit a note only sounds, so that a tie into it makes no difference."""
_SLACK = 1e-6  # of a step, against what floating point adds to a border
_QUARTERS = 4.0
_BEAT_SECONDS = 0.5


@dataclass(frozen=True, eq=False)
class Bars:
    """One piece, laid out.

    Attributes:
        beat: how long a beat is, in units: a quarter note of the first bar, or half a second.
        start: onsets in units, float64 [note], sorted, then by pitch.
        end: where the notes end, likewise.
        pitch: int64 [note].
        roll: 0, SOUNDS or STRUCK, uint8 [unit, step, pitch]; every note takes a step at least.
    """

    beat: float
    start: Array
    end: Array
    pitch: Array
    roll: Array

    @property
    def units(self) -> int:
        """How many there are; the last may be there in part."""
        return len(self.roll)

    def shortened(self, units: int) -> "Bars":
        """The first units alone: notes that begin later are gone, those that sound over the border end there."""
        kept = self.start < units
        end = np.minimum(self.end[kept], units)
        return replace(self, start=self.start[kept], end=end, pitch=self.pitch[kept], roll=self.roll[:units])

    def shuffled(self, seed: int, key: object) -> "Bars":
        """The same units in a random order of (seed, key): notes move with their onset, units of the roll unchanged."""
        order = generator(seed, key, "shuffled bars").permutation(self.units)
        unit = np.clip(np.floor(self.start + _SLACK).astype(np.int64), 0, max(self.units - 1, 0))
        moved = np.argsort(order)[unit] - unit
        start = self.start + moved
        by_time = np.lexsort((self.pitch, start))
        end = (self.end + moved)[by_time]
        return replace(self, start=start[by_time], end=end, pitch=self.pitch[by_time], roll=self.roll[order])


def in_voices(pieces: Sequence[Piece]) -> bool:
    """Whether all are four voices, as `schemas.grid` has them; one of them may lack one."""
    tracks = {int(track) for piece in pieces for track in np.unique(piece.notes.track)}
    return len(tracks) == len(VOICES) and not any(voices_fault(piece, complete=False) for piece in pieces)


def measured_in(pieces: Sequence[Piece]) -> str:
    """BARS where all of them have bars, else SECONDS: pieces compare in one unit only."""
    return BARS if in_voices(pieces) or all(piece.time_signatures for piece in pieces) else SECONDS


def laid_out(piece: Piece, unit: str) -> Bars:
    """A piece in BARS or SECONDS, at most MAX_UNITS of them; notes last as long as the pedal holds them."""
    held = apply_sustain(piece)
    notes = held.notes.select(~held.notes.drum)
    start, end, beat = _in_bars(held, notes) if unit == BARS else _in_seconds(held, notes)
    kept = start < MAX_UNITS
    start, end = start[kept], np.minimum(np.maximum(start, end)[kept], MAX_UNITS)
    pitch = notes.pitch[kept].astype(np.int64)
    return Bars(beat, start, end, pitch, _roll(start, end, pitch))


def _in_seconds(piece: Piece, notes: Notes) -> tuple[Array, Array, float]:
    return piece.tempo.seconds(notes.start), piece.tempo.seconds(notes.end), _BEAT_SECONDS


def _in_bars(piece: Piece, notes: Notes) -> tuple[Array, Array, float]:
    metres = [(int(tick), 4 * over / under) for tick, over, under in piece.time_signatures if over > 0 and under > 0]
    if not metres or metres[0][0] > 0:
        metres.insert(0, (0, _QUARTERS))
    at = np.array([tick for tick, _ in metres], np.float64)
    length = np.array([quarters for _, quarters in metres]) * piece.tempo.ticks_per_quarter
    return _bars_at(notes.start, at, length), _bars_at(notes.end, at, length), 1 / metres[0][1]


def _bars_at(ticks: Array, at: Array, length: Array) -> Array:
    """Bars before each tick, float64 [tick], of metres [change] with bars of so many ticks; a new metre, a new bar."""
    before = np.concatenate([[0], np.cumsum(np.ceil(np.diff(at) / length[:-1] - _SLACK))])
    metre = np.maximum(np.searchsorted(at, ticks, "right") - 1, 0)
    bars: Array = before[metre] + (ticks - at[metre]) / length[metre]
    return bars


def _roll(start: Array, end: Array, pitch: Array) -> Array:
    first = np.floor(start * STEPS + _SLACK).astype(np.int64)
    last = np.maximum(np.ceil(end * STEPS - _SLACK).astype(np.int64), first + 1)
    units = -(-int(last.max(initial=0)) // STEPS)
    edges = np.zeros((units * STEPS + 1, 128), np.int32)
    np.add.at(edges, (first, pitch), 1)
    np.add.at(edges, (last, pitch), -1)
    roll = np.where(np.cumsum(edges[:-1], axis=0) > 0, SOUNDS, 0).astype(np.uint8)
    inside = first % STEPS != 0
    roll[first[inside], pitch[inside]] = STRUCK
    return roll.reshape(units, STEPS, 128)
