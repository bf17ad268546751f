"""Long-term structure: what comes back, after how long, and where something new begins; and notes that stand alone.

Each figure is read beside that of the corpus and that of the same corpus with its bars shuffled: what is no higher than
shuffled says nothing about structure. Self-similarity and novelty: Foote 1999, 2000. Mutual information by distance:
Lin and Tegmark 2017. All figures are sums over the pieces divided once; None where nothing could be counted.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.metrics.bars import STEPS, Bars

Array = npt.NDArray[Any]
Figures = dict[str, Any]

LAGS = tuple(range(1, 17))
"""Distances, in bars or seconds, at which repetition is looked for."""
NOTE_LAGS = (1, 2, 4, 8, 16, 32, 64)
"""Distances, in notes, at which mutual information is measured."""
HALF = 4
"""Units on either side of a border that novelty compares."""
_SHORT = 1 / STEPS - 1e-6
_CLASSES = 12


def structure(pieces: Sequence[Bars]) -> Figures:
    """The figures of pieces together.

    `exact`, `transposed`: [lag] share of the pairs of units at a distance of LAGS that are equal, or equal but for
    their pitch level; silent units are no pair. `repeated`: share of units that were there before in their piece.
    `similar_roll`, `similar_chroma`: [lag] mean cosine of the pairs. `novelty_roll`, `novelty_chroma`: mean of
    `novelty`. `information_bits`: [note lag] as `information` has it. `short_notes`: share of notes shorter than a
    step. `lonely_notes`: share of notes that no other one comes within a beat of.
    """
    exact = [_labels(piece.roll, _as_it_is) for piece in pieces]
    moved = [_labels(piece.roll, _from_the_lowest) for piece in pieces]
    return {
        "lags": list(LAGS),
        "exact": _equal_by_lag(exact),
        "transposed": _equal_by_lag(moved),
        "repeated": _repeated(exact),
        **_similarities(pieces, "roll", roll_features),
        **_similarities(pieces, "chroma", chroma_features),
        "note_lags": list(NOTE_LAGS),
        "information_bits": [information(pieces, lag) for lag in NOTE_LAGS],
        "short_notes": _mean(piece.end - piece.start < _SHORT for piece in pieces),
        "lonely_notes": _mean(map(_lonely, pieces)),
    }


def roll_features(piece: Bars) -> Array:
    """What sounds when, float32 [unit, step * pitch]."""
    return (piece.roll > 0).astype(np.float32).reshape(piece.units, STEPS * 128)


def chroma_features(piece: Bars) -> Array:
    """How many steps each pitch class sounds, float32 [unit, 12]."""
    pitches = np.count_nonzero(piece.roll, axis=1)
    padded = np.pad(pitches, ((0, 0), (0, -128 % _CLASSES)))
    chroma: Array = padded.reshape(piece.units, 11, _CLASSES).sum(axis=1).astype(np.float32)
    return chroma


def self_similarity(features: Array) -> Array:
    """Cosine of every two units, float32 [unit, unit] in 0..1; 0 for silent ones."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(length > 0, length, 1)
    similarity: Array = unit @ unit.T
    return similarity


def novelty(similarity: Array, half: int = HALF) -> Array:
    """How much more alike the units on either side of a border are than those across it, float64 [border].

    A checkerboard tapered by a Gaussian moves along the diagonal (Foote 2000); the diagonal itself does not count. The
    first border lies before unit `half`, the last `half` units before the end; a shorter piece has none.
    """
    kernel = _checkerboard(half)
    borders = range(half, len(similarity) - half + 1)
    return np.array([(kernel * similarity[at - half : at + half, at - half : at + half]).sum() for at in borders])


def _checkerboard(half: int) -> Array:
    """Weights [2 half, 2 half] that sum to 1 within the two sides and to -1 across."""
    away = np.arange(-half, half) + 0.5
    kernel = np.exp(-(away[:, None] ** 2 + away**2) * 2 / half**2)
    np.fill_diagonal(kernel, 0)
    within = np.sign(away[:, None] * away) > 0
    weights: Array = np.where(within, kernel / kernel[within].sum(), -kernel / kernel[~within].sum())
    return weights


def information(pieces: Iterable[Bars], lag: int) -> float | None:
    """Bits that an interval tells of the one `lag` notes later, in the order of onset, then pitch.

    Intervals are modulo an octave, so that keys tell nothing. The bias of few counts is taken off (Miller 1955), so
    that it can be a little below 0.
    """
    joint = np.zeros((_CLASSES, _CLASSES), np.int64)
    for piece in pieces:
        intervals = np.diff(piece.pitch) % _CLASSES
        np.add.at(joint, (intervals[:-lag], intervals[lag:]), 1)
    count = joint.sum()
    if not count:
        return None
    entropies = [_entropy_bits(table) for table in (joint.sum(axis=0), joint.sum(axis=1), joint.reshape(-1))]
    return float(entropies[0] + entropies[1] - entropies[2])


def _entropy_bits(counts: Array) -> float:
    seen = counts[counts > 0]
    share = seen / seen.sum()
    return float(-(share * np.log2(share)).sum() + (len(seen) - 1) / (2 * np.log(2) * seen.sum()))


def _labels(roll: Array, form: Callable[[Array], Array]) -> Array:
    """A number for each unit, equal where they are equal in a form, int64 [unit]; -1 where it is silent."""
    numbers: dict[bytes, int] = {}
    return np.array(
        [numbers.setdefault(form(unit).tobytes(), len(numbers)) if unit.any() else -1 for unit in roll], np.int64
    )


def _as_it_is(unit: Array) -> Array:
    return unit


def _from_the_lowest(unit: Array) -> Array:
    return np.roll(unit, -int(np.argmax(unit.any(axis=0))), axis=1)


def _equal_by_lag(labels: Sequence[Array]) -> list[float | None]:
    return [_mean(_pairs_equal(own, lag) for own in labels) for lag in LAGS]


def _pairs_equal(labels: Array, lag: int) -> Array:
    """Of each pair of sounding units whether it is equal, bool [pair]."""
    before, after = labels[:-lag], labels[lag:]
    both = (before >= 0) & (after >= 0)
    equal: Array = before[both] == after[both]
    return equal


def _repeated(labels: Sequence[Array]) -> float | None:
    sounding = [own[own >= 0] for own in labels]
    return _mean(np.isin(np.arange(len(own)), np.unique(own, return_index=True)[1], invert=True) for own in sounding)


def _similarities(pieces: Sequence[Bars], name: str, features: Callable[[Bars], Array]) -> Figures:
    found = [self_similarity(features(piece)) for piece in pieces]
    return {
        f"similar_{name}": [_mean(_sounding(matrix, lag) for matrix in found) for lag in LAGS],
        f"novelty_{name}": _mean(map(novelty, found)),
    }


def _sounding(similarity: Array, lag: int) -> Array:
    """The pairs at this distance of which neither is silent."""
    heard = np.diagonal(similarity) > 0
    return np.diagonal(similarity, lag)[heard[:-lag] & heard[lag:]]


def _lonely(piece: Bars) -> Array:
    """Whether no other note sounds from a beat before each note to a beat after it, bool [note]."""
    if not len(piece.start):
        return np.zeros(0, bool)
    ended = np.concatenate([[-np.inf], np.maximum.accumulate(piece.end)[:-1]])
    begins = np.concatenate([piece.start[1:], [np.inf]])
    return (ended < piece.start - piece.beat) & (begins > piece.end + piece.beat)


def _mean(values: Iterable[Array]) -> float | None:
    """Mean of all values of all arrays; None where there is none."""
    joined = np.concatenate([np.zeros(0), *values])
    return float(joined.mean()) if len(joined) else None
