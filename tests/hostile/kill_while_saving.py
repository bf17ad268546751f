"""Attacks the saving of a checkpoint: kills the process before each system call that writes below the run's folder.

`python kill_while_saving.py FOLDER numpy|jax [every]` saves step 2 over a run that has step 1, keeping one checkpoint,
and kills the process before its n-th write, sync, rename, creation or removal; again for every n (or every so many)
until saving ends of itself. After each kill it looks at what is left, restores it and saves again. Prints a line of
JSON for each n. TensorFlow's variables are saved as NumPy arrays, JAX's as its own.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ["JAX_PLATFORMS"] = "cpu"

from tests.hostile.killed_at import ended_well, in_child, killed_at  # noqa: E402
from trainer.checkpoint import Checkpoints  # noqa: E402
from trainer.saved import Saved  # noqa: E402


def arrays(step):
    """What a step saves: two matrices, the state of a random generator, a count."""
    draw = np.random.default_rng(step)
    return [
        draw.random((30, 40)).astype(np.float32),
        draw.random((5, 3)).astype(np.float32),
        np.array([step, 7], np.uint32),
        np.array(step, np.int32),
    ]


def of_kind(kind, arrays):
    """Arrays as the backend hands them to Orbax."""
    if kind == "numpy":
        return arrays
    import jax.numpy

    return [jax.numpy.asarray(item) for item in arrays]


def save(folder, step, kind):
    saved = Saved(step, step * 4, "data", "configuration", None, {"loss": 1.5})
    Checkpoints(folder, keep=1).save(saved, of_kind(kind, arrays(step)), of_kind(kind, arrays(step + 100)))


def look(folder, kind, report):
    """Writes what is left of a run, and whether it can be used and gone on with."""
    checkpoints = Checkpoints(folder)
    step, skipped = checkpoints.newest()
    found = checkpoints.restore(step, weights=arrays(0), optimiser=arrays(0))
    pairs = zip(found["weights"] + found["optimiser"], arrays(step) + arrays(step + 100), strict=True)
    equal = all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)
    left = checkpoints.clear()
    save(folder, 3, kind)
    again = Checkpoints(folder)
    told = {"newest": step, "skipped": skipped, "equal": equal, "left": left, "then": again.newest()}
    Path(report).write_text(json.dumps({**told, "names": os.listdir(again.folder)}))


def attack(root, number, kind):
    """One kill. Returns what is known of it; "writes" below `number` says that saving ended before."""
    run, report = f"{root}/run", f"{root}/report.json"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(f"{root}/template", run)
    writes = killed_at(lambda: save(run, 2, kind), run, number)
    if not ended_well(in_child(lambda: look(run, kind, report))):
        raise SystemExit(f"what was left before write {number} cannot be used")
    return {"number": number, "writes": writes, **json.loads(Path(report).read_text())}


def main(root, kind, every="1"):
    import orbax.checkpoint  # noqa: F401 - here, and not in each child

    root, number = os.path.realpath(root), 1
    if not ended_well(in_child(lambda: save(f"{root}/template", 1, kind))):
        raise SystemExit("the first checkpoint could not be saved")
    while True:
        told = attack(root, number, kind)
        print(json.dumps(told), flush=True)
        if told["writes"] < number:
            return
        number += int(every)


if __name__ == "__main__":
    main(*sys.argv[1:])
