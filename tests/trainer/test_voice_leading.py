"""Faults in four voices, each on a few hand-made steps. No Keras."""

import numpy as np
import pytest

from schemas.grid import HOLD, REST
from trainer.metrics.voice_leading import faults, rates

# G4 E4 C4 C3: C major, in range and close.
CHORD = [67, 64, 60, 48]


def count(steps, **grid):
    return faults(np.array(steps, np.uint8), **grid)


def broken(steps):
    """The names of what is counted above 0, without sizes."""
    return {name: value for name, value in count(steps).items() if value and name not in ("bars", "beats")}


def test_a_chord_that_is_repeated_breaks_no_rule():
    assert broken([CHORD] * 8) == {}


def test_a_parallel_fifth_is_counted_once_for_its_pair_and_its_move():
    # Soprano and tenor: C4-G4 to D4-A4, held for four steps each.
    steps = [[67, 64, 60, 48]] * 4 + [[69, 65, 62, 47]] * 4
    assert count(steps)["parallel_fifths"] == 1
    assert count(steps)["parallel_octaves"] == 0


def test_both_voices_that_repeat_a_fifth_make_no_parallel():
    steps = [[67, 64, 60, 48]] * 4 + [[67, 65, 60, 45]] * 4
    assert count(steps)["parallel_fifths"] == 0


def test_a_fifth_that_one_voice_keeps_and_the_other_leaves_is_no_parallel():
    assert count([[67, 64, 60, 48], [69, 64, 60, 48], [67, 64, 60, 48]])["parallel_fifths"] == 0


def test_octaves_unisons_and_twelfths_count_as_what_they_are_of():
    octave = [[72, 67, 64, 48], [74, 67, 65, 50]]
    assert count(octave)["parallel_octaves"] == 1
    unison = [[72, 60, 60, 48], [72, 62, 62, 47]]
    assert count(unison)["parallel_octaves"] == 1
    twelfth = [[67, 64, 60, 48], [69, 64, 60, 50]]
    assert count(twelfth)["parallel_fifths"] == 1


def test_all_pairs_of_voices_are_compared():
    # Four voices in octaves and fifths: 0-1, 0-2, ... each pair is either.
    found = count([[79, 72, 67, 60], [81, 74, 69, 62]])
    assert (found["parallel_octaves"], found["parallel_fifths"]) == (2, 3)


def test_contrary_motion_between_perfect_intervals_is_no_parallel():
    assert count([[72, 67, 64, 48], [67, 65, 62, 55]])["parallel_octaves"] == 0


def test_a_fourth_of_crossed_voices_is_no_fifth():
    assert count([[60, 65, 55, 40], [62, 67, 55, 40]])["parallel_fifths"] == 0


def test_a_rest_between_breaks_the_move():
    steps = [[67, 64, 60, 48], [REST, 64, REST, 48], [69, 65, 62, 47]]
    assert count(steps)["parallel_fifths"] == 0
    assert count(steps)["crossings"] == count(steps)["wide"] == 0


def test_the_outer_voices_hide_a_fifth_only_where_the_soprano_leaps():
    leap = [[64, 60, 55, 48], [69, 65, 57, 50]]
    assert count(leap)["hidden"] == 1
    step = [[67, 64, 60, 52], [69, 65, 62, 62]]
    assert count(step)["hidden"] == 0
    parallel = [[67, 64, 60, 48], [72, 65, 60, 53]]
    assert (count(parallel)["hidden"], count(parallel)["parallel_fifths"]) == (0, 1)


def test_a_crossing_is_counted_where_it_begins():
    crossed, straight = [64, 67, 60, 48], [67, 64, 60, 48]
    assert count([straight, crossed, crossed, straight, crossed])["crossings"] == 2
    assert count([[64, 64, 60, 48]])["crossings"] == 0


def test_only_the_upper_voices_must_stay_within_an_octave():
    assert count([[76, 64, 60, 40]])["wide"] == 0
    assert count([[77, 64, 60, 40]])["wide"] == 1
    assert count([[77, 64, 51, 40]] * 3)["wide"] == 2


def test_a_note_out_of_range_counts_once_however_long_it_is_held():
    assert count([[81, 72, 67, 48]] * 4 + [[79, 72, 67, 48]])["out_of_range"] == 1
    assert count([[60, 55, 48, 40], [79, 72, 67, 60]])["out_of_range"] == 0
    assert count([[59, 54, 47, 39]])["out_of_range"] == 4


@pytest.mark.parametrize(
    ("beat", "dissonant"),
    [
        ([67, 64, 60, 48], False),  # triad
        ([68, 64, 60, 48], False),  # augmented
        ([67, 65, 59, 43], False),  # dominant seventh without its fifth: G B F
        ([72, 65, 59, 43], True),  # and with a fourth above its bass
        ([67, 62, 60, 48], True),  # C D G
        ([65, 62, 60, 48], False),  # a minor seventh on D without its fifth
        ([67, 60, 60, 48], False),  # open fifth
        ([60, 59, 55, 43], True),  # C B G
        ([62, 60, 60, 48], True),  # a second
        ([68, 65, 62, 47], False),  # diminished seventh
        ([60, REST, REST, 59], True),  # two voices only
        ([60, REST, REST, REST], False),  # one voice is no interval: no beat
    ],
)
def test_a_beat_is_dissonant_where_no_triad_or_seventh_chord_explains_it(beat, dissonant):
    assert count([beat])["dissonant"] == dissonant


def test_only_what_sounds_on_the_beat_is_judged():
    passing = [CHORD, CHORD, [67, 65, 60, 48], CHORD]
    assert count(passing * 2)["dissonant"] == 0
    assert count(passing * 2)["beats"] == 2
    assert count(passing, steps_per_quarter=2)["dissonant"] == 1


def test_a_hold_is_what_it_holds_and_a_hold_of_nothing_is_a_rest():
    held = [[67, 64, 60, 48], [HOLD] * 4, [69, 65, 62, 47], [HOLD] * 4]
    plain = [[67, 64, 60, 48]] * 2 + [[69, 65, 62, 47]] * 2
    assert count(held) == count(plain)
    assert count([[HOLD] * 4])["beats"] == 0


def test_rates_divide_sums_once_so_that_long_pieces_weigh_more():
    rows = [count([[81, 72, 67, 48]] * 16), count([CHORD] * 48)]
    found = rates(rows)
    assert found["out_of_range"] == 1 / 4
    assert found["dissonant_beats"] == 0
    assert rates([]) == {}
    assert np.isnan(rates([count([[REST] * 4] * 16)])["dissonant_beats"])


def test_no_step_and_no_fault():
    assert set(faults(np.zeros((0, 4), np.uint8)).values()) == {0}
