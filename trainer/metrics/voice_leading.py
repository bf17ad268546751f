"""Faults against the textbook in four voices: parallels, hidden parallels, crossings, range, spacing, dissonant beats.

The rules are those of part writing for four voices (Aldwell and Schachter, Harmony and Voice Leading, chapters 5 and
6; Huron 2001, Tone and Voice, says why they hold). Bach breaks each of them: a count has a meaning only beside his.

What a grid hides, and so what is not what a teacher would mark: a note struck again is one that is held, phrases do
not end (parallels across a fermata are allowed, and are counted here), intervals are sounding ones (a diminished
sixth is a fifth), and only neighbouring steps are compared (parallels from beat to beat around a passing note are not
found).
"""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.grid import HOLD, REST, VOICES, Cells

Array = npt.NDArray[Any]

SINGABLE = ((60, 79), (55, 72), (48, 67), (40, 60))
"""Lowest and highest pitch that the textbook gives soprano, alto, tenor and bass: C4-G5, G3-C5, C3-G4, E2-C4."""
WIDEST = 12
"""Semitones between soprano and alto, and alto and tenor; tenor and bass may be as far apart as they like."""
QUARTERS_A_BAR = 4
"""Of a bar here, whatever the metre: 16 steps on the grid of 16ths, so that pieces compare."""
_STEP = 2  # semitones; a larger move of the soprano is a leap

_CHORDS = (
    *((0,), (0, 3), (0, 4), (0, 7)),
    *((0, 4, 7), (0, 3, 7), (0, 3, 6), (0, 4, 8)),
    *((0, 4, 10), (0, 3, 10), (0, 4, 11)),
    *((0, 4, 7, 10), (0, 4, 7, 11), (0, 3, 7, 10), (0, 3, 6, 10), (0, 3, 6, 9)),
)
"""Semitones above the root: what is left of triads, the four triads, sevenths without their fifth, seventh chords."""


def _chord_table() -> Array:
    """Whether a set of pitch classes, as 12 bits, is a chord on some root, bool [4096]."""
    table = np.zeros(1 << 12, bool)
    for chord in _CHORDS:
        for root in range(12):
            table[sum(1 << (root + tone) % 12 for tone in chord)] = True
    return table


_IS_CHORD = _chord_table()


def faults(cells: Cells, steps_per_quarter: int = 4) -> dict[str, float]:
    """What is counted in one piece, cells uint8 [step, voice]; `rates` makes figures of the counts of many.

    `parallel_fifths`, `parallel_octaves`: moves of two voices in one direction from one perfect fifth to another (a
    unison is an octave, a twelfth a fifth), once for each pair and move; where both stay there is no move.
    `hidden`: moves of soprano and bass in one direction from another interval to a fifth or octave, the soprano by a
    leap. `crossings`, `wide`: how often an upper voice goes below its lower neighbour, and soprano and alto or alto and
    tenor go more than an octave apart, not how long. `out_of_range`: notes not SINGABLE. `dissonant`: beats with two
    voices or more whose pitch classes are no triad, no seventh chord (its fifth may be missing), and no third, fifth
    or unison. `beats` and `bars` are what there is of them.
    """
    pitch = held(cells)
    sounds = pitch < REST
    beats = pitch[::steps_per_quarter]
    judged = (beats < REST).sum(axis=1) >= 2
    return {
        **_parallels(pitch, sounds),
        "hidden": _hidden(pitch, sounds),
        "crossings": sum(_beginnings(low - high > 0) for high, low in _neighbours(pitch, sounds)),
        "wide": sum(_beginnings(high - low > WIDEST) for high, low in _neighbours(pitch, sounds)[:2]),
        "out_of_range": _out_of_range(pitch, sounds),
        "dissonant": int((judged & ~_IS_CHORD[_classes(beats)]).sum()),
        "beats": int(judged.sum()),
        "bars": len(cells) / (QUARTERS_A_BAR * steps_per_quarter),
    }


def rates(counts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Faults a bar, and `dissonant_beats` as a share of beats, over pieces of `faults`; sums are divided once.

    Empty where there is no bar; without beats the share is NaN.
    """
    rows = list(counts)
    bars = sum(row["bars"] for row in rows)
    if not bars:
        return {}
    beats = sum(row["beats"] for row in rows)
    names = [name for name in rows[0] if name not in ("bars", "beats", "dissonant")]
    dissonant = sum(row["dissonant"] for row in rows) / beats if beats else float("nan")
    return {**{name: sum(row[name] for row in rows) / bars for name in names}, "dissonant_beats": dissonant}


def held(cells: Cells) -> Array:
    """The cells with what HOLD means in its place, int64 [step, voice]; at the beginning it means a rest."""
    steps = np.arange(len(cells))[:, None]
    struck = np.maximum.accumulate(np.where(cells == HOLD, -1, steps), axis=0)
    held = np.take_along_axis(cells.astype(np.int64), np.maximum(struck, 0), axis=0)
    return np.where((struck < 0) | (held > REST), REST, held)


def _parallels(pitch: Array, sounds: Array) -> dict[str, float]:
    found = {"parallel_fifths": 0.0, "parallel_octaves": 0.0}
    for one, other in combinations(range(len(VOICES)), 2):
        interval, together = _moves(pitch, sounds, one, other)
        for name, size in (("parallel_fifths", 7), ("parallel_octaves", 0)):
            found[name] += int((together & (interval[:-1] == size) & (interval[1:] == size)).sum())
    return found


def _hidden(pitch: Array, sounds: Array) -> int:
    interval, together = _moves(pitch, sounds, 0, len(VOICES) - 1)
    leap = np.abs(np.diff(pitch[:, 0])) > _STEP
    arrives = np.isin(interval[1:], (0, 7)) & (interval[:-1] != interval[1:])
    return int((together & leap & arrives).sum())


def _moves(pitch: Array, sounds: Array, one: int, other: int) -> tuple[Array, Array]:
    """Interval of two voices in semitones modulo 12, int64 [step], and where both move one way, bool [step - 1].

    From the lower to the higher pitch, whichever voice has it: a fourth of crossed voices is no fifth.
    """
    pair = pitch[:, [one, other]]
    heard = sounds[:, one] & sounds[:, other]
    first, second = np.sign(np.diff(pair, axis=0)).T
    return np.abs(pair[:, 0] - pair[:, 1]) % 12, (first * second > 0) & heard[:-1] & heard[1:]


def _neighbours(pitch: Array, sounds: Array) -> list[tuple[Array, Array]]:
    """Pitches of each upper voice and of the one below it, int64 [step] each; equal where one of them is silent."""
    both = sounds[:, :-1] & sounds[:, 1:]
    return [
        (np.where(both[:, voice], pitch[:, voice], 0), np.where(both[:, voice], pitch[:, voice + 1], 0))
        for voice in range(len(VOICES) - 1)
    ]


def _beginnings(held: Array) -> int:
    """How often a condition, bool [step], becomes true."""
    return int((held & ~np.concatenate([[False], held[:-1]])).sum())


def _out_of_range(pitch: Array, sounds: Array) -> int:
    low, high = np.transpose(SINGABLE)
    new = np.concatenate([np.ones((1, len(VOICES)), bool), np.diff(pitch, axis=0) != 0])[: len(pitch)]
    return int((new & sounds & ((pitch < low) | (pitch > high))).sum())


def _classes(pitch: Array) -> Array:
    """The pitch classes that sound, as 12 bits, int64 [step]."""
    bits: Array = np.where(pitch < REST, 1 << pitch % 12, 0)
    classes: Array = np.bitwise_or.reduce(bits, axis=1)
    return classes
