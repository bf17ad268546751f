"""What samples are made from: the beginning of a file of music, a single note, or some voices of a score."""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from media.midi import read_midi
from media.musicxml import read_musicxml
from media.storage import read_bytes
from schemas.errors import InputError, Unreadable, UsageError
from schemas.music import Notes, Piece, TempoMap
from schemas.settings import to_json

if TYPE_CHECKING:
    from trainer.loaded import Loaded

MAX_FILE_BYTES = 16 << 20
MUSICXML = (".musicxml", ".xml", ".mxl")
_NOTE_TICKS, _NOTE_VELOCITY = 500, 80  # of a single note that is given: half a second, mezzo-forte


def one_note(pitch: int) -> Piece:
    """A MIDI pitch, struck once."""
    return Piece("note", Notes.of([0], [_NOTE_TICKS], [pitch], [_NOTE_VELOCITY]), tempo=TempoMap.constant(500))


def read_given(path: str) -> Piece:
    """The music of a MIDI or MusicXML file. Raises InputError for a file that is neither, or holds no note."""
    data = read_bytes(path, MAX_FILE_BYTES)
    kind = "MusicXML" if os.path.splitext(path)[1].lower() in MUSICXML else "MIDI"
    try:
        piece = read_musicxml(data, path) if kind == "MusicXML" else read_midi(data, path)
    except Unreadable as error:
        raise InputError(f"--given {path}: cannot be read as {kind} ({error}). Give another file.") from error
    if not len(piece.notes):
        raise InputError(f"--given {path}: holds no note. Give a file with notes, or leave --given out.")
    return piece


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


def keeping_voices(given: Piece, voices: tuple[int, ...], count: int) -> Piece:
    """The given music as a score of `count` voices, of which only `voices` hold notes (track = voice).

    A file with as many tracks with notes as there are voices gives each voice its own track, and of these `voices`
    are kept (all without any named). A file with fewer gives its tracks, in order, to `voices`, or to the first ones.

    Raises:
        UsageError: the file has more tracks than there are voices, or another number than voices are named.
    """
    tracks = np.unique(given.notes.track)
    whole = len(tracks) == count
    if len(tracks) > count:
        raise UsageError(f"--given {given.name}: has {len(tracks)} tracks with notes; a score has {count} voices")
    if voices and not whole and len(voices) != len(tracks):
        raise UsageError(f"--given {given.name}: has {len(tracks)} tracks with notes, and --voices names {len(voices)}")
    order = tuple(range(count)) if whole else voices or tuple(range(len(tracks)))
    notes = given.notes
    moved = replace(notes, track=np.array(order, np.int32)[np.searchsorted(tracks, notes.track)])
    kept = np.isin(moved.track, voices or order)
    return replace(given, notes=Notes.of(**_columns(moved.select(kept))))


def _columns(notes: Notes) -> dict[str, Any]:
    return {name: getattr(notes, name) for name in ("start", "end", "pitch", "velocity", "program", "track", "drum")}
