"""Cleaning: which pieces are fit for a dataset. Each rule has a reason that stands in the ledger.

| reason          | status      | meaning                                                                    |
| --------------- | ----------- | -------------------------------------------------------------------------- |
| empty           | skipped     | sound, but there is no note in it                                          |
| not-four-voices, too-many-steps | skipped | the representation cannot say it in any key (its `misfit`)     |
| out-of-range    | skipped     | a note is outside the corpus's instrument or the representation's table    |
| bad-…, negative-time, ragged | quarantined | no performance can have these notes (`schemas.music.validate`) |

How much music a piece may hold stands in `limits`.
"""

from dataclasses import dataclass
from typing import Literal

from schemas.music import InvalidMusic, Piece, validate
from schemas.representation import Representation

Status = Literal["written", "skipped", "quarantined"]


@dataclass(frozen=True)
class Refusal:
    """Why a piece is not written: a status, a short word, a sentence, and where in the file, where that is known."""

    status: Status
    reason: str
    message: str
    offset: int | None = None
    track: int | None = None


def clean(piece: Piece, pitch_range: tuple[int, int], representation: Representation) -> Refusal | None:
    """Why the piece is refused, or None where it is fit for an instrument of this range and a representation."""
    if not len(piece.notes):
        return Refusal("skipped", "empty", f"{piece.name}: holds no note")
    try:
        validate(piece)
    except InvalidMusic as error:
        return Refusal("quarantined", error.reason, str(error))
    misfit = getattr(representation, "misfit", lambda piece: None)(piece)
    if misfit:
        return Refusal("skipped", misfit[0], f"{piece.name}: {misfit[1]}")
    if in_range(piece, pitch_range) and representation.fits(piece):
        return None
    span = piece.pitch_span()
    pitches = f"{span[0]}..{span[1]}" if span else "of drums"
    instrument = f"{pitch_range[0]}..{pitch_range[1]}"
    message = f"{piece.name}: pitches {pitches} do not fit the instrument {instrument} and the table of events"
    return Refusal("skipped", "out-of-range", message)


def in_range(piece: Piece, pitch_range: tuple[int, int]) -> bool:
    """Whether every pitched note lies in the range, both ends included."""
    span = piece.pitch_span()
    return span is None or (pitch_range[0] <= span[0] and span[1] <= pitch_range[1])
