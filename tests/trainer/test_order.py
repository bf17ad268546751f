"""The order of training examples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.order import order, order_in_parts, permutation


@given(size=st.integers(1, 3000), seed=st.integers(0, 2**40), epoch=st.integers(0, 9))
def test_each_epoch_holds_every_record_once(size, seed, epoch):
    found = permutation(seed, epoch, size, np.arange(size))
    assert np.array_equal(np.sort(found), np.arange(size))


@given(
    size=st.integers(2, 2**40), seed=st.integers(0, 99), places=st.lists(st.integers(0, 2**40), min_size=1, max_size=9)
)
def test_a_place_finds_its_record_without_knowing_the_others(size, seed, places):
    places = np.array([place % size for place in places])
    together = permutation(seed, 0, size, places)
    alone = [int(permutation(seed, 0, size, np.array([place]))[0]) for place in places]
    assert together.tolist() == alone
    assert 0 <= together.min() <= together.max() < size


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(permutation(seed, epoch, 100, np.arange(100))) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_an_order_is_as_mixed_as_a_random_one():
    found = permutation(0, 0, 10_000, np.arange(10_000))
    # A random order has a correlation with the places of 0 +- 0.01, and half of the neighbours go up.
    assert abs(np.corrcoef(found, np.arange(10_000))[0, 1]) < 0.04
    assert 0.48 < np.mean(np.diff(found) > 0) < 0.52
    # Neither do neighbours stay near each other.
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.04


@pytest.mark.parametrize("first, second", [(4, 4), (4, 7), (7, 1), (1, 16)])
def test_the_examples_do_not_depend_on_the_size_of_a_batch_even_when_it_changes_on_the_way(first, second):
    size, seed = 13, 5
    parts = order_in_parts(seed, 0, first, size)
    before = np.concatenate([next(parts) for _ in range(6)])
    parts = order_in_parts(seed, len(before), second, size)
    after = np.concatenate([next(parts) for _ in range(6)])
    whole = order(seed, 0, len(before) + len(after), size)
    assert np.array_equal(np.concatenate([before, after]), whole)


def test_a_batch_that_crosses_an_epoch_takes_the_rest_of_one_and_the_beginning_of_the_next():
    assert np.array_equal(
        order(0, 8, 4, 10),
        np.concatenate([permutation(0, 0, 10, np.array([8, 9])), permutation(0, 1, 10, np.array([0, 1]))]),
    )
