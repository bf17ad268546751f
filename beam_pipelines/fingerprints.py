"""Fingerprints of pieces: the same file content under two names, and the same music in another key or tempo."""

import hashlib
from dataclasses import fields

import numpy as np

from schemas.music import Piece

_DIGEST_BYTES = 16
_FEW_NOTES = 16
"""Below this many notes an interval sequence says too little, and the rhythm is taken in."""


def exact_fingerprint(piece: Piece) -> str:
    """Equal for equal notes, controllers and tempo map, whatever the file is called or how it is coded."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    tempo = piece.tempo
    digest.update(f"{tempo.ticks_per_quarter} {tempo.stretch!r} {len(piece.notes)} {len(piece.controls)}".encode())
    for arrays in (piece.notes, piece.controls):
        for column in fields(arrays):
            digest.update(np.ascontiguousarray(getattr(arrays, column.name)).data)
    digest.update(np.ascontiguousarray(tempo.ticks).data)
    digest.update(np.ascontiguousarray(tempo.microseconds_per_quarter).data)
    return digest.hexdigest()


def music_fingerprint(piece: Piece) -> str:
    """Equal for pieces that differ in key, tempo, resolution or loudness only: the intervals from onset to onset."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    notes = piece.notes.select(~piece.notes.drum) if piece.notes.drum.any() else piece.notes
    notes = notes if len(notes) else piece.notes
    digest.update(np.diff(notes.pitch).astype("<i2").tobytes())
    if len(notes) < _FEW_NOTES:
        times = np.concatenate([notes.start, notes.end]) - (notes.start[0] if len(notes) else 0)
        digest.update(times.astype("<i8").tobytes())
    return digest.hexdigest()
