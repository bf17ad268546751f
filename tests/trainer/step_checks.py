"""What one backend computes, for test_steps.py to compare: `python step_checks.py BACKEND DATA OUT [STATES]`.

Writes OUT, an .npz with losses, gradients and states of 20 steps of a small Music Transformer, and what smaller
checks found. With STATES, an OUT of the other backend, the losses and gradients are those at the states found there.
One process holds one backend, hence two processes.
"""

import sys

import numpy as np

STEPS = 20


def make_update(data, **settings):
    """An `Update` of a small model whose weights come from NumPy, and batches."""
    from schemas.manifest import read_manifest
    from trainer.backends.update import Update
    from trainer.config import TrainSettings
    from trainer.data import Reader
    from trainer.layers.initial import draw_initial
    from trainer.models.music_transformer import MusicTransformer

    manifest = read_manifest(data)
    task = MusicTransformer(
        layers=2,
        hidden=32,
        attention=32,
        feed_forward=64,
        heads=4,
        max_distance=32,
        dropout=settings.pop("dropout", 0.0),
    )
    chosen = {"batch": 4, "optimiser": "adamw", "weight_decay": 0.01, "clip": 1.0, **settings}
    model = task.build(manifest.features)
    draw_initial(model, 0)
    return Update(model, task.objectives(), TrainSettings(**chosen)), Reader(data, manifest, "train").shuffled(0, 0, 4)


def gradients_of(update):
    """Compiled: batch -> loss, gradients of the loss."""

    def fn(batch):
        sums, grads = update.sums_and_gradients(update.objectives[0], batch, np.int32(0))
        total, weight = sums["loss"]
        return total / weight, [grad / weight for grad in grads]

    return update.devices.compile_step(fn, update.variables)


def step_by_step(update, batches, states):
    """Losses, gradients and states of 20 steps; with states, at those."""
    from trainer.backends import current

    fn, backend, found = gradients_of(update), current(), {}
    for step in range(STEPS):
        if states is not None:
            arrays = [states[f"state {step} {number}"] for number in range(len(update.variables))]
            backend.restore(update.variables, arrays)
        else:
            for number, array in enumerate(backend.values(update.variables)):
                found[f"state {step} {number}"] = np.array(array)
        batch = next(batches)
        loss, grads = fn(batch)
        found[f"loss {step}"] = np.array(loss)
        for number, grad in enumerate(grads):
            found[f"gradient {step} {number}"] = np.array(grad)
        update(batch, 1e-3, step, (True,))
    return found


def free(data):
    """Losses of a run that is left alone, and the path and bytes of its first weights."""
    from trainer.backends import current

    update, batches = make_update(data)
    first = {f"first {item.path}": np.array(value) for item, value in
             zip(update.model.variables, current().values(update.model.variables), strict=True)}  # fmt: skip
    losses = [float(update(next(batches), 1e-3, step, (True,))["loss"]) for step in range(STEPS)]
    return {"free": np.array(losses), **first}


def parts_of_a_batch(data):
    """Loss and gradients of one batch computed in one, two and four parts."""
    found = {}
    for parts in (1, 2, 4):
        update, batches = make_update(data, accumulate=parts)
        loss, grads = gradients_of(update)(next(batches))
        found[f"parts {parts} loss"] = np.array(loss)
        found[f"parts {parts} gradient"] = np.concatenate([np.array(grad).ravel() for grad in grads])
    return found


def repeated_tokens(data):
    """The embedding before and after a step of plain Adam, and its gradient: many tokens occur several times."""
    from trainer.backends import current

    update, batches = make_update(data, optimiser="adam", clip=0.0, epsilon=1e-8)
    batch, place = (
        next(batches),
        [item.path.endswith("embeddings") for item in update.model.trainable_variables].index(True),
    )
    variable = update.model.trainable_variables[place]
    before = np.array(current().values([variable])[0])
    gradient = np.array(gradients_of(update)(batch)[1][place])
    update(batch, 1e-3, 0, (True,))
    return {"adam before": before, "adam gradient": gradient, "adam after": np.array(current().values([variable])[0])}


def compiled_function(data):
    """A compiled loss before and after a step: the second must know the new weights."""
    from trainer.backends import current
    from trainer.task import Context

    update, batches = make_update(data, dropout=0.5)
    batch = next(batches)

    def loss(batch):
        total, weight, _ = update.objectives[0].loss(
            update.model, batch, Context(False, np.int32(0), current().gradient)
        )
        return total / weight

    fn = current().compile_function(update.model, loss)
    before = [float(fn(batch)), float(fn(batch))]
    trained = [float(update(batch, 0.0, step, (True,))["loss"]) for step in range(3)]
    update(batch, 1e-2, 3, (True,))
    return {"scored": np.array([*before, float(fn(batch))]), "with dropout": np.array(trained)}


def penalty(data):
    """The gradient of a sum of cubes, and of its squared norm, as a gradient penalty needs them."""
    from keras import ops

    from trainer.backends import current

    x = ops.convert_to_tensor(np.arange(4, dtype=np.float32))
    inner = current().gradient(lambda y: ops.sum(y**3), x)
    outer = current().gradient(lambda y: ops.sum(current().gradient(lambda z: ops.sum(z**3), y) ** 2), x)
    return {"cubes": np.array(inner), "penalty": np.array(outer)}


def forgotten_and_computed_again(data):
    """Five losses with dropout, and the state after them, with what blocks computed kept and computed again."""
    from trainer.backends import current

    found = {}
    for remat in (False, True):
        update, batches = make_update(data, dropout=0.3)
        update.model.remat = remat
        losses = [float(update(next(batches), 1e-3, step, (True,))["loss"]) for step in range(5)]
        state = [np.ravel(value).astype(np.float64) for value in current().values(update.variables)]
        found |= {f"remat {remat} losses": np.array(losses), f"remat {remat} state": np.concatenate(state)}
    return found


def main():
    """Runs everything with the backend that is named."""
    from trainer.backends import current, set_backend

    backend, data, out, *states = sys.argv[1:]
    set_backend(backend)
    current().prepare(deterministic=True)
    found = step_by_step(*make_update(data), np.load(states[0]) if states else None)
    for check in (free, parts_of_a_batch, repeated_tokens, compiled_function, penalty, forgotten_and_computed_again):
        found.update(check(data))
    np.savez(out, **found)


if __name__ == "__main__":
    main()
