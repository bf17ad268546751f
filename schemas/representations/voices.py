"""Four voices in cells: for every step of a grid what soprano, alto, tenor and bass sing, uint8 [step, voice].

Source: the input of Coconet (Huang et al. 2017), kept as numbers: the model makes its rolls and masks of them. The file
of its authors does not tell a held note from one struck again, and neither do cells without `hold`.

What the encoding cannot say: times between two steps (a cell is what sounds when its step begins, and a shorter note is
not heard), loudness, tempo, and without `hold` notes struck again. `unsaid` counts what is lost of a piece.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from schemas.feature import Feature, Record
from schemas.four_voices import FourVoices
from schemas.grid import HOLD, RANGES, REST, transposed
from schemas.music import Piece
from schemas.redrawing import redrawn
from schemas.window import CELLS, check_window

MAX_WINDOW = 1 << 22
"""Steps; a window is laid out in memory whole, however short the piece."""


@dataclass(frozen=True)
class Voices(FourVoices):
    """Cells of four voices as records of `window` steps, padded at the end with rests."""

    pad: ClassVar[int] = REST

    def __post_init__(self) -> None:
        super().__post_init__()
        check_window(self.window, self.hop, MAX_WINDOW)

    def features(self) -> dict[str, Feature]:
        """A record of cells."""
        shape, largest = (self.window or None, self.voices), HOLD if self.hold else REST
        doc = "MIDI pitch of soprano, alto, tenor, bass; 128 rest, 129 hold."
        return {
            "pitches": Feature("uint8", ("step", "voice"), shape, "semitone", doc, "raw", 0, largest),
            "start_step": Feature("int64", unit="step", doc="Place of the first step in its piece.", minimum=0),
            "piece_steps": Feature("int64", unit="step", doc="How many steps the whole piece has.", minimum=0),
        }

    def encode(self, piece: Piece) -> Iterator[Record]:
        """Records of a piece. Raises InvalidMusic where it is no four voices."""
        return CELLS.cut(self.cells(piece), self.window, self.hop, self.pad)

    def transposed(self, record: Record, semitones: int) -> Record:
        """The same window in another key. Raises ValueError where a note leaves the range of its voice."""
        return {**record, "pitches": transposed(record["pitches"], semitones, RANGES[self.ranges])}

    def redraw(
        self, record: Record, generator: np.random.Generator, crop: int, transpose: Sequence[int]
    ) -> Record | None:
        """A window of `crop` steps of a record, its place and its key drawn; None where a note leaves its range."""
        return redrawn(CELLS, record, generator, crop, transpose, self.transposed, self.pad)

    def decode(self, records: Iterable[Record]) -> Piece:
        """The piece of records in any order; what is no pitch and has no meaning where it stands is a rest."""
        return self.piece_from_cells(CELLS.join(records))
