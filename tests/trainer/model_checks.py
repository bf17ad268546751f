"""Checks of the layers and of the Music Transformer that run inside one process of one backend.

`python model_checks.py BACKEND` runs them all and prints {check: "" or what failed}; test_music_transformer.py calls it
once for each backend, because importing a backend costs seconds and a process can hold one only. What runs often is
compiled, because JAX compiles each operation by itself otherwise.
"""

import json
import sys
import traceback
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

WINDOW, VOCABULARY = 16, 40


@cache
def setup():
    """Task, features: two layers, width 16, 16 tokens of 40 ids."""
    from schemas.tokens import token_features
    from trainer.models.music_transformer import MusicTransformer

    task = MusicTransformer(
        layers=2, hidden=16, attention=16, feed_forward=24, heads=2, max_distance=8, dropout=0.0, positions="relative"
    )
    return task, token_features(WINDOW, VOCABULARY + 1)


@cache
def model_of(positions, clip=False):
    """A built model whose weights come from NumPy."""
    from trainer.layers.initial import draw_initial

    task, features = setup()
    model = replace(task, positions=positions, clip_distance=clip).build(features)
    draw_initial(model, 0)
    return model


def tokens_of(rows, length=WINDOW, seed=0):
    """Random ids, int32 [rows, length]."""
    return np.random.default_rng(seed).integers(0, VOCABULARY, (rows, length)).astype(np.int32)


def batch_of(tokens, lengths):
    """A batch of records: what lies behind a row's length is padding."""
    tokens = tokens.astype(np.uint16)
    for row, length in zip(tokens, lengths, strict=True):
        row[length:] = VOCABULARY + 1
    return {
        "tokens": tokens,
        "start_token": np.zeros(len(tokens), np.int64),
        "piece_tokens": np.array(lengths, np.int64),
        "example_weight": np.ones(len(tokens), np.float32),
    }


def array(tensor):
    """A NumPy array of a tensor."""
    from keras import ops

    return np.asarray(ops.convert_to_numpy(tensor))


@cache
def forward_of(positions, clip=False):
    """The compiled model: ids -> logits, both NumPy."""
    from trainer.backends import current

    model = model_of(positions, clip)
    compiled = current().compile_function(model, lambda tokens: model(tokens))
    return lambda tokens: array(compiled(np.asarray(tokens, np.int32)))


@cache
def compiled_loss(positions):
    """Total and weight in evaluation mode, compiled; takes the values of a batch in order of their names."""
    from trainer.backends import current
    from trainer.task import Context

    objective, context = setup()[0].objectives()[0], Context(False, 0, current().gradient)
    model = model_of(positions)

    def loss(*values):
        names = ("example_weight", "piece_tokens", "start_token", "tokens")
        return objective.loss(model, dict(zip(names, values, strict=True)), context)[:2]

    return current().compile_function(model, loss)


def loss_of(batch, positions="relative"):
    """(total, weight) in evaluation mode, float64."""
    total, weight = compiled_loss(positions)(*(batch[name] for name in sorted(batch)))
    return float(array(total)), float(array(weight))


def each_position(check):
    """Runs a check for every kind of position."""
    for positions in ("relative", "sinusoidal", "rotary"):
        check(positions)


def relative_attention_equals_a_plain_loop():
    for clip in (False, True):
        layer = model_of("relative", clip).blocks[0].attention
        x = np.random.default_rng(1).normal(size=(2, WINDOW, 16)).astype(np.float32)
        kernels = {name: array(getattr(layer, name).kernel).astype(np.float64) for name in ("query", "key", "value")}
        out = array(layer.output_projection.kernel).astype(np.float64)
        table = array(layer.distances).astype(np.float64)
        expected = plain_attention(x.astype(np.float64), kernels, out, table, clip)
        np.testing.assert_allclose(array(layer(x)), expected, atol=1e-5, rtol=1e-5)


def plain_attention(x, kernels, out, table, clip):
    """Music Transformer attention written with loops: for every query and key, as the paper's formula says it."""
    query, key, value = (x @ kernels[name] for name in ("query", "key", "value"))
    heads, reach, depth = table.shape
    result = np.zeros_like(query)
    for b in range(len(x)):
        for h in range(heads):
            part = slice(h * depth, (h + 1) * depth)
            for i in range(x.shape[1]):
                logits = []
                for k in range(i + 1):
                    distance = i - k
                    row = table[h, max(reach - 1 - distance, 0)] if clip or distance < reach else np.zeros(depth)
                    logits.append(query[b, i, part] @ (key[b, k, part] + row) / np.sqrt(depth))
                weights = np.exp(np.array(logits) - max(logits))
                result[b, i, part] = (weights / weights.sum()) @ value[b, : i + 1, part]
    return result @ out


def distances_beyond_the_table_are_zero_or_clipped():
    same = forward_of("relative")(tokens_of(1, 9)) - forward_of("relative", True)(tokens_of(1, 9))
    np.testing.assert_allclose(same[:, :8], 0, atol=1e-6)
    assert np.abs(same[:, 8]).max() > 1e-6


def nothing_after_a_token_moves_its_logits():
    from keras import ops

    from trainer.backends import current

    def check(positions):
        model = model_of(positions)
        stream = ops.convert_to_tensor(np.random.default_rng(2).normal(size=(1, WINDOW, 16)).astype(np.float32))

        def logits_at(place, x):
            for block in model.blocks:
                x = block(x)
            chosen = model.logits(model.norm(x)) * ops.cast(ops.arange(WINDOW) == place, "float32")[None, :, None]
            return ops.sum(chosen * ops.arange(VOCABULARY, dtype="float32"))

        gradient = current().compile_function(
            model, lambda place, x: current().gradient(lambda x: logits_at(place, x), x)
        )
        for place in (0, 5, WINDOW - 2):
            found = array(gradient(np.asarray(place, np.int32), stream))[0]
            assert (found[place + 1 :] == 0).all(), (positions, place)
            assert (np.abs(found[: place + 1]).max(axis=1) > 0).all(), (positions, place)

    each_position(check)


def one_token_at_a_time_with_a_cache_equals_the_whole():
    from trainer.backends import current

    def check(positions):
        model, tokens = model_of(positions), tokens_of(3)
        step = current().compile_function(model, lambda one, caches, at: model(one, cache=caches, position=at))
        whole, caches, parts = forward_of(positions)(tokens), model.empty_cache(3, WINDOW), []
        for place in range(WINDOW):
            logits, caches = step(tokens[:, place : place + 1], caches, np.asarray(place, np.int32))
            parts.append(array(logits)[:, 0])
        np.testing.assert_allclose(np.stack(parts, axis=1), whole, atol=1e-5)

    each_position(check)


def compiled_sampling_equals_sampling_without_a_cache():
    from trainer.backends import current
    from trainer.layers.decoding import Decoding
    from trainer.layers.sampling import Sampler

    def check(positions):
        model, given = model_of(positions), tokens_of(1)[0, :5]
        decoding = Decoding(model, current().compile_function, Sampler("greedy"), WINDOW)
        found = np.concatenate([given, next(decoding.blocks(given, 2, np.random.default_rng(0)))[1]])
        slow = np.zeros(WINDOW + 1, np.int32)
        slow[:6] = [VOCABULARY, *given]
        for place in range(5, WINDOW):
            slow[place + 1] = forward_of(positions)(slow[None, :-1])[0, place].argmax()
        assert found.tolist() == slow[1:].tolist()

    each_position(check)


def sampling_slides_on_past_the_window_and_keeps_what_was_given():
    from trainer.backends import current
    from trainer.layers.decoding import Decoding
    from trainer.layers.sampling import Sampler

    model, given = model_of("sinusoidal"), tokens_of(1, 40)[0]
    decoding = Decoding(model, current().compile_function, Sampler("greedy"), WINDOW)
    blocks = decoding.blocks(given, 1, np.random.default_rng(0))
    found = [*given[-WINDOW // 2 :]]
    for _ in range(3):
        context = np.array([VOCABULARY, *found[-WINDOW // 2 :]])
        block = next(blocks)[0]
        assert len(block) == WINDOW // 2
        assert block[0] == forward_of("sinusoidal")(context[None])[0, -1].argmax()
        found += block.tolist()


def equal_seeds_give_equal_samples_and_other_seeds_others():
    from trainer.backends import current
    from trainer.layers.decoding import Decoding
    from trainer.layers.sampling import Sampler

    decoding = Decoding(model_of("relative"), current().compile_function, Sampler("nucleus"), WINDOW)
    made = [next(decoding.blocks(np.zeros(0, np.int32), 3, np.random.default_rng(seed))) for seed in (7, 7, 8)]
    assert made[0].shape == (3, WINDOW)
    assert (made[0] == made[1]).all()
    assert (made[0] != made[2]).any()
    assert (made[0][0] != made[0][1]).any()


def samples_have_the_length_that_was_asked_for_and_begin_with_what_was_given():
    from schemas.errors import UsageError
    from schemas.music import Notes, Piece
    from schemas.representations.events import Events
    from trainer.layers.sampling import Sampler

    representation = Events(window=WINDOW)
    task, _ = setup()
    model = task.build(representation.features())
    given = Piece("given", Notes.of([0], [240], [60], [80]))
    opening = representation.tokens(given)
    for record in task.sample(model, representation, given, 2, 4.0, 0, Sampler("top-k")):
        assert 4.0 <= representation.count_seconds(record["tokens"]) < 5.01
        assert (record["tokens"][: len(opening)] == opening).all()
        assert record["piece_tokens"] == len(record["tokens"])
    records = list(task.sample(model, representation, None, 18, 21, 0, Sampler()))
    assert [len(record["tokens"]) for record in records] == [21] * 18
    try:
        list(task.sample(model, representation, given, 1, len(opening), 0, Sampler()))
    except UsageError as error:
        assert "nothing would be new" in str(error)
    else:
        raise AssertionError("a length that leaves nothing to make was not refused")


def samplers_draw_only_what_they_allow():
    from trainer.layers.sampling import Sampler, draw

    logits = np.log(np.tile([[0.05, 0.5, 0.15, 0.3]], (1000, 1))).astype(np.float32)
    noise = np.random.default_rng(0).random(1000, dtype=np.float32)
    expected = {"greedy": {1}, "temperature": {0, 1, 2, 3}, "top-k": {1, 3}, "nucleus": {1, 3}}
    for name, allowed in expected.items():
        drawn = array(draw(logits, noise, Sampler(name, top_k=2, top_p=0.7)))
        assert set(drawn.tolist()) == allowed, name
    shares = np.bincount(array(draw(logits, noise, Sampler()))) / 1000
    np.testing.assert_allclose(shares, [0.05, 0.5, 0.15, 0.3], atol=0.05)
    cold = array(draw(logits, noise, Sampler(temperature=0.05)))
    assert set(cold.tolist()) == {1}


def every_weight_gets_a_gradient():
    from trainer.backends import current
    from trainer.task import Context

    def check(positions):
        model, objective = model_of(positions), setup()[0].objectives()[0]
        batch = batch_of(tokens_of(4), [WINDOW] * 4)
        context = Context(False, 0, current().gradient)
        variables = objective.variables(model)
        state = [v for v in model.variables if all(v is not other for other in variables)]
        grads = current().compile_function(
            model,
            lambda: current().gradients(lambda: (objective.loss(model, batch, context)[0], ()), variables, state)[1],
        )()
        assert len(variables) == len(model.trainable_variables)
        for variable, grad in zip(variables, grads, strict=True):
            assert np.abs(array(grad)).max() > 0, (positions, variable.path)

    each_position(check)


def relative_attention_runs_at_twice_the_trained_length():
    for clip in (False, True):
        tokens, forward = tokens_of(2, 2 * WINDOW), forward_of("relative", clip)
        logits = forward(tokens)
        assert logits.shape == (2, 2 * WINDOW, VOCABULARY)
        assert np.isfinite(logits).all()
        np.testing.assert_allclose(logits[:, :WINDOW], forward(tokens[:, :WINDOW]), atol=1e-5)


def rotary_positions_refuse_to_go_past_the_trained_length_unless_told():
    from schemas.errors import UsageError
    from schemas.representations.events import Events
    from trainer.layers.sampling import Sampler

    representation = Events(window=WINDOW)
    task = replace(setup()[0], positions="rotary")
    model = task.build(representation.features())

    def make(length, sampler):
        return list(task.sample(model, representation, None, 1, length, 0, sampler))

    for length in (WINDOW + 1, 600.0):
        try:
            make(length, Sampler())
        except UsageError as error:
            assert "--allow-longer" in str(error)
        else:
            raise AssertionError(f"{length} was not refused")
    assert len(make(WINDOW, Sampler())[0]["tokens"]) == WINDOW
    assert len(make(WINDOW + 1, Sampler(allow_longer=True))[0]["tokens"]) == WINDOW + 1


def the_loss_does_not_change_with_padding_or_with_who_is_in_the_batch():
    tokens, lengths = tokens_of(6, seed=3), [16, 3, 9, 1, 16, 12]
    together, weight = loss_of(batch_of(tokens, lengths))
    assert weight == sum(lengths)
    alone = [loss_of(batch_of(tokens[i : i + 1], lengths[i : i + 1]))[0] for i in range(6)]
    halves = [loss_of(batch_of(tokens[i::2], lengths[i::2]))[0] for i in range(2)]  # accumulation adds such sums
    other = batch_of(tokens, lengths)
    for row, length in zip(other["tokens"], lengths, strict=True):
        row[length:] = 5
    longer = {**batch_of(tokens, lengths), "tokens": np.pad(other["tokens"], ((0, 0), (0, 9)), constant_values=41)}
    longer["piece_tokens"] = np.array(lengths)
    filled = {name: np.concatenate([value, value]) for name, value in batch_of(tokens, lengths).items()}
    filled["example_weight"][6:] = 0
    for what in (sum(alone), sum(halves), loss_of(other)[0], loss_of(longer)[0], loss_of(filled)[0]):
        assert abs(what - together) <= 1e-6 * together, (what, together)
    assert loss_of(filled)[1] == weight


def log_likelihood_adds_up_to_the_loss():
    tokens, lengths = tokens_of(3, seed=4), [16, 4, 11]
    batch = batch_of(tokens, lengths)
    nats, weight = map(array, setup()[0].log_likelihood(model_of("rotary"), batch))
    total, count = loss_of(batch, "rotary")
    assert nats.shape == weight.shape == (3, WINDOW)
    assert weight.sum() == count == sum(lengths)
    assert (nats[weight == 0] == 0).all()
    assert (nats[weight == 1] > 0).all()
    assert abs(nats.sum() - total) <= 1e-6 * total


def the_first_token_is_predicted_from_nothing():
    a, b = tokens_of(2, seed=5)
    b = np.concatenate([a[:1], b[1:]])
    batch = batch_of(np.stack([a, b]), [WINDOW] * 2)
    nats = array(setup()[0].log_likelihood(model_of("relative"), batch)[0])
    assert abs(nats[0, 0] - nats[1, 0]) < 1e-6
    assert np.abs(nats[0, 2:] - nats[1, 2:]).max() > 1e-3


def a_few_steps_on_one_batch_lower_the_loss():
    from trainer.backends.update import Update
    from trainer.config import TrainSettings
    from trainer.layers.initial import draw_initial

    task, features = setup()
    model = replace(task, dropout=0.1).build(features)
    draw_initial(model, 3)
    update = Update(model, task.objectives(), TrainSettings(batch=4))
    batch = batch_of(tokens_of(4), [WINDOW, 9, WINDOW, 5])
    losses = [float(array(update(batch, 3e-3, step, (True,))["loss"])) for step in range(20)]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.8 * losses[0], losses


def paths_of_variables_are_the_same_in_a_second_model():
    task, features = setup()
    task = replace(task, dropout=0.1)
    paths = [[variable.path for variable in task.build(features).variables] for _ in range(2)]
    assert paths[0] == paths[1]
    assert len(set(paths[0])) == len(paths[0])
    assert "music_transformer/block_00/attention/distances" in paths[0]


def mixed_precision_computes_in_bfloat16_and_answers_in_float32():
    import keras

    task, features = setup()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = task.build(features)
        assert {str(weight.dtype) for weight in model.weights} == {"float32"}
        logits = model(tokens_of(1))
        step, _ = model(tokens_of(1)[:, :1], cache=model.empty_cache(1, WINDOW), position=0)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.blocks[0].attention.compute_dtype == "bfloat16"
    assert str(keras.backend.standardize_dtype(logits.dtype)) == "float32"
    np.testing.assert_allclose(array(step)[:, 0], array(logits)[:, 0], atol=0.1)


CHECKS = (
    relative_attention_equals_a_plain_loop,
    distances_beyond_the_table_are_zero_or_clipped,
    nothing_after_a_token_moves_its_logits,
    one_token_at_a_time_with_a_cache_equals_the_whole,
    compiled_sampling_equals_sampling_without_a_cache,
    sampling_slides_on_past_the_window_and_keeps_what_was_given,
    equal_seeds_give_equal_samples_and_other_seeds_others,
    samples_have_the_length_that_was_asked_for_and_begin_with_what_was_given,
    samplers_draw_only_what_they_allow,
    every_weight_gets_a_gradient,
    relative_attention_runs_at_twice_the_trained_length,
    rotary_positions_refuse_to_go_past_the_trained_length_unless_told,
    the_loss_does_not_change_with_padding_or_with_who_is_in_the_batch,
    log_likelihood_adds_up_to_the_loss,
    the_first_token_is_predicted_from_nothing,
    a_few_steps_on_one_batch_lower_the_loss,
    paths_of_variables_are_the_same_in_a_second_model,
    mixed_precision_computes_in_bfloat16_and_answers_in_float32,
)


def main(backend):
    """Runs every check and prints what failed."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from trainer.backends import set_backend

    set_backend(backend)
    failures = {}
    for check in CHECKS:
        try:
            check()
            failures[check.__name__] = ""
        except Exception:  # noqa: BLE001  the test that asked for it shows what happened
            failures[check.__name__] = traceback.format_exc()
    print(json.dumps(failures))


if __name__ == "__main__":
    main(sys.argv[1])
