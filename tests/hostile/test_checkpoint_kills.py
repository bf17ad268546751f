"""SIGKILL while a checkpoint is saved: what was there before is whole, and saving goes on."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.synthetic import scales
from trainer.checkpoint import Checkpoints

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STRETTO = Path(sys.executable).with_name("stretto")
SMALL = "--layers 1 --hidden 16 --attention 16 --feed-forward 16 --heads 2 --max-distance 16 --dropout 0.1 --batch 4"


def attack(folder, kind, every):
    """Kills before every n-th write of saving step 2 over step 1, as the program says it; one dict for each kill."""
    words = [sys.executable, str(HERE / "kill_while_saving.py"), str(folder), kind, str(every)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    if "PermissionError: no ptrace here" in done.stderr:
        pytest.skip("this machine does not let a process watch another one (ptrace)")
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(told):
    *kills, last = told
    assert all(case["writes"] == case["number"] for case in kills)
    assert last["writes"] < last["number"] and last["newest"] == 2
    for case in told:
        # The new one is there or the old one is, and which it is can be used as it was saved.
        assert case["newest"] in (1, 2) and case["equal"] and case["skipped"] == [], case
        assert case["then"] == [3, []] and case["names"] == ["3"], case
        assert all("cut short" in sentence for sentence in case["left"]), case
    assert any(case["left"] for case in kills)


def test_a_kill_before_some_writes_of_a_checkpoint_leaves_the_older_or_the_newer_one_whole(tmp_path):
    check(attack(tmp_path, "numpy", 53))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["numpy", "jax"])
def test_a_kill_before_every_write_of_a_checkpoint_leaves_the_older_or_the_newer_one_whole(tmp_path, kind):
    told = attack(tmp_path, kind, 1)
    check(told)
    assert len(told) > 100
    assert {case["newest"] for case in told} == {1, 2}


# === The command itself ===


def command(data, output, backend):
    flags = f"--backend {backend} --steps 60 --checkpoint-every 10 --log-every 10 --keep 2 --keep-every 30 {SMALL}"
    return [str(STRETTO), "train", "music-transformer", "--data", str(data), "--output", str(output), *flags.split()]


def killed_while_saving(words, folder, delay):
    """Runs a command and kills it so many seconds after it began to save a checkpoint. Returns whether it lived on."""
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints = folder / "checkpoints"
    while process.poll() is None:
        if checkpoints.is_dir() and any(path.name.startswith(".saving") for path in checkpoints.iterdir()):
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.001)
    return process.wait() == 0


def arrays(folder, step):
    import orbax.checkpoint as ocp

    path = Path(Checkpoints(str(folder)).path(step))
    found = []
    for part in ("weights", "optimiser"):
        with ocp.StandardCheckpointer() as checkpointer:
            found += checkpointer.restore(path / part)
    return [np.asarray(item).tobytes() for item in found]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_a_command_killed_again_and_again_while_it_saves_ends_with_the_bits_of_an_undisturbed_one(tmp_path, backend):
    scales(str(tmp_path / "data"), window=32)
    draw, disturbed = random.Random(7), tmp_path / "disturbed"
    words = command(tmp_path / "data", disturbed, backend)
    reached = []
    for _ in range(6):
        if killed_while_saving(words, disturbed, draw.choice((0, 0.005, 0.01, 0.02, 0.04, 0.08))):
            break
        reached.append(Checkpoints(str(disturbed)).newest()[0] or 0)
    assert len(reached) >= 3 and reached == sorted(reached)
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sound = tmp_path / "undisturbed"
    assert subprocess.run(command(tmp_path / "data", sound, backend), cwd=ROOT, capture_output=True).returncode == 0
    assert Checkpoints(str(sound)).steps()[-1] == 60 and 30 in Checkpoints(str(sound)).steps()
    assert Checkpoints(str(disturbed)).steps() == Checkpoints(str(sound)).steps()
    for step in Checkpoints(str(sound)).steps():
        assert arrays(sound, step) == arrays(disturbed, step)
    assert not [path for path in (disturbed / "checkpoints").iterdir() if not path.name.isdecimal()]
