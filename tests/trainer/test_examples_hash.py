"""The number that says which examples a step was made of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.examples_hash import examples_hash


def batch(rows=6, seed=0):
    draw = np.random.default_rng(seed)
    tokens = draw.integers(0, 300, (rows, 13)).astype(np.uint16)
    return {"tokens": tokens, "start_token": draw.integers(0, 9, rows), "weight": np.ones(rows, np.float32)}


@given(cut=st.integers(1, 5), seed=st.integers(0, 99))
def test_what_several_processes_read_adds_up_to_the_whole(cut, seed):
    whole = batch(seed=seed)
    parts = [{name: values[rows] for name, values in whole.items()} for rows in (slice(0, cut), slice(cut, None))]
    assert sum(map(examples_hash, parts)) % 2**64 == examples_hash(whole)


def test_the_order_of_rows_does_not_matter():
    whole = batch()
    assert examples_hash({name: values[::-1] for name, values in whole.items()}) == examples_hash(whole)


@pytest.mark.parametrize("where", [(0, 0), (5, 12), (3, 7)])
def test_one_other_token_is_another_number(where):
    changed = batch()
    changed["tokens"][where] += 1
    assert examples_hash(changed) != examples_hash(batch())


def test_tokens_exchanged_within_or_between_rows_and_names_exchanged_are_other_numbers():
    whole = batch()
    within = whole["tokens"].copy()
    within[0, [0, 8]] = within[0, [8, 0]]
    between = whole["tokens"].copy()
    between[[0, 1], 0] = between[[1, 0], 0]
    found = {examples_hash({**whole, "tokens": tokens}) for tokens in (whole["tokens"], within, between)}
    found.add(
        examples_hash({"start_token": whole["weight"], "weight": whole["start_token"], "tokens": whole["tokens"]})
    )
    assert len(found) == 4
