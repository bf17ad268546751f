"""Datasets of four voices: what is not four voices is skipped and counted, what is lost is told, and figures agree."""

import json
import os

import pytest

from beam_pipelines.build import prepare
from beam_pipelines.config import Build
from beam_pipelines.corpora.midi import MidiFolder
from beam_pipelines.describe import as_text, inspect, write_report
from beam_pipelines.verify import verify
from media.midi import write_midi
from schemas.music import Notes, Piece, TempoMap
from schemas.representations.raster import Raster
from schemas.representations.voices import Voices

KINDS = pytest.mark.parametrize("representation", [Voices(window=8), Raster(window=32)])


def write_piece(folder, name, notes, drum=False):
    """A MIDI file of (voice, start tick, end tick, pitch)."""
    track, start, end, pitch = zip(*notes, strict=True)
    piece = Piece(name, Notes.of(start, end, pitch, 80, track, track, drum), tempo=TempoMap.constant(480))
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, f"{name}.mid"), "wb") as file:
        file.write(write_midi(piece))


def chorale(key=0):
    """Alto and tenor in unison, a tenor struck again, a bass that sounds between two steps only at its end."""
    notes = [(0, 0, 480, 72), (0, 480, 960, 74), (1, 0, 960, 60), (2, 0, 480, 60), (2, 480, 960, 60)]
    notes += [(3, 0, 900, 48), (3, 905, 950, 50)]
    return [(track, start, end, pitch + key) for track, start, end, pitch in notes]


@pytest.fixture
def music(tmp_path):
    folder = tmp_path / "music"
    write_piece(folder, "chorale", chorale())
    write_piece(folder, "chords", [(0, 0, 480, 60), (0, 0, 480, 64), (1, 0, 480, 55), (2, 0, 480, 52), (3, 0, 480, 48)])
    write_piece(folder, "duet", [(0, 0, 480, 60), (1, 0, 480, 55)])
    write_piece(folder, "quintet", [(voice, 0, 480, 70 - 4 * voice) for voice in range(5)])
    write_piece(folder, "too-high", chorale(12))
    return folder


def dataset(music, representation):
    output = str(music.parent / "out")
    choices = {"input": str(music), "output": output, "workers": 1, "splits": "train=1"}
    prepare(Build(MidiFolder(), representation, **choices), [], as_json=False)
    return output


@KINDS
def test_what_is_not_four_voices_is_skipped_with_its_fault_and_counted(music, representation):
    folder = dataset(music, representation)
    found = inspect(folder)
    assert found["ledger"]["skipped"] == {"not-four-voices": 3, "out-of-range": 1}
    assert found["ledger"]["quarantined"] == {} and found["items"] == {"train": 1}
    assert verify(folder).exit_code == 0


@KINDS
def test_figures_of_voices_in_unison_are_the_same_before_and_after_encoding(music, representation):
    folder = dataset(music, representation)
    statistics = inspect(folder)["splits"]["train"]
    assert (statistics["notes"], statistics["centiseconds"], statistics["polyphony"][4]) == (5, 120, 120)
    assert statistics["tokens"] == (8 if isinstance(representation, Voices) else 32)
    assert verify(folder).exit_code == 0


@KINDS
def test_notes_that_the_grid_does_not_say_are_told(music, representation):
    said = as_text(inspect(dataset(music, representation)))
    assert "1 begin and end between two steps, and are lost" in said
    assert "1 are struck again, and run into the note before" in said


def test_figures_are_named_by_what_records_count(music):
    folder = dataset(music, Voices(window=8))
    assert "8 steps" in as_text(inspect(folder)) and "| steps |" in (music.parent / "out" / "card.md").read_text()
    page = str(music.parent / "page.html")
    write_report(folder, page)
    with open(page) as file:
        text = file.read()
    assert "steps" in text and "midi/chorale.mid" in text


def test_features_of_cells_are_told_beside_the_shards(music):
    dataset(music, Voices(window=8))
    features = json.loads((music.parent / "out" / "features.json").read_text())
    assert features["pitches"]["shape"] == [8, 4] and features["pitches"]["dims"] == ["step", "voice"]
