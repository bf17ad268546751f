"""Damaged checkpoints: whatever is done to a file of one is noticed, the file is named, and an older one is used."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.hostile.damages import DAMAGES, flip
from trainer.checkpoint import Checkpoints
from trainer.saved import Saved
from trainer.watch import Journal

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def arrays(step):
    return [np.full((30, 4), step, np.float32), np.array([step, 7], np.uint32), np.array(step, np.int32)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with checkpoints at 1 and 2."""
    folder = tmp_path_factory.mktemp("run")
    for step in (1, 2):
        state = Saved(step, step * 4, "data", "configuration", 1.0, {"loss": 1.5})
        Checkpoints(str(folder)).save(state, arrays(step), arrays(-step % 9))
    return folder


@pytest.fixture
def run(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damaged_file_of_the_newest_checkpoint_is_named_and_the_older_one_used(saved, tmp_path, damage):
    names = [path.relative_to(saved) for path in files(saved / "checkpoints" / "2")]
    assert len(names) > 15
    for number, name in enumerate(names):
        run = shutil.copytree(saved, tmp_path / str(number))
        damage(run / name)
        step, (sentence,) = Checkpoints(str(run)).newest()
        inside = name.relative_to("checkpoints/2")
        assert step == 1 and sentence.startswith(f"skipped checkpoint {run}/checkpoints/2: {inside}"), sentence


def test_a_byte_that_differs_anywhere_in_a_checkpoint_is_noticed(run):
    draw, checkpoints = random.Random(20), Checkpoints(str(run))
    paths = files(run / "checkpoints" / "2")
    for path in draw.choices(paths, [path.stat().st_size for path in paths], k=200):
        data = bytearray(sound := path.read_bytes())
        place = draw.randrange(len(data))
        data[place] ^= draw.randrange(1, 256)
        path.write_bytes(data)
        fault = checkpoints.fault(2)
        # The name of an entry may differ in the list of files: then that is the file which is missing.
        named = path.name == "files.json" or fault.startswith(str(path.relative_to(run / "checkpoints" / "2")))
        assert fault and named, (path, place, data[place], fault)
        path.write_bytes(sound)
    assert checkpoints.fault(2) == ""


def test_a_space_that_differs_in_the_list_of_files_is_noticed(run):
    path = run / "checkpoints" / "2" / "files.json"
    path.write_text(path.read_text().replace("\n", "\t", 1))
    assert Checkpoints(str(run)).fault(2) == "files.json: is not as it was written"


def test_all_damaged_ones_are_named_by_what_chooses_one(run, capsys):
    state = Saved(3, 12, "data", "configuration", 0.5, {"loss": 1.5})
    Checkpoints(str(run)).save(state, arrays(3), arrays(6))
    for step in (2, 3):
        flip(run / "checkpoints" / str(step) / "state.json")
    for which in ("best", "last"):
        assert Checkpoints(str(run)).choose(which) == 1
        said = capsys.readouterr().err
        assert all(f"passed over checkpoint {run}/checkpoints/{step}: state.json: sha256" in said for step in (2, 3))


def test_a_checkpoint_that_is_removed_while_it_is_looked_at_is_a_damaged_one(run, monkeypatch):
    from trainer import saved

    def vanish(path):
        shutil.rmtree(run / "checkpoints" / "2", ignore_errors=True)
        return sha256(path)

    sha256 = saved.file_sha256
    monkeypatch.setattr(saved, "file_sha256", vanish)
    assert Checkpoints(str(run)).fault(2).endswith(": No such file or directory")


def test_names_of_files_are_spelt_out_where_they_could_harm_a_screen_or_are_no_text(run):
    (run / "checkpoints" / "2" / "odd\x1b[31m").write_text("")
    step, (sentence,) = Checkpoints(str(run)).newest()
    assert step == 1 and sentence.endswith("/2: odd\\x1b[31m: is not in files.json")
    os.rename(run / "checkpoints" / "2" / "odd\x1b[31m", os.fsencode(run / "checkpoints" / "2") + b"/\xff")
    assert Checkpoints(str(run)).fault(2) == "\\udcff: is not in files.json"
    log = Journal(str(run / "log"), 0)
    log.write(0, "said", {"sentence": Checkpoints(str(run)).newest()[1][0]})
    assert len(list(log.lines("said"))) == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_older_one_that_is_damaged_while_a_run_goes_on_ends_no_training(run, damage):
    running = Checkpoints(str(run), keep=2)
    running.save(Saved(3, 12, "data", "configuration", 0.5, {}), arrays(3), [])
    assert running.steps() == [2, 3]
    damage(run / "checkpoints" / "2" / "state.json")
    running.save(Saved(4, 16, "data", "configuration", 0.4, {}), arrays(4), [])
    assert running.steps() == [3, 4] and running.best() == 4


# === In training ===


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    from tests.trainer.synthetic import scales

    path = tmp_path_factory.mktemp("data") / "scales"
    scales(str(path), window=32)
    return path


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_training_goes_on_from_the_older_one_names_both_and_ends_with_the_same_bits(data, tmp_path, backend):
    words = [sys.executable, str(HERE / "damaged_checkpoints.py"), backend, str(data), str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-4000:]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len({case["file"] for case in told}) > 15 and len(told) == 4 * len({case["file"] for case in told})
    for case in told:
        folder = os.path.join(case["run"], "checkpoints")
        assert f"skipped checkpoint {folder}/8: {case['file']}" in case["said"], case
        assert f"continuing from step 4, checkpoint {folder}/4" in case["said"], case
        assert case["equal"] and case["steps"] == [4, 8], case
