"""Notes, pedal and tokens of real performances equal note-seq's, in every key and tempo that is written."""

import warnings

import pytest

from media.midi import read_midi
from schemas.music import apply_sustain, stretch, transpose
from schemas.representations.events import Events

note_seq = pytest.importorskip("note_seq", reason="note-seq is the reference here: pip install 'stretto[test]'")

STRETCHES = (0.95, 0.975, 1.0, 1.025, 1.05)
SEMITONES = range(-3, 4)
PIANO = (21, 108)


def note_seq_notes(sequence):
    return sorted((note.start_time, note.end_time, note.pitch, note.velocity) for note in sequence.notes)


def our_notes(piece):
    columns = (piece.start_seconds(), piece.end_seconds(), piece.notes.pitch, piece.notes.velocity)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def note_seq_tokens(sequence):
    encoding = note_seq.PerformanceOneHotEncoding(num_velocity_bins=32)
    quantised = note_seq.quantize_note_sequence_absolute(sequence, 100)
    return [encoding.encode_event(event) for event in note_seq.Performance(quantised, num_velocity_bins=32)]


def tiny_list(folder):
    return (folder / "subsets" / "tiny.txt").read_text(encoding="utf-8").split("\n")[:-1]


@pytest.mark.parametrize("number", range(10))
def test_a_performance_equals_note_seq_in_all_35_variants(sample_data, number):
    maestro = sample_data("maestro")
    path = maestro / "maestro-v3.0.0" / tiny_list(maestro)[number]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sequence = note_seq.midi_file_to_note_sequence(str(path))
    piece = read_midi(path.read_bytes(), path.name)
    assert our_notes(piece) == note_seq_notes(sequence)
    sequence = note_seq.apply_sustain_control_changes(sequence)
    piece = apply_sustain(piece)
    assert our_notes(piece) == note_seq_notes(sequence)
    for factor in STRETCHES:
        stretched = note_seq.sequences_lib.stretch_note_sequence(sequence, factor)
        for semitones in SEMITONES:
            _check_variant(piece, stretched, factor, semitones)


def _check_variant(piece, stretched, factor, semitones):
    low, high = piece.pitch_span()
    moved, deleted = note_seq.sequences_lib.transpose_note_sequence(
        stretched, semitones, min_allowed_pitch=PIANO[0], max_allowed_pitch=PIANO[1]
    )
    leaves = low + semitones < PIANO[0] or high + semitones > PIANO[1]
    assert leaves == (deleted > 0)
    if not leaves:
        assert Events().tokens(stretch(transpose(piece, semitones), factor)).tolist() == note_seq_tokens(moved)
