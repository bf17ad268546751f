"""Four voices in cells: for every step of a grid what soprano, alto, tenor and bass sing, uint8 [step, voice].

Source: the input of Coconet (Huang et al. 2017), kept as numbers: the model makes its rolls and masks of them. The file
of its authors does not tell a held note from one struck again, and neither do cells without `hold`.

What the encoding cannot say: times between two steps (a cell is what sounds when its step begins, and a shorter note is
not heard), loudness, tempo, and without `hold` notes struck again. `unsaid` counts what is lost of a piece.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from schemas.feature import Feature, Record
from schemas.grid import (
    GRIDS,
    HOLD,
    RANGES,
    REST,
    VOICES,
    Cells,
    cells_of,
    check_grid,
    losses,
    misfit,
    piece_of,
    transposed,
    within,
)
from schemas.music import Piece
from schemas.settings import setting
from schemas.window import CELLS, check_window

MAX_WINDOW = 1 << 22
"""Steps; a window is laid out in memory whole, however short the piece."""


@dataclass(frozen=True)
class Voices:
    """Cells of four voices as records of `window` steps, padded at the end with rests.

    Attributes:
        grid: how long a step is.
        window: steps in a record; 0 keeps pieces whole.
        hop: steps from one window to the next, train only; 0 means the window.
        hold: whether a step says that the note before goes on.
        ranges: the pitches that each voice may have; a copy that leaves them is dropped.
        decoded_tempo: quarter notes a minute of what is decoded; the cells do not depend on it.
    """

    voices: ClassVar[int] = len(VOICES)

    grid: str = setting("16th", help="How long a step is.", choices=tuple(GRIDS))
    window: int = setting(64, help="Steps in a record; 0 keeps each piece whole.")
    hop: int = setting(0, help="Steps from one training window to the next; 0 means the window.")
    hold: bool = setting(False, help="Tell a note that goes on from one that is struck again.")
    ranges: str = setting(
        "vocal", help="Pitches of each voice: what chorales use, or any of 0..127.", choices=tuple(RANGES)
    )
    decoded_tempo: float = setting(100.0, help="Quarter notes a minute of decoded music.")

    def __post_init__(self) -> None:
        check_grid(self.grid, self.ranges, self.decoded_tempo)
        check_window(self.window, self.hop, MAX_WINDOW)

    @property
    def steps_per_quarter(self) -> int:
        """How many steps a quarter note has."""
        return GRIDS[self.grid]

    def features(self) -> dict[str, Feature]:
        """A record of cells."""
        shape, largest = (self.window or None, self.voices), HOLD if self.hold else REST
        doc = "MIDI pitch of soprano, alto, tenor, bass; 128 rest, 129 hold."
        return {
            "pitches": Feature("uint8", ("step", "voice"), shape, "semitone", doc, "raw", 0, largest),
            "start_step": Feature("int64", unit="step", doc="Place of the first step in its piece.", minimum=0),
            "piece_steps": Feature("int64", unit="step", doc="How many steps the whole piece has.", minimum=0),
        }

    def for_split(self, split: str) -> Self:
        """Outside train, windows do not overlap."""
        return self if split == "train" or not self.hop else replace(self, hop=0)

    def misfit(self, piece: Piece) -> tuple[str, str] | None:
        """Reason and sentence why a piece is no four voices; None where it is."""
        return misfit(piece, self.steps_per_quarter)

    def unsaid(self, piece: Piece) -> dict[str, int]:
        """How many notes are lost between two steps, moved to one, or said as one with the note before."""
        return losses(piece, self.steps_per_quarter, self.hold).told

    def prepared(self, piece: Piece) -> Piece:
        """What the cells say of the piece, and nothing else."""
        decoded = self.piece_from_cells(self.cells(piece), piece.name)
        return replace(decoded, time_signatures=piece.time_signatures, key_signatures=piece.key_signatures)

    def fits(self, piece: Piece) -> bool:
        """Whether every note is in the range of its voice."""
        return within(piece, RANGES[self.ranges])

    def cells(self, piece: Piece) -> Cells:
        """The cells of a whole piece, uint8 [step, voice]. Raises InvalidMusic where it is no four voices."""
        return cells_of(piece, self.steps_per_quarter, self.hold)

    def encode(self, piece: Piece) -> Iterator[Record]:
        """Records of a piece. Raises InvalidMusic where it is no four voices."""
        return CELLS.cut(self.cells(piece), self.window, self.hop, REST)

    def transposed(self, record: Record, semitones: int) -> Record:
        """The same window in another key. Raises ValueError where a note leaves the range of its voice."""
        return {**record, "pitches": transposed(record["pitches"], semitones, RANGES[self.ranges])}

    def decode(self, records: Iterable[Record]) -> Piece:
        """The piece of records in any order; what is no pitch and has no meaning where it stands is a rest."""
        return self.piece_from_cells(CELLS.join(records))

    def piece_from_cells(self, cells: Any, name: str = "cells") -> Piece:
        """The piece of cells [step, voice]."""
        return piece_of(np.asarray(cells), self.steps_per_quarter, self.decoded_tempo, self.hold, name)
