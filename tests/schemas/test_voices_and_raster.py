"""The two encodings of four voices: cells and their serialisation, the way back, windows, keys and nonsense."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import UsageError
from schemas.feature import check_record
from schemas.grid import HOLD, LENGTH_TICKS, RANGES, REST, cells_of, losses, piece_of
from schemas.music import InvalidMusic, Notes, Piece, TempoMap, stretch, transpose
from schemas.representations import from_settings
from schemas.representations.raster import Raster
from schemas.representations.voices import Voices

KINDS = pytest.mark.parametrize("kind", [Voices, Raster])
WITH_HOLD = [
    kind(grid, window, hop, hold)
    for kind, (window, hop) in ((Voices, (6, 2)), (Raster, (24, 8)))
    for grid, hold in itertools.product(("quarter", "8th", "16th"), (False, True))
]
ALL = pytest.mark.parametrize("representation", WITH_HOLD, ids=repr)


@st.composite
def chorales(draw):
    """Four voices with rests, notes struck again, and notes off every grid."""
    unit = draw(st.sampled_from([40, 60, 120, 240]))
    columns = []
    for voice, (low, high) in enumerate(RANGES["vocal"]):
        at = draw(st.integers(0, 2))
        runs = st.tuples(st.integers(1, 6), st.integers(0, 2), st.integers(low + 2, high - 2))
        for length, gap, pitch in draw(st.lists(runs, min_size=1, max_size=6)):
            columns.append((at * unit, (at + length) * unit, pitch, voice))
            at += length + gap
    start, end, pitch, track = zip(*columns, strict=True)
    labels = {LENGTH_TICKS: draw(st.sampled_from([0, 12_000]))}
    return Piece("test", Notes.of(start, end, pitch, 80, 52, track), tempo=TempoMap.constant(480), labels=labels)


def heard(piece):
    notes = piece.notes
    columns = (notes.track, piece.start_seconds(), piece.end_seconds(), notes.pitch)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
        assert np.asarray(one[name]).dtype == np.asarray(other[name]).dtype


@ALL
@given(piece=chorales())
@settings(deadline=None, max_examples=25)
def test_decoding_gives_the_piece_reduced_to_the_grid(representation, piece):
    steps, hold = representation.steps_per_quarter, representation.hold
    reduced = piece_of(cells_of(piece, steps, hold), steps, representation.decoded_tempo, hold)
    records = list(representation.for_split("train").encode(piece))
    for record in records:
        check_record(record, representation.features())
    decoded = representation.decode(reversed(records))
    assert heard(decoded) == heard(reduced) == heard(representation.prepared(piece))
    assert decoded.labels == reduced.labels


@ALL
@given(piece=chorales())
@settings(deadline=None, max_examples=15)
def test_what_was_prepared_is_prepared_and_encodes_to_the_same_records(representation, piece):
    prepared = representation.prepared(piece)
    assert heard(representation.prepared(prepared)) == heard(prepared)
    for one, other in zip(representation.encode(piece), representation.encode(prepared), strict=True):
        equal(one, other)


@ALL
@given(piece=chorales(), semitones=st.integers(-2, 2))
@settings(deadline=None, max_examples=15)
def test_a_transposed_record_is_that_of_the_transposed_piece(representation, piece, semitones):
    there = representation.encode(transpose(piece, semitones))
    for record, expected in zip(representation.encode(piece), there, strict=True):
        equal(representation.transposed(record, semitones), expected)


@KINDS
@given(piece=chorales(), factor=st.sampled_from([0.8, 1.0, 1.25]))
@settings(deadline=None, max_examples=15)
def test_another_tempo_changes_neither_cells_nor_their_number(kind, piece, factor):
    for one, other in zip(kind().encode(piece), kind().encode(stretch(piece, factor)), strict=True):
        equal(one, other)


@ALL
@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_nonsense_decodes_to_four_voices(representation, data):
    features = representation.features()
    name = "tokens" if "tokens" in features else "pitches"
    feature = features[name]
    count = int(np.prod(feature.shape))
    values = data.draw(st.lists(st.integers(0, int(feature.maximum)), min_size=count, max_size=count))
    unit = "token" if name == "tokens" else "step"
    record = {
        name: np.array(values, feature.dtype).reshape(feature.shape),
        f"start_{unit}": np.int64(data.draw(st.integers(0, 9))),
        f"piece_{unit}s": np.int64(data.draw(st.integers(0, 40))),
    }
    check_record(record, features)
    notes = representation.decode([record, record]).notes
    assert (notes.end > notes.start).all() and (notes.pitch < REST).all()


@given(ids=st.lists(st.integers(0, 65_535), max_size=99))
def test_any_ids_make_a_piece_that_lasts_as_long_as_their_steps(ids):
    piece = Raster().piece_from_tokens(np.array(ids, np.uint16))
    assert piece.labels[LENGTH_TICKS] == -(-len(ids) // 4) * 120


@KINDS
def test_a_voice_outside_its_range_does_not_fit_unless_any_pitch_may_be_sung(kind):
    tenor_too_high = Piece("test", Notes.of([0] * 4, [480] * 4, [72, 65, 70, 48], 80, 52, range(4)))
    assert not kind().fits(tenor_too_high) and kind(ranges="any").fits(tenor_too_high)
    record = next(kind().encode(transpose(tenor_too_high, -1)))
    with pytest.raises(ValueError, match="out of the range of its voice"):
        kind().transposed(record, 1)


@KINDS
def test_what_is_not_four_voices_is_told_by_its_reason_and_never_fits(kind):
    piano = Piece("test", Notes.of([0, 0], [480, 480], [60, 64], 80, 0, [0, 7]))
    reason, sentence = kind().misfit(piano)
    assert reason == "not-four-voices" and "2 instruments up to number 7" in sentence
    assert not kind().fits(piano)
    with pytest.raises(InvalidMusic, match="instruments"):
        list(kind().encode(piano))


@KINDS
def test_what_the_grid_does_not_say_is_counted(kind):
    columns = [(0, 480, 72, 0), (480, 960, 72, 0), (30, 90, 65, 1), (10, 960, 60, 2), (0, 960, 48, 3)]
    start, end, pitch, track = zip(*columns, strict=True)
    piece = Piece("test", Notes.of(start, end, pitch, 80, 52, track), tempo=TempoMap.constant(480))
    assert list(kind().unsaid(piece).values()) == [1, 1, 1]
    assert list(kind(hold=True).unsaid(piece).values()) == [1, 1, 0]
    assert losses(kind().prepared(piece), 4) == losses(piece_of(np.zeros((0, 4)), 4, 100.0), 4)


def test_ids_of_a_raster_are_the_cells_step_by_step():
    piece = piece_of([[72, 67, 60, 48], [72, 65, REST, 48]], 4, 100.0)
    assert Raster().tokens(piece).tolist() == [72, 67, 60, 48, 72, 65, 128, 48]
    assert Raster(hold=True).tokens(piece).tolist() == [72, 67, 60, 48, HOLD, 65, 128, HOLD]
    assert (Raster().size, Raster().bos, Raster().pad) == (129, 129, 130)
    assert (Raster(hold=True).size, Raster(hold=True).bos, Raster(hold=True).pad) == (130, 130, 131)


@given(piece=chorales(), hold=st.booleans())
@settings(deadline=None)
def test_notes_and_seconds_can_be_counted_from_ids(piece, hold):
    raster = Raster(hold=hold)
    ids = raster.tokens(piece)
    assert raster.count_notes(ids) == len(raster.prepared(piece).notes)
    padded = np.concatenate([ids, np.full(8, raster.pad, np.uint16)])
    assert raster.count_seconds(padded) == pytest.approx(len(ids) / 4 * 0.15)


def test_a_window_of_tokens_begins_with_a_step():
    for bad in ({"window": 6}, {"window": 8, "hop": 2}):
        with pytest.raises(ValueError, match="multiple of 4"):
            Raster(**bad)
    with pytest.raises(UsageError, match="multiple of 4"):
        from_settings("raster", {"window": 254})


@KINDS
def test_outside_train_windows_do_not_overlap(kind):
    representation = kind(window=64, hop=16)
    assert representation.for_split("train").hop == 16
    assert representation.for_split("validation").hop == 0


@KINDS
@pytest.mark.parametrize(
    "bad", [{"grid": "32nd"}, {"ranges": "choir"}, {"decoded_tempo": 0.0}, {"window": 8, "hop": 12}]
)
def test_settings_that_make_no_sense_are_refused(kind, bad):
    with pytest.raises(ValueError, match="must lie"):
        kind(**bad)
