"""Structure of pieces whose repetitions are known, novelty, mutual information, notes that stand alone. No Keras."""

import numpy as np
import pytest

from schemas.music import Controls, Notes, Piece
from trainer.metrics.bars import BARS, MAX_UNITS, SECONDS, STRUCK, in_voices, laid_out, measured_in
from trainer.metrics.structure import information, novelty, self_similarity, structure

BAR = 4 * 480


def piece(bars, name="made", metre=((0, 4, 4),), length=480):
    """Four quarters a bar, one list of pitches each; None is a silent bar."""
    start = [bar * BAR + beat * 480 for bar, pitches in enumerate(bars) for beat in range(len(pitches or ()))]
    pitch = [value for pitches in bars for value in pitches or ()]
    notes = Notes.of(start, [tick + length for tick in start], pitch, 80)
    return Piece(name, notes, time_signatures=metre)


def figures(*pieces, unit=BARS):
    return structure([laid_out(one, unit) for one in pieces])


A, B, C = [60, 62, 64, 65], [67, 69, 71, 72], [55, 59, 50, 48]
HIGH_A = [value + 5 for value in A]


def test_what_comes_back_after_two_bars_is_found_at_lag_two():
    found = figures(piece([A, B, A, B, A, B]))
    assert found["exact"][:4] == [0, 1, 0, 1]
    assert found["exact"][5:] == [None] * 11
    assert found["repeated"] == pytest.approx(4 / 6)


def test_a_bar_that_comes_back_higher_is_transposed_and_not_exact():
    found = figures(piece([A, B, HIGH_A, C]))
    assert found["exact"][1] == 0
    assert found["transposed"][1] == 0.5
    assert found["repeated"] == 0


def test_silent_bars_repeat_nothing():
    found = figures(piece([A, None, None, B]))
    assert found["exact"][:3] == [None, None, 0]


def test_a_note_struck_twice_is_another_bar_than_one_that_is_held_but_a_tie_into_it_is_not():
    held = Notes.of([0, BAR, 2 * BAR - 480, 4 * BAR], [480, BAR + 1920 - 480, 3 * BAR, 5 * BAR], 60, 80)
    tied = laid_out(Piece("tied", held, time_signatures=((0, 4, 4),)), BARS)
    assert (tied.roll[2] == tied.roll[4]).all()
    twice = Notes.of([4 * BAR, 4 * BAR + 960], [4 * BAR + 960, 5 * BAR], 60, 80)
    struck = laid_out(Piece("struck", twice, time_signatures=((0, 4, 4),)), BARS)
    assert struck.roll[4, 8, 60] == STRUCK
    assert (struck.roll[4] != tied.roll[4]).any()


def test_pieces_weigh_by_what_they_have_to_count():
    found = figures(piece([A, A]), piece([A, B, C, A, B, C]))
    assert found["exact"][0] == pytest.approx(1 / 6)


def test_bars_follow_changes_of_metre_and_a_change_begins_a_bar():
    start = [0, 3 * 480, 5 * 480, 9 * 480]
    notes = Notes.of(start, [tick + 480 for tick in start], [60, 61, 62, 63], 80)
    laid = laid_out(Piece("metre", notes, time_signatures=((0, 3, 4), (5 * 480, 4, 4))), BARS)
    assert laid.start.tolist() == [0, 1, 2, 3]
    assert laid.beat == pytest.approx(1 / 3)


@pytest.mark.parametrize("metre", [((0, 0, 4),), ((0, 4, 0),), ((BAR, 4, 4),)])
def test_a_metre_that_cannot_be_is_common_time(metre):
    assert laid_out(piece([A, B], metre=metre), BARS).start.tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]


def test_music_without_metre_is_laid_out_in_seconds_and_so_is_what_it_is_compared_with():
    free = piece([A, B], metre=())
    assert measured_in([piece([A]), free]) == SECONDS
    assert measured_in([piece([A])]) == BARS
    assert laid_out(free, SECONDS).start[:3].tolist() == [0, 0.5, 1]


def test_four_voices_have_bars_without_a_time_signature():
    notes = Notes.of([0] * 4, [480] * 4, [72, 67, 64, 48], 80, track=[0, 1, 2, 3])
    assert in_voices([Piece("voices", notes)])
    assert measured_in([Piece("voices", notes)]) == BARS
    assert not in_voices([Piece("three", notes.select(np.arange(3)))])
    assert not in_voices([Piece("voices", notes), piece([A])][1:])


def test_the_pedal_holds_and_drums_are_left_out():
    notes = Notes.of([0, 0], [10, 10], [60, 36], 80, drum=[False, True])
    down = Controls.of([0, BAR], [64, 64], [127, 0])
    laid = laid_out(Piece("pedal", notes, down, time_signatures=((0, 4, 4),)), BARS)
    assert (laid.pitch.tolist(), laid.end.tolist()) == ([60], [1])


def test_a_piece_without_end_is_looked_at_in_part():
    notes = Notes.of([0, 10**12], [10**12, 10**12 + 1], 60, 80)
    laid = laid_out(Piece("endless", notes, time_signatures=((0, 4, 4),)), BARS)
    assert (laid.units, len(laid.pitch)) == (MAX_UNITS, 1)


def test_a_piece_without_notes_has_no_figures():
    assert {
        str(value) for value in figures(Piece("silence", Notes.empty())).values() if not isinstance(value, list)
    } == {"None"}
    assert structure([])["exact"] == [None] * 16


def test_shuffling_keeps_every_bar_and_hangs_on_seed_and_key():
    laid = laid_out(piece([A, B, C, HIGH_A] * 4), BARS)
    other = laid.shuffled(1, 0)
    assert sorted(unit.tobytes() for unit in other.roll) == sorted(unit.tobytes() for unit in laid.roll)
    assert (other.roll != laid.roll).any()
    assert (other.roll == laid.shuffled(1, 0).roll).all()
    assert (other.roll != laid.shuffled(2, 0).roll).any()
    assert (other.roll != laid.shuffled(1, 1).roll).any()
    assert (other.start[1:] >= other.start[:-1]).all()
    assert structure([other])["repeated"] == structure([laid])["repeated"]


def test_shuffling_destroys_what_hangs_on_distance():
    laid = laid_out(piece([A, B, C, HIGH_A] * 16), BARS)
    assert structure([laid])["exact"][3] == 1
    assert structure([laid.shuffled(0, 0)])["exact"][3] < 0.5


def test_similarity_is_one_for_equal_units_and_zero_for_silence():
    found = self_similarity(np.array([[3, 4], [6, 8], [0, 0], [4, -3]], np.float32))
    np.testing.assert_allclose(found[0], [1, 1, 0, 0], atol=1e-6)
    assert found[2].tolist() == [0, 0, 0, 0]


def test_novelty_is_greatest_at_the_border_of_two_parts():
    blocks = np.kron(np.eye(2), np.ones((8, 8)))
    found = novelty(blocks)
    assert len(found) == 16 - 2 * 4 + 1
    assert int(found.argmax()) + 4 == 8
    assert found[4] == pytest.approx(1)
    np.testing.assert_allclose(novelty(np.ones((16, 16))), 0, atol=1e-12)
    assert len(novelty(np.ones((7, 7)))) == 0


def test_an_interval_that_is_settled_by_the_one_before_tells_all_its_bits():
    # Up and down in turn: one bit, known from any distance.
    turns = laid_out(piece([[60, 62, 60, 62]] * 64), BARS)
    assert information([turns], 1) == pytest.approx(1, abs=0.01)
    assert information([turns], 5) == pytest.approx(1, abs=0.01)
    draw = np.random.default_rng(0)
    chance = laid_out(piece(draw.integers(40, 88, (256, 4)).tolist()), BARS)
    # Without the correction for few counts it would be 0.1.
    assert abs(information([chance], 1)) < 0.03
    assert information([turns.shortened(1)], 16) is None


def test_a_note_is_lonely_where_nothing_sounds_within_a_beat():
    start = np.array([0, 880, 2 * BAR, 3 * BAR, 3 * BAR + 881])
    notes = Notes.of(start, start + 400, [60, 62, 64, 65, 67], 80)
    found = figures(Piece("alone", notes, time_signatures=((0, 4, 4),)))
    assert found["lonely_notes"] == pytest.approx(3 / 5)
    long = Notes.of([0, 10, BAR], [BAR, 20, BAR + 10], [40, 60, 61], 80)
    assert figures(Piece("under", long, time_signatures=((0, 4, 4),)))["lonely_notes"] == 0


def test_notes_shorter_than_a_sixteenth_are_short():
    assert figures(piece([A, B], length=119))["short_notes"] == 1
    assert figures(piece([A, B], length=120))["short_notes"] == 0
