"""Standard MIDI files to pieces and back. symusic parses; only ticks are taken from it, never its float32 seconds."""

import re
import struct
from typing import Any

import numpy as np
import symusic

from schemas.errors import Unreadable
from schemas.music import Controls, InvalidMusic, Notes, Piece, TempoMap, validate

__all__ = ["MAX_MIDI_BYTES", "Unreadable", "read_midi", "write_midi"]

MAX_MIDI_BYTES = 64 << 20
_HEADER_BYTES = 14
_DEFAULT_TEMPO = 500_000
_LAST_TICK = (1 << 31) - 1
_FRAME_RATES = {24: 24.0, 25: 25.0, 29: 30000 / 1001, 30: 30.0}


def read_midi(data: bytes, name: str) -> Piece:
    """The piece in the bytes of a MIDI file (.mid, .midi, .kar, or .rmi with its RIFF wrapping).

    Raises:
        Unreadable: not MIDI, damaged, or absurd; with a short reason and the offset where it is known.
    """
    if len(data) > MAX_MIDI_BYTES:
        raise Unreadable("too-large", f"{name}: {len(data)} bytes, at most {MAX_MIDI_BYTES} are read")
    start = _midi_start(data, name)
    header, ticks_per_second = _plain_header(data[start:], name, start)
    score = _parse(header, name)
    if score.ticks_per_quarter <= 0:
        raise Unreadable("bad-division", f"{name}: {score.ticks_per_quarter} ticks in a quarter note", start + 12)
    piece = Piece(
        name=name,
        notes=_notes(score),
        controls=_controls(score),
        tempo=_tempo(score, ticks_per_second),
        time_signatures=tuple((item.time, item.numerator, item.denominator) for item in score.time_signatures),
        key_signatures=tuple((item.time, item.key, bool(item.tonality)) for item in score.key_signatures),
    )
    try:
        validate(piece)
    except InvalidMusic as error:
        raise Unreadable(error.reason, str(error)) from error
    return piece


def _midi_start(data: bytes, name: str) -> int:
    """Where the MIDI header begins: 0, or inside a RIFF wrapping."""
    if data[:4] == b"MThd":
        return 0
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":
        found = data.find(b"MThd", 12, 1 << 16)
        if found > 0:
            return found
    what = "is empty" if not data else f"begins with {data[:4]!r}, a MIDI file with b'MThd'"
    raise Unreadable("empty-file" if not data else "not-midi", f"{name}: {what}", 0)


def _plain_header(data: bytes, name: str, start: int) -> tuple[bytes, float | None]:
    """The file with the plainest header that says the same, and ticks a second where time is counted in film frames."""
    if len(data) < _HEADER_BYTES:
        raise Unreadable(
            "truncated", f"{name}: {len(data)} bytes, a MIDI header has {_HEADER_BYTES}", start + len(data)
        )
    length, kind, tracks, division = struct.unpack(">IHHH", data[4:_HEADER_BYTES])
    if length < 6 or 8 + length > len(data):
        raise Unreadable("bad-header", f"{name}: header chunk of {length} bytes", start + 4)
    ticks_per_second = None
    if division & 0x8000:
        frames, ticks = 256 - (division >> 8), division & 0xFF
        if frames not in _FRAME_RATES or not ticks:
            raise Unreadable("bad-division", f"{name}: {frames} frames a second, {ticks} ticks a frame", start + 12)
        division, ticks_per_second = frames * ticks, _FRAME_RATES[frames] * ticks
    if length == 6 and ticks_per_second is None:
        return data, None
    return b"MThd" + struct.pack(">IHHH", 6, kind, tracks, division) + data[8 + length :], ticks_per_second


def _parse(data: bytes, name: str) -> Any:
    try:
        return symusic.Score.from_midi(data)
    except (RuntimeError, ValueError, MemoryError, OverflowError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        message = re.sub(r"^MiniMidi: |: iostream error$", "", lines[0])
        raise Unreadable("damaged-midi", f"{name}: {message}") from error


def _notes(score: Any) -> Notes:
    if not score.note_num():
        return Notes.empty()
    parts = [(number, track, track.notes.numpy()) for number, track in enumerate(score.tracks) if len(track.notes)]
    start = np.concatenate([part["time"].astype(np.int64) for _, _, part in parts])
    counts = [len(part["time"]) for _, _, part in parts]
    return Notes.of(
        start,
        start + np.concatenate([part["duration"].astype(np.int64) for _, _, part in parts]),
        np.concatenate([part["pitch"] for _, _, part in parts]),
        np.concatenate([part["velocity"] for _, _, part in parts]),
        np.repeat([track.program for _, track, _ in parts], counts),
        np.repeat([number for number, _, _ in parts], counts),
        np.repeat([track.is_drum for _, track, _ in parts], counts),
    )


def _controls(score: Any) -> Controls:
    parts = [(number, track.controls.numpy()) for number, track in enumerate(score.tracks) if len(track.controls)]
    if not parts:
        return Controls.empty()
    return Controls.of(
        np.concatenate([part["time"] for _, part in parts]),
        np.concatenate([part["number"] for _, part in parts]),
        np.concatenate([part["value"] for _, part in parts]),
        np.repeat([number for number, _ in parts], [len(part["time"]) for _, part in parts]),
    )


def _tempo(score: Any, ticks_per_second: float | None) -> TempoMap:
    if ticks_per_second is not None:  # film frames: tempo events have no meaning
        return TempoMap.constant(score.ticks_per_quarter, score.ticks_per_quarter * 1e6 / ticks_per_second)
    changes = score.tempos.numpy() if len(score.tempos) else {"time": [0], "mspq": [_DEFAULT_TEMPO]}
    ticks = np.asarray(changes["time"], np.int64)
    order = np.argsort(ticks, kind="stable")
    return TempoMap(score.ticks_per_quarter, ticks[order], np.asarray(changes["mspq"], np.float64)[order])


def write_midi(piece: Piece) -> bytes:
    """The bytes of a MIDI file: one track for each instrument, tempo, signatures and controllers.

    Raises:
        ValueError: a tick is beyond 2^31 or a value outside what MIDI can say.
    """
    validate(piece)
    last = max(int(ticks.max(initial=0)) for ticks in (piece.notes.end, piece.controls.tick, piece.tempo.ticks))
    if last > _LAST_TICK:
        raise ValueError(f"{piece.name}: tick {last} is beyond {_LAST_TICK}, the last that can be written")
    score = symusic.Score(piece.tempo.ticks_per_quarter)
    score.tempos.extend(_tempo_events(piece.tempo))
    score.time_signatures.extend([symusic.TimeSignature(*item) for item in piece.time_signatures])
    score.key_signatures.extend(
        [symusic.KeySignature(tick, key, int(minor)) for tick, key, minor in piece.key_signatures]
    )
    tracks = np.union1d(np.unique(piece.notes.track), np.unique(piece.controls.track))
    for number in tracks.tolist():
        score.tracks.append(_track(piece, number))
    return bytes(score.dumps_midi())


def _tempo_events(tempo: TempoMap) -> list[Any]:
    pairs = zip(tempo.ticks.tolist(), tempo.microseconds_per_quarter.tolist(), strict=True)
    return [symusic.Tempo(tick, mspq=round(value * tempo.stretch)) for tick, value in pairs]


def _track(piece: Piece, number: int) -> Any:
    notes = piece.notes.select(piece.notes.track == number)
    controls = piece.controls.select(piece.controls.track == number)
    program, drum = (int(notes.program[0]), bool(notes.drum[0])) if len(notes) else (0, False)
    track = symusic.Track("", program, drum)
    track.notes = symusic.Note.from_numpy(
        notes.start.astype(np.int32),
        (notes.end - notes.start).astype(np.int32),
        notes.pitch.astype(np.int8),
        notes.velocity.astype(np.int8),
    )
    track.controls = symusic.ControlChange.from_numpy(controls.tick.astype(np.int32), controls.number, controls.value)
    return track
