"""Splits, duplicates and leaks: rules on names, groups and fingerprints."""

from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest

from beam_pipelines.fingerprints import exact_fingerprint, music_fingerprint, sketch
from beam_pipelines.split import crossing_groups, dealt, duplicates, leaks, merged_groups, own_split
from schemas.music import Controls, Notes, Piece, TempoMap, stretch, transpose
from tests.beam_pipelines.tiny_dataset import made_piece


def test_a_group_always_falls_into_the_same_split():
    assert {own_split(3, "waltz", (0.5, 0.25, 0.25)) for _ in range(5)} == {own_split(3, "waltz", (0.5, 0.25, 0.25))}


def test_groups_are_dealt_out_in_the_proportions_asked_for():
    counts = Counter(own_split(0, f"group {number}", (0.8, 0.1, 0.1)) for number in range(4000))
    assert 0.77 < counts["train"] / 4000 < 0.83
    assert 0.08 < counts["validation"] / 4000 < 0.12


def test_a_split_without_a_share_stays_empty():
    assert {own_split(0, str(number), (0.5, 0.0, 0.5)) for number in range(200)} == {"train", "test"}


def test_another_seed_deals_differently():
    names = [str(number) for number in range(100)]
    assert [own_split(0, name, (0.5, 0.5, 0)) for name in names] != [
        own_split(1, name, (0.5, 0.5, 0)) for name in names
    ]


def test_groups_that_share_music_are_merged_through_others():
    pieces = [("c", "1"), ("b", "1"), ("b", "2"), ("a", "2"), ("d", "3")]
    assert merged_groups(pieces) == {"a": "a", "b": "a", "c": "a", "d": "d"}


def test_of_duplicates_the_one_in_test_is_written_then_validation_then_train():
    pieces = [("a", "train", "x"), ("b", "validation", "x"), ("c", "test", "x"), ("d", "train", "y")]
    assert duplicates(pieces) == {"a": "c", "b": "c"}


def test_of_duplicates_in_one_split_the_first_name_is_written():
    assert duplicates([("b", "train", "x"), ("a", "train", "x")]) == {"b": "a"}


def test_the_same_music_in_two_splits_leaks_and_in_one_it_does_not():
    assert leaks([("a", "train", "m"), ("b", "test", "m"), ("c", "train", "m")]) == {"a": "b", "c": "b"}
    assert leaks([("a", "train", "m"), ("b", "train", "m")]) == {}


def test_groups_in_two_splits_are_named():
    assert crossing_groups([("w", "train"), ("w", "test"), ("v", "train"), ("v", "train")]) == ("w",)


def test_items_are_dealt_to_shards_evenly_whatever_their_order():
    names = [f"item {number}" for number in range(10)]
    assert dealt(names, 3) == dealt(reversed(names), 3)
    assert sorted(Counter(dealt(names, 3).values()).values()) == [3, 3, 4]


def test_key_and_tempo_do_not_change_the_fingerprint_of_music():
    piece = made_piece(5)
    assert music_fingerprint(transpose(stretch(piece, 1.1), 3)) == music_fingerprint(piece)
    assert music_fingerprint(made_piece(6)) != music_fingerprint(piece)


def melody(onsets, pitches=(60, 64, 62, 67, 65), ticks_per_quarter=480, tempo=500_000.0):
    start = np.array(onsets)
    return Piece("melody", Notes.of(start, start + 100, pitches, 64), tempo=TempoMap.constant(ticks_per_quarter, tempo))


def test_two_short_melodies_of_the_same_intervals_differ_by_rhythm():
    assert music_fingerprint(melody([0, 480, 960, 1440, 1920])) != music_fingerprint(melody([0, 240, 480, 1440, 1920]))


@pytest.mark.parametrize("ticks_per_quarter", [96, 220, 384, 960])
def test_short_melodies_are_the_same_in_another_tempo_and_resolution(ticks_per_quarter):
    rhythm = np.array([0, 480, 720, 1200, 1920])
    other = np.round(rhythm * ticks_per_quarter / 480).astype(int)
    copy = melody(other, (62, 66, 64, 69, 67), ticks_per_quarter, 312_345.0)
    assert music_fingerprint(copy) == music_fingerprint(melody(rhythm))


def test_three_notes_in_two_keys_are_two_pieces():
    assert music_fingerprint(melody([0, 1, 2], (60, 64, 67))) != music_fingerprint(melody([0, 1, 2], (61, 65, 68)))


def test_groups_whose_pieces_are_near_copies_are_merged_though_their_fingerprints_differ():
    piece, other = made_piece(5), made_piece(6)
    notes = piece.notes
    swapped = replace(piece, notes=replace(notes, pitch=notes.pitch[[1, 0, *range(2, len(notes))]] + 2))
    assert music_fingerprint(swapped) != music_fingerprint(piece)
    pieces = [(name, music_fingerprint(of), sketch(of)) for name, of in (("b", piece), ("a", swapped), ("c", other))]
    assert merged_groups(pieces) == {"a": "a", "b": "a", "c": "c"}


def test_the_exact_fingerprint_hears_every_change():
    piece = made_piece(5)
    assert exact_fingerprint(piece) == exact_fingerprint(made_piece(5))
    assert len({exact_fingerprint(other) for other in (piece, transpose(piece, 1), stretch(piece, 1.1))}) == 3


@pytest.mark.parametrize("value", [1, 1 << 32])
def test_the_exact_fingerprint_hears_one_value_of_any_column(value):
    controls = Controls.of(np.arange(40), 64, np.arange(40))
    piece = replace(made_piece(5), controls=controls)
    heard = {exact_fingerprint(piece)}
    columns = [(part, column.name) for part in ("notes", "controls") for column in fields(getattr(piece, part))]
    for part, name in columns:
        column = getattr(getattr(piece, part), name).copy()
        column[-1] = value if column.dtype == np.int64 else not column[-1]
        heard.add(exact_fingerprint(replace(piece, **{part: replace(getattr(piece, part), **{name: column})})))
    assert len(heard) == len(columns) + 1


def test_one_value_for_all_notes_is_not_the_same_as_another_for_all():
    piece = made_piece(5)
    programs = [replace(piece, notes=replace(piece.notes, program=np.full(40, at, np.uint8))) for at in (0, 1)]
    assert exact_fingerprint(programs[0]) != exact_fingerprint(programs[1])
