"""Copies of pieces as people make them: other key, tempo and loudness, begun later, saved at another resolution."""

from dataclasses import replace

import numpy as np

from schemas.hashing import generator
from schemas.music import Controls, Notes, Piece, stretch, transpose


def begun_later(piece: Piece, seconds: float) -> Piece:
    """The piece after so many seconds of silence, to the nearest tick of its first tempo."""
    tempo = piece.tempo
    ticks = round(seconds / float(tempo.seconds(1)))
    notes, controls = piece.notes, piece.controls
    return replace(
        piece,
        notes=replace(notes, start=notes.start + ticks, end=notes.end + ticks),
        controls=replace(controls, tick=controls.tick + ticks),
        tempo=replace(tempo, ticks=np.where(tempo.ticks > 0, tempo.ticks + ticks, 0)),
    )


def with_velocities(piece: Piece, seed: int) -> Piece:
    """The piece with velocities of its own."""
    drawn = generator(seed, "velocities", "test").integers(1, 128, len(piece.notes))
    return replace(piece, notes=replace(piece.notes, velocity=drawn.astype(np.int16)))


def at_resolution(piece: Piece, ticks_per_quarter: int) -> Piece:
    """The piece with its ticks rounded to another resolution; notes that meet then are in order of pitch."""

    def rounded(ticks: np.ndarray) -> np.ndarray:
        return np.floor(ticks * ticks_per_quarter / piece.tempo.ticks_per_quarter + 0.5).astype(np.int64)

    notes, controls = piece.notes, piece.controls
    return replace(
        piece,
        notes=Notes.of(
            rounded(notes.start),
            rounded(notes.end),
            notes.pitch,
            notes.velocity,
            notes.program,
            notes.track,
            notes.drum,
        ),
        controls=Controls.of(rounded(controls.tick), controls.number, controls.value, controls.track),
        tempo=replace(piece.tempo, ticks_per_quarter=ticks_per_quarter, ticks=rounded(piece.tempo.ticks)),
    )


def copied(
    piece: Piece, semitones: int = 0, factor: float = 1.0, later: float = 0.0, velocities: int | None = None
) -> Piece:
    """A copy: higher by semitones, `factor` times as long, begun later by seconds, with velocities from a seed."""
    copy = begun_later(stretch(transpose(piece, semitones), factor), later)
    return copy if velocities is None else with_velocities(copy, velocities)


def played_again(piece: Piece, seed: int, looseness: float = 0.1) -> Piece:
    """Another performance: the tempo wanders by `looseness` from second to second, every onset by some milliseconds."""
    draw = generator(seed, "performance", "test")
    start, end = piece.tempo.seconds(piece.notes.start), piece.tempo.seconds(piece.notes.end)
    beats = np.arange(0.0, end.max() + 2.0)
    played = np.concatenate([[0.0], np.cumsum(np.exp(draw.normal(0, looseness, len(beats) - 1)))])
    onset = np.maximum(np.interp(start, beats, played) + draw.normal(0, 0.01, len(start)), 0)
    second = int(1 / float(piece.tempo.seconds(1)))
    ticks, length = np.round(onset * second), np.maximum(np.round((end - start) * second), 1)
    notes = Notes.of(ticks, ticks + length, piece.notes.pitch, piece.notes.velocity)
    return replace(piece, notes=notes)
