"""Samples beside their corpus and the corpus shuffled: what is measured of which music, and the table. No Keras."""

import json

import numpy as np

from schemas.grid import piece_of
from schemas.music import Notes, Piece
from trainer.metrics.music import COLUMNS, measure, similarity_picture, table_lines


def chorale(seed, bars=8):
    """Chords that last a quarter, the same eight of them in each second bar."""
    draw = np.random.default_rng(seed)
    chords = draw.permutation([[67, 64, 60, 48], [65, 62, 57, 50], [69, 65, 60, 53], [67, 62, 59, 55]])
    cells = np.repeat(np.concatenate([chords, chords[::-1]]), 4, axis=0)
    return piece_of(np.tile(cells, (bars // 2, 1)), 4, 100, name=f"chorale-{seed}")


def piano(seed, notes=200):
    draw = np.random.default_rng(seed)
    start = np.sort(draw.integers(0, 40_000, notes))
    return Piece(f"piano-{seed}", Notes.of(start, start + 400, draw.integers(30, 90, notes), 80))


def test_four_voices_are_measured_in_bars_with_voice_leading_in_every_column():
    found = measure([chorale(0), chorale(1)], [chorale(2), chorale(3), chorale(4)], seed=1)
    assert found["unit"] == "bars"
    assert [name for name in COLUMNS if "voice_leading" in found[name]] == list(COLUMNS)
    assert (found["samples"]["pieces"], found["corpus"]["pieces"]) == (2, 3)
    assert found["samples"]["structure"]["exact"][1] == 1
    assert found["samples"]["voice_leading"]["dissonant_beats"] < found["shuffled"]["voice_leading"]["dissonant_beats"]


def test_a_piano_is_measured_in_seconds_and_has_no_voice_leading():
    found = measure([piano(0)], [piano(1)], seed=0)
    assert found["unit"] == "seconds"
    assert not any("voice_leading" in found[name] for name in COLUMNS)
    mixed = measure([chorale(0)], [piano(1)], seed=0)
    assert (mixed["unit"], "voice_leading" in mixed["samples"]) == ("seconds", False)


def test_the_reference_is_cut_to_the_longest_sample_for_structure():
    found = measure([chorale(0, bars=4)], [chorale(1, bars=32)], seed=0)
    assert found["corpus"]["structure"]["repeated"] == found["samples"]["structure"]["repeated"] == 0.5
    assert found["corpus"]["structure"]["exact"][3] is None


def test_shuffling_hangs_on_the_seed_alone():
    first, again, other = (measure([chorale(0)], [chorale(1, bars=32)], seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["corpus"] == other["corpus"]
    assert first["shuffled"] != other["shuffled"]


def test_without_a_corpus_the_samples_stand_alone_and_the_table_says_so():
    found = measure([chorale(0)], [], seed=0)
    assert set(found) == {"unit", "samples"}
    assert table_lines(found)[-1].strip() == "no pieces of the corpus to compare with"


def test_silent_samples_are_counted_and_break_nothing():
    silence = Piece("silence", Notes.empty())
    found = measure([silence, chorale(0)], [chorale(1)], seed=0)
    assert (found["samples"]["pieces"], found["samples"]["silent"]) == (2, 1)
    only = measure([silence], [chorale(1)], seed=0)
    assert (only["samples"]["style"], only["style_difference"]) == ({}, {})
    assert json.loads(json.dumps(only, allow_nan=False)) == only
    assert table_lines(only)
    assert table_lines(measure([], [], seed=0))


def test_the_table_has_a_line_for_what_was_counted_and_none_for_what_was_not():
    voices = table_lines(measure([chorale(0)], [chorale(1)], seed=0))
    hands = table_lines(measure([piano(0)], [piano(1)], seed=0))
    assert any("parallel fifths a bar" in line for line in voices)
    assert not any("parallel fifths" in line for line in hands)
    assert any("alike in chroma, neighbouring seconds" in line for line in hands)
    assert len({len(line) for line in voices}) == 1
    assert all(len(line) <= 80 for line in voices + hands)


def test_every_figure_is_a_number_or_nothing():
    found = measure([chorale(0), piano(3)], [chorale(1)], seed=0)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_piece_can_be_looked_at_as_a_picture_of_its_self_similarity():
    assert similarity_picture(chorale(0)).startswith(b"\x89PNG")
