"""Alignment: what is a copy and how, and what is none."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.alignment import copy_of
from beam_pipelines.corpora.maestro import Maestro
from beam_pipelines.fingerprints import sketch
from beam_pipelines.near_copies import alike
from media.midi import read_midi, write_midi
from schemas.music import Notes, Piece, TempoMap
from schemas.representations.events import Events
from tests.beam_pipelines.made_copies import at_resolution, begun_later, copied, played_again
from tests.beam_pipelines.tiny_dataset import made_piece

EVENTS = Events()


def decoded(piece: Piece) -> Piece:
    return EVENTS.decode(EVENTS.encode(piece))


def part(piece: Piece, first: int, last: int) -> Piece:
    return replace(piece, notes=piece.notes.select(slice(first, last)))


@given(
    seed=st.integers(0, 10_000),
    notes=st.integers(16, 400),
    semitones=st.integers(-40, 37),
    factor=st.floats(0.5, 2.0),
    later=st.floats(0.0, 100.0),
    velocities=st.integers(0, 10_000),
)
def test_a_copy_is_found_through_the_shards_with_what_was_done_to_it(seed, notes, semitones, factor, later, velocities):
    piece = made_piece(seed, notes)
    copy = copied(piece, semitones, factor, later, velocities)
    found = copy_of(decoded(piece), decoded(copy))
    assert found is not None and found.is_whole
    assert found.semitones == semitones
    assert found.factor == pytest.approx(factor, rel=0.02)
    assert found.later == pytest.approx(later, abs=0.03)


@given(seed=st.integers(0, 10_000), factor=st.floats(0.5, 2.0), ticks=st.sampled_from([96, 220, 384, 480, 960]))
def test_a_copy_is_found_in_a_file_of_another_resolution(seed, factor, ticks):
    piece = made_piece(seed, 100)
    file = write_midi(at_resolution(copied(piece, -5, factor, 2.0, seed), ticks))
    found = copy_of(piece, read_midi(file, "copy"))
    assert found is not None and found.is_whole
    assert (found.semitones, found.later) == (-5, pytest.approx(2.0, abs=0.03))


@given(seed=st.integers(0, 10_000), first=st.integers(0, 200), length=st.integers(60, 100))
def test_a_part_is_found_in_the_whole_and_the_whole_around_the_part(seed, first, length):
    whole = made_piece(seed, 300)
    cut = decoded(copied(part(whole, first, first + length), 3, 1.2))
    inside, around = copy_of(decoded(whole), cut), copy_of(cut, decoded(whole))
    assert inside is not None and around is not None
    assert not inside.is_whole and inside.found < 0.9 <= inside.covered
    assert (inside.semitones, around.semitones) == (3, -3)
    assert around.factor == pytest.approx(1 / 1.2, rel=0.01)


@given(seed=st.integers(0, 10_000), notes=st.integers(16, 400))
def test_two_pieces_are_no_copies(seed, notes):
    assert copy_of(made_piece(seed, notes), made_piece(seed + 1, notes)) is None


@given(seed=st.integers(0, 10_000))
def test_another_performance_of_the_same_notes_is_no_copy(seed):
    piece = made_piece(seed, 300)
    assert copy_of(piece, played_again(piece, seed)) is None


def test_a_piece_that_repeats_is_found_though_no_bag_of_its_notes_is_unique():
    bar = np.array([60, 64, 67, 72, 67, 64, 62, 65, 69, 74, 69, 65])
    pitch = np.tile(bar, 20)
    start = np.arange(len(pitch)) * 120
    piece = Piece("loop", Notes.of(start, start + 100, pitch, 64), tempo=TempoMap.constant(480))
    found = copy_of(piece, begun_later(piece, 2.0))
    assert found is not None and found.is_whole and found.later == pytest.approx(2.0)


def test_fewer_than_eight_notes_are_never_called_a_copy():
    piece = made_piece(4, notes=7)
    assert copy_of(piece, piece) is None


def test_two_chords_are_no_copy_of_two_others_though_a_line_goes_through_both():
    pitch = [48, 55, 60, 64, 50, 57, 62, 65]
    fast, slow = (Piece("chords", Notes.of([0] * 4 + [beat] * 4, beat * 2, pitch, 64)) for beat in (480, 777))
    assert copy_of(fast, slow) is None


def test_a_short_piece_played_again_almost_in_time_is_no_copy():
    piece = made_piece(4, notes=24)
    for seed in range(20):
        late = np.random.Generator(np.random.PCG64(seed)).normal(0, 15, 24).round().astype(int)
        start = np.maximum(piece.notes.start + late, 0)
        again = replace(piece, notes=Notes.of(start, start + 50, piece.notes.pitch, 64))
        assert copy_of(piece, again) is None


def test_notes_struck_all_at_once_are_no_copy_of_anything():
    chord = Piece("chord", Notes.of(np.zeros(12), np.full(12, 100), np.arange(50, 62), 64))
    assert copy_of(chord, chord) is None
    assert copy_of(chord, made_piece(4)) is None


def test_the_copy_tells_itself_in_words():
    piece = made_piece(4, notes=200)
    assert str(copy_of(piece, copied(piece, -3, 0.8, 2.0))) == "3 semitones lower, 0.800 times as long, 2.00 s later"
    assert str(copy_of(piece, piece)) == "at the same pitch and pace"


@pytest.mark.slow
def test_no_two_performances_of_the_maestro_sample_are_copies_though_hundreds_share_a_composition(sample_data):
    root = str(sample_data("maestro/maestro-v3.0.0"))
    pieces = [(item.group, Maestro().parse(item, root)) for item in Maestro().items(root)]
    pairs = set(alike([sketch(piece) for _, piece in pieces]))
    same = sum(pieces[one][0] == pieces[other][0] for one, other in pairs)
    assert same > 50
    assert [pair for pair in pairs if copy_of(pieces[pair[0]][1], pieces[pair[1]][1])] == []
    by_group = itertools.groupby(sorted(range(len(pieces)), key=lambda at: pieces[at][0]), key=lambda at: pieces[at][0])
    for _, members in by_group:
        for one, other in itertools.combinations(list(members), 2):
            assert copy_of(pieces[one][1], pieces[other][1]) is None
