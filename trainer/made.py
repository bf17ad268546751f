"""One sample as it is written: MIDI, sound, a picture, a score where there are voices, and what is known of it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from media.bars import played_metres
from media.midi import write_midi
from media.musicxml import write_musicxml
from media.plot import curve_png
from media.render import render, write_wav
from media.roll import png_bytes, roll
from media.storage import write_atomic
from schemas.grid import LENGTH_TICKS, VOICES
from schemas.music import BAR_TICKS, TITLE, InvalidMusic, Piece, TempoMap
from schemas.window import TOKENS, layout_of, unit_of
from trainer.telling import tell

if TYPE_CHECKING:
    from trainer.loaded import Loaded

RATE = 44_100


@dataclass(frozen=True)
class Made:
    """One sample: its music, its ids [token] (of cells, voice by voice in each step), and its row of samples.json."""

    piece: Piece
    ids: np.ndarray[Any, Any]
    row: dict[str, Any]


def write_sample(folder: str, number: int, record: dict[str, Any], loaded: Loaded, given: Piece | None) -> Made:
    """Writes MIDI, WAV and pictures of one record, of voices MusicXML too.

    The pictures are its piano roll, how alike its bars are, and, where cells were drawn, how likely they were.
    """
    from trainer.metrics.music import similarity_picture

    layout, stem = layout_of(loaded.features), os.path.join(folder, f"sample-{number:03d}")
    course = np.asarray(record.pop("gibbs_nats", []), np.float64)
    told = {name: float(record.pop(name)) for name in ("nats_per_cell",) if name in record}
    piece = loaded.representation.decode([record])
    if given is not None and layout != TOKENS:
        piece = dressed(piece, given)
    write_atomic(f"{stem}.mid", write_midi(_for_midi(piece)))
    write_atomic(f"{stem}.png", png_bytes(roll(piece)))
    write_wav(f"{stem}.wav", render(piece, RATE), RATE)
    write_atomic(f"{stem}-similarity.png", similarity_picture(piece))
    values = np.ascontiguousarray(record[layout.values]).astype("<u2" if layout == TOKENS else "u1")
    row = {
        "midi": f"{stem}.mid",
        "wav": f"{stem}.wav",
        "png": f"{stem}.png",
        "similarity": f"{stem}-similarity.png",
        **_written_score(stem, replace(piece, name=_title(number, loaded.run.name, given, layout != TOKENS)), loaded),
        unit_of(loaded.features): len(values),
        f"{layout.values}_sha256": hashlib.sha256(values.tobytes()).hexdigest(),
        "notes": len(piece.notes),
        "seconds": piece.seconds,
        **told,
        **_written_course(stem, course),
    }
    return Made(piece, values.reshape(-1), row)


def _title(number: int, run: str, given: Piece | None, filled: bool) -> str:
    """What a score says above its music: what it was made from, whose voices stay or whose beginning goes on."""
    if given is None or not given.labels.get(TITLE):
        return f"{run}, sample {number:03d}"
    if not filled:
        return f"{given.labels[TITLE]}, continued, sample {number:03d}"
    stay = [name for voice, name in enumerate(VOICES) if (given.notes.track == voice).any()]
    return f"{given.labels[TITLE]}, {' and '.join(stay)} given, sample {number:03d}"


def dressed(piece: Piece, given: Piece) -> Piece:
    """The piece with metre, bars, key and tempo of what its voices were filled around; its steps stay."""
    ticks = piece.tempo.ticks_per_quarter
    scale = ticks / given.tempo.ticks_per_quarter
    tempo = TempoMap(ticks, np.round(given.tempo.ticks * scale).astype(np.int64), given.tempo.microseconds_per_quarter)
    end = piece.labels.get(LENGTH_TICKS, 0)
    return replace(
        piece,
        tempo=tempo,
        time_signatures=tuple(
            (at, *rest) for tick, *rest in given.time_signatures if (at := round(tick * scale)) < end
        ),
        key_signatures=tuple((at, *rest) for tick, *rest in given.key_signatures if (at := round(tick * scale)) < end),
        labels={**piece.labels, BAR_TICKS: tuple(round(tick * scale) for tick in given.labels.get(BAR_TICKS, ()))},
    )


def _for_midi(piece: Piece) -> Piece:
    """The piece with metres that say its bars, where it has any."""
    return replace(piece, time_signatures=played_metres(piece)) if piece.labels.get(BAR_TICKS) else piece


def _written_score(stem: str, piece: Piece, loaded: Loaded) -> dict[str, str]:
    """MusicXML of music in voices."""
    if not hasattr(loaded.representation, "voices"):
        return {}
    try:
        score = write_musicxml(piece)
    except InvalidMusic as error:  # the music is there, and took long to make
        tell(f"{stem}.musicxml: not written ({error}); the MIDI file has the same notes")
        return {}
    write_atomic(f"{stem}.musicxml", score)
    return {"musicxml": f"{stem}.musicxml"}


def _written_course(stem: str, course: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Nats of the cells that each sweep drew: numbers and a picture; nothing where there were no sweeps."""
    if not course.size:
        return {}
    picture = curve_png({"drawn cells": course.tolist()}, "likelihood over the sweeps", "sweep", "nats per drawn cell")
    write_atomic(f"{stem}-sweeps.png", picture)
    values = [value if np.isfinite(value) else None for value in course.tolist()]
    return {"sweeps": f"{stem}-sweeps.png", "gibbs_nats": values}
