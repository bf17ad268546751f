"""Music in memory: the pedal rule case by case, tempo maps, transposition, what is refused."""

import dataclasses

import numpy as np
import pytest

from schemas.music import Controls, InvalidMusic, Notes, Piece, TempoMap, apply_sustain, stretch, transpose, validate

DOWN, UP = 127, 0


def played(notes, pedal=(), drum=False):
    """A piece of (pitch, start, end) and (tick, value) of the pedal."""
    pitch, start, end = zip(*notes, strict=True) if notes else ((), (), ())
    ticks, values = zip(*pedal, strict=True) if pedal else ((), ())
    return Piece("test", Notes.of(start, end, pitch, 64, drum=drum), Controls.of(ticks, [64] * len(ticks), values))


def sounding(piece):
    """(pitch, start, end) of every note."""
    notes = apply_sustain(piece).notes
    return list(zip(notes.pitch.tolist(), notes.start.tolist(), notes.end.tolist(), strict=True))


def test_a_note_released_under_the_pedal_ends_when_the_pedal_goes_up():
    assert sounding(played([(60, 0, 10)], [(5, DOWN), (30, UP)])) == [(60, 0, 30)]


def test_a_note_struck_again_under_pedal_ends_at_the_new_onset():
    assert sounding(played([(60, 0, 10), (60, 20, 25)], [(5, DOWN), (40, UP)])) == [(60, 0, 20), (60, 20, 40)]


def test_a_key_still_held_when_its_pitch_is_struck_again_under_pedal_ends_there():
    assert sounding(played([(60, 0, 30), (60, 20, 25)], [(5, DOWN), (40, UP)])) == [(60, 0, 20), (60, 20, 40)]


def test_a_key_still_held_when_its_pitch_is_struck_again_without_pedal_keeps_its_end():
    assert sounding(played([(60, 0, 30), (60, 20, 25)], [(50, DOWN), (60, UP)])) == [(60, 0, 30), (60, 20, 25)]


def test_a_pedal_that_goes_up_before_the_key_changes_nothing():
    assert sounding(played([(60, 0, 10)], [(2, DOWN), (5, UP)])) == [(60, 0, 10)]


def test_a_chord_is_held_together_and_each_pitch_by_itself():
    notes = [(60, 0, 10), (64, 0, 12), (67, 0, 50)]
    assert sounding(played(notes, [(5, DOWN), (30, UP)])) == [(60, 0, 30), (64, 0, 30), (67, 0, 50)]


def test_a_pedal_never_released_holds_to_the_last_event():
    assert sounding(played([(60, 0, 10), (62, 80, 90)], [(5, DOWN)])) == [(60, 0, 90), (62, 80, 90)]


def test_pedal_up_and_down_at_one_tick_counts_as_up():
    assert sounding(played([(60, 0, 10)], [(5, DOWN), (10, UP), (10, DOWN)])) == [(60, 0, 10)]


def test_of_two_notes_struck_at_one_tick_under_pedal_one_remains():
    assert sounding(played([(60, 10, 20), (60, 10, 25)], [(5, DOWN), (40, UP)])) == [(60, 10, 40)]


def test_drums_have_no_pedal():
    assert sounding(played([(60, 0, 10)], [(5, DOWN), (30, UP)], drum=True)) == [(60, 0, 10)]


def test_each_instrument_has_its_own_pedal():
    notes = Notes.of([0, 0], [10, 10], [60, 72], 64, track=[0, 1])
    piece = Piece("test", notes, Controls.of([5, 30], [64, 64], [DOWN, UP], [0, 0]))
    assert apply_sustain(piece).notes.end.tolist() == [30, 10]


def test_the_pedal_is_applied_once_and_other_controllers_stay():
    piece = Piece("test", Notes.of([0], [10], [60], 64), Controls.of([5, 6, 30], [64, 1, 64], [DOWN, 9, UP]))
    once = apply_sustain(piece)
    assert once.controls.number.tolist() == [1]
    assert apply_sustain(once) is once


def test_notes_are_sorted_by_onset_then_pitch():
    notes = Notes.of([5, 0, 0], [9, 9, 9], [60, 64, 62], [1, 2, 3])
    assert notes.pitch.tolist() == [62, 64, 60]
    assert notes.velocity.tolist() == [3, 2, 1]


def test_seconds_follow_every_change_of_tempo():
    tempo = TempoMap(100, np.array([0, 200, 300]), np.array([500_000.0, 1_000_000.0, 250_000.0]))
    assert tempo.seconds([0, 100, 200, 300, 400]).tolist() == [0.0, 0.5, 1.0, 2.0, 2.25]


def test_stretch_multiplies_seconds_and_leaves_ticks():
    piece = stretch(played([(60, 0, 480)]), 1.05)
    assert piece.notes.end.tolist() == [480]
    assert piece.seconds == pytest.approx(0.525)


def test_transposition_moves_notes_but_not_drums():
    notes = Notes.of([0, 0], [1, 1], [60, 36], 64, track=[0, 1], drum=[False, True])
    assert transpose(Piece("test", notes), 3).notes.pitch.tolist() == [36, 63]


def test_transposition_out_of_range_is_refused():
    with pytest.raises(ValueError, match="out of 0..127"):
        transpose(played([(126, 0, 1)]), 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"start": np.array([-1])}, "negative-time"),
        ({"end": np.array([-5])}, "negative-time"),
        ({"pitch": np.array([128])}, "bad-pitch"),
        ({"velocity": np.array([0])}, "bad-velocity"),
        ({"velocity": np.array([1, 2])}, "ragged"),
    ],
)
def test_impossible_notes_are_named(change, reason):
    piece = played([(60, 0, 10)])
    with pytest.raises(InvalidMusic) as caught:
        validate(dataclasses.replace(piece, notes=dataclasses.replace(piece.notes, **change)))
    assert caught.value.reason == reason
