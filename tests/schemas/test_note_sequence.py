"""NoteSequence both ways: times equal note-seq's, ticks come back, absurd values are refused with their field."""

import importlib.util
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.midi import read_midi
from schemas import note_sequence as module
from schemas.errors import InputError, MissingExtra
from schemas.music import Controls, Notes, Piece, TempoMap, stretch
from schemas.note_sequence import from_note_sequence, note_sequence_class, parse_note_sequence, to_note_sequence

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("note_seq") is None,
    reason="the message comes from note-seq: pip install 'stretto[pipelines]'",
)


def notes_of(piece):
    names = ("start", "end", "pitch", "velocity", "program", "track", "drum")
    return [getattr(piece.notes, name).tolist() for name in names]


def controls_of(piece):
    return [getattr(piece.controls, name).tolist() for name in ("tick", "number", "value", "track")]


@st.composite
def pieces(draw):
    """Pieces as a MIDI file could hold them."""
    count = draw(st.integers(0, 12))
    ticks = draw(st.lists(st.integers(0, 10**6), min_size=count, max_size=count))
    lengths = draw(st.lists(st.integers(0, 10**5), min_size=count, max_size=count))
    byte = st.lists(st.integers(0, 127), min_size=count, max_size=count)
    notes = Notes.of(
        ticks,
        np.add(ticks, lengths).astype(np.int64),
        draw(byte),
        np.maximum(draw(byte), 1),
        draw(byte),
        draw(byte),
        draw(st.lists(st.booleans(), min_size=count, max_size=count)),
    )
    changes = draw(st.dictionaries(st.integers(1, 10**6), st.integers(10_000, 2_000_000), max_size=5))
    moments = np.array([0, *sorted(changes)], np.int64)
    tempos = np.array([draw(st.integers(10_000, 2_000_000)), *(changes[tick] for tick in sorted(changes))], np.float64)
    return Piece(
        name="corpus/a.mid",
        notes=notes,
        controls=Controls.of(ticks, draw(byte), draw(byte), draw(byte)),
        tempo=TempoMap(draw(st.sampled_from([24, 96, 220, 384, 480, 960])), moments, tempos),
        time_signatures=((0, 3, 4), (960, 6, 8)),
        key_signatures=tuple((480 * n, n - 5, bool(n % 2)) for n in range(12)),
    )


@given(pieces())
def test_a_piece_comes_back_as_it_was(piece):
    back = parse_note_sequence(to_note_sequence(piece).SerializeToString())
    assert notes_of(back) == notes_of(piece)
    assert controls_of(back) == controls_of(piece)
    assert back.tempo.ticks_per_quarter == piece.tempo.ticks_per_quarter
    assert np.array_equal(back.tempo.ticks, piece.tempo.ticks)
    assert np.array_equal(back.tempo.microseconds_per_quarter, piece.tempo.microseconds_per_quarter)
    assert (back.name, back.time_signatures, back.key_signatures) == (
        piece.name,
        piece.time_signatures,
        piece.key_signatures,
    )


@given(pieces(), st.sampled_from([0.95, 0.975, 1.025, 1.05]))
def test_a_stretched_piece_comes_back_with_its_ticks_and_its_seconds(piece, factor):
    back = from_note_sequence(to_note_sequence(stretch(piece, factor)))
    assert notes_of(back) == notes_of(piece)
    assert np.allclose(back.end_seconds(), stretch(piece, factor).end_seconds(), rtol=1e-12, atol=1e-12)


def test_a_performance_equals_the_sequence_that_note_seq_reads(sample_data):
    import note_seq

    maestro = sample_data("maestro")
    for line in (maestro / "subsets" / "tiny.txt").read_text(encoding="utf-8").splitlines():
        path = maestro / "maestro-v3.0.0" / line
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = note_seq.midi_file_to_note_sequence(str(path))
        ours = to_note_sequence(read_midi(path.read_bytes(), line))
        assert content(ours) == content(theirs)
        assert notes_of(from_note_sequence(theirs)) == notes_of(read_midi(path.read_bytes(), line))


def content(sequence):
    """Everything that a performance's sequence says, in one order."""
    return {
        "notes": sorted(
            (n.start_time, n.end_time, n.pitch, n.velocity, n.program, n.instrument, n.is_drum) for n in sequence.notes
        ),
        "controls": sorted(
            (c.time, c.control_number, c.control_value, c.program, c.instrument, c.is_drum)
            for c in sequence.control_changes
        ),
        "tempos": [(tempo.time, tempo.qpm) for tempo in sequence.tempos],
        "bars": [(item.time, item.numerator, item.denominator) for item in sequence.time_signatures],
        "total": sequence.total_time,
        "grid": sequence.ticks_per_quarter,
    }


def sequence_of(*notes, **fields):
    sequence = note_sequence_class()(**fields)
    for start, end in notes:
        sequence.notes.add(start_time=start, end_time=end, pitch=60, velocity=80)
    return sequence


@given(st.lists(st.floats(0, 20_000), min_size=1, max_size=20), st.floats(40, 240))
def test_times_that_lie_on_no_grid_move_by_half_a_fine_tick_at_most(times, quarters_per_minute):
    sequence = sequence_of(*((time, time + 0.123456789) for time in times))
    sequence.tempos.add(time=0, qpm=quarters_per_minute)
    sequence.tempos.add(time=11.1111111, qpm=quarters_per_minute / 1.7)
    piece = from_note_sequence(sequence)
    bound = 30 / (16_384 * quarters_per_minute / 1.7)
    assert np.abs(piece.start_seconds() - np.sort(times)).max() <= bound
    assert piece.tempo.ticks_per_quarter <= 32_767


def test_a_sequence_without_tempo_or_grid_has_those_that_note_seq_assumes():
    piece = from_note_sequence(sequence_of((0, 0.5)), "name")
    assert (piece.tempo.ticks_per_quarter, piece.tempo.microseconds_per_quarter.tolist()) == (220, [500_000.0])
    assert (piece.name, piece.notes.end.tolist()) == ("name", [220])


def test_an_empty_sequence_is_a_piece_without_notes():
    assert len(parse_note_sequence(b"").notes) == 0


@pytest.mark.parametrize(
    ("mode", "key", "sharps", "minor"),
    [("MAJOR", 0, 0, False), ("MAJOR", 7, 1, False), ("MINOR", 9, 0, True), ("MINOR", 0, -3, True)]
    + [("DORIAN", 2, 0, False), ("MIXOLYDIAN", 7, 0, False), ("LYDIAN", 5, 0, False), ("PHRYGIAN", 4, 0, False)]
    + [("LOCRIAN", 11, 0, False), ("NOT_SPECIFIED", 5, -1, False)],
)
def test_a_key_of_any_mode_has_its_sharps(mode, key, sharps, minor):
    sequence = note_sequence_class()()
    sequence.key_signatures.add(time=0, key=key, mode=sequence.KeySignature.Mode.Value(mode))
    assert from_note_sequence(sequence).key_signatures == ((0, sharps, minor),)


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("notes", {"start_time": -1.0}, r"notes\[0\].start_time is -1.0, must be at least 0"),
        ("notes", {"start_time": float("nan")}, r"notes\[0\].start_time is nan"),
        ("notes", {"end_time": float("inf")}, r"notes\[0\].end_time - start_time is inf"),
        ("notes", {"start_time": 2.0, "end_time": 1.0}, r"notes\[0\].end_time - start_time is -1.0"),
        ("notes", {"end_time": 1e300}, "lasts 1e.300 seconds .* too long"),
        ("notes", {"pitch": 128}, r"notes\[0\].pitch is 128, must be in 0..127"),
        ("notes", {"pitch": -1}, r"notes\[0\].pitch is -1"),
        ("notes", {"velocity": 0}, r"notes\[0\].velocity is 0, must be in 1..127"),
        ("notes", {"program": 200}, r"notes\[0\].program is 200"),
        ("notes", {"instrument": -3}, r"notes\[0\].instrument is -3"),
        ("control_changes", {"time": float("nan")}, r"control_changes\[0\].time is nan"),
        ("control_changes", {"control_value": 300}, r"control_changes\[0\].control_value is 300"),
        ("tempos", {"qpm": 0.0}, r"tempos\[0\].qpm is 0.0"),
        ("tempos", {"qpm": float("nan")}, r"tempos\[0\].qpm is nan"),
        ("tempos", {"qpm": 120.0, "time": -5.0}, r"tempos\[0\].time is -5.0"),
        ("tempos", {"qpm": 120.0, "time": 1e308}, "lasts 1e.308 seconds"),
        ("time_signatures", {"numerator": 4, "denominator": 0}, r"time_signatures\[0\].denominator is 0"),
        ("key_signatures", {"key": 11, "time": -1.0}, r"key_signatures\[0\].time is -1.0"),
    ],
)
def test_an_absurd_value_is_refused_with_its_field(field, values, message):
    sequence = note_sequence_class()()
    sane = {"pitch": 60, "velocity": 80} if field == "notes" else {}
    getattr(sequence, field).add(**{**sane, **values})
    with pytest.raises(InputError, match="hostile: " + message):
        from_note_sequence(sequence, "hostile")


def test_a_negative_grid_is_refused():
    with pytest.raises(InputError, match=r"ticks_per_quarter is -1"):
        from_note_sequence(sequence_of((0, 1), ticks_per_quarter=-1))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_sequence_or_a_clear_refusal(data):
    try:
        piece = parse_note_sequence(data, "bytes")
    except InputError as error:
        assert str(error).startswith("bytes: ")
    else:
        assert np.isfinite(piece.end_seconds()).all()


def test_without_note_seq_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    note_sequence_class.cache_clear()
    with pytest.raises(MissingExtra, match=r"note-seq is not installed.*stretto\[pipelines\]"):
        note_sequence_class()
    monkeypatch.undo()
    note_sequence_class.cache_clear()


ROUND_TRIP = """
import sys
{first}
from schemas.note_sequence import note_sequence_class, from_note_sequence
assert "librosa" not in sys.modules or {theirs_first}
sequence = note_sequence_class()()
sequence.notes.add(start_time=0, end_time=0.5, pitch=60, velocity=80)
import note_seq
theirs = note_seq.NoteSequence.FromString(sequence.SerializeToString())
assert theirs == sequence and len(from_note_sequence(theirs).notes) == 1
print(note_seq.apply_sustain_control_changes(sequence).notes[0].end_time, from_note_sequence(theirs).seconds)
"""


@pytest.mark.parametrize("theirs_first", [False, True])
def test_it_works_beside_note_seq_in_either_order(theirs_first):
    code = ROUND_TRIP.format(first="import note_seq" if theirs_first else "", theirs_first=theirs_first)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr[-2000:] if done.returncode else "") == ("0.5 0.5", "")
