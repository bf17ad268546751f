"""Augmentation: copies of a training piece in other keys and tempos; one that leaves the range is dropped, not clipped.

Nothing is drawn at random: every factor is combined with every transposition, in a fixed order, so a copy's key says
all about it. Pieces outside train have one copy, the original.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.music import Piece, stretch, transpose
from schemas.representation import Representation

ORIGINAL = ((0,), (1.0,))


@dataclass(frozen=True)
class Variants:
    """Which copies are made: every transposition (semitones) with every factor on time, inside a pitch range."""

    transpose: tuple[int, ...]
    stretch: tuple[float, ...]
    pitch_range: tuple[int, int]

    @property
    def pairs(self) -> list[tuple[int, float]]:
        """Every combination of semitones and factor."""
        return [(semitones, factor) for factor in self.stretch for semitones in self.transpose]

    @property
    def count(self) -> int:
        """Copies of one piece, before any is dropped."""
        return len(self.transpose) * len(self.stretch)


def variants_of(
    split: str, transpositions: Sequence[int], factors: Sequence[float], pitch_range: tuple[int, int]
) -> Variants:
    """The copies that a split has."""
    chosen = (tuple(transpositions), tuple(factors)) if split == "train" else ORIGINAL
    return Variants(*chosen, pitch_range)


def from_original(semitones: int, factor: float) -> tuple[float, int, int]:
    """How far a copy is from the original, for sorting: in time, then in pitch; a lower key before a higher one."""
    return abs(math.log(factor)) if factor > 0 else math.inf, abs(semitones), semitones


@dataclass(frozen=True)
class Tempo:
    """One factor on time: the piece at that tempo, and the transpositions of it that fit."""

    factor: float
    piece: Piece
    transpositions: tuple[int, ...]


def augment(piece: Piece, variants: Variants, representation: Representation) -> tuple[list[Tempo], dict[str, int]]:
    """The copies of a piece by tempo, and how many were dropped for which reason."""
    kept: list[int] = []
    dropped: dict[str, int] = {}
    for semitones in variants.transpose:
        reason = refusal(piece, semitones, variants.pitch_range, representation)
        if reason:
            dropped[reason] = dropped.get(reason, 0) + len(variants.stretch)
        else:
            kept.append(semitones)
    return [Tempo(factor, stretch(piece, factor), tuple(kept)) for factor in variants.stretch if kept], dropped


def refusal(piece: Piece, semitones: int, pitch_range: tuple[int, int], representation: Representation) -> str:
    """Why a transposition is dropped: "instrument", "table", or "" where it fits."""
    span = piece.pitch_span()
    low, high = max(pitch_range[0], 0), min(pitch_range[1], 127)
    if span and not low <= span[0] + semitones <= span[1] + semitones <= high:
        return "instrument"
    return "" if representation.fits(transpose(piece, semitones)) else "table"
