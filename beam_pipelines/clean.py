"""Cleaning: which pieces are fit for a dataset. Each rule has a reason that stands in the ledger.

| reason          | status      | meaning                                                                    |
| --------------- | ----------- | -------------------------------------------------------------------------- |
| empty           | skipped     | sound, but there is no note in it                                          |
| out-of-range    | skipped     | a note is outside the corpus's instrument or the representation's table    |
| too-long        | quarantined | lasts longer than `--max-seconds` (a damaged delta time makes days)        |
| too-many-notes  | quarantined | more notes than `--max-notes`                                              |
| bad-…, negative-time, ragged | quarantined | no performance can have these notes (`schemas.music.validate`) |

Length is judged by time, not by ticks: with a fine resolution a sound piece has very many ticks.
"""

from dataclasses import dataclass
from typing import Literal

from schemas.music import InvalidMusic, Piece, validate
from schemas.representation import Representation

Status = Literal["written", "skipped", "quarantined"]


@dataclass(frozen=True)
class Refusal:
    """Why a piece is not written: a status, a short word and a sentence."""

    status: Status
    reason: str
    message: str
    offset: int | None = None


@dataclass(frozen=True)
class Limits:
    """What a piece may be: at most so many seconds and notes, every pitch in the instrument's range and the table."""

    max_seconds: float
    max_notes: int
    pitch_range: tuple[int, int]
    representation: Representation


def clean(piece: Piece, limits: Limits) -> Refusal | None:
    """Why the piece is refused, or None where it is fit."""
    if not len(piece.notes):
        return Refusal("skipped", "empty", f"{piece.name}: holds no note")
    if len(piece.notes) > limits.max_notes:
        return Refusal(
            "quarantined",
            "too-many-notes",
            f"{piece.name}: {len(piece.notes)} notes, --max-notes allows {limits.max_notes}",
        )
    try:
        validate(piece)
    except InvalidMusic as error:
        return Refusal("quarantined", error.reason, str(error))
    if not piece.seconds <= limits.max_seconds:
        return Refusal(
            "quarantined",
            "too-long",
            f"{piece.name}: lasts {piece.seconds:.0f} s, --max-seconds allows {limits.max_seconds:g}",
        )
    return _range_refusal(piece, limits)


def _range_refusal(piece: Piece, limits: Limits) -> Refusal | None:
    low, high = limits.pitch_range
    if in_range(piece, limits.pitch_range) and limits.representation.fits(piece):
        return None
    span = piece.pitch_span()
    pitches = f"{span[0]}..{span[1]}" if span else "of drums"
    return Refusal(
        "skipped",
        "out-of-range",
        f"{piece.name}: pitches {pitches} do not fit the instrument {low}..{high} and the table of events",
    )


def in_range(piece: Piece, pitch_range: tuple[int, int]) -> bool:
    """Whether every pitched note lies in the range, both ends included."""
    span = piece.pitch_span()
    return span is None or (pitch_range[0] <= span[0] and span[1] <= pitch_range[1])
