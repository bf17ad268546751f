"""MIDI files: what is read, what comes back after writing, what is refused and how it is named."""

import struct

import numpy as np
import pytest

from media.midi import Unreadable, read_midi, read_midi_parts, write_midi
from schemas.grid import piece_of
from schemas.music import Controls, Notes, Piece, TempoMap


def chunk(kind, data):
    return kind + struct.pack(">I", len(data)) + data


def midi_file(track, division=480, header_extra=b""):
    """A MIDI file of one track's events, without its end."""
    header = chunk(b"MThd", struct.pack(">HHH", 0, 1, division) + header_extra)
    return header + chunk(b"MTrk", track + b"\x00\xff\x2f\x00")


NOTE = b"\x00\x90\x3c\x40" + b"\x83\x60\x80\x3c\x00"  # middle C for 480 ticks


def several(*tracks, kind=1, promised=None):
    """A MIDI file of several tracks, with any number of them promised."""
    header = chunk(b"MThd", struct.pack(">HHH", kind, len(tracks) if promised is None else promised, 480))
    return header + b"".join(chunk(b"MTrk", track + b"\x00\xff\x2f\x00") for track in tracks)


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
        (midi_file(NOTE)[:-6], "truncated"),
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


@pytest.mark.parametrize(
    ("data", "reason", "offset", "track"),
    [
        (several(NOTE, NOTE, promised=3), "missing-tracks", 56, 2),
        (several(NOTE, NOTE, kind=2), "format-2", 8, None),
        (several(NOTE, kind=3), "bad-format", 8, None),
        (several(NOTE) + several(NOTE), "two-files", 35, None),
        (several(NOTE, promised=2) + b"MTr", "truncated", 35, 1),
        (several(NOTE)[:-9] + b"\x07" + several(NOTE)[-8:], "damaged-midi", 28, 0),
        (several(NOTE)[:18] + b"\x00\x00\x00\x09" + several(NOTE)[22:], "bad-track-length", 14, 0),
        (several(NOTE)[:18] + b"\x00\x10\x00\x0d" + several(NOTE)[22:], "bad-track-length", 14, 0),
        (several(NOTE[:4] * 100), "hanging-notes", None, None),
        (b"MShd" + several(NOTE)[4:], "bad-header", 0, None),
        (several(NOTE)[:7] + b"\x20" + several(NOTE)[8:], "bad-header", 4, None),
        (b"\xef\xbb\xbf" + several(NOTE), "text-transfer", 0, None),
        (several(b"\x00\x90\x0a\x40\x0a\x0a\x00" * 9).replace(b"\n", b"\r\n"), "text-transfer", 14, 0),
    ],
)
def test_a_refusal_names_byte_and_track(data, reason, offset, track):
    with pytest.raises(Unreadable) as caught:
        read_midi(data, "x.mid")
    found = caught.value
    assert (found.reason, found.track) == (reason, track)
    assert found.offset == offset


@pytest.mark.parametrize(
    ("data", "guess"),
    [
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"<!DOCTYPE html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"RIFF????WAVEfmt ", "something else than MIDI"),
        (bytes(128) + b"MThd", "byte 128"),
    ],
)
def test_what_is_something_else_is_said(data, guess):
    with pytest.raises(Unreadable, match=guess):
        read_midi(data, "x.mid")


def test_all_tracks_are_read_though_the_header_promises_fewer():
    assert len(read_midi(several(NOTE, NOTE, NOTE, promised=1), "x").notes) == 3


def test_bytes_behind_the_last_track_are_passed_over():
    assert len(read_midi(several(NOTE) + b"\x00" * 100 + b"junk", "x").notes) == 1


def test_an_escape_delays_no_note():
    split = b"\x00\xf0\x03\x43\x12\x00" + b"\x81\x48\xf7\x03\x90\x12\x40" + b"\x64\xf7\x02\x43\xf7"
    piece = read_midi(midi_file(split + NOTE), "x")
    assert (piece.notes.start.tolist(), piece.notes.pitch.tolist()) == ([300], [60])


@pytest.mark.parametrize("message", [b"\xf1\x05", b"\xf2\x05\x06", b"\xf3\x05", b"\xf6", b"\xf8", b"\xfe"])
def test_a_system_message_is_left_out(message):
    piece = read_midi(midi_file(b"\x10" + message + NOTE), "x")
    assert (piece.notes.start.tolist(), piece.notes.end.tolist()) == ([16], [496])


def test_a_few_notes_that_are_never_released_are_dropped_and_counted():
    piece = read_midi(midi_file(NOTE * 100 + NOTE[:4]), "x")
    assert (len(piece.notes), piece.labels) == (100, {"hanging_notes": 1})
    assert read_midi(midi_file(NOTE), "x").labels == {}


def test_signatures_that_cannot_be_are_left_out():
    odd = b"\x00\xff\x59\x02\x0e\x00" + b"\x00\xff\x59\x02\xfb\xff" + b"\x00\xff\x58\x04\x00\x02\x18\x08"
    sound = b"\x00\xff\x59\x02\xfb\x01" + b"\x00\xff\x58\x04\x03\x02\x18\x08"
    piece = read_midi(midi_file(odd + sound + NOTE), "x")
    assert (piece.key_signatures, piece.time_signatures) == (((0, -5, True),), ((0, 3, 4),))


def test_what_follows_midi_inside_a_riff_wrapping_is_not_read():
    inner = midi_file(NOTE)
    info = b"LIST" + struct.pack("<I", 8) + b"INFOMTrk"
    body = b"RMID" + b"data" + struct.pack("<I", len(inner)) + inner + info
    assert len(read_midi(b"RIFF" + struct.pack("<I", len(body)) + body, "x").notes) == 1


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


def test_more_tracks_than_a_header_can_promise_are_refused():
    with pytest.raises(Unreadable) as caught:
        read_midi(several(NOTE) + chunk(b"MTrk", b"") * 0xFFFF, "x")
    assert caught.value.reason == "too-many-chunks"


TEMPO = b"\x00\xff\x51\x03\x07\xa1\x20"


def raw_track(name=b"", *events):
    """A track chunk of a name and events."""
    named = b"\x00\xff\x03" + bytes([len(name)]) + name if name else b""
    body = named + b"".join(events) + b"\x00\xff\x2f\x00"
    return b"MTrk" + struct.pack(">I", len(body)) + body


def raw_note(pitch, channel=0):
    return bytes([0, 0x90 | channel, pitch, 80, 96, 0x80 | channel, pitch, 0])


def raw_file(*tracks):
    return struct.pack(">4sIHHH", b"MThd", 6, int(len(tracks) > 1), len(tracks), 96) + b"".join(tracks)


def parts_of(data):
    """[(part, its name, pitch)] in order, and how many parts there are."""
    piece = read_midi_parts(data, "x")
    places = [piece.part_of(track) for track in piece.notes.track.tolist()]
    rows = zip(places, map(piece.part_name, places), piece.notes.pitch.tolist(), strict=True)
    return sorted(rows), len(piece.labels["part_names"])


@pytest.mark.parametrize(
    ("tracks", "parts"),
    [
        (
            [raw_track(b"Psalm", TEMPO), raw_track(b"Soprano"), raw_track(b"Alt", raw_note(60))],
            ([(1, "Alt", 60)], 2),
        ),
        ([raw_track(b"", TEMPO), raw_track(b"", raw_note(60)), raw_track(), raw_track()], ([(1, "", 60)], 4)),
        ([raw_track(), raw_track(b"", raw_note(60)), raw_track(), raw_track()], ([(1, "", 60)], 4)),
        ([raw_track(b"", TEMPO), raw_track(b"", raw_note(60))], ([(0, "", 60)], 1)),
        ([raw_track(b"Soprano", TEMPO), raw_track(b"", raw_note(60))], ([(1, "", 60)], 2)),
        ([raw_track(b"", TEMPO, b"\x00\xc0\x05"), raw_track(b"", raw_note(60))], ([(1, "", 60)], 2)),
        ([raw_track(b"Choir", raw_note(60), raw_note(64, 1))], ([(0, "", 60), (1, "", 64)], 2)),
        ([raw_track("Flöte".encode("latin-1"), raw_note(60))], ([(0, "Flöte", 60)], 1)),
        (
            [raw_track(b"S", raw_note(60), b"\x00\xc0\x05", raw_note(62)), raw_track(), raw_track(b"T", raw_note(50))],
            ([(0, "S", 60), (0, "S", 62), (2, "T", 50)], 3),
        ),
    ],
)
def test_parts_are_the_tracks_of_the_file_with_those_that_have_no_notes(tracks, parts):
    assert parts_of(raw_file(*tracks)) == parts


def test_four_voices_bear_their_names():
    piece = piece_of(np.array([[72, 67, 60, 48]] * 4), 4, 100.0)
    assert parts_of(write_midi(piece)) == (
        [(3, "Bass", 48), (2, "Tenor", 60), (1, "Alto", 67), (0, "Soprano", 72)][::-1],
        4,
    )
