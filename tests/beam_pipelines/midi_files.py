"""Folders of made-up MIDI files, and builds of them."""

from pathlib import Path
from typing import Any

from beam_pipelines.config import Build
from beam_pipelines.corpora.midi import MidiFolder
from media.midi import write_midi
from schemas.music import Piece
from schemas.representations.events import Events
from tests.beam_pipelines.tiny_dataset import made_piece

DAMAGED = b"MThd this is no MIDI file"


def write_piece(folder: Path, name: str, piece: Piece) -> Path:
    """Writes one piece as a MIDI file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(write_midi(piece))
    return path


def midi_folder(folder: Path, count: int = 12, notes: int = 40) -> Path:
    """A folder of sound files, every one another piece."""
    for number in range(count):
        write_piece(folder, f"{number:03d}.mid", made_piece(number, notes))
    return folder


def build_of(tmp_path: Path, **choices: Any) -> Build:
    """A small build of `tmp_path/in` to `tmp_path/out` in this process."""
    given = {"representation": Events(window=64), "workers": 1, **choices}
    return Build(MidiFolder(), input=str(tmp_path / "in"), output=str(tmp_path / "out"), **given)
