"""MIDI files: what is read, what comes back after writing, what is refused and how it is named."""

import struct

import pytest

from media.midi import Unreadable, read_midi, write_midi
from schemas.music import Controls, Notes, Piece, TempoMap


def chunk(kind, data):
    return kind + struct.pack(">I", len(data)) + data


def midi_file(track, division=480, header_extra=b""):
    """A MIDI file of one track's events, without its end."""
    header = chunk(b"MThd", struct.pack(">HHH", 0, 1, division) + header_extra)
    return header + chunk(b"MTrk", track + b"\x00\xff\x2f\x00")


NOTE = b"\x00\x90\x3c\x40" + b"\x83\x60\x80\x3c\x00"  # middle C for 480 ticks


def test_one_note_is_read_with_ticks_and_seconds():
    piece = read_midi(midi_file(NOTE), "x")
    assert (piece.notes.start.tolist(), piece.notes.end.tolist()) == ([0], [480])
    assert piece.end_seconds().tolist() == [0.5]


def test_time_counted_in_film_frames_is_seconds():
    piece = read_midi(midi_file(NOTE, division=((256 - 25) << 8) | 40), "x")
    assert piece.end_seconds().tolist() == pytest.approx([0.48])


def test_a_longer_header_is_allowed():
    assert len(read_midi(midi_file(NOTE, header_extra=b"abcd"), "x").notes) == 1


def test_a_riff_wrapping_is_taken_off():
    inner = midi_file(NOTE)
    wrapped = b"RIFF" + struct.pack("<I", len(inner) + 12) + b"RMID" + b"data" + struct.pack("<I", len(inner)) + inner
    assert len(read_midi(wrapped, "x").notes) == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty-file"),
        (b"RIFF????WAVEfmt ", "not-midi"),
        (b"MThd\x00\x00", "truncated"),
        (midi_file(NOTE)[:-6], "damaged-midi"),
        (midi_file(NOTE, division=((256 - 25) << 8)), "bad-division"),
        (midi_file(NOTE, division=0), "bad-division"),
        (b"MThd" + struct.pack(">IHHH", 1, 0, 1, 480), "bad-header"),
    ],
)
def test_what_is_no_midi_is_named(data, reason):
    with pytest.raises(Unreadable) as caught:
        read_midi(data, "folder/x.mid")
    assert caught.value.reason == reason
    assert "folder/x.mid" in str(caught.value)


@pytest.mark.parametrize("start, end", [(2**31, 2**31 + 1), (0, 2**31)])
def test_a_tick_that_a_file_cannot_hold_is_refused_and_not_wrapped(start, end):
    with pytest.raises(ValueError, match="beyond 2147483647"):
        write_midi(Piece("x", Notes.of([start], [end], [60], [64])))


def test_a_piece_comes_back_after_writing():
    notes = Notes.of([0, 10, 20], [5, 30, 99], [60, 61, 40], [1, 64, 127], [0, 0, 32], [0, 0, 1])
    tempo = TempoMap.constant(96)
    piece = Piece("x", notes, Controls.of([3, 9], [64, 64], [127, 0]), tempo, ((0, 3, 4),), ((0, -2, True),))
    again = read_midi(write_midi(piece), "x")
    for name in ("start", "end", "pitch", "velocity", "program"):
        assert getattr(again.notes, name).tolist() == getattr(notes, name).tolist()
    assert again.controls.value.tolist() == [127, 0]
    assert again.time_signatures == ((0, 3, 4),)
    assert again.key_signatures == ((0, -2, True),)
    assert again.seconds == piece.seconds
