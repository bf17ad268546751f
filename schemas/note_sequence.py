"""Piece <-> NoteSequence, the form in which note-seq and the corpora made with it hand music around.

The message comes from the installed note-seq package, whose own import costs three seconds and pulls in half of
science: so its one generated file is executed by path, under a name of our own. It works beside `import note_seq` in
either order.

A NoteSequence holds seconds, a Piece holds ticks. Going out, every time is the float64 that note-seq itself computes
from the MIDI file. Coming back, ticks are found again through ticks_per_quarter and the tempos; where all times lie on
that grid to a microsecond (everything that once was a MIDI file) they are exact. Where they do not (performances edited
in seconds), the grid is made finer, to at least 16,384 ticks a quarter, and a time moves by half a tick at most: 30 /
(16,384 x quarters a minute) seconds, 15 microseconds at tempo 120.

What a NoteSequence cannot say: the spelling of enharmonic keys (C sharp comes back as D flat), and a Piece's stretch
apart from its tempo (it comes back in the tempo). What a Piece does not keep: pitch bends, texts, sections, names of
instruments, quantised steps.
"""

import importlib.util
import math
import os
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from schemas.errors import MissingExtra, Unreadable
from schemas.music import Controls, Notes, Piece, TempoMap

Array = npt.NDArray[Any]

DEFAULT_TICKS_PER_QUARTER = 220
"""What note-seq assumes where a sequence does not say."""

DEFAULT_QUARTERS_PER_MINUTE = 120.0

ON_GRID_SECONDS = 1e-6
"""A time this near to a tick is that tick."""

_FINE_TICKS_PER_QUARTER = 32_767  # the most that a MIDI file can say
_MOST_TICKS = 1 << 52
_TONIC_OF_RELATIVE_MAJOR = {"MINOR": 3, "MIXOLYDIAN": 5, "DORIAN": 10, "PHRYGIAN": 8, "LYDIAN": 7, "LOCRIAN": 1}


@cache
def note_sequence_class() -> Any:
    """The message class NoteSequence. Raises MissingExtra without note-seq."""
    spec = importlib.util.find_spec("note_seq")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("note-seq", "pipelines")
    path = os.path.join(spec.submodule_search_locations[0], "protobuf", "music_pb2.py")
    module_spec = importlib.util.spec_from_file_location("stretto_note_sequence_pb2", path)
    if module_spec is None or module_spec.loader is None or not os.path.exists(path):
        raise MissingExtra("note-seq", "pipelines")
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module.NoteSequence


def to_note_sequence(piece: Piece) -> Any:
    """Returns the piece as a NoteSequence: times in seconds, equal to what note-seq reads from the same file."""
    sequence = note_sequence_class()()
    sequence.id = piece.name
    sequence.ticks_per_quarter = piece.tempo.ticks_per_quarter
    sequence.total_time = piece.seconds
    _add_signatures(sequence, piece)
    _add_tempos(sequence, piece.tempo)
    _add_notes(sequence, piece)
    _add_controls(sequence, piece)
    return sequence


def from_note_sequence(sequence: Any, name: str = "") -> Piece:
    """Returns a NoteSequence as a piece.

    Args:
        sequence: the message; one of note-seq's own class will do.
        name: name of the piece; the sequence's id where empty.

    Raises:
        Unreadable: a value that no performance can have (a time that is negative, not a number or absurdly late, a
            pitch, velocity, program or controller outside MIDI's range, a tempo of 0), with the field that holds it.
    """
    name = name or sequence.id or sequence.filename
    _check(sequence, name)
    tempo = _tempo_map(sequence, name)
    return Piece(
        name=name,
        notes=_notes(sequence, tempo),
        controls=_controls(sequence, tempo),
        tempo=tempo,
        time_signatures=_time_signatures(sequence, tempo),
        key_signatures=_key_signatures(sequence, tempo),
    )


def parse_note_sequence(data: bytes, name: str = "") -> Piece:
    """Returns a serialised NoteSequence as a piece. Raises Unreadable for other bytes and for absurd values."""
    try:
        sequence = note_sequence_class().FromString(data)
    except DecodeError as error:
        raise Unreadable("not-note-sequence", f"{name}: not a NoteSequence: {error}") from error
    return from_note_sequence(sequence, name)


def _add_signatures(sequence: Any, piece: Piece) -> None:
    for tick, numerator, denominator in piece.time_signatures:
        time = float(piece.tempo.seconds(tick))
        sequence.time_signatures.add(time=time, numerator=numerator, denominator=denominator)
    modes = sequence.KeySignature
    for tick, sharps, minor in piece.key_signatures:
        key = (7 * sharps + (9 if minor else 0)) % 12
        mode = modes.MINOR if minor else modes.MAJOR
        sequence.key_signatures.add(time=float(piece.tempo.seconds(tick)), key=key, mode=mode)


def _add_tempos(sequence: Any, tempo: TempoMap) -> None:
    for time, length in zip(tempo.seconds(tempo.ticks).tolist(), tempo.microseconds_per_quarter.tolist(), strict=True):
        sequence.tempos.add(time=time, qpm=6e7 / length / tempo.stretch)


def _add_notes(sequence: Any, piece: Piece) -> None:
    notes = piece.notes
    columns = (
        piece.start_seconds(),
        piece.end_seconds(),
        notes.pitch,
        notes.velocity,
        notes.program,
        notes.track,
        notes.drum,
    )
    for start, end, pitch, velocity, program, track, drum in zip(*(column.tolist() for column in columns), strict=True):
        sequence.notes.add(
            start_time=start,
            end_time=end,
            pitch=pitch,
            velocity=velocity,
            program=program,
            instrument=track,
            is_drum=drum,
        )


def _add_controls(sequence: Any, piece: Piece) -> None:
    notes, controls = piece.notes, piece.controls
    players = zip(notes.track.tolist(), zip(notes.program.tolist(), notes.drum.tolist(), strict=True), strict=True)
    programs = dict(players)
    columns = (piece.tempo.seconds(controls.tick), controls.number, controls.value, controls.track)
    for time, number, value, track in zip(*(column.tolist() for column in columns), strict=True):
        program, drum = programs.get(track, (0, False))
        sequence.control_changes.add(
            time=time,
            control_number=number,
            control_value=value,
            instrument=track,
            program=program,
            is_drum=drum,
        )


def _check(sequence: Any, name: str) -> None:
    """Raises Unreadable for the first value that no performance can have."""
    allowed: dict[str, dict[str, tuple[float, float | None]]] = {
        "notes": {"pitch": (0, 127), "velocity": (1, 127), "program": (0, 127), "instrument": (0, None)},
        "control_changes": {"control_number": (0, 127), "control_value": (0, 127), "instrument": (0, None)},
        "time_signatures": {"numerator": (1, None), "denominator": (1, None)},
        "key_signatures": {"key": (0, 11)},
    }
    for field, ranges in allowed.items():
        items = getattr(sequence, field)
        for attribute, (low, high) in ranges.items():
            _check_range(name, f"{field}[{{}}].{attribute}", (getattr(item, attribute) for item in items), low, high)
    for field in ("control_changes", "time_signatures", "key_signatures", "tempos"):
        _check_range(name, f"{field}[{{}}].time", (item.time for item in getattr(sequence, field)), 0, None)
    _check_range(name, "notes[{}].start_time", (note.start_time for note in sequence.notes), 0, None)
    _check_range(name, "notes[{}].end_time - start_time", (n.end_time - n.start_time for n in sequence.notes), 0, None)
    _check_range(name, "tempos[{}].qpm", (tempo.qpm for tempo in sequence.tempos), 1e-3, 6e7)
    _check_range(name, "ticks_per_quarter", [sequence.ticks_per_quarter], 0, None)


def _check_range(name: str, what: str, values: Iterable[float], low: float, high: float | None) -> None:
    for index, value in enumerate(values):
        if not low <= value <= (math.inf if high is None else high) or math.isinf(value):
            span = f"at least {low}" if high is None else f"in {low}..{high}"
            raise Unreadable("bad-value", f"{name}: {what.format(index)} is {value}, must be {span}")


def _tempo_map(sequence: Any, name: str) -> TempoMap:
    """The tempo map that puts every time of the sequence on a tick: the sequence's own grid, or a finer one."""
    ticks_per_quarter = sequence.ticks_per_quarter or DEFAULT_TICKS_PER_QUARTER
    changes = _changes(sequence)
    times = _all_times(sequence)
    own = _laid_out(changes, ticks_per_quarter)
    _check_length(own, times, name)
    if np.abs(own.seconds(_ticks(own, times)) - times).max(initial=0.0) <= ON_GRID_SECONDS:
        return own
    return _laid_out(changes, ticks_per_quarter * max(1, _FINE_TICKS_PER_QUARTER // ticks_per_quarter))


def _changes(sequence: Any) -> list[tuple[float, float]]:
    """(second, microseconds per quarter) of every tempo, sorted, the first at 0; at one time the last counts."""
    changes = {0.0: 6e7 / DEFAULT_QUARTERS_PER_MINUTE}
    changes.update((tempo.time, _whole(6e7 / tempo.qpm)) for tempo in sequence.tempos)
    return sorted(changes.items())


def _whole(microseconds: float) -> float:
    """The whole number that a MIDI file held, where division has moved it by no more than rounding does."""
    nearest = float(round(microseconds))
    return nearest if abs(microseconds - nearest) <= 1e-9 * microseconds else microseconds


def _laid_out(changes: list[tuple[float, float]], ticks_per_quarter: int) -> TempoMap:
    """A tempo map whose changes fall on the nearest ticks."""
    ticks, tempos = [0], [changes[0][1]]
    second = 0.0
    for time, tempo in changes[1:]:
        scale = 60.0 / ((6e7 / tempos[-1]) * ticks_per_quarter)
        tick = ticks[-1] + round(min((time - second) / scale, _MOST_TICKS))
        second += scale * (tick - ticks[-1])
        if tick == ticks[-1]:
            tempos[-1] = tempo
            continue
        ticks.append(tick)
        tempos.append(tempo)
    return TempoMap(ticks_per_quarter, np.array(ticks, np.int64), np.array(tempos, np.float64))


def _check_length(tempo: TempoMap, times: Array, name: str) -> None:
    latest, fastest = float(times.max(initial=0.0)), float(tempo.microseconds_per_quarter.min())
    # Ticks are counted in integers that a float64 can hold too; the fine grid takes up to 2^15 times as many.
    if latest * 1e6 / fastest * max(tempo.ticks_per_quarter, _FINE_TICKS_PER_QUARTER) >= _MOST_TICKS:
        what = f"lasts {latest:.6g} seconds at up to {6e7 / fastest:.6g} quarters a minute: too long for ticks"
        raise Unreadable("too-long", f"{name}: {what}")


def _all_times(sequence: Any) -> Array:
    times = [note.start_time for note in sequence.notes] + [note.end_time for note in sequence.notes]
    for field in ("control_changes", "time_signatures", "key_signatures", "tempos"):
        times += [item.time for item in getattr(sequence, field)]
    return np.array(times, np.float64)


def _ticks(tempo: TempoMap, times: Any) -> Array:
    """The tick nearest to each time in seconds, int64."""
    times = np.asarray(times, np.float64)
    changes = tempo.seconds(tempo.ticks)
    segment = np.maximum(np.searchsorted(changes, times, "right") - 1, 0)
    scales = tempo.microseconds_per_quarter / (1e6 * tempo.ticks_per_quarter)
    ticks = tempo.ticks[segment] + np.rint((times - changes[segment]) / scales[segment]).astype(np.int64)
    return np.asarray(ticks, np.int64)


def _notes(sequence: Any, tempo: TempoMap) -> Notes:
    notes = sequence.notes
    return Notes.of(
        start=_ticks(tempo, [note.start_time for note in notes]),
        end=_ticks(tempo, [note.end_time for note in notes]),
        pitch=[note.pitch for note in notes],
        velocity=[note.velocity for note in notes],
        program=[note.program for note in notes],
        track=[note.instrument for note in notes],
        drum=[note.is_drum for note in notes],
    )


def _controls(sequence: Any, tempo: TempoMap) -> Controls:
    changes = sequence.control_changes
    return Controls.of(
        tick=_ticks(tempo, [change.time for change in changes]),
        number=[change.control_number for change in changes],
        value=[change.control_value for change in changes],
        track=[change.instrument for change in changes],
    )


def _time_signatures(sequence: Any, tempo: TempoMap) -> tuple[tuple[int, int, int], ...]:
    items = sequence.time_signatures
    ticks = _ticks(tempo, [item.time for item in items]).tolist()
    return tuple(sorted((tick, item.numerator, item.denominator) for tick, item in zip(ticks, items, strict=True)))


def _key_signatures(sequence: Any, tempo: TempoMap) -> tuple[tuple[int, int, bool], ...]:
    items = sequence.key_signatures
    ticks = _ticks(tempo, [item.time for item in items]).tolist()
    return tuple(sorted((tick, *_sharps(item)) for tick, item in zip(ticks, items, strict=True)))


def _sharps(signature: Any) -> tuple[int, bool]:
    """Sharps (negative: flats), between five flats and six sharps, and whether the key is minor."""
    modes = type(signature).Mode
    mode = modes.Name(signature.mode) if signature.mode in modes.values() else "MAJOR"
    major = signature.key + _TONIC_OF_RELATIVE_MAJOR.get(mode, 0)
    return (7 * major + 5) % 12 - 5, mode == "MINOR"
