"""Augmentation: which copies there are, and that transposing records equals encoding the transposed piece."""

import numpy as np
import pytest

from beam_pipelines.augment import augment, variants_of
from beam_pipelines.encode import Encoder, encode
from schemas.music import Notes, Piece, stretch, transpose
from schemas.representations.events import Events
from tests.beam_pipelines.tiny_dataset import made_piece

EVENTS = Events(window=32)


def copies_of(piece, variants, representation=EVENTS):
    _, dropped, copies = encode(Encoder(representation, variants), piece)
    return list(copies), dropped


def test_only_train_has_changed_copies():
    assert variants_of("train", (-1, 0), (1.0, 1.1), (21, 108)).count == 4
    assert variants_of("test", (-1, 0), (1.0, 1.1), (21, 108)).pairs == [(0, 1.0)]


def test_every_factor_meets_every_transposition_in_a_fixed_order():
    copies, _ = copies_of(made_piece(1), variants_of("train", (-1, 0), (0.95, 1.0), (0, 127)))
    assert [copy.key for copy in copies] == [
        f"made-1#{semitones}@{factor}" for factor in ("0.95", "1") for semitones in ("-1", "+0")
    ]


@pytest.mark.parametrize("events", [EVENTS, Events(window=0), Events(window=32, pitch_range=(30, 100))])
def test_transposed_records_equal_encoding_the_transposed_piece(events):
    piece = made_piece(2)
    copies, _ = copies_of(piece, variants_of("train", (-4, 0, 7), (0.95, 1.05), (0, 127)), events)
    assert len(copies) == 6
    for copy in copies:
        expected = list(events.encode(transpose(stretch(piece, copy.factor), copy.semitones)))
        assert len(copy.records) == len(expected)
        for found, wanted in zip(copy.records, expected, strict=True):
            assert found["tokens"].dtype == wanted["tokens"].dtype
            assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_drums_stay_where_they_are():
    piece = Piece("drums", Notes.of([0, 480], [480, 960], [36, 60], 64, drum=[True, False]))
    copies, _ = copies_of(piece, variants_of("train", (2,), (1.0,), (0, 127)))
    wanted = list(EVENTS.encode(transpose(piece, 2)))
    assert np.array_equal(copies[0].records[0]["tokens"], wanted[0]["tokens"])


def test_a_copy_that_leaves_the_instrument_is_dropped_and_counted():
    piece = Piece("high", Notes.of([0], [480], [107], 64))
    tempos, dropped = augment(piece, variants_of("train", (0, 1, 2, 3), (1.0, 1.1), (21, 108)), EVENTS)
    assert [tempo.transpositions for tempo in tempos] == [(0, 1), (0, 1)]
    assert dropped == {"instrument": 4}


def test_a_copy_that_leaves_the_table_is_dropped_and_counted():
    piece = Piece("high", Notes.of([0], [480], [71], 64))
    _, dropped = augment(piece, variants_of("train", (0, 1, 2), (1.0,), (0, 127)), Events(pitch_range=(60, 72)))
    assert dropped == {"table": 1}


def test_a_record_cannot_be_transposed_out_of_the_table():
    events = Events(window=32, pitch_range=(60, 72))
    record = next(events.encode(Piece("high", Notes.of([0], [480], [72], 64))))
    with pytest.raises(ValueError, match=r"\+1 semitones"):
        events.transposed(record, 1)
