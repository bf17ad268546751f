"""Alignment: is one piece a copy of another, in another key, in another tempo, begun later? Answered from the onsets.

A copy is told from another performance of the same composition by its time: after one shift of pitch and one straight
line from time to time, nine in ten onsets meet within 30 ms (15 ms in pieces of fewer than 64 notes). No performer
repeats himself like that: of 330 performances of MAESTRO no two have more than 0.22 in common, of copies 0.99 and more.
Loudness, ends of notes and drums are not looked at.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from beam_pipelines.fingerprints import WINDOW, bags, pitched
from schemas.music import Piece

LEAST_NOTES = 8
LEAST_NOTES_OF_A_PART = 32
LEAST_CHORDS = 6
"""Notes struck together tell one time only, and a line goes through any two."""
LEAST_MET = 0.9
TOLERANCE_SECONDS = 0.03
_SHORT_NOTES, _SHORT_TOLERANCE_SECONDS = 64, 0.015
"""Two performances of a few seconds may well keep within 30 ms; copies are off by the 10 ms of their steps at most."""
_FACTORS = (0.2, 5.0)
_ROUNDS = (3.0, 1.0)
"""Tolerances of the rounds in which the line is drawn anew: wide, because a guess may be a little off at the end."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Copy:
    """How one piece becomes another: every pitch + semitones, every time in seconds * factor + later.

    Attributes:
        semitones: how much higher the other is.
        factor: how much longer the other takes.
        later: seconds; where the beginning of the one lies in the other.
        found: share of the onsets of the one that lie in the other.
        covered: share of the onsets of the other that come from the one.
    """

    semitones: int
    factor: float
    later: float
    found: float
    covered: float

    @property
    def is_whole(self) -> bool:
        """Whether each holds the other; else the one is a part of the other, or the other way about."""
        return min(self.found, self.covered) >= LEAST_MET

    def __str__(self) -> str:
        words = [f"{abs(self.semitones)} semitones {'higher' if self.semitones > 0 else 'lower'}"]
        words = words if self.semitones else []
        words += [f"{self.factor:.3f} times as long"] if abs(self.factor - 1) >= 0.0005 else []
        if abs(self.later) >= 0.005:
            words.append(f"{abs(self.later):.2f} s {'later' if self.later > 0 else 'earlier'}")
        return ", ".join(words) or "at the same pitch and pace"


class _Onsets(NamedTuple):
    """Pitched notes in order of time: float64 seconds [note], int64 pitch [note]."""

    seconds: Array
    pitch: Array

    def moved(self, way: "_Way") -> "_Onsets":
        return _Onsets(self.seconds * way.factor + way.later, self.pitch + way.semitones)


class _Way(NamedTuple):
    """A guess how one becomes the other."""

    semitones: int
    factor: float
    later: float


def copy_of(one: Piece, other: Piece) -> Copy | None:
    """How `other` becomes of `one` where they are copies, or one is a part of the other; None where they are not.

    A whole copy has 8 pitched notes at least, struck at 6 times, a part 32 notes.
    """
    first, second = _onsets(one), _onsets(other)
    if not (_says_enough(first) and _says_enough(second)):
        return None
    for guess in (_by_ends, _by_bags):
        way = guess(first, second)
        found = _confirmed(first, second, way) if way else None
        if found:
            return found
    return None


def _onsets(piece: Piece) -> _Onsets:
    notes = pitched(piece.notes)
    return _Onsets(piece.tempo.seconds(notes.start), notes.pitch.astype(np.int64))


def _says_enough(onsets: _Onsets) -> bool:
    chords = 1 + int((np.diff(onsets.seconds) > TOLERANCE_SECONDS).sum())
    return len(onsets.pitch) >= LEAST_NOTES and chords >= LEAST_CHORDS


def _by_ends(one: _Onsets, other: _Onsets) -> _Way:
    """What it takes that lowest pitches, first onsets and last onsets meet."""
    factor = float(np.ptp(other.seconds) / np.ptp(one.seconds))
    semitones = int(other.pitch.min() - one.pitch.min())
    return _Way(semitones, factor, float(other.seconds[0] - factor * one.seconds[0]))


def _by_bags(one: _Onsets, other: _Onsets) -> _Way | None:
    """What it takes that the bags which both hold meet: the first of each, in the middle of its notes."""
    size = min(WINDOW, len(one.pitch) // 2, len(other.pitch) // 2)
    (hashes, low, middle), (other_hashes, other_low, other_middle) = (_first_bags(side, size) for side in (one, other))
    _, here, there = np.intersect1d(hashes, other_hashes, assume_unique=True, return_indices=True)
    if not len(here):
        return None
    rise = other_low[there] - low[here]
    semitones = int(np.bincount(rise + 128).argmax()) - 128
    here, there = here[rise == semitones], there[rise == semitones]
    line = _line(middle[here], other_middle[there])
    return _Way(semitones, *line) if line else None


def _first_bags(onsets: _Onsets, size: int) -> tuple[Array, Array, Array]:
    """Of every different bag where it comes first: hash (ascending), lowest pitch and mean time in seconds."""
    found = bags(onsets.pitch, size)
    hashes, first = np.unique(found.hashes, return_index=True)
    running = np.append(0.0, np.cumsum(onsets.seconds))
    return hashes, found.lowest[first], ((running[size:] - running[:-size]) / size)[first]


def _line(x: Array, y: Array) -> tuple[float, float] | None:
    """Factor and offset of the line that most points lie on: the median of the slopes from each to one far away."""
    order = np.argsort(x, kind="stable")
    x, y, half = x[order], y[order], len(x) // 2
    run, rise = x[half:] - x[: len(x) - half], y[half:] - y[: len(y) - half]
    if not (run > 0).any():
        return None
    factor = float(np.median(rise[run > 0] / run[run > 0]))
    return factor, float(np.median(y - factor * x))


def _confirmed(one: _Onsets, other: _Onsets, way: _Way) -> Copy | None:
    """The copy that a guess leads to when its line is drawn anew through the onsets that meet, or None."""
    for width in _ROUNDS:
        if not _FACTORS[0] <= way.factor <= _FACTORS[1]:
            return None
        partner = _partners(one.moved(way), other, width * _tolerance(one, other, way))
        met = partner >= 0
        if met.sum() < LEAST_NOTES or not np.ptp(one.seconds[met]):
            return None
        way = _Way(way.semitones, *_least_squares(one.seconds[met], other.seconds[partner[met]]))
    return _judged(one, other, way)


def _least_squares(x: Array, y: Array) -> tuple[float, float]:
    """Factor and offset of the line with the least squared distance; x must not be all one value."""
    middle = float(x.mean())
    factor = float(((x - middle) * y).sum() / ((x - middle) ** 2).sum())
    return factor, float(y.mean()) - factor * middle


def _judged(one: _Onsets, other: _Onsets, way: _Way) -> Copy | None:
    """The copy, where enough of one of the two lies in the other."""
    moved, tolerance = one.moved(way), _tolerance(one, other, way)
    found, covered = ((_partners(*pair, tolerance) >= 0).mean() for pair in ((moved, other), (other, moved)))
    copy = Copy(*way, float(found), float(covered))
    part = one if found >= covered else other
    is_part = max(found, covered) >= LEAST_MET and len(part.pitch) >= LEAST_NOTES_OF_A_PART
    return copy if copy.is_whole or is_part else None


def _tolerance(one: _Onsets, other: _Onsets, way: _Way) -> float:
    is_short = min(len(one.pitch), len(other.pitch)) < _SHORT_NOTES
    # What was rounded before it was stretched is off by more afterwards.
    return (_SHORT_TOLERANCE_SECONDS if is_short else TOLERANCE_SECONDS) * max(1.0, way.factor)


def _partners(one: _Onsets, other: _Onsets, tolerance: float) -> Array:
    """Of each onset the place of the nearest onset of its pitch in the other, -1 where none is near, int64 [note]."""
    order = np.lexsort((other.seconds, other.pitch))
    # One line on which every pitch has a stretch of its own, so that one search serves all pitches.
    length = 2 * (max(np.ptp(one.seconds), np.ptp(other.seconds), abs(one.seconds[0] - other.seconds[0])) + tolerance)
    start = other.seconds[0]
    line = other.pitch[order] * length + (other.seconds[order] - start)
    wanted = one.pitch * length + (one.seconds - start)
    right = np.minimum(np.searchsorted(line, wanted), len(line) - 1)
    left = np.maximum(right - 1, 0)
    nearest = np.where(np.abs(line[right] - wanted) < np.abs(line[left] - wanted), right, left)
    near = (np.abs(line[nearest] - wanted) <= tolerance) & (other.pitch[order][nearest] == one.pitch)
    return np.where(near, order[nearest], -1)
