"""Checkpoints: whole or not there, the newest and the best ones kept."""

import json
import shutil

import numpy as np
import pytest

from schemas.errors import InputError, UsageError
from trainer.checkpoint import Checkpoints
from trainer.loaded import load_run
from trainer.saved import Saved


def arrays(value):
    """What a step might save: matrices, the state of a random generator, a count."""
    return [np.full((3, 4), value, np.float32), np.array([value, 7], np.uint32), np.array(value, np.int32)]


def save(checkpoints, step, score=None):
    checkpoints.save(
        Saved(step, step * 4, "data", "configuration", score, {"loss": 1.5}), arrays(step), arrays(-step % 9)
    )


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A run with checkpoints at 10, 20 and 30, of which 20 has the best score."""
    folder = tmp_path_factory.mktemp("run")
    checkpoints = Checkpoints(str(folder), keep=3)
    for step, score in ((10, 3.0), (20, 1.0), (30, 2.0)):
        save(checkpoints, step, score)
    return folder


@pytest.fixture
def run(three, tmp_path):
    return shutil.copytree(three, tmp_path / "run")


def test_what_was_saved_comes_back_with_its_types(run):
    found = Checkpoints(str(run)).restore(20, weights=arrays(0), optimiser=arrays(0))
    for name, value in (("weights", 20), ("optimiser", -20 % 9)):
        for got, want in zip(found[name], arrays(value), strict=True):
            assert got.dtype == want.dtype and np.array_equal(got, want)
    assert Checkpoints(str(run)).state(20) == Saved(20, 80, "data", "configuration", 1.0, {"loss": 1.5})


def test_weights_can_be_had_without_the_optimiser(run):
    assert Checkpoints(str(run)).restore(30, weights=arrays(0))["weights"][0][0, 0] == 30


def test_the_best_and_the_last_are_found(run):
    checkpoints = Checkpoints(str(run))
    assert (checkpoints.choose("best"), checkpoints.choose("last"), checkpoints.choose("10")) == (20, 30, 10)


def test_older_ones_are_removed_but_never_the_best(run):
    checkpoints = Checkpoints(str(run), keep=2)
    save(checkpoints, 40, 5.0)
    assert checkpoints.steps() == [20, 30, 40]
    save(checkpoints, 50)
    assert checkpoints.steps() == [20, 40, 50]


def test_those_of_every_so_many_steps_stay_for_good(run):
    checkpoints = Checkpoints(str(run), keep=1, keep_every=50)
    for step in (40, 50, 60, 70):
        save(checkpoints, step, 5.0)
    assert checkpoints.steps() == [20, 50, 70]


def test_damaged_ones_do_not_count_as_kept(run):
    flipped(run / "checkpoints" / "30")
    save(Checkpoints(str(run), keep=2), 40, 5.0)
    assert Checkpoints(str(run)).newest() == (40, []) and Checkpoints(str(run)).choose("20") == 20
    save(Checkpoints(str(run), keep=1), 50, 0.5)
    assert Checkpoints(str(run)).steps() == [50]


def flipped(folder):
    path = max((item for item in folder.rglob("*") if item.is_file()), key=lambda item: item.stat().st_size)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def without_list(folder):
    (folder / "files.json").unlink()


def with_half_a_list(folder):
    (folder / "files.json").write_text('{"state.json": "12')


def without_a_file(folder):
    (folder / "state.json").unlink()


@pytest.mark.parametrize("damage", [flipped, without_list, with_half_a_list, without_a_file])
def test_a_damaged_checkpoint_is_passed_over_and_named(run, damage):
    damage(run / "checkpoints" / "30")
    step, skipped = Checkpoints(str(run)).newest()
    assert step == 20
    (sentence,) = skipped
    assert sentence.startswith(f"skipped checkpoint {run / 'checkpoints' / '30'}: ")
    with pytest.raises(InputError, match="checkpoints/30"):
        Checkpoints(str(run)).choose("30")


def test_choosing_the_last_says_which_damaged_one_it_passed_over(run, capsys):
    flipped(run / "checkpoints" / "30")
    assert Checkpoints(str(run)).choose("last") == 20
    (line,) = capsys.readouterr().err.splitlines()
    assert "passed over checkpoint" in line and "checkpoints/30: " in line


def test_where_every_checkpoint_is_damaged_there_is_none(run):
    for step in (10, 20, 30):
        without_list(run / "checkpoints" / str(step))
    step, skipped = Checkpoints(str(run)).newest()
    assert step is None and len(skipped) == 3
    with pytest.raises(InputError, match="no valid checkpoint: all of 10, 20, 30"):
        Checkpoints(str(run)).choose("best")
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UsageError, match="no checkpoint yet"):
        Checkpoints(str(run)).choose("best")


def test_a_step_that_is_made_again_replaces_what_was_left_of_it_and_of_later_ones(run):
    without_list(run / "checkpoints" / "20")
    checkpoints = Checkpoints(str(run))
    save(checkpoints, 20, 9.0)
    assert checkpoints.steps() == [10, 20] and checkpoints.fault(20) == ""
    assert checkpoints.best() == 10


def test_an_unknown_checkpoint_is_refused_with_those_there_are(run):
    with pytest.raises(UsageError, match="choose best, last or one of 10, 20, 30"):
        Checkpoints(str(run)).choose("15")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"not a run \(config.json is missing\)"):
        load_run(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json: is no JSON"):
        load_run(str(tmp_path))
    (tmp_path / "config.json").write_text('{"corpus": {"name": "maestro"}, "seed": 0}')  # that of a dataset
    with pytest.raises(UsageError, match="not a run .*says no data, family"):
        load_run(str(tmp_path))


def test_the_list_of_files_names_every_file(run):
    folder = run / "checkpoints" / "10"
    listed = json.loads((folder / "files.json").read_text())
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert set(listed) == there and "state.json" in listed
