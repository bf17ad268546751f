"""Performance events: onsets, releases, shifts of 10 ms and 32 velocities as one sequence of ids.

Source: Performance RNN (Oore et al. 2018) and Music Transformer (Huang et al. 2019). With the full pitch range there
are 388 events and ids equal note-seq's PerformanceOneHotEncoding; with 21..108 there are 308, the piano table. The
sustain pedal is applied before time is rounded. BOS and PAD follow the events: no end token is used.

What the encoding cannot say: two notes of one pitch that sound at once (they share a NOTE_OFF), instruments, times
finer than 10 ms.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from schemas.feature import Feature, Record
from schemas.music import Notes, Piece, TempoMap, apply_sustain
from schemas.redrawing import redrawn
from schemas.settings import parse_span, setting
from schemas.tokens import Tokens, cut_tokens, join_tokens, token_features
from schemas.vocabulary import Range, Vocabulary
from schemas.window import TOKENS, check_window

STEPS_PER_SECOND = 100
MAX_SHIFT_STEPS = 100
VELOCITY_BINS = 32
MAX_WINDOW = 1 << 24
"""Tokens; a window is laid out in memory whole, however short the piece."""
_VELOCITY_BIN_SIZE = 4
_TICKS_PER_STEP = 10
_OUTSIDE = 65535
_UNTOLD_VELOCITY = 64
"""Velocity of a note that a model starts before it ever named one."""


@dataclass(frozen=True)
class Events:
    """Performance events as token records.

    Attributes:
        window: ids in a record; 0 keeps pieces whole.
        hop: ids from one window to the next, train only; 0 means the window.
        pitch_range: lowest and highest pitch of the table.
    """

    window: int = setting(2048, help="Tokens in a record; 0 keeps each piece whole.")
    hop: int = setting(0, help="Tokens from one training window to the next; 0 means the window.")
    pitch_range: tuple[int, int] = setting(
        (0, 127), help="Pitches of the table, for example 21..108.", parse=parse_span
    )

    def __post_init__(self) -> None:
        low, high = self.pitch_range
        check_window(self.window, self.hop, MAX_WINDOW)
        if not all(isinstance(value, int) for value in (low, high)):
            raise ValueError(f"pitch-range {low}..{high}: whole numbers are needed")
        if not 0 <= low <= high <= 127:
            raise ValueError(f"pitch-range {low}..{high} must lie inside 0..127")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The table of events."""
        low, high = self.pitch_range
        return Vocabulary(
            (
                Range("NOTE_ON", low, high),
                Range("NOTE_OFF", low, high),
                Range("TIME_SHIFT", 1, MAX_SHIFT_STEPS),
                Range("VELOCITY", 1, VELOCITY_BINS),
            )
        )

    @property
    def size(self) -> int:
        """How many event ids there are."""
        return self.vocabulary.size

    @property
    def bos(self) -> int:
        """The id that stands for "no context"."""
        return self.vocabulary.bos

    @property
    def pad(self) -> int:
        """The id after the last event of a record."""
        return self.vocabulary.pad

    def features(self) -> dict[str, Feature]:
        """A token record."""
        return token_features(self.window, self.pad)

    def for_split(self, split: str) -> Self:
        """Outside train, windows do not overlap."""
        return self if split == "train" or not self.hop else replace(self, hop=0)

    def prepared(self, piece: Piece) -> Piece:
        """The piece with its pedal applied."""
        return apply_sustain(piece)

    def fits(self, piece: Piece) -> bool:
        """Whether every pitch is in the table."""
        pitch = piece.notes.pitch
        return not len(pitch) or (int(pitch.min()) >= self.pitch_range[0] and int(pitch.max()) <= self.pitch_range[1])

    def encode(self, piece: Piece) -> Iterator[Record]:
        """Token records of a piece. Raises ValueError where a pitch is not in the table."""
        return cut_tokens(self.tokens(piece), self.window, self.hop, self.pad)

    def transposed(self, record: Record, semitones: int) -> Record:
        """The same window of the piece in another key, at a tenth of the cost of encoding it: order and times stay.

        Equal to encoding the transposed piece where no drum sounds. Raises ValueError where a pitch leaves the table.
        """
        if semitones == 0:
            return record
        ids = _transposition(self, semitones)[record["tokens"]]
        if len(ids) and ids.max() == _OUTSIDE:
            low, high = self.pitch_range
            raise ValueError(f"{semitones:+d} semitones take a pitch out of the table {low}..{high}")
        return {**record, "tokens": ids}

    def redraw(
        self, record: Record, generator: np.random.Generator, crop: int, transpose: Sequence[int]
    ) -> Record | None:
        """A window of `crop` ids of a record, its place and its key drawn; None where a pitch leaves the table."""
        return redrawn(TOKENS, record, generator, crop, transpose, self.transposed, self.pad)

    def decode(self, records: Iterable[Record]) -> Piece:
        """The piece of token records; ids that are no event or have no meaning where they stand are passed over."""
        return self.piece_from_tokens(join_tokens(records))

    def tokens(self, piece: Piece) -> Tokens:
        """Event ids of a whole piece, uint16 [token]. Raises ValueError where a pitch is not in the table."""
        piece = apply_sustain(piece)
        if not self.fits(piece):
            raise ValueError(f"{piece.name}: a pitch is outside the table {self.pitch_range[0]}..{self.pitch_range[1]}")
        if not len(piece.notes):
            return np.zeros(0, np.uint16)
        step, note, is_onset = _ordered_events(piece)
        return self._ids(piece.notes, step, note, is_onset)

    def _ids(self, notes: Notes, step: Any, note: Any, is_onset: Any) -> Tokens:
        """Ids of ordered events: shifts up to each, then its velocity where that changes, then the note itself."""
        gap = np.diff(step, prepend=0)
        shifts = -(-gap // MAX_SHIFT_STEPS)
        bins = (notes.velocity[note] - 1) // _VELOCITY_BIN_SIZE + 1
        changes = _velocity_changes(bins, is_onset)
        place = np.cumsum(shifts + changes + 1) - 1
        table = self.vocabulary
        ids = np.full(int(place[-1]) + 1, table.encode("TIME_SHIFT", MAX_SHIFT_STEPS), np.uint16)
        base = np.where(is_onset, table.base("NOTE_ON"), table.base("NOTE_OFF"))
        ids[place] = base + notes.pitch[note]
        ids[place[changes] - 1] = table.base("VELOCITY") + bins[changes]
        last_shift = (place - changes - 1)[shifts > 0]
        ids[last_shift] = table.base("TIME_SHIFT") + ((gap[shifts > 0] - 1) % MAX_SHIFT_STEPS + 1)
        return ids

    def piece_from_tokens(self, ids: Any, name: str = "tokens") -> Piece:
        """The piece of event ids [token]; one tick is a millisecond."""
        starts, ends, pitches, velocities = self._note_steps(ids)
        notes = Notes.of(np.multiply(starts, _TICKS_PER_STEP), np.multiply(ends, _TICKS_PER_STEP), pitches, velocities)
        return Piece(name, notes, tempo=TempoMap.constant(1000 // 2))

    def _note_steps(self, ids: Any) -> tuple[list[int], list[int], list[int], list[int]]:
        """Start step, end step, pitch and velocity of each note, in order of release.

        An onset of a sounding pitch closes the earlier note; notes open at the end close there; a note lasts one step
        at least.
        """
        kinds, values = self._decoded
        open_notes: dict[int, tuple[int, int]] = {}
        closed: list[tuple[int, int, int, int]] = []
        step, velocity = 0, _UNTOLD_VELOCITY

        def close(pitch: int) -> None:
            start, loudness = open_notes.pop(pitch)
            closed.append((start, max(step, start + 1), pitch, loudness))

        for token in np.asarray(ids).tolist():
            kind = kinds[token] if 0 <= token < len(kinds) else ""
            if kind == "TIME_SHIFT":
                step += values[token]
            elif kind == "VELOCITY":
                velocity = 1 + (values[token] - 1) * _VELOCITY_BIN_SIZE
            elif kind:
                pitch = values[token]
                if pitch in open_notes:
                    close(pitch)
                if kind == "NOTE_ON":
                    open_notes[pitch] = (step, velocity)
        for pitch in list(open_notes):
            close(pitch)
        columns = tuple(map(list, zip(*closed, strict=True)))
        return columns or ([], [], [], [])  # type: ignore[return-value]

    @cached_property
    def _decoded(self) -> tuple[list[str], list[int]]:
        """Kind and value of every event id."""
        pairs = [self.vocabulary.decode(token) for token in range(self.size)]
        return [kind for kind, _ in pairs], [value for _, value in pairs]

    def count_notes(self, ids: Any) -> int:
        """How many ids [token] are onsets."""
        ids, onset = np.asarray(ids), self.vocabulary.range_of("NOTE_ON")
        first = self.vocabulary.offsets["NOTE_ON"]
        return int(((ids >= first) & (ids < first + onset.size)).sum())

    def count_seconds(self, ids: Any) -> float:
        """How much time ids [token] shift over, in seconds."""
        ids = np.asarray(ids).astype(np.int64)
        first = self.vocabulary.offsets["TIME_SHIFT"]
        shifts = ids[(ids >= first) & (ids < first + MAX_SHIFT_STEPS)] - first + 1
        return float(shifts.sum()) / STEPS_PER_SECOND


@cache
def _transposition(events: Events, semitones: int) -> Tokens:
    """The id of each id in another key, uint16 [id]; `_OUTSIDE` for a pitch that leaves the table."""
    ids = np.arange(events.pad + 1, dtype=np.int64)
    low, high = events.pitch_range
    moved = np.arange(low, high + 1) + semitones
    for name in ("NOTE_ON", "NOTE_OFF"):
        first = events.vocabulary.offsets[name]
        fits = (moved >= low) & (moved <= high)
        ids[first : first + len(moved)] = np.where(fits, moved + events.vocabulary.base(name), _OUTSIDE)
    return ids.astype(np.uint16)


def quantised_steps(seconds: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Nearest 10 ms step of times in seconds, halves upwards, int64 of the same shape."""
    return (seconds * STEPS_PER_SECOND + 0.5).astype(np.int64)


def _ordered_events(piece: Piece) -> tuple[Any, Any, Any]:
    """Step, note and whether it is an onset, for both events of every note, ordered by (step, note, onset first).

    Notes are already in order of onset and pitch; a note that rounds to nothing lasts one step.
    """
    start, end = quantised_steps(piece.start_seconds()), quantised_steps(piece.end_seconds())
    end = np.maximum(end, start + 1)
    count = len(start)
    number = np.arange(count)
    keys = np.concatenate([start * (2 * count) + 2 * number, end * (2 * count) + 2 * number + 1])
    keys.sort()
    step, rest = np.divmod(keys, 2 * count)
    return step, rest >> 1, (rest & 1) == 0


def _velocity_changes(bins: Any, is_onset: Any) -> Any:
    """Which events need a velocity before them: onsets whose bin differs from the onset before, bool [event]."""
    onsets = np.flatnonzero(is_onset)
    changed = np.diff(bins[onsets], prepend=0) != 0
    result = np.zeros(len(bins), bool)
    result[onsets[changed]] = True
    return result
