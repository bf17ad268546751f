"""Runs and checkpoints from elsewhere, with right checksums: refused by name or loaded, but no code of theirs runs."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import InputError
from trainer.checkpoint import Checkpoints
from trainer.saved import FILES, STATE, Saved, write_list

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HARMLESS = {"none", "handler by module"}
"""What is loaded: the sound run, and one that names a class which nobody looks for."""


@pytest.mark.parametrize("backend", ["jax", pytest.param("tensorflow", marks=pytest.mark.slow)])
def test_no_run_of_a_stranger_has_a_pickle_loaded_or_a_module_imported(tmp_path, backend):
    words = [sys.executable, str(HERE / "strangers_runs.py"), backend, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    *told, control = [json.loads(line) for line in done.stdout.splitlines()]
    assert control["seen"] and control["marker"], "a pickle that is loaded would not be noticed"
    assert len(told) > 30
    for case in told:
        assert case["seen"] == [] and not case["marker"], case
        if case["attack"] in HARMLESS:
            assert not case["raised"], case
        else:
            assert case["raised"] == "InputError" and case["message"].startswith(str(tmp_path / "run")), case
    assert "Traceback" not in done.stderr


# === One checkpoint ===


def arrays(step):
    return [np.full((30, 4), step, np.float32), np.array([step, 7], np.uint32), np.array(step, np.int32)]


@pytest.fixture
def run(tmp_path):
    """A run with a checkpoint at 1."""
    Checkpoints(str(tmp_path / "run")).save(Saved(1, 4, "data", "configuration", 1.0, {"loss": 1.5}), arrays(1), [])
    return tmp_path / "run"


def test_bytes_that_differ_under_right_checksums_end_in_arrays_or_in_an_error_with_a_name(run):
    draw, refused = random.Random(4), 0
    folder = run / "checkpoints" / "1"
    sound = shutil.copytree(folder, run / "sound")
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
    names = [name for name in names if name not in (FILES, STATE)]
    for _ in range(40):
        name = draw.choice(names)
        data = bytearray((sound / name).read_bytes())
        data[draw.randrange(len(data))] ^= draw.randrange(1, 256)
        (folder / name).write_bytes(data)
        write_list(str(folder))
        try:
            if fault := Checkpoints(str(run)).fault(1):
                raise InputError(fault)
            found = Checkpoints(str(run)).restore(1, weights=arrays(0))["weights"]
            assert [(item.shape, item.dtype) for item in found] == [(item.shape, item.dtype) for item in arrays(0)]
        except InputError:
            refused += 1
        shutil.copyfile(sound / name, folder / name)
    assert refused > 10


@pytest.mark.parametrize(
    "listed, said",
    [
        ([], "is no list of files"),
        ({"state.json": 1}, "is no list of files"),
        ({"state.json": "0" * 63 + "X"}, "is no list of files"),
        ({"../../config.json": "0" * 64}, "../../config.json: is missing"),
        ({"state.json": {"state.json": {}}}, "nested more than 1 deep"),
    ],
)
def test_a_list_of_files_that_is_none_is_a_fault_that_names_it(run, listed, said):
    (run / "checkpoints" / "1" / FILES).write_text(json.dumps(listed, indent=1))
    assert said in Checkpoints(str(run)).fault(1)


@pytest.mark.parametrize("name", ["007", "-1", "1.5", "٣", "1" * 30, "one", "1.orbax-checkpoint-tmp"])
def test_a_folder_with_an_odd_name_is_no_checkpoint(run, name):
    shutil.copytree(run / "checkpoints" / "1", run / "checkpoints" / name)
    assert Checkpoints(str(run)).steps() == [1] and Checkpoints(str(run)).choose("last") == 1


def test_a_checkpoint_under_the_name_of_another_step_is_not_that_one(run):
    shutil.copytree(run / "checkpoints" / "1", run / "checkpoints" / "9")
    step, (sentence,) = Checkpoints(str(run)).newest()
    assert step == 1 and "checkpoints/9: state.json: step is 1, but the folder says 9" in sentence


def test_what_stands_in_a_checkpoints_place_is_taken_away_but_not_what_a_link_leads_to(run, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "thesis.txt").write_text("do not touch")
    (run / "checkpoints" / "2").symlink_to(kept)
    (run / "checkpoints" / "3").write_text("no folder")
    Checkpoints(str(run), keep=1).save(Saved(2, 8, "data", "configuration", 0.5, {}), arrays(2), [])
    assert Checkpoints(str(run)).steps() == [2] and Checkpoints(str(run)).newest() == (2, [])
    assert (kept / "thesis.txt").read_text() == "do not touch"
