"""Limits in music: each with its reason, judged from what an input holds."""

from dataclasses import asdict

import numpy as np
import pytest

from beam_pipelines.config import LIMITS
from beam_pipelines.limits import Measures, measured, over_limit
from schemas.music import Controls, Notes, Piece, TempoMap
from tests.beam_pipelines.midi_files import build_of


def piece_of(start, end, **fields):
    return Piece("toy", Notes.of(start, end, 60, 64), **fields)


@pytest.fixture
def build(tmp_path):
    return build_of(tmp_path, **dict.fromkeys(LIMITS - {"item_seconds", "item_megabytes"}, 10))


@pytest.mark.parametrize(
    ("measures", "size", "reason", "flag"),
    [
        ({}, 11, "too-large", "--max-bytes"),
        ({"seconds": 10.1}, 1, "too-long", "--max-seconds"),
        ({"seconds": float("nan")}, 1, "too-long", "--max-seconds"),
        ({"notes": 11}, 1, "too-many-notes", "--max-notes"),
        ({"notes_per_second": 11}, 1, "too-dense", "--max-notes-per-second"),
        ({"controls": 11}, 1, "too-many-controls", "--max-controls"),
        ({"tracks": 11}, 1, "too-many-tracks", "--max-tracks"),
    ],
)
def test_what_passes_a_limit_is_quarantined_and_the_flag_is_named(build, measures, size, reason, flag):
    refusal = over_limit(build, "toy", size, Measures(**measures))
    assert (refusal.status, refusal.reason) == ("quarantined", reason)
    assert f"{flag} allows 10" in refusal.message


def test_what_reaches_every_limit_and_passes_none_is_kept(build):
    assert over_limit(build, "toy", 10, Measures(**dict.fromkeys(asdict(Measures()), 10))) is None


def test_length_is_measured_in_time_and_not_in_ticks():
    assert measured(piece_of([0], [10_000_000], tempo=TempoMap.constant(1_000_000))).seconds == 5.0


def test_the_busiest_second_is_found_however_far_the_seconds_are_apart():
    start = np.array([0, 100, 959, 960, 961, 1919, 1919, 10**11])
    assert measured(piece_of(start, start + 10)).notes_per_second == 4
    assert measured(piece_of([], [])).notes_per_second == 0


def test_tracks_and_controllers_are_counted_also_where_there_is_no_note():
    piece = Piece(
        "toy", Notes.empty(), controls=Controls.of([0, 1, 2], 64, 127, [0, 1, 7]), tempo=TempoMap.constant(480)
    )
    assert measured(piece) == Measures(controls=3, tracks=8)
