"""Statistics are the same before encoding and after decoding, add up in any order, and mean what they say."""

import itertools

import numpy as np
import pytest

from beam_pipelines.corpora.maestro import Maestro
from beam_pipelines.statistics import LENGTH_EDGES, add, empty, statistics_of, statistics_of_decoded, stored
from schemas.hashing import generator
from schemas.music import Notes, Piece, TempoMap
from schemas.representations.events import Events

EVENTS = Events(window=64)


def piece(*notes):
    """Notes as (start, end, pitch, velocity), in milliseconds."""
    columns = list(zip(*notes, strict=True)) or [[], [], [], []]
    return Piece("made", Notes.of(*columns), tempo=TempoMap.constant(500))


def decoded(original):
    return statistics_of_decoded(EVENTS.decode(EVENTS.encode(original)))


def test_notes_time_pitch_and_velocity_are_counted():
    found = statistics_of(piece((0, 1000, 60, 1), (500, 2000, 64, 127)))
    assert (found["pieces"], found["notes"], found["centiseconds"]) == (1, 2, 200)
    assert [pitch for pitch, count in enumerate(found["pitch"]) if count] == [60, 64]
    assert (found["velocity"][0], found["velocity"][31]) == (1, 1)


def test_polyphony_is_the_time_in_which_so_many_notes_sound():
    found = statistics_of(piece((1000, 2000, 60, 80), (1500, 3000, 64, 80)))
    assert found["polyphony"][:4] == [100, 50 + 100, 50, 0]
    assert sum(found["polyphony"]) == found["centiseconds"] == 300


def test_more_than_sixteen_notes_at_once_count_as_sixteen():
    found = statistics_of(piece(*((0, 1000, pitch, 80) for pitch in range(40, 60))))
    assert found["polyphony"][16] == 100


@pytest.mark.parametrize(("seconds", "bin"), [(14, 0), (15, 1), (59, 2), (1919, 7), (1920, 8), (9999, 8)])
def test_the_length_of_a_piece_falls_into_one_bin(seconds, bin):
    lengths = statistics_of(piece((0, seconds * 1000, 60, 80)))["lengths"]
    assert len(lengths) == len(LENGTH_EDGES) + 1
    assert [place for place, count in enumerate(lengths) if count] == [bin]


def test_a_piece_without_notes_has_no_time():
    found = statistics_of(piece())
    assert (found["notes"], found["centiseconds"], sum(found["polyphony"])) == (0, 0, 0)


def test_unisons_overlaps_and_notes_of_no_length_are_counted_as_they_decode():
    kinds = [(0, 400), (0, 5), (0, 4), (0, 100), (100, 300), (100, 100), (200, 200), (300, 310)]
    for chosen in itertools.product(kinds, repeat=3):
        original = piece(*((start, end, 60 + (number == 2), 80) for number, (start, end) in enumerate(chosen)))
        assert statistics_of(original) == decoded(original), chosen


def test_dense_random_music_is_counted_as_it_decodes():
    draw = generator(1, "dense", "test")
    start = draw.integers(0, 3000, 400)
    original = piece(
        *zip(
            start,
            start + draw.integers(0, 500, 400),
            draw.integers(60, 64, 400),
            draw.integers(1, 128, 400),
            strict=True,
        )
    )
    assert statistics_of(original) == decoded(original)


def test_real_performances_are_counted_as_they_decode(sample_data):
    root = str(sample_data("maestro/maestro-v3.0.0"))
    corpus, events = Maestro(), Events()
    for item in list(corpus.items(root))[::40]:
        prepared = events.prepared(corpus.parse(item, root))
        found = statistics_of_decoded(events.decode(events.encode(prepared)))
        assert statistics_of(prepared) == found, item.name


def test_sums_do_not_depend_on_order():
    parts = [statistics_of(piece((0, 1000 * n, 60 + n, 80))) for n in range(1, 5)] + [stored(3, 5, 700)]
    assert add(parts) == add(reversed(parts)) == add([add(parts[:2]), add(parts[2:])])
    assert add([]) == empty()
    assert (add(parts)["copies"], add(parts)["records"], add(parts)["tokens"]) == (3, 5, 700)


def test_all_values_are_plain_integers():
    for value in statistics_of(piece((0, 1000, 60, 80))).values():
        assert {type(number) for number in np.atleast_1d(value).tolist()} == {int}
        assert not isinstance(value, np.generic)
