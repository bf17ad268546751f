"""Filling cells: against a joint distribution that is known, whatever is hidden."""

import itertools

import numpy as np
import pytest

from schemas.errors import UsageError
from trainer.layers.gibbs import CONSTANTS, fill, ordered_nats, share, sweeps
from trainer.layers.sampling import CELL_SAMPLERS, TOKEN_SAMPLERS, Sampler

JOINT = np.array([[[0.4, 0.05], [0.02, 0.03]], [[0.05, 0.05], [0.1, 0.3]]])
"""Probability of three cells of two classes, [first, second, third]; neighbours like to be equal."""


def conditional(cells, known):
    """Exact logits [score, 3, 1, 2] of every cell given the known ones: sums of the joint over what is hidden."""
    values = np.array(list(itertools.product((0, 1), repeat=3)))
    agrees = (known[:, None, :, 0] == 0) | (values == cells[:, None, :, 0])  # [score, joint value, place]
    out = np.zeros((*cells.shape, 2), np.float32)
    for place in range(3):
        others = np.delete(agrees, place, axis=2).all(axis=2) * JOINT.reshape(-1)
        for value in (0, 1):
            out[:, place, 0, value] = np.log(others[:, values[:, place] == value].sum(axis=1))
    return out


def filled(sampler, known=None, cells=None, scores=3000, seed=0):
    known = np.zeros((scores, 3, 1), np.float32) if known is None else known
    cells = np.zeros((len(known), 3, 1), np.int32) if cells is None else cells
    return fill(conditional, cells, known, sampler, np.random.default_rng(seed))


def frequencies(cells):
    counts = np.zeros((2, 2, 2))
    np.add.at(counts, tuple(cells[:, :, 0].T), 1)
    return counts / len(cells)


@pytest.mark.parametrize("sampler", ["ancestral", "pseudo-gibbs"])
def test_cells_that_are_drawn_one_at_a_time_follow_the_joint_distribution(sampler):
    found = filled(Sampler(sampler, gibbs_steps=30))
    assert np.abs(frequencies(found.cells) - JOINT).max() < 0.03


def test_cells_that_are_drawn_at_once_first_ignore_each_other_and_annealing_mends_it():
    at_once = filled(Sampler("gibbs", gibbs_rate=1.0, gibbs_steps=1))
    annealed = filled(Sampler("annealed", gibbs_steps=60))
    assert np.abs(frequencies(at_once.cells) - JOINT).max() > 0.1
    assert np.abs(frequencies(annealed.cells) - JOINT).max() < 0.05


@pytest.mark.parametrize("sampler", CELL_SAMPLERS)
def test_known_cells_stay_and_the_others_do_not_hang_on_what_stood_there(sampler):
    known = np.zeros((50, 3, 1), np.float32)
    known[:, 0] = 1
    cells = np.ones((50, 3, 1), np.int32)
    other = np.where(known > 0, cells, 0).astype(np.int32)
    one = filled(Sampler(sampler, gibbs_steps=5), known, cells)
    two = filled(Sampler(sampler, gibbs_steps=5), known, other)
    assert (one.cells[:, 0] == 1).all()
    assert (one.cells == two.cells).all()


@pytest.mark.parametrize("sampler", CELL_SAMPLERS)
def test_where_all_is_known_nothing_is_drawn(sampler):
    cells = np.ones((2, 3, 1), np.int32)
    found = filled(Sampler(sampler), np.ones((2, 3, 1), np.float32), cells)
    assert (found.cells == cells).all()
    # The first draw of all free cells, then published sweeps where there are some; one after the other takes none.
    assert found.nats.shape == ({"annealed": 1, "gibbs": 1, "pseudo-gibbs": 1, "ancestral": 0}[sampler], 2)
    assert np.isnan(found.nats).all()


@pytest.mark.parametrize("sampler", CELL_SAMPLERS)
def test_equal_seeds_fill_equally(sampler):
    one, two, three = (filled(Sampler(sampler, gibbs_steps=4), scores=40, seed=seed).cells for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one != three).any()


def test_the_share_that_is_redrawn_falls_as_published():
    low, high, alpha, count = CONSTANTS["harmoniser"]
    sampler = Sampler("annealed", anneal="harmoniser")
    shares = [share(sampler, sweep, count) for sweep in range(count)]
    assert shares[0] == high
    assert shares[int(alpha * count) // 2] == pytest.approx((low + high) / 2, abs=0.005)
    assert set(shares[int(alpha * count) + 1 :]) == {low}
    assert share(Sampler("gibbs", gibbs_rate=0.5), 7, 100) == 0.5


def test_there_is_a_sweep_for_each_cell_unless_something_else_is_asked_for_or_published():
    free = np.array([[[True], [True], [False]], [[True], [False], [False]]])
    assert sweeps(Sampler("annealed"), free) == 2
    assert sweeps(Sampler("annealed", anneal="harmoniser"), free) == 128
    assert sweeps(Sampler("gibbs", anneal="harmoniser"), free) == 2
    assert sweeps(Sampler("gibbs", gibbs_steps=9), free) == 9


def test_the_likelihood_of_a_filled_score_is_that_of_the_joint_in_any_order():
    cells = np.array(list(itertools.product((0, 1), repeat=3)), np.int32)[:, :, None]
    nats = ordered_nats(conditional, cells, np.zeros(cells.shape, np.float32), np.random.default_rng(3))
    assert nats * 3 == pytest.approx(-np.log(JOINT.reshape(-1)), abs=1e-5)


def test_the_likelihood_of_what_was_filled_is_given_what_was_known():
    cells, known = np.array([[[1], [0], [1]]], np.int32), np.array([[[0], [1], [0]]], np.float32)
    (nats,) = ordered_nats(conditional, cells, known, np.random.default_rng(0))
    assert nats * 2 == pytest.approx(-np.log(JOINT[1, 0, 1] / JOINT[:, 0].sum()), abs=1e-5)
    assert np.isnan(ordered_nats(conditional, cells, np.ones((1, 3, 1)), np.random.default_rng(0))).all()


def test_a_low_temperature_takes_the_likeliest():
    known = np.zeros((20, 3, 1), np.float32)
    known[:, 0] = 1
    assert not filled(Sampler("ancestral", temperature=0.01), known).cells.any()
    assert filled(Sampler("ancestral"), known).cells.any()


def test_a_sampler_of_tokens_does_not_fill_cells_and_the_default_is_the_first_that_does():
    assert Sampler().for_kind(CELL_SAMPLERS, "run").sampler == "annealed"
    assert Sampler("top-k").for_kind(TOKEN_SAMPLERS, "run").sampler == "top-k"
    with pytest.raises(UsageError, match="--sampler top-k: run is sampled with one of annealed, gibbs"):
        Sampler("top-k").for_kind(CELL_SAMPLERS, "run")
