"""Four voices as one sequence of ids: step by step, and in a step soprano, alto, tenor, bass.

Source: the serialised grid on which Music Transformer (Huang et al. 2019) and its successors report the chorales of the
published 229/76/77 split. An id 0..127 is a MIDI pitch, 128 a rest, 129 (only with `hold`) that the note of the step
before goes on; BOS and PAD follow. Without `hold` there are 129 ids, and a note that is held equals one struck again:
a property of the benchmark. The voice of an id is its place in the piece modulo 4, the sixteenth in its bar of four
quarters (place // 4) modulo 16.

What the encoding cannot say: times between two steps (an id is what sounds when its step begins, and a shorter note is
not heard), loudness, tempo, and without `hold` notes struck again. `unsaid` counts what is lost of a piece.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.feature import Feature, Record
from schemas.four_voices import FourVoices
from schemas.grid import HOLD, RANGES, REST, transposed
from schemas.music import Piece
from schemas.redrawing import redrawn
from schemas.settings import setting
from schemas.tokens import Tokens, cut_tokens, join_tokens, token_features
from schemas.window import TOKENS, check_window

MAX_WINDOW = 1 << 24
"""Tokens; a window is laid out in memory whole, however short the piece."""


@dataclass(frozen=True)
class Raster(FourVoices):
    """Cells of four voices, one after another, as token records; window and hop are multiples of 4."""

    window: int = setting(256, help="Tokens in a record, four for each step; 0 keeps each piece whole.")
    hop: int = setting(0, help="Tokens from one training window to the next; 0 means the window.")

    def __post_init__(self) -> None:
        super().__post_init__()
        # A window that began inside a step would tell a model the wrong voices.
        check_window(self.window, self.hop, MAX_WINDOW, self.voices)

    @property
    def size(self) -> int:
        """How many ids there are, without BOS and PAD."""
        return (HOLD if self.hold else REST) + 1

    @property
    def bos(self) -> int:
        """The id that stands for "no context"."""
        return self.size

    @property
    def pad(self) -> int:
        """The id after the last one of a piece."""
        return self.size + 1

    def features(self) -> dict[str, Feature]:
        """A token record."""
        return token_features(self.window, self.pad)

    def tokens(self, piece: Piece) -> Tokens:
        """The ids of a whole piece, uint16 [token]. Raises InvalidMusic where it is no four voices."""
        return self.cells(piece).reshape(-1).astype(np.uint16)

    def encode(self, piece: Piece) -> Iterator[Record]:
        """Token records of a piece. Raises InvalidMusic where it is no four voices."""
        return cut_tokens(self.tokens(piece), self.window, self.hop, self.pad)

    def transposed(self, record: Record, semitones: int) -> Record:
        """The same window in another key. Raises ValueError where a note leaves the range of its voice."""
        cells = record["tokens"].reshape(-1, self.voices)
        return {**record, "tokens": transposed(cells, semitones, RANGES[self.ranges]).reshape(-1)}

    def redraw(
        self, record: Record, generator: np.random.Generator, crop: int, transpose: Sequence[int]
    ) -> Record | None:
        """A window of `crop` ids of whole steps, its place and its key drawn; None where a note leaves its range."""
        return redrawn(TOKENS, record, generator, crop, transpose, self.transposed, self.pad, self.voices)

    def decode(self, records: Iterable[Record]) -> Piece:
        """The piece of token records; ids that are no pitch and have no meaning where they stand are rests."""
        return self.piece_from_tokens(join_tokens(records))

    def piece_from_tokens(self, ids: Any, name: str = "tokens") -> Piece:
        """The piece of ids [token]; voices that the last step does not name are silent in it."""
        ids = np.asarray(ids, np.int64)
        ids = np.concatenate([ids, np.full(-len(ids) % self.voices, REST)])
        return self.piece_from_cells(ids.reshape(-1, self.voices), name)

    def count_notes(self, ids: Any) -> int:
        """How many notes ids [token] hold, those that sound already before the first of them included."""
        ids = np.asarray(ids).astype(np.int64)
        sounds = ids < REST
        if not self.hold:
            sounds[self.voices :] &= ids[self.voices :] != ids[: -self.voices]
        return int(sounds.sum())

    def count_seconds(self, ids: Any) -> float:
        """How long ids [token] last at the tempo of what is decoded, in seconds; padding takes no time."""
        steps = int((np.asarray(ids) < self.size).sum()) / self.voices
        return steps / self.steps_per_quarter * 60.0 / self.decoded_tempo
