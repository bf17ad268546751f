"""What samples are made from: the beginning of a file of music, a single note, or some voices of a score."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from media.bars import bars_of
from media.midi import read_midi_parts
from media.musicxml import read_musicxml
from media.storage import read_bytes
from schemas.errors import InputError, Unreadable, UsageError
from schemas.grid import LENGTH_TICKS, VOICES, voice_called
from schemas.music import BAR_TICKS, PART_NAMES, TITLE, TRACK_PARTS, Notes, Piece, TempoMap
from schemas.naming import readable
from schemas.settings import to_json
from trainer.telling import tell

if TYPE_CHECKING:
    from trainer.loaded import Loaded

MAX_FILE_BYTES = 16 << 20
MUSICXML = (".musicxml", ".xml", ".mxl")
MIDI = (".mid", ".midi", ".kar", ".rmi")
MOST_STEPS = 8192
"""Of a score that is filled: every sweep takes a network with all of them, and what is written must be read back."""
_NOTE_TICKS, _NOTE_VELOCITY = 500, 80  # of a single note that is given: half a second, mezzo-forte


def one_note(pitch: int) -> Piece:
    """A MIDI pitch, struck once."""
    return Piece("note", Notes.of([0], [_NOTE_TICKS], [pitch], [_NOTE_VELOCITY]), tempo=TempoMap.constant(500))


def read_given(path: str) -> Piece:
    """The music of a MIDI or MusicXML file, labelled with its parts and its title, or else the name of the file.

    Raises InputError for a file that is neither, or holds no note.
    """
    data = read_bytes(path, MAX_FILE_BYTES)
    kind = "MusicXML" if os.path.splitext(path)[1].lower() in MUSICXML else "MIDI"
    try:
        piece = read_musicxml(data, path) if kind == "MusicXML" else _with_upbeat(read_midi_parts(data, path))
    except Unreadable as error:
        what = str(error).removeprefix(f"{path}: ")
        raise InputError(f"--given {path}: cannot be read as {kind} ({what}). Give another file.") from error
    if not len(piece.notes):
        raise InputError(f"--given {path}: holds no note. Give a file with notes, or leave --given out.")
    title, ending = os.path.splitext(piece.labels.get(TITLE) or os.path.basename(path))
    title = title if ending.lower() in (*MUSICXML, *MIDI) else title + ending
    return replace(piece, labels={**piece.labels, TITLE: title})


def _with_upbeat(piece: Piece) -> Piece:
    """MIDI has no bar lines: an upbeat is a first bar in a shorter metre of its own, which the next one takes over."""
    if len(piece.time_signatures) < 2:
        return piece
    (start, *first), (end, *metre) = piece.time_signatures[:2]
    per_whole = 4 * piece.tempo.ticks_per_quarter
    if start or end * first[1] != per_whole * first[0] or first[0] * metre[1] >= metre[0] * first[1]:
        return piece
    return replace(
        piece,
        time_signatures=((0, metre[0], metre[1]), *piece.time_signatures[2:]),
        labels={**piece.labels, BAR_TICKS: (0, end)},
    )


# === Tokens: every sample goes on from a beginning ===


def opening(given: Piece, loaded: Loaded, limit: int | float) -> Piece:
    """The beginning of what is given, at most so many tokens (int) or seconds (float) of it.

    Notes that sound where it is cut end there. Raises UsageError for what the run's tokens cannot say.
    """
    representation = loaded.representation
    if not representation.fits(given):
        raise UsageError(f"{given.name}: cannot be said in what this run was trained on: {to_json(representation)}")
    tokens = representation.tokens(given)
    count = int(limit)
    if isinstance(limit, float):
        count = bisect_right(range(len(tokens)), limit, key=lambda n: representation.count_seconds(tokens[: n + 1]))
    count -= count % getattr(representation, "voices", 1)  # a step that is begun would go on with rests
    if len(tokens) <= count:
        return given
    tell(f"--given: the first {count:,} of its {len(tokens):,} tokens are taken (--given-length says how many)")
    tokens = tokens[:count]
    record = {"tokens": tokens, "start_token": np.int64(0), "piece_tokens": np.int64(len(tokens))}
    piece: Piece = representation.decode([record])
    return piece


# === Cells: voices that are given stay, the others are made ===


def parse_voices(text: str, names: tuple[str, ...]) -> tuple[int, ...]:
    """`soprano,bass` -> (0, 3). Raises UsageError for a voice that there is not, or that is named twice."""
    wanted = [word.strip().lower() for word in text.split(",")] if text else []
    for word in wanted:
        if word not in names:
            raise UsageError(f"--voices {text}: {word!r} is no voice; there are {', '.join(names)}")
    if len(set(wanted)) < len(wanted):
        raise UsageError(f"--voices {text}: a voice is named twice")
    return tuple(names.index(word) for word in wanted)


def kept_voices(given: Piece, voices: tuple[int, ...], count: int) -> dict[int, int]:
    """Which voice each part that stays is, {place of the part in its file: voice}.

    As many `voices` as there are parts with notes are given to them in order, unless the names of the parts are these
    very voices. Else a part is the voice that its name says, or has the number of, empty parts counted; of these
    `voices` stay, all without any named. Four parts without names are the four voices, whatever lies between them.

    Raises:
        UsageError: a part is no voice, two are one, there are too many, or `voices` are not among them.
    """
    parts = sorted({given.part_of(track) for track in given.notes.track.tolist()})
    named = {part: voice for part in parts if (voice := voice_called(given.part_name(part))) is not None}
    if voices and len(voices) == len(parts):
        return named if sorted(named.values()) == sorted(voices) else dict(zip(parts, voices, strict=True))
    if not set(voices) <= set(named.values()) and len(parts) < count:
        told = ", ".join(_part_told(given, part) for part in parts)
        unknown = ", ".join(VOICES[voice] for voice in voices if voice not in named.values())
        what = f"has {len(parts)} parts with notes ({told}), and --voices names {len(voices)}"
        _refuse(given, f"{what}; no part is called {unknown}")
    if not (voices and set(voices) <= set(named.values())):
        if len(parts) > count:
            what = f"has {len(parts)} parts with notes; a score has {count} voices"
            raise UsageError(f"--given {given.name}: {what}. Give a file with the voices only, or with parts named so.")
        named |= _numbered(given, [part for part in parts if part not in named], len(parts) == count)
    found = {part: voice for part, voice in sorted(named.items()) if not voices or voice in voices}
    _check_voices(given, found, count)
    return found


def _numbered(given: Piece, parts: Sequence[int], whole: bool) -> dict[int, int]:
    """Voices of parts by their numbers; by their order where these are not known, or four parts have no names."""
    if PART_NAMES not in given.labels or whole and len(parts) == len(VOICES):
        return dict(zip(parts, range(len(parts)), strict=True))
    return {part: part for part in parts}


def _check_voices(given: Piece, found: Mapping[int, int], count: int) -> None:
    seen: dict[int, int] = {}
    for part, voice in found.items():
        if voice >= count:
            _refuse(given, f"{_part_told(given, part)} is no voice, by its name or its number")
        if voice in seen:
            _refuse(
                given, f"{_part_told(given, seen[voice])} and {_part_told(given, part)} are both the {VOICES[voice]}"
            )
        seen[voice] = part


def _refuse(given: Piece, what: str) -> NoReturn:
    remedy = "Say which voice each part with notes is, in their order, such as --voices soprano,bass"
    raise UsageError(f"--given {given.name}: {what}. {remedy}.")


def _part_told(given: Piece, part: int) -> str:
    name = readable(given.part_name(part)[:40])
    return f"part {part + 1} {name!r}" if name else f"part {part + 1}"


def in_voices(given: Piece, kept: Mapping[int, int]) -> Piece:
    """The parts that stay as tracks that are numbered as their voices, as long as the bars of the file."""
    notes = given.notes
    voice = np.array([kept.get(given.part_of(track), -1) for track in notes.track.tolist()], np.int32)
    moved = replace(notes, track=voice).select(voice >= 0)
    length = int(max((0, *given.labels.get(BAR_TICKS, ()))))
    labels = {name: value for name, value in given.labels.items() if name != TRACK_PARTS}
    labels |= {PART_NAMES: tuple(name.title() for name in VOICES), LENGTH_TICKS: length}
    return replace(given, notes=Notes.of(**_columns(moved)), labels=labels)


def tell_voices(given: Piece, kept: Mapping[int, int]) -> None:
    """Says which parts stay as which voices, and what of metre and key is not in the file or is written otherwise."""
    stay = ", ".join(_staying_told(given, part, voice) for part, voice in kept.items())
    made = ", ".join(name for voice, name in enumerate(VOICES) if voice not in kept.values())
    tell(f"--given: {stay}; made: {made or 'nothing'} (--voices says which part is which voice)")
    if not given.time_signatures:
        tell("--given: says no metre, so 4/4 is written")
    if not given.key_signatures:
        tell("--given: says no key, so C major is written")
    added = _count_added_lines(given)
    if added:
        tell(f"--given: {added} bar lines are added, where bars are longer than their metre")


def _staying_told(given: Piece, part: int, voice: int) -> str:
    name = voice_called(given.part_name(part))
    against = "" if name in (None, voice) else ", which --voices says against its name"
    return f"{_part_told(given, part)} stays as {VOICES[voice]}{against}"


def _count_added_lines(given: Piece) -> int:
    """Bar lines that are written and not in the file: a bar is never longer than its metre."""
    lines = given.labels.get(BAR_TICKS, ())
    known = {*lines, *(tick for tick, *_ in given.time_signatures)}
    return sum(bar.start not in known and bar.start < lines[-1] for bar in bars_of(given)) if lines else 0


def check_pitches(given: Piece, low: int, high: int) -> None:
    """Raises UsageError with the place of the first note that is outside the pitches of a run."""
    notes = given.notes
    outside = np.flatnonzero((notes.pitch < low) | (notes.pitch > high))
    if not len(outside):
        return
    first, more = int(outside[0]), f" ({len(outside):,} notes do)" if len(outside) > 1 else ""
    where = f"{_place(given, int(notes.start[first]))}, {VOICES[int(notes.track[first])]}"
    what = f"pitch {notes.pitch[first]} lies outside {low}..{high}, which is all that this run knows{more}"
    remedy = "Transpose the file, or say with --voices which part is which voice"
    raise UsageError(f"--given {given.name}: {where}: {what}. {remedy}.")


def _place(given: Piece, tick: int) -> str:
    bar = next(bar for bar in bars_of(given) if tick < bar.end)
    quarter = 1 + (tick - bar.start) / given.tempo.ticks_per_quarter
    return f"bar {bar.number}, quarter {quarter:.4g} ({float(given.tempo.seconds(tick)):.1f} s)"


def _columns(notes: Notes) -> dict[str, Any]:
    return {name: getattr(notes, name) for name in ("start", "end", "pitch", "velocity", "program", "track", "drum")}


# === Length ===


def steps_asked(length: int | float | None, given: Piece, representation: Any) -> int:
    """Steps of a score that is filled around what is given: in seconds as its tempo has them; as long as it by default.

    Says how much of what is given lies behind them. Raises UsageError for more than MOST_STEPS.
    """
    whole = len(representation.cells(given))
    ticks_per_step = given.tempo.ticks_per_quarter / representation.steps_per_quarter

    def second(step: int) -> float:
        return float(given.tempo.seconds(round(step * ticks_per_step)))

    steps = max(1, whole) if length is None else length
    if isinstance(steps, float):
        steps = max(1, bisect_right(range(MOST_STEPS + 2), steps, key=second) - 1)  # one too many stands for all more
    what = f"--given {given.name}" if length is None else "--length"
    check_steps(steps, what, representation, counted=not isinstance(length, float))
    if steps < whole:
        lost = int((given.notes.start >= steps * ticks_per_step).sum())
        what = (
            f"the last {whole - steps:,} of its {whole:,} steps ({second(whole) - second(steps):.1f} s, {lost:,} notes)"
        )
        tell(f"--given: {what} lie behind --length and are left out")
    return steps


def tell_rest(given: Piece, steps: int, representation: Any) -> None:
    """Says where what is given ends, if more steps than it has are filled."""
    whole = len(representation.cells(given))
    if steps > whole:
        tell(f"--given: ends after {whole:,} of {steps:,} steps; what follows is made in all voices")


def check_whole_steps(length: int | float | None, representation: Any) -> None:
    """Raises UsageError for a number of tokens that ends within a step of the voices of a raster."""
    voices = getattr(representation, "voices", 1)
    if isinstance(length, int) and length % voices:
        near = " or ".join(str(count) for count in (length - length % voices, length + -length % voices) if count)
        raise UsageError(f"--length {length}: every step has {voices} tokens, one for each voice. Type {near}.")


def check_steps(steps: int, what: str, representation: Any, counted: bool = True) -> None:
    """Raises UsageError for a score of more steps than are filled at once, not all of which were `counted`."""
    if steps > MOST_STEPS:
        bars = MOST_STEPS // (4 * representation.steps_per_quarter)
        limit = f"a score is filled over {MOST_STEPS:,} steps at most, {bars:,} bars of 4/4"
        size = f"{steps:,} steps" if counted else f"more than {MOST_STEPS:,} steps"
        raise UsageError(f"{what}: {size}; {limit}. Take its beginning with --length {MOST_STEPS}, or divide it.")
