"""Cleaning: each rule with its status and its reason."""

from dataclasses import replace

import pytest

from beam_pipelines.clean import Limits, clean
from schemas.music import Notes, Piece, TempoMap
from schemas.representations.events import Events

LIMITS = Limits(max_seconds=60.0, max_notes=3, pitch_range=(21, 108), representation=Events())


def piece_of(*notes, **fields):
    start, end, pitch = zip(*notes, strict=True) if notes else ((), (), ())
    return Piece("toy", Notes.of(start, end, pitch, 64), **fields)


def verdict(piece, limits=LIMITS):
    refusal = clean(piece, limits)
    return refusal and (refusal.status, refusal.reason)


def test_a_sound_piece_is_not_refused():
    assert clean(piece_of((0, 480, 60)), LIMITS) is None


def test_a_piece_without_notes_is_skipped():
    assert verdict(piece_of()) == ("skipped", "empty")


def test_too_many_notes_are_quarantined():
    assert verdict(piece_of(*[(0, 480, 60 + step) for step in range(4)])) == ("quarantined", "too-many-notes")


def test_length_is_judged_by_time_and_not_by_ticks():
    long_in_ticks = piece_of((0, 10_000_000, 60), tempo=TempoMap.constant(1_000_000))
    long_in_time = piece_of((0, 200, 60), tempo=TempoMap.constant(1))
    assert clean(long_in_ticks, LIMITS) is None
    assert verdict(long_in_time) == ("quarantined", "too-long")


def test_a_piece_as_long_as_allowed_is_kept():
    assert clean(piece_of((0, 960 * 60, 60)), LIMITS) is None


@pytest.mark.parametrize("pitch", [20, 109])
def test_a_note_outside_the_instrument_is_skipped_and_never_clipped(pitch):
    assert verdict(piece_of((0, 480, pitch))) == ("skipped", "out-of-range")


def test_a_note_outside_the_table_is_skipped():
    limits = replace(LIMITS, representation=Events(pitch_range=(60, 72)))
    assert verdict(piece_of((0, 480, 73)), limits) == ("skipped", "out-of-range")


def test_notes_that_no_performance_can_have_are_quarantined():
    piece = piece_of((0, 480, 60))
    broken = replace(piece, notes=replace(piece.notes, velocity=piece.notes.velocity * 0))
    assert verdict(broken) == ("quarantined", "bad-velocity")


def test_the_message_names_the_piece_and_the_flag():
    assert clean(piece_of((0, 960 * 61, 60)), LIMITS).message == "toy: lasts 61 s, --max-seconds allows 60"
