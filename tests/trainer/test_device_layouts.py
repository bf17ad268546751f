"""One device or many, one process or several: from the same states the same losses and gradients, in the same order."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.device_checks import BATCH, FREE, STEPS
from tests.trainer.on_backend import check_same_step
from tests.trainer.synthetic import scales

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "tests/trainer/device_checks.py"

LAYOUTS = {
    "TensorFlow, 2 copies": ("tensorflow", "data=2", 1),
    "JAX, 2 copies of 2 devices": ("jax", "data=2,model=2", 1),
}
MORE_LAYOUTS = {
    "TensorFlow, 2 processes": ("tensorflow", "data=2", 2),
    "JAX, one device": ("jax", "", 1),
    "JAX, 2 devices": ("jax", "data=2", 1),
    "JAX, 4 devices": ("jax", "data=4", 1),
    "JAX, 2 processes of 2 devices": ("jax", "data=4", 2),
    "JAX, 2 processes, each with a divided copy": ("jax", "data=2,model=2", 2),
}
ALL = [
    *(pytest.param(name, id=name) for name in LAYOUTS),
    *(pytest.param(name, id=name, marks=pytest.mark.slow) for name in MORE_LAYOUTS),
]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def surroundings(backend, number, count, ports):
    """What tells a process who it is."""
    told = {"PROCESSES": str(count), "NUMBER": str(number), "MEETING": f"127.0.0.1:{ports[0]}"}
    if backend == "tensorflow" and count > 1:
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        told["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": number}})
    return {**os.environ, "PYTHONPATH": str(ROOT), **told}


def compute(folder, name, states=()):
    """What each process of a layout found."""
    backend, mesh, count = {**LAYOUTS, **MORE_LAYOUTS, "one": ("tensorflow", "", 1)}[name]
    outs, ports = [folder / f"{name}-{number}.npz" for number in range(count)], [free_port() for _ in range(count)]
    running = [
        subprocess.Popen(
            [sys.executable, str(FILE), backend, mesh, str(folder / "data"), str(out), *map(str, states)],
            env=surroundings(backend, number, count, ports), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number, out in enumerate(outs)
    ]  # fmt: skip
    for process in running:
        _, told = process.communicate(timeout=500)
        assert process.returncode == 0, told[-3000:]
    return [dict(np.load(out)) for out in outs]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The folder, and what one device of TensorFlow found: windows of unequal length, and epochs no batch divides."""
    folder = tmp_path_factory.mktemp("layouts")
    scales(str(folder / "data"), train=43)
    return folder, compute(folder, "one")[0]


@pytest.mark.parametrize("name", ALL)
def test_any_layout_of_devices_finds_the_losses_gradients_and_examples_of_one_device(name, one):
    folder, alone = one
    found = compute(folder, name, [folder / "one-0.npz"])
    for process in found:
        for step in range(STEPS):
            check_same_step(alone, process, step)
        np.testing.assert_allclose(process["free"], alone["free"], rtol=1e-5)
        for name in (name for name in alone if name.startswith("weights ")):
            # Where a gradient is 0 but for rounding, AdamW moves by as much as anywhere.
            assert np.abs(process[name] - alone[name]).mean() < 1e-5, name
            assert (process[name] == found[0][name]).all()
    for step in range(STEPS):
        rows = np.concatenate([process[f"rows {step}"] for process in found])
        assert len(rows) == BATCH and (rows == alone[f"rows {step}"]).all()


def test_the_check_notices_a_loss_and_a_gradient_that_differ(one):
    _, alone = one
    for name in ("loss 3", "gradient 3 0"):
        moved = {**alone, name: alone[name] * 1.001}
        with pytest.raises(AssertionError):
            check_same_step(alone, moved, 3)
    assert len(alone["free"]) == FREE
