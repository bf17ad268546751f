"""Checks of the layers and of the families that predict the next token, inside one process of one backend.

`python model_checks.py BACKEND` runs them all and prints {check: "" or what failed}; test_token_models.py calls it
once for each backend, because importing a backend costs seconds and a process can hold one only. What runs often is
compiled, because JAX compiles each operation by itself otherwise.
"""

import json
import sys
from dataclasses import replace
from functools import cache

import numpy as np

from tests.trainer.on_backend import failures_of

WINDOW, VOCABULARY = 16, 40
VOICES, METRE = 4, 3
POSITIONS = ("relative", "sinusoidal", "rotary")
KINDS = (*POSITIONS, "places", "recurrent")
"""What is checked: the Music Transformer by its positions, a rotary one that knows voices and metre, and an LSTM."""


@cache
def setup():
    """Task, features: two layers, width 16, 16 tokens of 40 ids."""
    from schemas.tokens import token_features
    from trainer.models.music_transformer import MusicTransformer

    task = MusicTransformer(
        layers=2, hidden=16, attention=16, feed_forward=24, heads=2, max_distance=8, dropout=0.0, positions="relative"
    )
    return task, token_features(WINDOW, VOCABULARY + 1)


def task_of(kind, **settings):
    """The task of a kind."""
    from trainer.models.performance_rnn import PerformanceRNN

    places = {"voices": VOICES, "metre": METRE}
    if kind == "recurrent":
        return PerformanceRNN(layers=2, hidden=16, **{**places, **settings})
    if kind == "places":
        settings = {"positions": "rotary", **places, **settings}
    return replace(setup()[0], **{"positions": kind, **settings})


@cache
def model_of(kind, clip=False):
    """A built model whose weights come from NumPy."""
    from trainer.layers.initial import draw_initial

    model = task_of(kind, **({"clip_distance": True} if clip else {})).build(setup()[1])
    draw_initial(model, 0)
    return model


def tokens_of(rows, length=WINDOW, seed=0):
    """Random ids, int32 [rows, length]."""
    return np.random.default_rng(seed).integers(0, VOCABULARY, (rows, length)).astype(np.int32)


def batch_of(tokens, lengths, start=0):
    """A batch of records from the same place of their pieces: what lies behind a row's length is padding."""
    tokens = tokens.astype(np.uint16)
    for row, length in zip(tokens, lengths, strict=True):
        row[length:] = VOCABULARY + 1
    return {
        "tokens": tokens,
        "start_token": np.full(len(tokens), start, np.int64),
        "piece_tokens": np.array(lengths, np.int64) + start,
        "example_weight": np.ones(len(tokens), np.float32),
    }


def array(tensor):
    """A NumPy array of a tensor."""
    from keras import ops

    return np.asarray(ops.convert_to_numpy(tensor))


@cache
def forward_of(kind, clip=False):
    """The compiled model: ids, and where they begin in their pieces -> logits, NumPy."""
    from trainer.backends import current

    model = model_of(kind, clip)
    compiled = current().compile_function(model, lambda tokens, start: model(tokens, start=start))

    def forward(tokens, start=0):
        starts = np.broadcast_to(np.asarray(start, np.int32), len(tokens))
        return array(compiled(np.asarray(tokens, np.int32), np.ascontiguousarray(starts)))

    return forward


@cache
def compiled_loss(kind):
    """Total and weight in evaluation mode, compiled; takes the values of a batch in order of their names."""
    from trainer.backends import current
    from trainer.task import Context

    objective, context = setup()[0].objectives()[0], Context(False, 0, current().gradient)
    model = model_of(kind)

    def loss(*values):
        names = ("example_weight", "piece_tokens", "start_token", "tokens")
        return objective.loss(model, dict(zip(names, values, strict=True)), context)[:2]

    return current().compile_function(model, loss)


def loss_of(batch, kind="relative"):
    """(total, weight) in evaluation mode, float64."""
    total, weight = compiled_loss(kind)(*(batch[name] for name in sorted(batch)))
    return float(array(total)), float(array(weight))


def each_kind(check):
    """Runs a check for every kind of model."""
    for kind in KINDS:
        check(kind)


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

    def above_embedding(model, x):
        for layer in getattr(model, "blocks", ()) or model.recurrent:
            x = layer(x)[0] if model.name == "performance_rnn" else layer(x)
        return model.logits(x if model.name == "performance_rnn" else model.norm(x))

    def check(kind):
        model = model_of(kind)
        stream = ops.convert_to_tensor(np.random.default_rng(2).normal(size=(1, WINDOW, 16)).astype(np.float32))

        def logits_at(place, x):
            chosen = above_embedding(model, x) * ops.cast(ops.arange(WINDOW) == place, "float32")[None, :, None]
            return ops.sum(chosen * ops.arange(VOCABULARY, dtype="float32"))

        gradient = current().compile_function(
            model, lambda place, x: current().gradient(lambda x: logits_at(place, x), x)
        )
        for place in (0, 5, WINDOW - 2):
            found = array(gradient(np.asarray(place, np.int32), stream))[0]
            assert (found[place + 1 :] == 0).all(), (kind, place)
            assert (np.abs(found[: place + 1]).max(axis=1) > 0).all(), (kind, place)

    each_kind(check)


def one_token_at_a_time_with_a_state_equals_the_whole():
    from trainer.backends import current

    def check(kind):
        model, tokens = model_of(kind), tokens_of(3)
        step = current().compile_function(model, model.step)
        whole, state, parts = forward_of(kind)(tokens, 7), model.empty_state(3, WINDOW), []
        for place in range(WINDOW):
            one = tokens[:, place : place + 1]
            logits, state = step(one, state, np.asarray(place, np.int32), np.asarray(7, np.int32))
            parts.append(array(logits))
        np.testing.assert_allclose(np.stack(parts, axis=1), whole, atol=1e-5)

    each_kind(check)


def compiled_sampling_equals_sampling_without_a_state():
    from trainer.backends import current
    from trainer.layers.decoding import Decoding
    from trainer.layers.sampling import Sampler

    def check(kind):
        # Five tokens are read padded to eight: what lies behind them must leave no trace.
        model, given = model_of(kind), tokens_of(1)[0, :5]
        decoding = Decoding(model, current().compile_function, Sampler("greedy"), WINDOW)
        found = np.concatenate([given, next(decoding.blocks(given, 2, np.random.default_rng(0)))[1]])
        slow = np.zeros(WINDOW + 1, np.int32)
        slow[:6] = [VOCABULARY, *given]
        for place in range(5, WINDOW):
            slow[place + 1] = forward_of(kind)(slow[None, :-1])[0, place].argmax()
        assert found.tolist() == slow[1:].tolist()

    each_kind(check)


def voice_and_metre_follow_from_the_place_in_the_piece():
    layer = model_of("places").places
    found = array(layer(start=np.array([0, 7], np.int32), position=2, length=9))
    voices, bars = array(layer.voice_vectors.value), array(layer.metre_vectors.value)
    for row, start in enumerate((0, 7)):
        for index in range(9):
            place = start + 2 + index
            expected = voices[place % VOICES] + bars[place // VOICES % METRE]
            np.testing.assert_allclose(found[row, index], expected, atol=1e-6)


def a_window_from_another_place_is_read_as_one_of_that_voice_and_metre():
    for kind in ("places", "recurrent"):
        tokens = tokens_of(2)
        here, other = forward_of(kind)(tokens, 5), forward_of(kind)(tokens, 6)
        np.testing.assert_allclose(here, forward_of(kind)(tokens, 5 + VOICES * METRE), atol=1e-6)
        assert np.abs(here - other).max(axis=2).min() > 1e-4
        np.testing.assert_allclose(forward_of(kind)(tokens, [5, 6]), [here[0], other[1]], atol=1e-6)
        first, second = (loss_of(batch_of(tokens, [WINDOW, 9], start), kind) for start in (5, 6))
        assert first[1] == second[1] == WINDOW + 9
        assert abs(first[0] - second[0]) > 1e-3


def sampling_slides_on_past_the_window_and_keeps_what_was_given():
    from trainer.backends import current
    from trainer.layers.decoding import Decoding
    from trainer.layers.sampling import Sampler

    for kind, grid in (("sinusoidal", 1), ("places", VOICES), ("recurrent", VOICES)):
        model, given = model_of(kind), tokens_of(1, 42)[0]
        decoding = Decoding(model, current().compile_function, Sampler("greedy"), WINDOW, grid)
        blocks, found = decoding.blocks(given, 1, np.random.default_rng(0)), given.tolist()
        for _ in range(3):
            start = len(found) - WINDOW // 2
            start -= start % grid
            block = next(blocks)[0]
            assert len(found) + len(block) == start + WINDOW
            context = np.array([VOCABULARY, *found[start:]])
            assert block[0] == forward_of(kind)(context[None], start)[0, -1].argmax(), kind
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

    def check(kind):
        model, objective = model_of(kind), setup()[0].objectives()[0]
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
            assert np.abs(array(grad)).max() > 0, (kind, variable.path)

    each_kind(check)


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
    nats, weight, right = map(array, setup()[0].log_likelihood(model_of("rotary"), batch))
    likeliest = forward_of("rotary")(np.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=VOCABULARY)).argmax(-1)
    assert ((right > 0) == (likeliest == tokens))[weight > 0].all()
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

    for kind in ("relative", "places", "recurrent"):
        task = task_of(kind, dropout=0.1)
        model = task.build(setup()[1])
        draw_initial(model, 3)
        update = Update(model, task.objectives(), TrainSettings(batch=4))
        batch = batch_of(tokens_of(4), [WINDOW, 9, WINDOW, 5])
        losses = [float(array(update(batch, 1e-2, step, (True,))["loss"])) for step in range(20)]
        assert np.isfinite(losses).all()
        assert losses[-1] < 0.8 * losses[0], (kind, losses)


def paths_of_variables_are_the_same_in_a_second_model():
    expected = {
        "relative": "music_transformer/block_00/attention/distances",
        "places": "music_transformer/places/metre",
        "recurrent": "performance_rnn/lstm_00/recurrent_kernel",
    }
    for kind, path in expected.items():
        task = task_of(kind, dropout=0.1)
        paths = [[variable.path for variable in task.build(setup()[1]).variables] for _ in range(2)]
        assert paths[0] == paths[1]
        assert len(set(paths[0])) == len(paths[0])
        assert path in paths[0], paths[0]


def voices_and_metre_add_their_tables_and_nothing_else():
    plain, with_places = (
        [item.path for item in task_of(kind, dropout=0.1).build(setup()[1]).variables] for kind in ("rotary", "places")
    )
    tables = ["music_transformer/places/voice", "music_transformer/places/metre"]
    assert sorted([*plain, *tables]) == sorted(with_places)


def mixed_precision_computes_in_bfloat16_and_answers_in_float32():
    import keras

    for kind in ("relative", "places", "recurrent"):
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = task_of(kind).build(setup()[1])
            assert {str(weight.dtype) for weight in model.weights} == {"float32"}
            logits = model(tokens_of(1))
            step, _ = model.step(tokens_of(1)[:, :1], model.empty_state(1, WINDOW), 0, 0)
        finally:
            keras.config.set_dtype_policy("float32")
        inner = model.recurrent[0] if kind == "recurrent" else model.blocks[0].attention
        assert inner.compute_dtype == "bfloat16"
        assert str(keras.backend.standardize_dtype(logits.dtype)) == "float32"
        np.testing.assert_allclose(array(step), array(logits)[:, 0], atol=0.1)


def dropout_of_attention_and_of_tokens_is_there_in_training_only_and_leaves_the_weights_paths():
    from trainer.layers.initial import draw_initial

    plain, tokens = model_of("rotary"), tokens_of(2)
    for setting in ("attention_dropout", "token_dropout"):
        dropping = task_of("rotary", **{setting: 0.5}).build(setup()[1])
        draw_initial(dropping, 0)
        calm, wild = (array(dropping(tokens, training=training)) for training in (False, True))
        assert (calm == array(plain(tokens))).all()
        assert np.abs(wild - calm).max() > 1e-3
        assert (array(plain(tokens, training=True)) == calm).all()
        assert [v.path for v in dropping.trainable_variables] == [v.path for v in plain.trainable_variables]


def a_token_that_is_dropped_is_dropped_whole():
    from trainer.layers.dropout import Dropout

    dropped = array(Dropout(0.5, "here", whole=True, name="dropout")(np.ones((3, 40, 8), np.float32), training=True))
    kept = dropped[..., 0] > 0
    assert (dropped == np.where(kept, 2, 0)[..., None]).all()
    assert 0.3 < kept.mean() < 0.7


CHECKS = (
    dropout_of_attention_and_of_tokens_is_there_in_training_only_and_leaves_the_weights_paths,
    a_token_that_is_dropped_is_dropped_whole,
    relative_attention_equals_a_plain_loop,
    distances_beyond_the_table_are_zero_or_clipped,
    nothing_after_a_token_moves_its_logits,
    one_token_at_a_time_with_a_state_equals_the_whole,
    compiled_sampling_equals_sampling_without_a_state,
    voice_and_metre_follow_from_the_place_in_the_piece,
    a_window_from_another_place_is_read_as_one_of_that_voice_and_metre,
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
    voices_and_metre_add_their_tables_and_nothing_else,
    mixed_precision_computes_in_bfloat16_and_answers_in_float32,
)


def main(backend):
    """Runs every check and prints what failed."""
    from trainer.backends import set_backend

    set_backend(backend)
    print(json.dumps(failures_of(CHECKS)))


if __name__ == "__main__":
    main(sys.argv[1])
