"""Cleaning: each rule with its status and its reason."""

from dataclasses import replace

import pytest

from beam_pipelines.clean import clean
from schemas.music import Notes, Piece
from schemas.representations.events import Events

PIANO = (21, 108)
EVENTS = Events()


def piece_of(*notes, **fields):
    start, end, pitch = zip(*notes, strict=True) if notes else ((), (), ())
    return Piece("toy", Notes.of(start, end, pitch, 64), **fields)


def verdict(piece, representation=EVENTS):
    refusal = clean(piece, PIANO, representation)
    return refusal and (refusal.status, refusal.reason)


def test_a_sound_piece_is_not_refused():
    assert verdict(piece_of((0, 480, 60))) is None


def test_a_piece_without_notes_is_skipped():
    assert verdict(piece_of()) == ("skipped", "empty")


@pytest.mark.parametrize("pitch", [20, 109])
def test_a_note_outside_the_instrument_is_skipped_and_never_clipped(pitch):
    assert verdict(piece_of((0, 480, pitch))) == ("skipped", "out-of-range")


def test_a_note_outside_the_table_is_skipped():
    assert verdict(piece_of((0, 480, 73)), Events(pitch_range=(60, 72))) == ("skipped", "out-of-range")


def test_notes_that_no_performance_can_have_are_quarantined():
    piece = piece_of((0, 480, 60))
    broken = replace(piece, notes=replace(piece.notes, velocity=piece.notes.velocity * 0))
    assert verdict(broken) == ("quarantined", "bad-velocity")
