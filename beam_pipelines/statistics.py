"""What a dataset holds, in numbers: counted while a shard is written, and again from the shards by `verify`.

Every number is an integer and every sum is over integers, so neither the order of shards nor the number of workers can
change it; time is counted in hundredths of a second. What is heard is counted from originals only (`…#+0@1`, pedal
applied), because a copy repeats its original; what is stored (copies, records, tokens) is counted from everything.

Notes of one pitch share one key, as on a piano: a note ends, at the latest, at the next onset or release of its pitch.
So decode representations that know no release of each note's own (`events`), and what is counted before encoding
(`statistics_of`) equals what is counted after decoding (`statistics_of_decoded`).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.music import Piece

STEPS_PER_SECOND = 100
VELOCITY_BIN = 4
MOST_VOICES = 16
LENGTH_EDGES = (15, 30, 60, 120, 240, 480, 960, 1920)

Statistics = dict[str, Any]
"""JSON values: integers and lists of integers, all of which add up."""

Array = npt.NDArray[Any]


def empty() -> Statistics:
    """The statistics of nothing: what sums start from, and the list of everything that is counted.

    pieces: originals; notes, centiseconds: theirs, to the end of the last note; pitch [128] and velocity [32, bins of
    4]: notes; polyphony [17]: centiseconds in which 0, 1, ... 16 or more notes sound; lengths [9]: pieces shorter than
    15 s, 30 s, ... and longer; copies, records, tokens (steps, where records hold steps): stored, of all copies; the
    tokens of a copy count once, also where windows overlap.
    """
    return {
        "pieces": 0,
        "notes": 0,
        "centiseconds": 0,
        "pitch": [0] * 128,
        "velocity": [0] * (128 // VELOCITY_BIN),
        "polyphony": [0] * (MOST_VOICES + 1),
        "lengths": [0] * (len(LENGTH_EDGES) + 1),
        "copies": 0,
        "records": 0,
        "tokens": 0,
    }


def statistics_of(piece: Piece) -> Statistics:
    """What an original holds that can be heard. The pedal must have been applied (`Representation.prepared`)."""
    return _heard(piece, *_key_steps(piece))


def statistics_of_decoded(piece: Piece) -> Statistics:
    """The same of a piece whose notes end by themselves: a representation decoded it, or each voice is its own."""
    return _heard(piece, *_steps(piece))


def _heard(piece: Piece, start: Array, end: Array) -> Statistics:
    pitch, velocity = piece.notes.pitch, piece.notes.velocity
    last = int(end.max(initial=0))
    lengths = [0] * (len(LENGTH_EDGES) + 1)
    lengths[int(np.searchsorted(LENGTH_EDGES, last / STEPS_PER_SECOND, "right"))] = 1
    return {
        **empty(),
        "pieces": 1,
        "notes": len(pitch),
        "centiseconds": last,
        "pitch": np.bincount(pitch, minlength=128).tolist(),
        "velocity": np.bincount((velocity - 1) // VELOCITY_BIN, minlength=128 // VELOCITY_BIN).tolist(),
        "polyphony": _polyphony(start, end),
        "lengths": lengths,
    }


def stored(copies: int, records: int, tokens: int) -> Statistics:
    """What the copies of an item take in the shards."""
    return {**empty(), "copies": copies, "records": records, "tokens": tokens}


def add(parts: Iterable[Mapping[str, Any]]) -> Statistics:
    """The sum of statistics, in any order."""
    total = empty()
    for part in parts:
        for name, value in part.items():
            total[name] = _sum(total[name], value)
    return total


def _sum(one: Any, other: Any) -> Any:
    return [a + b for a, b in zip(one, other, strict=True)] if isinstance(one, list) else one + other


def _key_steps(piece: Piece) -> tuple[Array, Array]:
    """First and last step (10 ms) of every note, int64 [note]; the next event of its pitch ends a note."""
    start, end = _steps(piece)
    count = len(start)
    note = np.arange(count)
    # Events in the order in which they are played: by step, then by note, an onset before its own release.
    order = np.concatenate([start * (2 * count) + 2 * note, end * (2 * count) + 2 * note + 1])
    by_pitch = np.lexsort((order, np.concatenate([piece.notes.pitch, piece.notes.pitch])))
    step = np.concatenate([start, end])[by_pitch]
    onset = np.flatnonzero(by_pitch < count)
    # An onset is always followed by an event of its own pitch, at least by its own release.
    stop = np.empty_like(start)
    stop[by_pitch[onset]] = step[onset + 1]
    return start, np.maximum(stop, start + 1)


def _steps(piece: Piece) -> tuple[Array, Array]:
    """First and last step of every note, int64 [note]; a note lasts one step at least."""
    start, end = (
        (times * STEPS_PER_SECOND + 0.5).astype(np.int64) for times in (piece.start_seconds(), piece.end_seconds())
    )
    return start, np.maximum(end, start + 1)


def _polyphony(start: Array, end: Array) -> list[int]:
    """Steps in which 0, 1, ... 16 or more notes sound."""
    if not len(start):
        return [0] * (MOST_VOICES + 1)
    steps = np.concatenate([start, end])
    change = np.concatenate([np.ones(len(start), np.int64), np.full(len(end), -1)])
    order = np.argsort(steps, kind="stable")
    steps, sounding = steps[order], np.cumsum(change[order])
    lasting = np.diff(steps)
    voices = np.minimum(np.append(0, sounding[:-1]), MOST_VOICES)
    spans = np.append(steps[:1], lasting)
    return np.bincount(voices, weights=spans, minlength=MOST_VOICES + 1).astype(np.int64).tolist()
