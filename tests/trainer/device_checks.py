"""What one layout of devices computes, for test_device_layouts.py to compare with one device.

`python device_checks.py BACKEND MESH DATA OUT [STATES]` writes OUT, an .npz with losses, gradients and examples of
20 steps of a small Music Transformer at the states of STATES (an OUT; without it those that it goes through), and
losses and weights of a run left alone. Several processes are told by `PROCESSES`, `NUMBER` and `MEETING` in the
environment; each writes what it found.
"""

import os
import sys

import numpy as np

STEPS, FREE, BATCH = 20, 5, 8


def devices_of(mesh):
    """The devices of this process, and of those that it computes with."""
    from trainer.backends import current
    from trainer.devices import Processes, parse_mesh

    processes = Processes(
        int(os.environ.get("PROCESSES", 1)), int(os.environ.get("NUMBER", 0)), os.environ.get("MEETING", "")
    )
    backend = current()
    backend.prepare(True, parse_mesh(mesh), processes)
    backend.join(processes, 60)
    return backend.Devices(parse_mesh(mesh), processes)


def update_of(data, devices, **settings):
    """An `Update` on these devices whose weights come from NumPy, and the manifest."""
    from schemas.manifest import read_manifest
    from trainer.backends.update import Update
    from trainer.config import TrainSettings
    from trainer.layers.initial import draw_initial
    from trainer.models.music_transformer import SIZES, MusicTransformer

    manifest = read_manifest(data)
    task = MusicTransformer(**SIZES["tiny"], positions="rotary", activation="gelu", dropout=0.0)
    chosen = {"batch": BATCH, "optimiser": "adamw", "weight_decay": 0.01, "clip": 1.0, **settings}
    with devices.scope():
        update = Update(task.build(manifest.features), task.objectives(), TrainSettings(**chosen), devices)
        draw_initial(update.model, 0)
    update.devices.place(update.variables)
    return update, manifest


def batches_of(data, manifest, devices):
    """This process's rows of each batch."""
    from trainer.data import Reader

    return Reader(data, manifest, "train").shuffled(0, 0, BATCH, devices.processes.rows(BATCH))


def at_each_state(update, batches, states):
    """Loss and gradients at each of 20 states, and the tokens of the rows that this process read."""
    from trainer.backends import current

    def fn(batch, seed):
        sums, grads = update.sums_and_gradients(update.objectives[0], batch, seed)
        total, weight = sums["loss"]
        return total / weight, [grad / weight for grad in grads]

    compiled, backend, found = update.devices.compile_step(fn, update.variables), current(), {}
    for step in range(STEPS):
        if states is not None:
            backend.restore(update.variables, [states[f"state {step} {n}"] for n in range(len(update.variables))])
            update.devices.place(update.variables)
        else:
            for number, array in enumerate(backend.values(update.variables)):
                found[f"state {step} {number}"] = np.array(array)
        batch = next(batches)
        found[f"rows {step}"] = batch["tokens"]
        loss, grads = compiled(update.devices.batch(batch), np.int32(0))
        found[f"loss {step}"] = np.array(loss)
        found |= {f"gradient {step} {number}": np.array(whole(grad)) for number, grad in enumerate(grads)}
        update(batch, 1e-3, step, (True,))
    return found


def whole(array):
    """An array that may lie on the devices of several processes."""
    from trainer.backends import current

    return current().whole(array)


def main():
    """Runs everything with the backend and mesh that are named."""
    from trainer.backends import current, set_backend

    backend, mesh, data, out, *states = sys.argv[1:]
    set_backend(backend)
    devices = devices_of(mesh)
    update, manifest = update_of(data, devices)
    found = at_each_state(update, batches_of(data, manifest, devices), np.load(states[0]) if states else None)
    update, manifest = update_of(data, devices)
    batches = batches_of(data, manifest, devices)
    free = [float(update(next(batches), 1e-3, step, (True,))["loss"]) for step in range(FREE)]
    weights = {f"weights {number}": array for number, array in enumerate(current().values(update.model.variables))}
    np.savez(out, free=np.array(free), **weights, **found)


if __name__ == "__main__":
    main()
