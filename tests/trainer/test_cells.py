"""Scoring cells: against a joint distribution that is known, in which every order costs the same."""

import itertools

import numpy as np
import pytest

from schemas.grid import REST
from trainer.cells import evaluate_cells, ordered_figures, windows

JOINT = np.random.default_rng(0).dirichlet(np.full(16, 0.3)).reshape(2, 2, 2, 2)
"""Probability of the four voices of a step, two classes each; steps know nothing of each other."""
VALUES = np.array(list(itertools.product((0, 1), repeat=4)))


class Exact:
    """A family whose network knows the joint distribution: pitches 60 and 61 are its classes."""

    reads = 0

    def classes(self, cells):
        return np.where((cells == 60) | (cells == 61), cells.astype(np.int32) - 60, -1)

    def compiled(self, model):
        def forward(real, classes, known):
            self.reads += 1
            assert ((known == 0) | (real[:, :, None] > 0)).all()
            return np.log(conditionals(classes, known) + 1e-300).astype(np.float64)

        return forward


def conditionals(classes, known):
    """Probability of every cell's classes given the known ones of its step, [window, step, voice, 2]."""
    agrees = (known[:, :, None, :] == 0) | (VALUES == classes[:, :, None, :])
    found = np.zeros((*classes.shape, 2))
    for voice in range(4):
        weight = np.delete(agrees, voice, axis=3).all(axis=3) * JOINT.reshape(-1)
        for value in (0, 1):
            found[..., voice, value] = weight[..., VALUES[:, voice] == value].sum(axis=-1)
    return found / np.maximum(found.sum(axis=-1, keepdims=True), 1e-300)


def pieces_of(*lengths, seed=1):
    draw = np.random.default_rng(seed)
    drawn = {f"piece {n}": VALUES[draw.choice(16, length, p=JOINT.ravel())] for n, length in enumerate(lengths)}
    return {name: (60 + rows).astype(np.uint8) for name, rows in drawn.items()}


def exact_nats(cells):
    return -np.log(JOINT[tuple((cells - 60).T)]).sum()


def scored(pieces, protocol, orders=3, length=5, batch=2):
    return evaluate_cells(Exact(), None, pieces, length, protocol, orders, batch)


@pytest.mark.parametrize("protocol", ["orderless", "chronological"])
def test_one_cell_after_the_other_costs_what_the_whole_does_in_any_order(protocol):
    pieces = pieces_of(12, 3, 5)
    result = scored(pieces, protocol)
    assert [row["piece"] for row in result["pieces"]] == list(pieces)
    for row, cells in zip(result["pieces"], pieces.values(), strict=True):
        assert row["orders"] == pytest.approx([exact_nats(cells)] * (1 if protocol == "chronological" else 3))
        assert row["nats"] == pytest.approx(exact_nats(cells))
        assert (row["steps"], row["cells"]) == (len(cells), cells.size)
    total = sum(map(exact_nats, pieces.values()))
    assert result["nll_cell"] == pytest.approx(total / 80)
    assert result["nll_frame"] == pytest.approx(total / 20)
    assert result["one_order"]["nll_cell"] == pytest.approx(total / 80)


def test_in_framewise_scoring_the_voices_before_are_the_models_own_guesses():
    pieces, orders = pieces_of(40), 2
    result = scored(pieces, "framewise", orders)
    cells = next(iter(pieces.values())) - 60
    truth = exact_nats(cells + 60)
    assert all(found > truth for found in result["pieces"][0]["orders"])  # a wrong guess misleads
    # The voice that comes first is guessed from nothing; at the least every step's cheapest order is paid.
    cheapest = sum(min(own_guess_nats(row, order) for order in itertools.permutations(range(4))) for row in cells)
    dearest = sum(max(own_guess_nats(row, order) for order in itertools.permutations(range(4))) for row in cells)
    assert all(cheapest < found < dearest for found in result["pieces"][0]["orders"])


def own_guess_nats(row, order):
    """Nats of the voices of one step in an order, each given the likeliest guesses of those before."""
    shown, known, nats = np.zeros((1, 1, 4), int), np.zeros((1, 1, 4)), 0.0
    for voice in order:
        chances = conditionals(shown, known)[0, 0, voice]
        nats -= np.log(max(chances[row[voice]], 1e-300))
        shown[0, 0, voice], known[0, 0, voice] = chances.argmax(), 1
    return nats


def test_a_single_step_is_scored_framewise_in_one_of_its_orders():
    pieces = pieces_of(1)
    row = next(iter(pieces.values()))[0] - 60
    possible = [own_guess_nats(row, order) for order in itertools.permutations(range(4))]
    for found in scored(pieces, "framewise", orders=4)["pieces"][0]["orders"]:
        assert min(abs(found - one) for one in possible) < 1e-9


def test_figures_do_not_hang_on_how_many_windows_are_read_at_once():
    pieces = pieces_of(12, 3, 5)
    for protocol in ("orderless", "framewise"):
        one, other = (scored(pieces, protocol, batch=batch)["pieces"] for batch in (1, 4))
        for a, b in zip(one, other, strict=True):
            assert a["orders"] == pytest.approx(b["orders"])


def test_each_order_reads_the_network_once_for_each_cell_of_the_longest_window():
    task = Exact()
    evaluate_cells(task, None, pieces_of(12, 3), 5, "orderless", 2, 8)
    assert task.reads == 2 * 20


def test_of_several_orders_likelihoods_are_averaged_and_not_nats():
    cells = np.full((1, 4), 60, np.uint8)
    found = [{"a": np.full((1, 4), 0.25)}, {"a": np.full((1, 4), 0.5)}]
    result = ordered_figures({"a": cells}, found, 0)
    assert result["pieces"][0]["nats"] == pytest.approx(-np.log((np.exp(-1) + np.exp(-2)) / 2))
    assert result["one_order"]["nll_cell"] == pytest.approx(0.375)


def test_a_cell_that_has_no_class_is_neither_shown_nor_guessed_and_counted():
    pieces = pieces_of(4)
    cells = pieces["piece 0"]
    cells[2, 1] = REST
    result = scored(pieces, "orderless")
    left = JOINT.sum(axis=1)[tuple((np.delete(cells, 1, axis=1)[2] - 60).T)]
    want = exact_nats(np.delete(cells, 2, axis=0)) - np.log(left)
    assert result["pieces"][0]["nats"] == pytest.approx(want)
    assert (result["outside"], result["cells"]) == (1, 15)


def test_windows_cover_every_step_once():
    pieces = pieces_of(12, 5, 1)
    parts = windows(pieces, 5)
    assert [(part.piece, part.start, len(part.cells)) for part in parts] == [
        ("piece 0", 0, 5), ("piece 0", 5, 5), ("piece 0", 10, 2), ("piece 1", 0, 5), ("piece 2", 0, 1),
    ]  # fmt: skip
