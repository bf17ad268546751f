"""Fingerprints of pieces: the same content under two names, the same music in another key or tempo, and near copies.

`exact_fingerprint` and `music_fingerprint` are equal or they are not: one note that changes its place, because two that
sound almost together were rounded, makes another piece of it. `sketch` is what survives that: two sketches are compared
by how much they share (`near_copies`).
"""

import hashlib
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.music import Notes, Piece

_DIGEST_BYTES = 16
_FEW_NOTES = 16
"""Below this many notes an interval sequence says too little, and the rhythm is taken in."""
_VERY_FEW_NOTES = 4
"""Below this many even the rhythm says too little, and pieces in two keys are two pieces."""
_CELLS, _CELL_OFFSET = 12, 0.016
"""A rhythm is told in twelfths of its span. The offset keeps onsets that lie on a grid of up to 64 equal parts off the
edges of the cells, so that another resolution (an error of up to 0.13 % of the span) does not move one across."""

SKETCH_SIZE = 32
"""How many hashes a sketch holds at most."""
WINDOW = 10
"""How many notes in a row are hashed together."""
_SHORTEST_SKETCHED = 8
_WHOLE_SKETCHED = 32
_HEX_DIGITS = 12
_WORD = 1 << 64
_BASE = 0x9E3779B97F4A7C15

Hashes = npt.NDArray[np.uint64]


def exact_fingerprint(piece: Piece) -> str:
    """Equal for equal notes, controllers and tempo map, whatever the file is called or how it is coded."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    tempo = piece.tempo
    digest.update(f"{tempo.ticks_per_quarter} {tempo.stretch!r} {len(piece.notes)} {len(piece.controls)}".encode())
    columns = [getattr(arrays, column.name) for arrays in (piece.notes, piece.controls) for column in fields(arrays)]
    for column in (*columns, tempo.ticks, tempo.microseconds_per_quarter):
        packed = _packed(column)
        digest.update(f"{packed.dtype.str} {len(packed)} ".encode())
        digest.update(packed.data)
    return digest.hexdigest()


def _packed(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The column in few bytes, because hashing takes time by the byte: one value for all, ticks in 32 bits."""
    if len(column) and (column == column[0]).all():
        return np.ascontiguousarray(column[:1])
    if column.dtype == np.int64 and len(column) and abs(column[[column.argmin(), column.argmax()]]).max() < 1 << 31:
        return column.astype(np.int32)
    return np.ascontiguousarray(column)


def music_fingerprint(piece: Piece) -> str:
    """Equal for pieces that differ in key, tempo, resolution or loudness only: the intervals from onset to onset.

    Of fewer than 16 notes the onsets count too, in twelfths of the time from the first to the last; of fewer than 4 the
    key as well.
    """
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    notes = pitched(piece.notes)
    notes = notes if len(notes) else piece.notes
    digest.update(np.diff(notes.pitch).astype("<i2").tobytes())
    if len(notes) < _FEW_NOTES:
        digest.update(_rhythm(piece.tempo.seconds(notes.start)).tobytes())
    if len(notes) < _VERY_FEW_NOTES:
        digest.update(notes.pitch.astype("<i2").tobytes())
    return digest.hexdigest()


def pitched(notes: Notes) -> Notes:
    """All notes but drums."""
    return notes.select(~notes.drum) if notes.drum.any() else notes


def _rhythm(onsets: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
    """Which twelfth of the whole each onset lies in, int8 [note]; times are seconds, ascending."""
    span = float(onsets[-1] - onsets[0]) if len(onsets) else 0.0
    return np.floor((onsets - onsets[:1]) / (span or 1.0) * _CELLS + _CELL_OFFSET).astype(np.int8)


def sketch(piece: Piece) -> str:
    """What key, tempo, loudness, a later beginning and rounded times leave of a piece: at most 32 hashes, as hex.

    Every ten notes that follow one another (half as many as there are where there are fewer than twenty) are hashed as
    a bag of pitches above its lowest, and the smallest 32 different hashes are kept, ascending: a sample that copies
    agree on. Two notes that swap places change two bags of a whole piece. Pieces of up to 32 notes add the bag of all
    their notes. Drums are left out: their few pitches make every bag common. "" for fewer than 8 pitched notes.
    """
    pitch = pitched(piece.notes).pitch
    if len(pitch) < _SHORTEST_SKETCHED:
        return ""
    hashes = bags(pitch, min(WINDOW, len(pitch) // 2)).hashes
    if len(pitch) <= _WHOLE_SKETCHED:
        hashes = np.concatenate([hashes, bags(pitch, len(pitch)).hashes])
    smallest = _smallest(hashes) >> np.uint64(64 - 4 * _HEX_DIGITS)
    return "".join(f"{value:0{_HEX_DIGITS}x}" for value in smallest.tolist())


def sketch_hashes(text: str) -> Hashes:
    """The hashes of a sketch, uint64 [hash], ascending. Raises ValueError where the text is no sketch."""
    packed = np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, _HEX_DIGITS // 2)
    padded = np.zeros((len(packed), 8), np.uint8)
    padded[:, 8 - packed.shape[1] :] = packed
    return padded.view(">u8").ravel().astype(np.uint64)


def _powers(base: int) -> Hashes:
    """Powers of an odd number modulo 2^64, uint64 [128]."""
    return np.array([pow(base, exponent, _WORD) for exponent in range(128)], np.uint64)


_RAISED, _LOWERED = _powers(_BASE), _powers(pow(_BASE, -1, _WORD))


class Bags(NamedTuple):
    """Every so many notes in a row, without their order: uint64 hashes [bag], free of key; lowest pitch [bag]."""

    hashes: Hashes
    lowest: npt.NDArray[np.integer]


def bags(pitch: npt.NDArray[np.integer], size: int) -> Bags:
    """The bags of `size` notes that begin at each note.

    A bag is the sum of base^pitch, so that one running sum serves all of them, and transposition is a factor: it is
    taken out by the power of the lowest pitch.
    """
    running = np.zeros(len(pitch) + 1, np.uint64)
    np.cumsum(_RAISED[pitch], out=running[1:])
    lowest = _lowest(pitch, size)
    return Bags(_mixed((running[size:] - running[:-size]) * _LOWERED[lowest]), lowest)


def _lowest(pitch: npt.NDArray[np.integer], size: int) -> npt.NDArray[np.integer]:
    """The lowest of every `size` pitches in a row, in as many steps as size has binary digits."""
    lowest, reach = pitch, 1
    while reach < size:
        step = min(reach, size - reach)
        lowest, reach = np.minimum(lowest[:-step], lowest[step:]), reach + step
    return lowest


def _mixed(words: Hashes) -> Hashes:
    """Every bit depends on every bit: the last steps of SplitMix64 (Steele et al. 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _smallest(hashes: Hashes) -> Hashes:
    """The smallest different hashes, ascending, at most `SKETCH_SIZE`."""
    expected = 4 * SKETCH_SIZE
    if len(hashes) > 2 * expected:
        # Sorting all of a long piece would cost more than hashing it. Repeats are few: a share of the hashes will do.
        chosen = np.unique(hashes[hashes < np.uint64((_WORD - 1) // len(hashes) * expected)])
        if len(chosen) >= SKETCH_SIZE:
            return chosen[:SKETCH_SIZE]
    return np.unique(hashes)[:SKETCH_SIZE]
