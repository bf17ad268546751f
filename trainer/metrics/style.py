"""Plain statistics of music, and how far produced music lies from real music in each; a bare value says nothing.

Pitch-class entropy and polyphony as in muspy (Dong et al. 2020), over sounding time and not over beats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from schemas.music import Piece


def statistics(piece: Piece) -> dict[str, float]:
    """Of one piece with notes; pitch in semitones, entropy in bits, velocity 1..127, all means over the notes.

    `polyphony` is how many notes sound at once, averaged over the piece.
    """
    notes = piece.notes
    lengths = piece.end_seconds() - piece.start_seconds()
    shares = np.bincount(notes.pitch % 12, minlength=12) / len(notes)
    seconds = max(piece.seconds, 1e-9)
    return {
        "notes_per_second": len(notes) / seconds,
        "pitch": float(notes.pitch.mean()),
        "pitch_class_entropy": float(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum()),
        "velocity": float(notes.velocity.mean()),
        "note_seconds": float(lengths.mean()),
        "polyphony": float(lengths.sum() / seconds),
    }


def means(pieces: Sequence[Piece]) -> dict[str, float]:
    """Mean of each statistic over the pieces that have notes; empty where none has."""
    rows = [statistics(piece) for piece in pieces if len(piece.notes)]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} if rows else {}


def differences(reference: Sequence[Piece], produced: Sequence[Piece]) -> dict[str, float]:
    """Mean of the produced pieces minus mean of the reference, by statistic; pieces without notes are left out."""
    real, made = means(reference), means(produced)
    return {name: made[name] - real[name] for name in made} if real else {}
