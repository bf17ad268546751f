"""Lowers training steps for TPUs on a machine without one: `python tpu_checks.py` prints what it found as JSON.

No TPU runs anything here. A program that is lowered for one has no operation that its compiler does not know, and it
shows whether the table of distances, which a fused attention may drop in silence, is still read.
"""

import json
import re
import sys
from functools import partial
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np

from tests.trainer.synthetic import scales


def lowered(data, positions, mesh, remat=False):
    """How many devices the step is lowered for, its attributes of sharding, and how often it reads the distances."""
    import jax

    from schemas.manifest import read_manifest
    from trainer.backends.update import Update
    from trainer.config import TrainSettings
    from trainer.data import Reader
    from trainer.layers.initial import draw_initial
    from trainer.models.music_transformer import MusicTransformer

    manifest = read_manifest(data)
    task = MusicTransformer(
        layers=2, hidden=32, attention=32, feed_forward=64, heads=4, max_distance=32, positions=positions
    )
    from trainer.backends.jax_step import Devices

    devices = Devices(mesh)
    update = Update(task.build(manifest.features), task.objectives(), TrainSettings(batch=8, clip=1.0), devices)
    draw_initial(update.model, 0)
    update.model.remat = remat
    update.place()
    batch = devices.batch(next(Reader(data, manifest, "train").shuffled(0, 0, 8)))
    state = [variable.value for variable in update.variables]

    def export(fn, *scalars):
        jitted = devices.compile_step(fn, update.variables).jitted
        # Keras chooses kernels by the device that is there, not by the one that is lowered for.
        with patch("jax.devices", lambda *_: [SimpleNamespace(platform="tpu")]):
            return jax.export.export(jitted, platforms=["tpu"])(state, batch, *scalars)

    step = export(partial(update._step, (True,)), np.float32(1e-3), np.int32(0))
    # Of the loss alone: the optimiser's own use of the tables is left out.
    loss = main_of(export(update.scores).mlir_module())
    tables = [number for number, one in enumerate(update.variables) if one.path.endswith("attention/distances")]
    return {
        "devices": step.nr_devices,
        "platforms": step.platforms,
        "reads": [len(re.findall(rf"%arg{number}\b", loss)) for number in tables],
        "sharded": "sharding" in step.mlir_module(),
        "kernels": step.mlir_module().count("tpu_custom_call"),
        "barriers": step.mlir_module().count("optimization_barrier"),
    }


def main_of(text):
    """What the main function of a program computes, without what it hands back."""
    body = text[text.index("func.func public @main") :]
    body = body[body.index("{\n") :].split("func.func private")[0]
    return "\n".join(line for line in body.splitlines() if not line.strip().startswith("return "))


def main(folder):
    """Both positions, on one device and on a mesh of eight."""
    import jax

    from trainer.backends import set_backend
    from trainer.devices import Mesh

    jax.config.update("jax_num_cpu_devices", 8)
    set_backend("jax")
    scales(f"{folder}/data", window=32)
    found = {}
    for positions in ("relative", "rotary"):
        for mesh in (Mesh(1), Mesh(8), Mesh(4, 2)):
            found[f"{positions} {mesh}"] = lowered(f"{folder}/data", positions, mesh)
    found["remat"] = lowered(f"{folder}/data", "rotary", Mesh(1), remat=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
