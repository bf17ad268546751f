"""Performance events: exact ids, the way back, windows, and nonsense."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import UsageError
from schemas.feature import check_record
from schemas.music import Controls, Notes, Piece, TempoMap, stretch, transpose
from schemas.representations import from_settings
from schemas.representations.events import Events

STEP = 10  # ticks of 1 ms in a step of 10 ms
TEMPO = TempoMap.constant(500)


def piece_of(notes):
    """A piece of (pitch, start step, end step, velocity)."""
    pitch, start, end, velocity = zip(*notes, strict=True)
    return Piece("test", Notes.of(np.multiply(start, STEP), np.multiply(end, STEP), pitch, velocity), tempo=TEMPO)


def notes_of(piece):
    """The inverse of `piece_of`."""
    notes = piece.notes
    columns = (notes.pitch, notes.start // STEP, notes.end // STEP, notes.velocity)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def on(pitch):
    return pitch


def off(pitch):
    return 128 + pitch


def shift(steps):
    return 256 + steps - 1


def velocity(bin_number):
    return 356 + bin_number - 1


def test_ids_of_a_small_piece_are_these():
    tokens = Events().tokens(piece_of([(60, 0, 50, 64), (64, 50, 200, 64), (67, 50, 52, 100)]))
    assert tokens.tolist() == [
        *(velocity(16), on(60), shift(50), off(60), on(64)),
        *(velocity(25), on(67), shift(2), off(67), shift(100), shift(48), off(64)),
    ]


def test_the_full_table_has_388_events_and_the_piano_table_308():
    assert (Events().size, Events().bos, Events().pad) == (388, 388, 389)
    assert Events(pitch_range=(21, 108)).size == 308


def test_a_note_that_rounds_to_nothing_lasts_one_step():
    piece = Piece("test", Notes.of([0], [3], [60], [1]), tempo=TEMPO)
    assert Events().tokens(piece).tolist() == [velocity(1), on(60), shift(1), off(60)]


def test_halves_of_a_step_are_rounded_upwards():
    piece = Piece("test", Notes.of([5], [25], [60], [1]), tempo=TEMPO)
    assert Events().tokens(piece).tolist() == [shift(1), velocity(1), on(60), shift(2), off(60)]


def test_the_pedal_is_applied_before_rounding():
    piece = Piece("test", Notes.of([0], [100], [60], [1]), Controls.of([50, 500], [64, 64], [127, 0]), TEMPO)
    assert Events().tokens(piece).tolist() == [velocity(1), on(60), shift(50), off(60)]


def test_a_pitch_outside_the_table_does_not_fit_and_is_not_clipped():
    piano = Events(pitch_range=(21, 108))
    piece = piece_of([(20, 0, 1, 1)])
    assert not piano.fits(piece)
    with pytest.raises(ValueError, match="outside the table"):
        piano.tokens(piece)


distinct_notes = st.dictionaries(
    st.tuples(st.integers(24, 100), st.integers(0, 40)),
    st.tuples(st.integers(1, 240), st.integers(0, 31)),
    min_size=1,
    max_size=40,
).map(lambda found: [(p, s * 250, s * 250 + n, 1 + 4 * b) for (p, s), (n, b) in sorted(found.items())])


@given(notes=distinct_notes)
@settings(deadline=None)
def test_a_piece_on_the_grid_comes_back_as_it_was(notes):
    events = Events(window=64)
    records = list(events.encode(piece_of(notes)))
    assert notes_of(events.decode(reversed(records))) == sorted(notes)


@given(notes=distinct_notes, window=st.integers(1, 50), data=st.data())
@settings(deadline=None)
def test_records_match_their_features_and_overlaps_are_joined(notes, window, data):
    events = Events(window=window, hop=data.draw(st.integers(0, window)))
    records = list(events.encode(piece_of(notes)))
    for record in records:
        check_record(record, events.features())
    assert notes_of(events.decode(records)) == sorted(notes)


@given(ids=st.lists(st.integers(0, 65_535), max_size=300))
@settings(deadline=None)
def test_nonsense_decodes_to_notes_that_have_a_length(ids):
    notes = Events().piece_from_tokens(np.array(ids, np.uint16)).notes
    assert (notes.end > notes.start).all()
    assert ((notes.pitch >= 0) & (notes.pitch <= 127) & (notes.velocity >= 1)).all()


def test_a_release_without_onset_is_passed_over_and_an_open_note_ends_with_the_piece():
    piece = Events().piece_from_tokens([off(60), on(62), shift(30), off(99)])
    assert notes_of(piece) == [(62, 0, 30, 64)]


def test_an_onset_of_a_sounding_pitch_closes_the_note_before():
    piece = Events().piece_from_tokens([on(62), shift(30), on(62), shift(5), off(62)])
    assert notes_of(piece) == [(62, 0, 30, 64), (62, 30, 35, 64)]


@given(notes=distinct_notes, semitones=st.integers(-12, 12))
@settings(deadline=None, max_examples=30)
def test_transposing_the_piece_transposes_what_is_decoded(notes, semitones):
    events = Events(window=0)
    there = events.decode(events.encode(transpose(piece_of(notes), semitones)))
    assert notes_of(there) == sorted((p + semitones, *rest) for p, *rest in notes)


def test_stretch_comes_before_rounding():
    piece = stretch(piece_of([(60, 0, 10, 1), (62, 11, 20, 1)]), 1.05)
    assert notes_of(Events().piece_from_tokens(Events().tokens(piece))) == [(60, 0, 11, 1), (62, 12, 21, 1)]


def test_outside_train_windows_do_not_overlap():
    events = Events(window=64, hop=32)
    assert events.for_split("train").hop == 32
    assert events.for_split("test").hop == 0


def test_notes_and_seconds_can_be_counted_from_ids():
    events = Events()
    tokens = events.tokens(piece_of([(60, 0, 50, 64), (64, 50, 200, 64)]))
    assert events.count_notes(tokens) == 2
    assert events.count_seconds(tokens) == 2.0


def test_settings_of_a_manifest_give_the_same_representation():
    assert from_settings("events", {"window": 64, "hop": 0, "pitch_range": [21, 108]}) == Events(64, 0, (21, 108))


@pytest.mark.parametrize("bad", [{"window": -1}, {"window": 8, "hop": 9}, {"pitch_range": (50, 40)}])
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValueError, match="must lie"):
        Events(**bad)


@pytest.mark.parametrize(
    "settings",
    [
        {"window": "64"},
        {"window": 1e9},
        {"window": 10**18},
        {"window": None},
        {"pitch_range": 7},
        {"pitch_range": [21]},
        {"pitch_range": ["21", "108"]},
        {"pitch_range": [21.5, 108]},
        {"windwo": 64},
    ],
)
def test_settings_that_a_manifest_cannot_have_are_refused_by_the_name_of_the_representation(settings):
    with pytest.raises(UsageError, match="representation events: |of Events"):
        from_settings("events", settings)
