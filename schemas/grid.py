"""Four voices on a grid of steps: a piece as cells [step, voice], cells as a piece, and what a grid cannot say.

A cell is what its voice sings when the step begins: a MIDI pitch, REST, or, where asked for, HOLD. Without HOLD a note
that is struck again looks like one that is held, as in the chorale files of the published benchmarks.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.music import PART_NAMES, InvalidMusic, Notes, Piece, TempoMap

VOICES = ("soprano", "alto", "tenor", "bass")
_CALLED = (
    "soprano sopranos sopran sop s sopraan soprane soprani discant diskant discantus cantus canto superius dessus",
    "alto altos alt a alti altus contralto contralti haute-contre",
    "tenor tenore ten t tenors tenori taille",
    "bass basso bas b basse bassi bassus basses",
)
"""What scores in several languages call the four voices."""
_LONGEST_NAME = 40  # of a voice; Unicode itself takes a time that grows with the square of a name
_NO_LETTERS = "".join(letter for letter in map(chr, range(128)) if not letter.isalpha())
GRIDS = {"quarter": 1, "8th": 2, "16th": 4}
"""Steps in a quarter note."""

REST = 128
HOLD = 129
"""The note of the step before goes on."""

RANGES: Mapping[str, tuple[tuple[int, int], ...]] = {
    "vocal": ((57, 81), (52, 74), (46, 69), (36, 66)),
    "any": ((0, 127),) * 4,
}
"""Lowest and highest pitch of each voice. "vocal" is what the voices sing in the 382 chorales of the corpus `jsb` and
the 364 of `music21-chorales`, taken together, so that no chorale of either is outside."""

LENGTH_TICKS = "length_ticks"
"""Label of a piece that goes on after its last note: how long it is, so that rests at its end are steps too."""

TICKS_PER_QUARTER = 480
MAX_STEPS = 1 << 22
"""Steps of a piece; 4 million sixteenths last 174 hours at 100 quarters a minute."""
_VELOCITY = 80
_CHOIR = 52

Array = npt.NDArray[Any]
Cells = npt.NDArray[np.uint8]
"""uint8 [step, voice]: 0..127 MIDI pitch, 128 rest, 129 hold."""


@dataclass(frozen=True)
class Losses:
    """How many notes of a piece a grid says differently, or not at all.

    Attributes:
        between: begin and end between two grid points, and are not heard at all.
        off_grid: are heard, but begin or end elsewhere than in the piece.
        merged: are heard as a part of the note before them, of the same pitch.
    """

    between: int
    off_grid: int
    merged: int

    @property
    def told(self) -> dict[str, int]:
        """The same in words."""
        return {
            "begin and end between two steps, and are lost": self.between,
            "begin or end between two steps, and are moved": self.off_grid,
            "are struck again, and run into the note before": self.merged,
        }


def voice_called(name: str) -> int | None:
    """The voice that a part is called by: `Sopran`, `ALTO 1`, `T.`, `Bassus`; None for any other or a long name."""
    name = name.strip()
    if len(name) > _LONGEST_NAME:
        return None
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    word = plain.rstrip(_NO_LETTERS)
    before_number = word.rstrip("iv")  # Tenor II
    if not before_number[-1:].isalpha():
        word = before_number.rstrip(_NO_LETTERS)
    word = word.lstrip(" .[](){}'\"")
    return next((voice for voice, words in enumerate(_CALLED) if word in words.split()), None)


def voices_fault(piece: Piece, complete: bool = True) -> str:
    """Why a piece is not four voices, tracks 0 to 3 with one note at a time and no drums; "" where it is.

    A voice that has no note is a fault only where `complete`.
    """
    notes = piece.notes
    if notes.drum.any():
        return "has drums"
    tracks = np.unique(notes.track)
    if len(tracks) and not (0 <= tracks[0] and tracks[-1] < len(VOICES)):
        return f"has {len(tracks)} instruments up to number {tracks[-1]}; four voices are the numbers 0 to 3"
    for track in tracks.tolist():
        chosen = notes.track == track
        if (notes.start[chosen][1:] < notes.end[chosen][:-1]).any():
            return f"has several notes at once in the {VOICES[track]}"
    if complete and len(tracks) != len(VOICES):
        return f"has notes in {len(tracks)} of four voices"
    return ""


def check_grid(grid: str, ranges: str, tempo: float) -> None:
    """Raises ValueError for a setting of a representation in cells that is none."""
    if grid not in GRIDS or ranges not in RANGES:
        raise ValueError(f"grid {grid}, ranges {ranges}: must lie among {', '.join(GRIDS)} and {', '.join(RANGES)}")
    if not 1 <= tempo <= 1000:
        raise ValueError(f"decoded-tempo {tempo} must lie between 1 and 1000 quarter notes a minute")


def misfit(piece: Piece, steps_per_quarter: int, complete: bool = True) -> tuple[str, str] | None:
    """Reason and sentence why a piece cannot be told in cells, in whatever key; None where it can."""
    fault = voices_fault(piece, complete)
    if fault:
        return "not-four-voices", fault
    steps = count_steps(piece, steps_per_quarter)
    if steps > MAX_STEPS:
        return "too-many-steps", f"has {steps:,} steps; a grid holds at most {MAX_STEPS:,}"
    return None


def within(piece: Piece, ranges: tuple[tuple[int, int], ...]) -> bool:
    """Whether every note is of one of four voices and lies in the range of that voice, both ends included."""
    low, high = np.transpose(ranges)
    pitch, track = piece.notes.pitch, piece.notes.track
    if ((track < 0) | (track >= len(low))).any():
        return False
    return bool(((low[track] <= pitch) & (pitch <= high[track])).all())


def count_steps(piece: Piece, steps_per_quarter: int) -> int:
    """How many steps a piece has: to the end of its last note, or to the length that it is labelled with."""
    length = piece.labels.get(LENGTH_TICKS, 0)
    end = max(int(length), int(piece.notes.end.max(initial=0)))
    return -(-end * steps_per_quarter // piece.tempo.ticks_per_quarter)


def cells_of(piece: Piece, steps_per_quarter: int, hold: bool = False) -> Cells:
    """What each voice sings at the beginning of each step, uint8 [step, voice]; a voice may be silent throughout.

    Raises:
        InvalidMusic: `not-four-voices`, or `too-many-steps`.
    """
    found = misfit(piece, steps_per_quarter, complete=False)
    if found:
        raise InvalidMusic(found[0], f"{piece.name}: {found[1]}")
    cells = np.full((count_steps(piece, steps_per_quarter), len(VOICES)), REST, np.uint8)
    notes, (first, last) = piece.notes, _note_steps(piece, steps_per_quarter)
    for start, end, pitch, voice in zip(
        first.tolist(), last.tolist(), notes.pitch.tolist(), notes.track.tolist(), strict=True
    ):
        if start < end:
            cells[start:end, voice] = HOLD if hold else pitch
            cells[start, voice] = pitch
    return cells


def piece_of(cells: Any, steps_per_quarter: int, tempo: float, hold: bool = False, name: str = "cells") -> Piece:
    """The piece of cells [step, voice], one track a voice, as long as they are; never raises for what no cell can be.

    Args:
        cells: integers; without `hold`, equal neighbours are one note; with it, a hold without a note before it and
            every other number that means nothing is a rest.
        steps_per_quarter: 1, 2, 4...; a divisor of 480.
        tempo: quarter notes a minute.
        hold: whether HOLD may occur.
        name: of the piece.
    """
    cells = np.asarray(cells).reshape(-1, len(VOICES)).astype(np.int64)
    ticks = TICKS_PER_QUARTER // steps_per_quarter
    columns = [_voice_notes(cells[:, voice], hold) for voice in range(len(VOICES))]
    start, end, pitch = (np.concatenate(part) for part in zip(*columns, strict=True))
    track = np.repeat(np.arange(len(VOICES)), [len(part[0]) for part in columns])
    notes = Notes.of(start * ticks, end * ticks, pitch, _VELOCITY, _CHOIR, track)
    labels = {LENGTH_TICKS: len(cells) * ticks, PART_NAMES: tuple(name.title() for name in VOICES)}
    return Piece(name, notes, tempo=TempoMap.constant(TICKS_PER_QUARTER, 60e6 / tempo), labels=labels)


def _voice_notes(cells: Array, hold: bool) -> tuple[Array, Array, Array]:
    """First step, step after the last, and pitch of each note of one voice, int64 [note] each."""
    sounds = (cells >= 0) & (cells < REST)
    before = np.concatenate([[REST], cells[:-1]])
    goes_on = cells == (HOLD if hold else before)
    starts = sounds & ~goes_on
    # A hold after silence is silence, so that what goes on belongs to the last note or to nothing.
    breaks = np.flatnonzero(starts | ~(sounds | goes_on))
    start = np.flatnonzero(starts)
    end = np.append(breaks, len(cells))[np.searchsorted(breaks, start, "right")]
    return start, end, cells[start]


def transposed(cells: Any, semitones: int, ranges: tuple[tuple[int, int], ...]) -> Array:
    """Integers [step, voice] in another key, of the same dtype; what is no pitch stays.

    Raises:
        ValueError: a pitch leaves the range of its voice.
    """
    cells = np.asarray(cells)
    low, high = np.transpose(ranges)
    sounds = cells < REST
    moved = cells.astype(np.int64) + semitones
    if (sounds & ((moved < low) | (moved > high))).any():
        raise ValueError(f"{semitones:+d} semitones take a note out of the range of its voice: {ranges}")
    result: Array = np.where(sounds, moved, cells).astype(cells.dtype)
    return result


def losses(piece: Piece, steps_per_quarter: int, hold: bool = False) -> Losses:
    """What the grid cannot say of a piece in four voices."""
    notes, per_quarter = piece.notes, piece.tempo.ticks_per_quarter
    first, last = _note_steps(piece, steps_per_quarter)
    heard = first < last
    on_grid = (notes.start * steps_per_quarter % per_quarter == 0) & (notes.end * steps_per_quarter % per_quarter == 0)
    merged = 0
    for voice in range(len(VOICES)):
        chosen = heard & (notes.track == voice)
        pitch = notes.pitch[chosen]
        merged += int(((pitch[1:] == pitch[:-1]) & (first[chosen][1:] == last[chosen][:-1])).sum())
    return Losses(int((~heard).sum()), int((heard & ~on_grid).sum()), 0 if hold else merged)


def _note_steps(piece: Piece, steps_per_quarter: int) -> tuple[Array, Array]:
    """The first step that begins inside each note, and the first one that begins after it, int64 [note] each."""
    per_quarter = piece.tempo.ticks_per_quarter
    return -(-piece.notes.start * steps_per_quarter // per_quarter), -(
        -piece.notes.end * steps_per_quarter // per_quarter
    )
