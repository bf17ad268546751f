"""What every encoding of four voices on a grid shares: its settings, the cells of a piece, the piece of cells."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from schemas.grid import GRIDS, RANGES, VOICES, Cells, cells_of, check_grid, losses, misfit, piece_of, within
from schemas.music import Piece
from schemas.settings import setting


@dataclass(frozen=True)
class FourVoices:
    """Settings and methods that do not depend on how records are laid out.

    Attributes:
        grid: how long a step is.
        window: elements in a record; 0 keeps pieces whole.
        hop: elements from one window to the next, train only; 0 means the window.
        hold: whether a step says that the note before goes on.
        ranges: the pitches that each voice may have; a copy that leaves them is dropped.
        decoded_tempo: quarter notes a minute of what is decoded; records do not depend on it.
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

    @property
    def steps_per_quarter(self) -> int:
        """How many steps a quarter note has."""
        return GRIDS[self.grid]

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

    def steps_in(self, seconds: float) -> int:
        """Steps of decoded music that last so long, 1 or more."""
        return max(1, round(seconds * self.decoded_tempo / 60 * self.steps_per_quarter))

    def cells(self, piece: Piece) -> Cells:
        """The cells of a whole piece, uint8 [step, voice]. Raises InvalidMusic where it is no four voices."""
        return cells_of(piece, self.steps_per_quarter, self.hold)

    def piece_from_cells(self, cells: Any, name: str = "cells") -> Piece:
        """The piece of cells [step, voice]."""
        return piece_of(np.asarray(cells), self.steps_per_quarter, self.decoded_tempo, self.hold, name)
