"""Events of a track: long stretches checked as arrays say what events taken singly say; damage is named by its byte."""

import random
import struct
from dataclasses import replace

import pytest

from media import midi_events
from media.midi import read_midi
from media.midi_events import Damage, TrackFacts, check_track
from schemas.errors import Unreadable

END = b"\x00\xff\x2f\x00"
NOTE = b"\x00\x90\x3c\x40" + b"\x83\x60\x80\x3c\x00"


def verdict(data):
    """What `check_track` says, as a value that can be compared."""
    try:
        facts = check_track(data, 0, len(data))
    except Damage as error:
        return error.reason, error.offset
    return facts


def some_track(chance):
    """Events of all kinds, most of them notes and controllers, under running status or not."""
    parts, running = [], 0
    for _ in range(chance.randrange(1, 1500)):
        delta = chance.choice([0, 1, 100, 0, 5, 200, 20_000, 3_000_000])
        parts.append(quantity(delta))
        kind = chance.random()
        if kind < 0.01:
            text = chance.randbytes(chance.randrange(5))
            parts.append(b"\xff\x01" + quantity(len(text)) + text)
        elif kind < 0.015:
            parts.append(b"\xf0\x02\x01\xf7")
            running = 0
        elif kind < 0.03:
            parts.append(bytes([0xC0 | chance.randrange(16), chance.randrange(128)]))
            running = parts[-1][0]
        else:
            status = running if running and chance.random() < 0.5 else chance.choice([0x90, 0x91, 0x80, 0xB0, 0xE3])
            values = bytes(chance.randrange(128) for _ in range(1 if status & 0xF0 == 0xC0 else 2))
            parts.append(values if status == running else bytes([status]) + values)
            running = status
    return b"".join(parts)


def quantity(value):
    """A number as MIDI writes it, seven bits a byte."""
    rest = value >> 7
    return (bytes([byte | 0x80 for byte in quantity(rest)]) if rest else b"") + bytes([value & 0x7F])


@pytest.mark.parametrize("seed", range(60))
def test_arrays_and_single_events_tell_the_same_of_sound_and_of_damaged_tracks(seed, monkeypatch):
    chance = random.Random(seed)
    track = bytearray(some_track(chance) + END)
    for _ in range(chance.choice([0, 0, 1, 3])):
        track[chance.randrange(len(track))] ^= 1 << chance.randrange(8)
    found = verdict(bytes(track))
    monkeypatch.setattr(midi_events, "_PLAIN_BEFORE_MANY", 1 << 30)
    assert without_singles(verdict(bytes(track))) == without_singles(found)


def without_singles(found):
    """What was found, however it was."""
    return replace(found, singles=0) if isinstance(found, TrackFacts) else found


def test_a_long_stretch_is_counted_in_full():
    facts = check_track(NOTE * 1000 + END, 0, len(NOTE) * 1000 + len(END))
    assert (facts.note_ons, facts.end_tick, facts.ended) == (1000, 480_000, True)


@pytest.mark.parametrize(
    ("track", "reason", "offset"),
    [
        (b"\x00\xf4" + END, "damaged-midi", 1),
        (b"\x00\x3c\x40" + END, "damaged-midi", 1),
        (NOTE + b"\x00\x90\x80\x40" + END, "damaged-midi", 11),
        (b"\x00\xd0\xf1" + END, "damaged-midi", 2),
        (b"\x80\x80\x80\x80\x00\x90\x3c\x40" + END, "damaged-midi", 0),
        (NOTE + b"\x00\xff\x01\x05ab", "damaged-midi", 10),
        (NOTE + b"\x00\x90\x3c", "damaged-midi", 10),
        (NOTE + b"\x85", "damaged-midi", 9),
        (NOTE + b"\x05", "damaged-midi", 9),
        (b"\x00\x90\x3c\x40\x00\xf8\x05\x3c\x00" + END, "damaged-midi", 7),
        (b"\x00\xff\x51\x02\x07\xa1" + END, "bad-tempo", 1),
        (b"\x00\xff\x51\x03\x00\x00\x00" + END, "bad-tempo", 1),
        (NOTE + END + NOTE + END, "notes-after-end", 13),
        (b"\xff\xff\xff\x7f\xb0\x07\x10" * 9 + END, "too-many-ticks", 67),
    ],
)
def test_damage_is_named_by_its_byte(track, reason, offset):
    assert verdict(track) == (reason, offset)


def test_padding_behind_the_end_of_a_track_is_no_damage():
    assert check_track(NOTE + END + b"\x00\x00", 0, len(NOTE + END) + 2).note_ons == 1


def test_a_flood_of_events_that_are_no_notes_is_refused(monkeypatch):
    monkeypatch.setattr(midi_events, "MOST_SINGLE_EVENTS", 100)
    assert verdict(b"\x00\xc0\x05" * 101 + END) == ("too-many-events", 300)


def test_a_flood_that_is_dealt_out_to_tracks_or_lies_behind_their_ends_is_refused_too(monkeypatch):
    monkeypatch.setattr(midi_events, "MOST_SINGLE_EVENTS", 100)

    def refused(*tracks):
        header = struct.pack(">4sIHHH", b"MThd", 6, 1, len(tracks), 480)
        with pytest.raises(Unreadable) as error:
            read_midi(header + b"".join(struct.pack(">4sI", b"MTrk", len(track)) + track for track in tracks), "x")
        return error.value.reason, error.value.track

    part = b"\x00\xc0\x05" * 40
    assert refused(part + END, part + END, part + END) == ("too-many-events", 2)
    assert refused(part + END, part + END + part) == ("too-many-events", 1)
