"""Standard MIDI files to pieces and back. symusic parses; only ticks are taken from it, never its float32 seconds.

A file is read where its bytes say what the music is, however odd they are; where they do not, it is refused rather than
read in part. Before symusic sees a file its chunks (`midi_chunks`) and events (`midi_events`) are checked, so that a
refusal names byte and track, and nothing is lost that symusic would pass over. Reasons, as they stand in the ledger:

| reason           | the file                                                                                         |
| ---------------- | ------------------------------------------------------------------------------------------------ |
| empty-file       | has no byte                                                                                      |
| too-large        | is larger than what is read at all                                                               |
| not-midi         | is something else: an archive, a web page, a picture; the message says what it looks like         |
| text-transfer    | was changed as if it were text: a UTF-8 mark before it, or every line feed with a carriage return |
| bad-header       | has a damaged header chunk                                                                       |
| bad-format       | is of a format other than 0, 1 and 2                                                             |
| bad-division     | has a resolution without meaning                                                                 |
| format-2         | holds pieces of their own that must not be laid over each other                                  |
| two-files        | is followed by another MIDI file                                                                 |
| truncated        | ends inside its header or a track                                                                |
| missing-tracks   | ends between two tracks: the header promises more                                                |
| bad-track-length | has a track whose length is wrong: behind it, no track follows                                   |
| damaged-midi     | has an event without meaning                                                                     |
| bad-tempo        | has a tempo of 0, or not of 3 bytes                                                              |
| notes-after-end  | has notes behind the end-of-track event, which some readers play                                 |
| hanging-notes    | has notes that are never released, over one in a hundred; fewer are dropped, as note-seq does     |
| too-many-ticks   | has a tick beyond 2^31                                                                           |
| too-many-chunks  | has more tracks than a header can promise                                                        |
| too-many-events  | has more events that are no notes than any music                                                 |

Odd, and read: fewer tracks promised than there are (all are read); no end-of-track event; bytes behind the last track;
unknown chunks; a longer header; running status across meta events; system messages (left out); stray note-offs; notes
of length 0; key and time signatures that cannot be (left out).
"""

import re
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import symusic

from media.midi_chunks import Layout, read_layout
from media.midi_events import Damage, TrackFacts, check_track
from schemas.errors import Unreadable
from schemas.grid import VOICES, voice_called
from schemas.music import PART_NAMES, TRACK_PARTS, Controls, InvalidMusic, Notes, Piece, TempoMap, validate

__all__ = ["MAX_MIDI_BYTES", "Unreadable", "read_midi", "read_midi_parts", "write_midi"]

MAX_MIDI_BYTES = 64 << 20
_DEFAULT_TEMPO = 500_000
_LAST_TICK = (1 << 31) - 1
_MOST_HANGING = 0.01
_FEWEST_LINES = 8


def read_midi(data: bytes, name: str) -> Piece:
    """The piece in the bytes of a MIDI file (.mid, .midi, .kar, or .rmi with its RIFF wrapping).

    `labels["hanging_notes"]` says how many notes were dropped because they are never released, where there are any.

    Raises:
        Unreadable: not MIDI, damaged, or absurd; with a short reason, and byte and track where they are known.
    """
    return _read(data, name)[0]


def _read(data: bytes, name: str) -> tuple[Piece, Layout, list[TrackFacts]]:
    if len(data) > MAX_MIDI_BYTES:
        raise Unreadable("too-large", f"{name}: {len(data)} bytes, at most {MAX_MIDI_BYTES} are read")
    try:
        layout = read_layout(data, name)
        facts = _check_events(data, layout, name)
        score = _parse(_for_symusic(data, layout, facts), name)
    except Unreadable as error:
        if _was_sent_as_text(data, error.reason):
            message = f"{error}. Every line feed has a carriage return before it: the file was sent as text"
            raise Unreadable("text-transfer", message, error.offset, error.track) from error
        raise
    piece = Piece(
        name=name,
        notes=_notes(score),
        controls=_controls(score),
        tempo=_tempo(score, layout.ticks_per_second),
        time_signatures=_time_signatures(score),
        key_signatures=_key_signatures(score),
        labels=_hanging_notes(facts, score, name),
    )
    try:
        validate(piece)
    except InvalidMusic as error:
        raise Unreadable(error.reason, str(error)) from error
    return piece, layout, facts


def read_midi_parts(data: bytes, name: str) -> Piece:
    """The same music, labelled with the parts of the file: their names, and which of them each track belongs to.

    A part is a track of the file, also one without notes, but for a first track that only conducts. symusic counts none
    without notes, and makes several of a track with several instruments; where a single track holds all notes, these
    are the parts. Raises Unreadable as `read_midi` does.
    """
    piece, layout, facts = _read(data, name)
    owners = _owners(data, layout, facts, name)
    tracks = sorted(set(piece.notes.track.tolist()))
    if max(tracks, default=0) >= len(owners) or len({owners[track] for track in tracks}) < min(2, len(tracks)):
        return replace(piece, labels={**piece.labels, **_instruments(tracks)})
    first = int(_is_conductor(facts))
    names = tuple(_text(fact.name) for fact in facts[first:])
    places = tuple(owner - first for owner in owners)
    return replace(piece, labels={**piece.labels, PART_NAMES: names, TRACK_PARTS: places})


def _instruments(tracks: Sequence[int]) -> dict[str, Any]:
    """Labels where every track with notes is a part without a name."""
    places = {track: place for place, track in enumerate(tracks)}
    return {
        PART_NAMES: ("",) * len(tracks),
        TRACK_PARTS: tuple(places.get(track, 0) for track in range(max(tracks, default=-1) + 1)),
    }


def _owners(data: bytes, layout: Layout, facts: Sequence[TrackFacts], name: str) -> list[int]:
    """Which track of the file each of symusic's tracks is from: it reads every one alone as it does beside others."""
    owners = []
    for number, (extent, fact) in enumerate(zip(layout.tracks, facts, strict=True)):
        alone = _file_of([_plain_track(data, *extent, fact)], layout.ticks_per_quarter)
        owners += [number] * len(_parse(alone, name).tracks)
    return owners


def _is_conductor(facts: Sequence[TrackFacts]) -> bool:
    """Whether the first track only leads the others. Four tracks of which more are silent are four voices."""
    first, *others = facts
    if not others or not first.only_conducts or voice_called(_text(first.name)) is not None:
        return False
    return len(facts) != len(VOICES) or all(fact.note_ons for fact in others)


def _text(name: bytes) -> str:
    try:
        return name.decode().strip()
    except UnicodeDecodeError:
        return name.decode("latin-1").strip()


def _was_sent_as_text(data: bytes, reason: str) -> bool:
    if reason not in ("damaged-midi", "bad-track-length", "missing-tracks", "truncated"):
        return False
    lines = data.count(b"\n")
    return lines >= _FEWEST_LINES and lines == data.count(b"\r\n")


def _check_events(data: bytes, layout: Layout, name: str) -> list[TrackFacts]:
    facts: list[TrackFacts] = []
    for number, (start, stop) in enumerate(layout.tracks):
        try:
            facts.append(check_track(data, start, stop, facts[-1].singles if facts else 0))
        except Damage as error:
            message = f"{name}: track {number}, byte {error.offset}: {error.message}"
            raise Unreadable(error.reason, message, error.offset, number) from error
    _refuse_cut_track(data, layout, facts, name)
    return facts


def _refuse_cut_track(data: bytes, layout: Layout, facts: Sequence[TrackFacts], name: str) -> None:
    """Bytes behind the last track are harmless only where that track has come to its end."""
    start, stop = layout.left
    if facts and not facts[-1].ended and any(data[start:stop]):
        number = len(facts) - 1
        message = f"{name}: track {number} ends at byte {start} without an end, and {stop - start} bytes follow"
        offset = layout.tracks[-1][0] - 8
        raise Unreadable("bad-track-length", f"{message}: its length is wrong", offset, number)


def _for_symusic(data: bytes, layout: Layout, facts: Sequence[TrackFacts]) -> bytes:
    """The file itself, or one that says the same in a way that symusic reads rightly."""
    if layout.plain and not any(fact.system for fact in facts):
        return data
    tracks = [_plain_track(data, *extent, fact) for extent, fact in zip(layout.tracks, facts, strict=True)]
    return _file_of(tracks, layout.ticks_per_quarter)


def _file_of(tracks: Sequence[bytes], ticks_per_quarter: int) -> bytes:
    header = struct.pack(">4sIHHH", b"MThd", 6, 1, len(tracks), ticks_per_quarter)
    return header + b"".join(struct.pack(">4sI", b"MTrk", len(track)) + track for track in tracks)


def _plain_track(data: bytes, start: int, stop: int, fact: TrackFacts) -> bytes:
    """The events of a track, with system messages turned into meta events of the same content and length."""
    parts = []
    for place, count in fact.system:
        parts.append(data[start:place] + b"\xff\x7f" + (bytes([count]) if count >= 0 else b""))
        start = place + 1
    return b"".join([*parts, data[start:stop]])


def _parse(data: bytes, name: str) -> Any:
    try:
        return symusic.Score.from_midi(data)
    except (RuntimeError, ValueError, OverflowError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        message = re.sub(r"^MiniMidi: |: iostream error$", "", lines[0])
        raise Unreadable("damaged-midi", f"{name}: {message}") from error


def _hanging_notes(facts: Sequence[TrackFacts], score: Any, name: str) -> dict[str, int]:
    begun = sum(fact.note_ons for fact in facts)
    hanging = begun - score.note_num()
    if hanging > begun * _MOST_HANGING:
        raise Unreadable("hanging-notes", f"{name}: {hanging} of {begun} notes are never released")
    return {"hanging_notes": hanging} if hanging else {}


def _time_signatures(score: Any) -> tuple[tuple[int, int, int], ...]:
    """Those that can be: symusic reads a denominator beyond 128 as 0."""
    items = ((item.time, item.numerator, item.denominator) for item in score.time_signatures)
    return tuple(item for item in items if item[1] > 0 and item[2] > 0)


def _key_signatures(score: Any) -> tuple[tuple[int, int, bool], ...]:
    """Those that can be: up to seven sharps (negative: flats), major or minor."""
    items = ((item.time, item.key, item.tonality) for item in score.key_signatures)
    return tuple((time, key, bool(mode)) for time, key, mode in items if -7 <= key <= 7 and mode in (0, 1))


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
    """The bytes of a MIDI file: one track for each instrument, with its name; tempo, signatures and controllers.

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
    track = symusic.Track(piece.part_name(piece.part_of(number)), program, drum)
    track.notes = symusic.Note.from_numpy(
        notes.start.astype(np.int32),
        (notes.end - notes.start).astype(np.int32),
        notes.pitch.astype(np.int8),
        notes.velocity.astype(np.int8),
    )
    track.controls = symusic.ControlChange.from_numpy(controls.tick.astype(np.int32), controls.number, controls.value)
    return track
