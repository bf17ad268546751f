"""Pieces of several windows of which some are corrupt: left out by name, counted, and never taken for whole."""

import numpy as np
import pytest

from schemas.errors import InputError
from schemas.manifest import read_manifest
from schemas.naming import copy_key, window_key
from schemas.representations.events import Events
from schemas.window import TOKENS
from tests.trainer.synthetic import write_dataset
from tests.trainer.test_corrupt_records import damage, shard_of
from trainer import sample
from trainer.data import Reader
from trainer.evaluate import _wholes

WINDOW, LENGTHS = 8, (20, 5, 24, 16)
"""Pieces of three windows (the last of 4 tokens), one, three and two."""


def dataset(folder, missing=()):
    """Validation records 0, 1, 2 are of piece 0, record 3 of piece 1, and so on, in one shard."""
    representation, records = Events(window=WINDOW), []
    for piece, length in enumerate(LENGTHS):
        for number, start in enumerate(range(0, length, WINDOW)):
            tokens = np.full(WINDOW, 100, np.uint16)
            copy = copy_key(f"synthetic/{piece}.mid", 0, 1.0)
            key = {"key": window_key(copy, number).encode(), "group": str(piece).encode()}
            if (piece, number) not in missing:
                records.append(
                    {"tokens": tokens, "start_token": np.int64(start), "piece_tokens": np.int64(length), **key}
                )
    splits = {"validation": records}
    write_dataset(str(folder), representation.features(), splits, shards=1, representation=representation)
    return str(folder)


def scored(folder, on_corrupt="skip"):
    reader = Reader(folder, read_manifest(folder), "validation", ("key", *TOKENS.names), on_corrupt)
    whole, left_out, unnamed = _wholes(reader, "validation")
    return [name(one.copy) for one in whole], [name(copy) for copy in left_out], unnamed


def name(copy):
    return int(copy.removeprefix("synthetic/").partition(".")[0])


def test_sound_pieces_are_all_scored(tmp_path):
    assert scored(dataset(tmp_path)) == ([0, 1, 2, 3], [], 0)


@pytest.mark.parametrize(
    ("damaged", "expected"),
    [
        ((0,), ([1, 2, 3], [0], 0)),
        ((1,), ([1, 2, 3], [0], 0)),
        ((2,), ([1, 2, 3], [0], 0)),
        ((0, 2), ([1, 2, 3], [0], 0)),
        ((1, 7), ([1, 2], [0, 3], 0)),
        ((3,), ([0, 2, 3], [], 1)),
        ((0, 1, 2), ([1, 2, 3], [], 3)),
        ((0, 3, 7, 8), ([2], [0], 3)),
    ],
)
def test_a_piece_with_a_corrupt_window_is_left_out_and_one_without_a_sound_one_is_counted(tmp_path, damaged, expected):
    folder = dataset(tmp_path)
    for record in damaged:
        damage(shard_of(folder, split="validation"), record)
    assert scored(folder) == expected


@pytest.mark.parametrize("on_corrupt", ["skip", "fail"])
def test_windows_that_were_never_written_are_refused(tmp_path, on_corrupt):
    with pytest.raises(InputError, match=r"synthetic/2\.mid.*are not all in the shards"):
        scored(dataset(tmp_path, missing={(2, 1)}), on_corrupt)


def test_a_corrupt_record_of_one_piece_does_not_explain_what_another_lacks(tmp_path):
    folder = dataset(tmp_path, missing={(2, 1)})
    damage(shard_of(folder, split="validation"), 0)
    with pytest.raises(InputError, match="are not all in the shards, and 1 corrupt records do not explain it"):
        scored(folder)


def test_where_every_piece_has_a_corrupt_record_nothing_is_scored(tmp_path):
    folder = dataset(tmp_path)
    for record in (0, 3, 4, 7):
        damage(shard_of(folder, split="validation"), record)
    with pytest.raises(InputError, match="no piece is left to score: all have corrupt records, 4 in all"):
        scored(folder)


def test_no_run_is_searched_over_the_gap_that_a_corrupt_record_leaves(tmp_path):
    folder = dataset(tmp_path)
    damage(shard_of(folder, split="validation"), 1)
    reader, left_out = Reader(folder, read_manifest(folder), "validation", ("key", *TOKENS.names), "skip"), []
    assert [len(tokens) for tokens in sample._wholes(reader, left_out)] == list(LENGTHS[1:])
    assert [name(copy) for copy in left_out] == [0]
