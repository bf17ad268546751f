"""Four voices on a grid: cells of a piece, the way back, and what a grid cannot say."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.grid import (
    GRIDS,
    HOLD,
    LENGTH_TICKS,
    RANGES,
    REST,
    cells_of,
    count_steps,
    losses,
    piece_of,
    transposed,
    voice_called,
    voices_fault,
    within,
)
from schemas.music import InvalidMusic, Notes, Piece, TempoMap, stretch, transpose


def piece_in_ticks(notes, ticks_per_quarter=480, **labels):
    """A piece of (voice, start tick, end tick, pitch)."""
    track, start, end, pitch = zip(*notes, strict=True)
    arrays = Notes.of(start, end, pitch, 80, 52, track)
    return Piece("test", arrays, tempo=TempoMap.constant(ticks_per_quarter), labels=labels)


def notes_of(piece):
    notes = piece.notes
    return sorted(zip(*(getattr(notes, name).tolist() for name in ("track", "start", "end", "pitch")), strict=True))


@st.composite
def voiced_notes(draw, units=(120,)):
    """Notes of four voices, one at a time in each, on whole multiples of a drawn number of ticks."""
    unit, notes = draw(st.sampled_from(units)), []
    for voice, (low, high) in enumerate(RANGES["vocal"]):
        at = draw(st.integers(0, 3))
        for length, gap, pitch in draw(
            st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3), st.integers(low, high)), min_size=1, max_size=8)
        ):
            notes.append((voice, at * unit, (at + length) * unit, pitch))
            at += length + gap
    return notes


pitches = st.integers(36, 81)
plain_cells = st.lists(st.lists(pitches | st.just(REST), min_size=4, max_size=4), max_size=24).map(
    lambda rows: np.array(rows, np.uint8).reshape(-1, 4)
)
nonsense = st.lists(st.integers(-5, 300), max_size=80).map(lambda ids: np.array(ids[: len(ids) // 4 * 4]))
grids = st.sampled_from(sorted(GRIDS.values()))


def test_a_step_holds_what_sounds_at_its_beginning():
    piece = piece_in_ticks([(0, 0, 480, 72), (1, 0, 240, 67), (1, 240, 480, 65), (2, 1, 480, 60), (3, 0, 119, 48)])
    assert cells_of(piece, 4).tolist() == [
        [72, 67, REST, 48],
        [72, 67, 60, REST],
        [72, 65, 60, REST],
        [72, 65, 60, REST],
    ]
    assert cells_of(piece, 1).tolist() == [[72, 67, REST, 48]]


def test_hold_tells_a_note_struck_again_from_one_that_goes_on():
    held, struck = piece_in_ticks([(0, 0, 480, 72)]), piece_in_ticks([(0, 0, 240, 72), (0, 240, 480, 72)])
    assert cells_of(held, 4)[:, 0].tolist() == cells_of(struck, 4)[:, 0].tolist() == [72] * 4
    assert cells_of(held, 4, hold=True)[:, 0].tolist() == [72, HOLD, HOLD, HOLD]
    assert cells_of(struck, 4, hold=True)[:, 0].tolist() == [72, HOLD, 72, HOLD]


@given(plain_cells, grids)
def test_cells_come_back_from_their_piece_rests_at_both_ends_included(cells, steps_per_quarter):
    piece = piece_of(cells, steps_per_quarter, 100.0)
    np.testing.assert_array_equal(cells_of(piece, steps_per_quarter), cells)


@given(voiced_notes())
def test_with_hold_a_piece_on_the_grid_comes_back_as_it_was(notes):
    piece = piece_in_ticks(notes)
    assert notes_of(piece_of(cells_of(piece, 4, hold=True), 4, 100.0, hold=True)) == sorted(notes)


@given(voiced_notes((30, 40, 80, 120, 160)), grids, st.booleans())
def test_every_note_is_heard_or_counted_as_lost(notes, steps_per_quarter, hold):
    piece = piece_in_ticks(notes)
    heard = piece_of(cells_of(piece, steps_per_quarter, hold), steps_per_quarter, 100.0, hold)
    lost = losses(piece, steps_per_quarter, hold)
    assert len(heard.notes) == len(notes) - lost.between - lost.merged
    if lost.between == lost.merged == lost.off_grid == 0:
        assert notes_of(heard) == sorted(notes)


@given(nonsense, grids, st.booleans())
def test_nonsense_becomes_a_piece_all_the_same(cells, steps_per_quarter, hold):
    piece = piece_of(cells, steps_per_quarter, 100.0, hold)
    assert voices_fault(piece, complete=False) == ""
    assert count_steps(piece, steps_per_quarter) == len(cells) // 4
    again = piece_of(cells_of(piece, steps_per_quarter, hold), steps_per_quarter, 100.0, hold)
    assert notes_of(again) == notes_of(piece)


def test_a_hold_with_nothing_before_it_is_a_rest():
    cells = [[HOLD, 60, REST, 200], [HOLD, HOLD, HOLD, HOLD], [60, HOLD, 50, HOLD]]
    notes = notes_of(piece_of(np.array(cells), 4, 100.0, hold=True))
    assert notes == [(0, 240, 360, 60), (1, 0, 360, 60), (2, 240, 360, 50)]


def test_the_length_of_a_piece_survives_another_tempo_and_key():
    piece = piece_in_ticks([(0, 0, 120, 60)], **{LENGTH_TICKS: 960})
    assert count_steps(piece, 4) == 8
    changed = transpose(stretch(piece, 1.25), 3)
    assert cells_of(changed, 4)[:, 0].tolist() == [63] + [REST] * 7
    assert cells_of(changed, 4).tolist() == transposed(cells_of(piece, 4), 3, RANGES["any"]).tolist()


def test_ticks_that_no_step_divides_are_compared_exactly():
    piece = piece_in_ticks([(0, 0, 3, 60), (0, 3, 5, 62)], ticks_per_quarter=5)  # steps at 0, 1.25, 2.5 and 3.75 ticks
    assert cells_of(piece, 4)[:, 0].tolist() == [60, 60, 60, 62]


@pytest.mark.parametrize(
    ("notes", "fault"),
    [
        ([(4, 0, 120, 60)], "instruments up to number 4"),
        ([(0, 0, 120, 60), (0, 60, 240, 62)], "several notes at once in the soprano"),
        ([(0, 0, 120, 60), (0, 0, 120, 64)], "several notes at once in the soprano"),
    ],
)
def test_what_is_not_four_voices_is_refused_with_its_fault(notes, fault):
    piece = piece_in_ticks(notes)
    assert fault in voices_fault(piece)
    with pytest.raises(InvalidMusic, match=fault) as caught:
        cells_of(piece, 4)
    assert caught.value.reason == "not-four-voices"


def test_drums_are_no_voice_and_a_melody_alone_is_one_but_not_four():
    melody = piece_in_ticks([(0, 0, 120, 60)])
    assert voices_fault(melody, complete=False) == "" and "1 of four voices" in voices_fault(melody)
    drums = replace(melody, notes=Notes.of([0], [120], [36], [80], drum=True))
    assert voices_fault(drums) == "has drums"


def test_a_piece_of_endless_steps_is_refused_before_memory_is_taken():
    with pytest.raises(InvalidMusic, match="steps") as caught:
        cells_of(piece_in_ticks([(0, 0, 1 << 50, 60)], ticks_per_quarter=1), 4)
    assert caught.value.reason == "too-many-steps"


def test_each_voice_has_a_range_of_its_own():
    tenor_too_high = piece_in_ticks([(2, 0, 120, 70)])
    assert not within(tenor_too_high, RANGES["vocal"]) and within(tenor_too_high, RANGES["any"])
    with pytest.raises(ValueError, match="out of the range of its voice"):
        transposed(cells_of(piece_in_ticks([(2, 0, 120, 69)]), 4), 1, RANGES["vocal"])


@given(plain_cells.map(lambda cells: np.where(cells == REST, HOLD, cells).astype(np.uint16)), st.integers(-11, 11))
def test_transposition_leaves_what_is_no_pitch_alone_and_keeps_the_dtype(cells, semitones):
    moved = transposed(cells, semitones, RANGES["any"])
    assert moved.dtype == cells.dtype
    np.testing.assert_array_equal(moved == HOLD, cells == HOLD)
    np.testing.assert_array_equal(transposed(moved, -semitones, RANGES["any"]), cells)


@pytest.mark.parametrize(
    ("name", "voice"),
    [
        ("Soprano", 0), ("SOPRAN", 0), ("s.", 0), ("Discantus", 0), ("Alt", 1), ("Alto 2", 1), ("Contralto", 1),
        ("A", 1), ("Ténor", 2), ("Tenor II", 2), ("T", 2), ("Bass", 3), ("[Bassus]", 3), ("B.", 3),
        ("Tenor_II", 2), ("Soprano (II.)", 0), ("Alto IV 1", 1), ("  Bass" + 40 * " ", 3), ("Soprani", 0), ("II", None),
        ("", None), ("Voice", None), ("Soprano Alto", None), ("Contrabass", None), ("Bass clarinet", None), ("1", None),
    ],
)  # fmt: skip
def test_a_part_is_called_a_voice_in_several_languages_and_by_a_letter(name, voice):
    assert voice_called(name) == voice


@pytest.mark.parametrize("filling", ["1", " ", "i", ".i "])
def test_a_name_of_more_than_40_characters_is_no_voices_name(filling):
    assert voice_called("Tenor " + 33 * "1" + "2") == 2
    assert voice_called("Tenor " + 34 * "1" + "2") is None
    assert voice_called("Tenor" + 1000 * filling + "2") is None
