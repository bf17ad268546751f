"""Records drawn anew: windows and keys of events, raster and voices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.feature import check_record
from schemas.hashing import generator
from schemas.music import Notes, Piece, transpose
from schemas.representations import REPRESENTATIONS, from_settings
from schemas.representations.events import Events
from schemas.representations.raster import Raster
from schemas.representations.voices import Voices
from schemas.window import layout_of

NAMES = sorted(REPRESENTATIONS)
EACH = pytest.mark.parametrize("name", NAMES)
UNITS = {"raster": 4}


def piece_of(seed=0, notes=40):
    """A scale of every voice, in the middle of its range."""
    draw = np.random.default_rng(seed)
    start = np.tile(np.arange(notes) * 120, 4)
    pitch = np.repeat([69, 63, 57, 50], notes) + draw.integers(-3, 4, 4 * notes)
    order = np.argsort(start, kind="stable")
    track = np.repeat(np.arange(4), notes)
    notes_of = Notes.of(start[order], start[order] + 120, pitch[order], 80, 0, track[order])
    return Piece("scale", notes_of)


def record_of(name, window=0, seed=0):
    representation = from_settings(name, {"window": window})
    return representation, list(representation.encode(piece_of(seed)))


def values(representation, record):
    return record[layout_of(representation.features()).values]


def equal(one, other):
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])
        assert np.asarray(one[key]).dtype == np.asarray(other[key]).dtype


@EACH
@pytest.mark.parametrize("window", [0, 24])
@given(seed=st.integers(0, 1 << 32))
def test_the_whole_record_in_its_own_key_is_the_record_itself(name, window, seed):
    representation, records = record_of(name, window)
    for record in records:
        length = len(values(representation, record))
        for crop, semitones in ((0, ()), (0, (0,)), (length, (0,)), (length, ())):
            equal(representation.redraw(record, generator(seed, 0, "redraw"), crop, semitones), record)


@EACH
@given(seed=st.integers(0, 1 << 32), semitones=st.integers(-4, 4))
def test_a_whole_piece_drawn_in_another_key_decodes_to_the_piece_in_that_key(name, seed, semitones):
    representation, (record,) = record_of(name, seed=seed % 5)
    drawn = representation.redraw(record, generator(seed, 0, "redraw"), 0, (semitones,))
    wanted = transpose(representation.decode([record]), semitones).notes
    found = representation.decode([drawn]).notes
    for column in ("start", "end", "pitch", "track"):
        assert getattr(found, column).tolist() == getattr(wanted, column).tolist()


@EACH
@pytest.mark.parametrize("window", [0, 64])
@given(seed=st.integers(0, 1 << 32))
def test_a_drawn_window_is_a_part_of_the_piece_at_the_place_that_it_says(name, window, seed):
    representation, records = record_of(name, window)
    whole = values(*record_of(name)[:1], record_of(name)[1][0])
    layout, unit = layout_of(representation.features()), UNITS.get(name, 1)
    for record in records:
        drawn = representation.redraw(record, generator(seed, 0, "redraw"), 12, ())
        assert len(drawn[layout.values]) == 12 and drawn[layout.total] == len(whole)
        first, real = int(drawn[layout.start]), layout.real_length(drawn)
        assert first % unit == 0 and real == min(12, layout.real_length(record))
        assert drawn[layout.values][:real].tolist() == whole[first : first + real].tolist()
        assert record[layout.start] <= first and first + real <= record[layout.start] + layout.real_length(record)


@EACH
def test_every_place_and_every_key_is_drawn_about_as_often(name):
    representation, (record,) = record_of(name)
    layout, unit = layout_of(representation.features()), UNITS.get(name, 1)
    crop = len(values(representation, record)) - 3 * unit
    draws = [representation.redraw(record, generator(0, n, "redraw"), crop, (-1, 0, 2)) for n in range(1200)]
    places = [int(drawn[layout.start]) for drawn in draws]
    assert {place: round(places.count(place) / 1200, 1) for place in set(places)} == pytest.approx(
        {unit * n: 0.25 for n in range(4)}, abs=0.06
    )
    at_home = [drawn for drawn in draws if drawn[layout.start] == 0]
    assert len({drawn[layout.values].tobytes() for drawn in at_home}) == 3


@EACH
def test_a_piece_that_is_shorter_than_the_window_is_filled_up(name):
    representation, (record,) = record_of(name)
    layout, length = layout_of(representation.features()), len(values(representation, record))
    drawn = representation.redraw(record, generator(0, 0, "redraw"), length + 8, ())
    assert (drawn[layout.values][length:] == representation.pad).all()
    assert drawn[layout.values][:length].tolist() == record[layout.values].tolist()
    assert layout.real_length(drawn) == length and drawn[layout.start] == 0


@EACH
def test_a_drawn_window_is_a_record_of_that_window(name):
    representation, (record,) = record_of(name)
    drawn = representation.redraw(record, generator(0, 0, "redraw"), 16, (-2, 3))
    check_record(drawn, from_settings(name, {"window": 16}).features())


@pytest.mark.parametrize("representation", [Events(0, pitch_range=(40, 75)), Raster(window=0), Voices(window=0)])
def test_a_draw_that_leaves_the_range_is_none_and_the_record_stays_as_it_was(representation):
    (record,) = representation.encode(piece_of())
    before = {name: np.array(value) for name, value in record.items()}
    assert representation.redraw(record, generator(0, 0, "redraw"), 0, (25,)) is None
    equal({name: np.array(value) for name, value in record.items()}, before)


@EACH
def test_equal_generators_draw_equal_records_and_others_others(name):
    representation, (record,) = record_of(name)
    layout = layout_of(representation.features())

    def drawn(number):
        return representation.redraw(record, generator(7, number, "redraw"), 12, (-3, -2, -1, 0, 1, 2, 3))

    equal(drawn(3), drawn(3))
    assert len({drawn(n)[layout.values].tobytes() for n in range(20)}) > 10
