"""Checks of Coconet and of its masks that run inside one process of one backend.

`coconet_checks.py BACKEND OUT [STATES]` runs them all, prints {check: "" or what failed}, and writes to OUT (.npz)
what test_coconet.py compares between backends: masks, and losses and gradients of twenty steps; with STATES, an OUT of
the other backend, at the states found there.
"""

import json
import sys
from dataclasses import replace
from functools import cache, partial

import numpy as np

from tests.trainer.model_checks import array
from tests.trainer.on_backend import failures_of

WINDOW, LOW, HIGH = 16, 55, 70


def task_of(kind, **settings):
    """Two blocks of four channels over sixteen pitches.

    The kinds are Coconet with growing gaps, the same with depthwise convolutions, and the harmoniser with its masks.
    """
    from trainer.models.coconet import Coconet

    own = {
        "plain": {"dilation": 2},
        "separable": {"separable": True},
        "residual": {
            "kernel": 5, "head_kernel": 3, "joint": "normalised", "gamma": 1.0, "dropout": 0.1, "masks": "erased",
            "erase": (3, 5),
        },
    }[kind]  # fmt: skip
    return Coconet(**{"blocks": 2, "filters": 4, "pitch_range": (LOW, HIGH), **own, **settings})


def features_of():
    """Of windows of sixteen steps."""
    from schemas.representations.voices import Voices

    return Voices(window=WINDOW).features()


@cache
def model_of(kind):
    """A built model whose weights come from NumPy, moved a little so that no scale or average is special."""
    from trainer.layers.initial import draw_initial

    model, draw = task_of(kind).build(features_of()), np.random.default_rng(0)
    draw_initial(model, 0)
    for variable in model.variables:
        if len(variable.shape) == 1 and "seed" not in variable.path:
            variable.assign(array(variable.value) + draw.uniform(0.1, 0.5, tuple(variable.shape)))
    return model


def cells_of(rows, seed=0):
    """Random cells in range with a few rests, uint8 [rows, step, voice]."""
    draw = np.random.default_rng(seed)
    cells = draw.integers(LOW, HIGH + 1, (rows, WINDOW, 4))
    return np.where(draw.random(cells.shape) < 0.1, 128, cells).astype(np.uint8)


def batch_of(cells, lengths=None, start=0):
    """A batch of records; what lies behind a row's length is padding."""
    cells, lengths = cells.copy(), [WINDOW] * len(cells) if lengths is None else lengths
    for row, length in zip(cells, lengths, strict=True):
        row[length:] = 128
    return {
        "example_weight": np.ones(len(cells), np.float32),
        "piece_steps": np.array(lengths, np.int64) + start,
        "pitches": cells,
        "start_step": np.full(len(cells), start, np.int64),
    }


@cache
def compiled_loss(kind):
    """Total, weight and logs in evaluation mode, compiled."""
    from trainer.backends import current
    from trainer.task import Context

    model, objective = model_of(kind), task_of(kind).objectives()[0]

    def loss(batch):
        return objective.loss(model, batch, Context(False, np.int32(0), current().gradient))

    return current().compile_function(model, loss)


def loss_of(batch, kind="plain"):
    """(total, weight) in evaluation mode."""
    total, weight, _ = compiled_loss(kind)(batch)
    return float(array(total)), float(array(weight))


@cache
def compiled_scores(kind):
    """(nats, hidden) [batch, step, voice], compiled."""
    from trainer.backends import current

    model, task = model_of(kind), task_of(kind)
    return current().compile_function(model, lambda batch: task.log_likelihood(model, batch))


def scores_of(batch, kind="plain"):
    """Nats of hidden cells, and which those are, NumPy."""
    return tuple(map(array, compiled_scores(kind)(batch)))


def every_weight_gets_a_gradient():
    from trainer.backends import current
    from trainer.task import Context

    for kind in ("plain", "separable", "residual"):
        model, objective = model_of(kind), task_of(kind).objectives()[0]
        batch, context = batch_of(cells_of(4)), Context(True, np.int32(1), current().gradient)
        variables = objective.variables(model)
        state = [v for v in model.variables if all(v is not other for other in variables)]

        def found(parts):
            model, objective, variables, state, batch, context = parts
            return current().gradients(lambda: (objective.loss(model, batch, context)[0], ()), variables, state)[1]

        parts = (model, objective, variables, state, batch, context)
        assert len(variables) == len(model.trainable_variables)
        grads = current().compile_function(model, partial(found, parts))()
        for variable, grad in zip(variables, grads, strict=True):
            assert np.abs(array(grad)).max() > 0, (kind, variable.path)


def twenty_steps_on_one_batch_lower_the_loss():
    from trainer.backends.update import Update
    from trainer.config import TrainSettings
    from trainer.layers.initial import draw_initial

    draw = np.random.default_rng(1)
    cells = np.repeat(draw.integers(LOW, HIGH + 1, (4, 1, 4)), WINDOW, axis=1).astype(np.uint8)  # held throughout
    for kind in ("plain", "residual"):
        model = task_of(kind, gamma=1.0, filters=16, blocks=1).build(features_of())
        draw_initial(model, 3)
        update = Update(model, task_of(kind).objectives(), TrainSettings(batch=4))
        losses = [float(array(update(batch_of(cells), 1e-2, step, (True,))["loss"])) for step in range(20)]
        assert np.isfinite(losses).all()
        assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3]), losses


def blocks_that_are_computed_again_keep_the_same_averages_and_draw_the_same_dropout():
    from trainer.backends import current
    from trainer.backends.update import Update
    from trainer.config import TrainSettings
    from trainer.layers.initial import draw_initial

    found = []
    for remat in (False, True):
        model = task_of("residual", dropout=0.3).build(features_of())
        draw_initial(model, 3)
        model.remat = remat
        update = Update(model, task_of("residual").objectives(), TrainSettings(batch=4))
        losses = [float(array(update(batch_of(cells_of(4)), 1e-2, step, (True,))["loss"])) for step in range(4)]
        found.append([losses, *current().values(update.variables)])
    for kept, again in zip(*found, strict=True):
        np.testing.assert_allclose(again, kept, rtol=1e-4, atol=1e-5)


def in_bfloat16_the_loss_is_nearly_the_same_and_averages_stay_float32():
    import keras

    from trainer.backends.update import Update
    from trainer.config import TrainSettings
    from trainer.layers.initial import draw_initial

    losses = []
    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        try:
            model = task_of("residual", dropout=0.0).build(features_of())
            draw_initial(model, 3)
            update = Update(model, task_of("residual").objectives(), TrainSettings(batch=4))
            losses.append([float(array(update(batch_of(cells_of(4)), 1e-3, step, (True,))["loss"])) for step in (0, 1)])
        finally:
            keras.config.set_dtype_policy("float32")
        assert all("float32" in str(item.dtype) for item in model.variables if "moving" in item.path)
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    assert losses[1] != losses[0]


def the_loss_does_not_change_with_padding_or_with_who_is_in_the_batch():
    cells, lengths = cells_of(6, seed=3), [16, 3, 9, 1, 16, 12]
    for kind in ("plain", "residual"):
        batch = batch_of(cells, lengths)
        together, weight = loss_of(batch, kind)
        assert kind == "residual" or weight == 4 * sum(lengths)
        halves = [loss_of(batch_of(cells[i::2], lengths[i::2]), kind)[0] for i in range(2)]
        other = batch_of(cells, lengths)
        for row, length in zip(other["pitches"], lengths, strict=True):
            row[length:] = 60
        longer = {**other, "pitches": np.pad(other["pitches"], ((0, 0), (0, 9), (0, 0)), constant_values=61)}
        filled = {name: np.concatenate([value, value])[:9] for name, value in batch.items()}
        filled["example_weight"][6:] = 0
        found = {"halves": sum(halves), "other padding": loss_of(other, kind)[0]}
        found |= {"longer": loss_of(longer, kind)[0], "filled": loss_of(filled, kind)[0]}
        for what, total in found.items():
            assert abs(total - together) <= 1e-6 * together, (kind, what, total, together)
        assert loss_of(filled, kind)[1] == weight


def what_hidden_cells_hold_changes_no_logits_and_what_visible_ones_hold_does():
    from trainer.backends import current

    draw = np.random.default_rng(4)
    classes = draw.integers(0, HIGH - LOW + 2, (3, WINDOW, 4)).astype(np.int32)
    known = (draw.random(classes.shape) < 0.5).astype(np.float32)
    real = np.ones(classes.shape[:2], np.float32)
    hidden = known == 0
    swapped = classes.copy()
    swapped[hidden] = draw.permutation(classes[hidden])
    moved = np.where(hidden, classes, (classes + 1) % (HIGH - LOW + 2)).astype(np.int32)
    assert (swapped != classes).any()
    for kind in ("plain", "residual"):
        model = model_of(kind)
        forward = current().compile_function(model, partial(model))
        logits, same, other = (array(forward(one, known, real)) for one in (classes, swapped, moved))
        assert logits.shape == (3, WINDOW, 4, HIGH - LOW + 2)
        assert (logits == same).all()
        assert np.abs(logits - other).max() > 1e-3


def only_hidden_cells_enter_the_loss_each_example_by_its_mean():
    from scipy.special import logsumexp

    from trainer.backends import current

    batch, model, task = batch_of(cells_of(5, seed=5), [16, 7, 16, 2, 10]), model_of("plain"), task_of("plain")
    nats, hidden = scores_of(batch)
    can = np.arange(WINDOW)[None, :, None] < batch["piece_steps"][:, None, None]
    assert ((hidden == 0) | (hidden == 1)).all() and (hidden <= can).all()
    assert (nats[hidden == 0] == 0).all() and (nats[hidden == 1] > 0).all()
    forward = current().compile_function(model, lambda *given: model(*given))
    classes = task.classes(batch["pitches"])
    logits = array(forward(classes, (can & (hidden == 0)).astype(np.float32), can[:, :, 0].astype(np.float32)))
    want = logsumexp(logits, axis=-1) - np.take_along_axis(logits, classes[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(nats[hidden == 1], want[hidden == 1], rtol=1e-4, atol=1e-5)
    cells = 4 * batch["piece_steps"]
    total, weight = loss_of(batch)
    assert weight == cells.sum()
    np.testing.assert_allclose(total, (want * hidden).sum(axis=(1, 2)) @ (cells / hidden.sum(axis=(1, 2))), rtol=1e-4)
    logs = {name: array(a) / array(b) for name, (a, b) in compiled_loss("plain")(batch)[2].items()}
    np.testing.assert_allclose(logs["nats_per_erased"], (want * hidden).sum() / hidden.sum(), rtol=1e-4)
    assert logs["outside"] == 0


def cells_that_a_batch_calls_known_are_shown_and_all_others_guessed():
    known = (np.random.default_rng(6).random((2, WINDOW, 4)) < 0.7).astype(np.float32)
    _, hidden = scores_of({**batch_of(cells_of(2), [16, 5]), "known": known})
    assert (hidden[0] == 1 - known[0]).all()
    assert (hidden[1, :5] == 1 - known[1, :5]).all() and (hidden[1, 5:] == 0).all()


def pitches_outside_the_range_are_neither_shown_nor_guessed_and_are_counted():
    cells = cells_of(2, seed=7)
    cells[0, 3, 1], cells[1, 8, 2], cells[1, 9, 2] = LOW - 1, HIGH + 1, 129
    other = cells.copy()
    other[0, 3, 1], other[1, 8, 2], other[1, 9, 2] = 0, 127, 200
    nats, hidden = scores_of(batch_of(cells))
    assert (hidden[0, 3, 1], hidden[1, 8, 2], hidden[1, 9, 2]) == (0, 0, 0)
    assert (scores_of(batch_of(other))[0] == nats).all()
    outside = compiled_loss("plain")(batch_of(cells))[2]["outside"]
    assert tuple(map(float, map(array, outside))) == (3.0, 2.0 * WINDOW * 4)


@cache
def masks_of(steps=16, rows=4000):
    """The masks of many examples whose last four steps are padding, by every protocol; and of another seed."""
    from keras import ops

    from trainer.backends import current
    from trainer.layers.masks import bernoulli, erased, orderless
    from trainer.layers.noise import digest

    values = np.random.default_rng(8).integers(0, 129, (rows, steps * 4)).astype(np.int32)
    can = np.zeros((rows, steps, 4), bool)
    can[:, : steps - 4] = True

    def draw(values, can, seed):
        digests = digest(seed, values, ops.reshape(can, values.shape))
        return orderless(can, digests), bernoulli(can, digests, 0.25), erased(can, digests, 3, 6), digests

    fn = current().compile_function(model_of("plain"), draw)
    names = ("orderless", "bernoulli", "erased", "digests")
    return {
        f"{name} {seed}": array(found)
        for seed in (0, 1)
        for name, found in zip(names, fn(values, can, np.int32(seed)), strict=True)
    }


def the_number_of_hidden_cells_is_uniform_and_every_cell_is_as_likely():
    found, most = masks_of()["orderless 0"], 48
    sizes = found.sum(axis=(1, 2))
    counts = np.bincount(sizes, minlength=most + 1)
    assert counts[0] == 0 and len(counts) == most + 1
    expected = len(found) / most
    # Chi-square of 47 degrees of freedom: above 90 once in 6,000 draws.
    assert ((counts[1:] - expected) ** 2 / expected).sum() < 90
    shares = found[:, :12].mean(axis=0)
    assert np.abs(shares - 49 / 96).max() < 5 * np.sqrt(0.25 / len(found))
    assert not found[:, 12:].any()
    # Cells are chosen in no pattern: two neighbours are hidden together as often as two that lie apart.
    pairs = [(found[:, 2, 0] & found[:, step, voice]).mean() for step, voice in ((2, 1), (3, 0), (9, 3))]
    assert np.ptp(pairs) < 0.05


def the_other_masks_hide_what_they_say():
    found = masks_of()
    assert abs(found["bernoulli 0"][:, :12].mean() - 0.25) < 0.01
    assert found["bernoulli 0"].any(axis=(1, 2)).all() and not found["bernoulli 0"][:, 12:].any()
    sizes = found["erased 0"].sum(axis=1)
    counts = np.bincount(sizes.ravel())
    assert (counts[:3] == 0).all() and len(counts) == 7
    assert np.abs(counts[3:] / counts.sum() - 0.25).max() < 0.02
    assert np.abs(np.corrcoef(sizes.T) - np.eye(4)).max() < 0.06  # each voice by itself
    assert np.abs(found["erased 0"][:, :12].mean(axis=0) - 4.5 / 12).max() < 0.05


def other_seeds_and_other_music_are_masked_otherwise():
    found = masks_of()
    for name in ("orderless", "bernoulli", "erased"):
        assert 0.2 < (found[f"{name} 0"] != found[f"{name} 1"])[:, :12].mean() < 0.6
    assert len(set(found["digests 0"].tolist())) == len(found["digests 0"])
    assert not set(found["digests 0"].tolist()) & set(found["digests 1"].tolist())
    cells = np.repeat(cells_of(1), 2, axis=0)
    cells[1, 0, 0] = LOW + (cells[0, 0, 0] - LOW + 1) % 12
    assert (scores_of(batch_of(cells))[1][0] != scores_of(batch_of(cells))[1][1]).any()
    twice = scores_of(batch_of(np.repeat(cells_of(1), 2, axis=0)))[1]
    assert (twice[0] == twice[1]).all()
    assert (scores_of(batch_of(cells, start=16))[1] != scores_of(batch_of(cells))[1]).any()


def masked_scoring_of_whole_pieces_gives_the_loss_of_validation():
    from trainer.cells import evaluate_cells

    pieces = {
        f"piece {n}": cells[:length] for n, (cells, length) in enumerate(zip(cells_of(3), (16, 9, 12), strict=True))
    }
    total, weight = loss_of(batch_of(cells_of(3), [16, 9, 12]))
    result = evaluate_cells(task_of("plain"), model_of("plain"), pieces, WINDOW, "masked", 1, 2)
    np.testing.assert_allclose(result["nats_per_window_cell"], total / weight, rtol=1e-5)
    nats, hidden = scores_of(batch_of(cells_of(3), [16, 9, 12]))
    np.testing.assert_allclose(result["nats_per_erased"], nats.sum() / hidden.sum(), rtol=1e-5)
    np.testing.assert_allclose(result["probability"], np.exp(-nats.sum() / hidden.sum()), rtol=1e-5)
    assert [row["erased"] for row in result["pieces"]] == hidden.sum(axis=(1, 2)).tolist()
    more = evaluate_cells(task_of("plain"), model_of("plain"), pieces, WINDOW, "masked", 4, 2)
    assert sum(row["erased"] for row in more["pieces"]) > hidden.sum()
    assert more["nats_per_erased"] != result["nats_per_erased"]


def normalisation_leaves_out_what_does_not_count_and_keeps_its_averages():
    from trainer.backends import current
    from trainer.layers.convolution import Norm

    x = np.random.default_rng(9).normal(1.0, 2.0, (3, 5, 4, 2)).astype(np.float32)
    real = (np.arange(5)[None] < np.array([5, 2, 0])[:, None]).astype(np.float32)
    layer = Norm(1.0)
    layer.build(x.shape)
    fn = current().Devices().compile_step(lambda x, real: layer(x, real, training=True), layer.variables)
    y, chosen = array(fn(x, real)), x[real > 0]
    mean, variance = chosen.mean(axis=(0, 1)), chosen.var(axis=(0, 1))
    np.testing.assert_allclose(y[real > 0], (chosen - mean) / np.sqrt(variance), atol=1e-4)
    assert (y[real == 0] == 0).all()
    np.testing.assert_allclose(array(layer.moving_mean.value), 0.9 * mean, rtol=1e-3)
    np.testing.assert_allclose(array(layer.moving_variance.value), 0.1 + 0.9 * variance, rtol=1e-3)
    kept = array(layer.moving_mean.value)
    np.testing.assert_allclose(
        array(layer(x, real))[real > 0], (chosen - kept) / np.sqrt(0.1 + 0.9 * variance), atol=1e-3
    )
    fn(x, 0 * real)
    assert (array(layer.moving_mean.value) == kept).all() and float(array(layer.moving_steps.value)) == 1
    for _ in range(5):
        fn(x, real)
    np.testing.assert_allclose(array(layer.moving_mean.value), mean, rtol=1e-3)


def scoring_and_sampling_leave_the_averages_alone_and_drawing_weights_anew_restores_them():
    from trainer.backends.update import Update
    from trainer.config import TrainSettings
    from trainer.layers.initial import draw_initial

    task = task_of("residual", blocks=1)
    model = task.build(features_of())
    draw_initial(model, 0)
    first = [array(variable.value) for variable in model.variables]
    update = Update(model, task.objectives(), TrainSettings(batch=2))
    update(batch_of(cells_of(2)), 1e-2, 0, (True,))
    kept = [variable for variable in model.variables if "moving" in variable.path]
    trained = [array(variable.value) for variable in kept]
    assert len(kept) == 3 * 4 and any(one is variable for one in update.variables for variable in kept)
    assert all((array(a.value) != b).any() for a, b in zip(model.variables, first, strict=True) if "seed" not in a.path)
    task.log_likelihood(model, batch_of(cells_of(2)))
    made(task, model, None, 1, 5)
    assert all((array(a.value) == b).all() for a, b in zip(kept, trained, strict=True))
    draw_initial(model, 0)
    assert all((array(a.value) == b).all() for a, b in zip(model.variables, first, strict=True))


def made(task, model, given, count, length, seed=0, **sampler):
    """The cells of samples."""
    from schemas.representations.voices import Voices
    from trainer.layers.sampling import Sampler

    sampler = {"gibbs_steps": 3, **sampler}
    records = list(task.sample(model, Voices(window=WINDOW), given, count, length, seed, Sampler(**sampler)))
    assert all(("nats_per_cell" in record) == sampler.get("likelihood", True) for record in records)
    return [record["pitches"] for record in records]


def voices_that_are_given_stay_and_the_others_are_filled():
    from schemas.representations.voices import Voices

    representation, task = Voices(window=WINDOW), task_of("plain")
    cells = np.full((20, 4), 128, np.uint8)
    cells[:, 0] = 60 + np.arange(20) // 4
    cells[6:9, 0] = 128
    given = representation.piece_from_cells(cells)
    for sampler in ("annealed", "ancestral"):
        for found in made(task, model_of("plain"), given, 2, 20, sampler=sampler):
            assert found.shape == (20, 4) and found.dtype == np.uint8
            assert (found[:, 0] == cells[:, 0]).all()
            assert (((LOW <= found) & (found <= HIGH)) | (found == 128)).all()
            assert len(np.unique(found[:, 1:])) > 5
            piece = representation.piece_from_cells(found)
            assert (representation.cells(piece)[: len(found)] == found).all()
    filled = made(task, model_of("plain"), given, 8, 20, fill_rests=True)
    assert any((found[6:9, 0] != 128).any() for found in filled)
    assert made(task, model_of("plain"), given, 1, 24, likelihood=False)[0].shape == (24, 4)
    assert (made(task, model_of("plain"), given, 1, 7)[0][:, 0] == cells[:7, 0]).all()
    assert all(
        len(found) == 20 for found in made(task, model_of("plain"), None, 17, 3.0, gibbs_steps=1)
    )  # 100 quarters a minute, 16ths


def equal_seeds_give_equal_samples_and_other_seeds_others():
    task, model = task_of("plain"), model_of("plain")
    first, again, other = (made(task, model, None, 2, 10, seed=seed) for seed in (1, 1, 2))
    assert (np.array(first) == again).all()
    assert (np.array(first) != other).any() and (first[0] != first[1]).any()


def what_cannot_be_filled_is_refused():
    from schemas.errors import UsageError
    from schemas.representations.voices import Voices

    full = np.full((8, 4), 60, np.uint8)
    high = np.full((8, 4), 128, np.uint8)
    high[:, 0] = HIGH + 5
    for cells, said in ((full, "nothing is left"), (high, f"outside {LOW}..{HIGH}")):
        try:
            made(task_of("plain"), model_of("plain"), Voices(ranges="any").piece_from_cells(cells), 1, 8)
        except UsageError as error:
            assert said in str(error), error
        else:
            raise AssertionError(f"not refused: {said}")


def paths_of_variables_are_the_same_in_a_second_model_and_the_published_size_is_the_published():
    from trainer.models.coconet import Coconet

    paths = [[variable.path for variable in task_of("residual").build(features_of()).variables] for _ in range(2)]
    assert paths[0] == paths[1] and len(set(paths[0])) == len(paths[0])
    assert "coconet/block_00/first/plain/kernel" in paths[0]
    model = replace(Coconet(), blocks=1, filters=8).build(features_of())
    kernels = [item for item in model.trainable_variables if item.path.endswith("kernel") and len(item.shape) == 4]
    assert len(kernels) + 2 * (Coconet().blocks - 1) == 64
    assert Coconet().filters == 128 and {tuple(item.shape[:2]) for item in kernels[:-1]} == {(3, 3)}


CHECKS = (
    every_weight_gets_a_gradient,
    twenty_steps_on_one_batch_lower_the_loss,
    blocks_that_are_computed_again_keep_the_same_averages_and_draw_the_same_dropout,
    in_bfloat16_the_loss_is_nearly_the_same_and_averages_stay_float32,
    the_loss_does_not_change_with_padding_or_with_who_is_in_the_batch,
    what_hidden_cells_hold_changes_no_logits_and_what_visible_ones_hold_does,
    only_hidden_cells_enter_the_loss_each_example_by_its_mean,
    cells_that_a_batch_calls_known_are_shown_and_all_others_guessed,
    pitches_outside_the_range_are_neither_shown_nor_guessed_and_are_counted,
    the_number_of_hidden_cells_is_uniform_and_every_cell_is_as_likely,
    the_other_masks_hide_what_they_say,
    other_seeds_and_other_music_are_masked_otherwise,
    masked_scoring_of_whole_pieces_gives_the_loss_of_validation,
    normalisation_leaves_out_what_does_not_count_and_keeps_its_averages,
    scoring_and_sampling_leave_the_averages_alone_and_drawing_weights_anew_restores_them,
    voices_that_are_given_stay_and_the_others_are_filled,
    equal_seeds_give_equal_samples_and_other_seeds_others,
    what_cannot_be_filled_is_refused,
    paths_of_variables_are_the_same_in_a_second_model_and_the_published_size_is_the_published,
)


def twenty_steps(states):
    """Losses, gradients and states of twenty steps of other batches; with states, at those."""
    from tests.trainer.step_checks import STEPS, step_by_step
    from trainer.backends.update import Update
    from trainer.config import TrainSettings
    from trainer.layers.initial import draw_initial

    task = task_of("residual", dropout=0.0)
    model = task.build(features_of())
    draw_initial(model, 0)
    update = Update(model, task.objectives(), TrainSettings(batch=4, optimiser="adamw", weight_decay=0.01, clip=1.0))
    return step_by_step(update, (batch_of(cells_of(4, seed=step)) for step in range(STEPS)), states)


def main(backend, out, *states):
    """Runs every check and prints what failed."""
    from trainer.backends import current, set_backend

    set_backend(backend)
    current().prepare(deterministic=True)
    failures = failures_of(CHECKS)
    np.savez(out, **masks_of(), **twenty_steps(np.load(states[0]) if states else None))
    print(json.dumps(failures))


if __name__ == "__main__":
    main(*sys.argv[1:])
