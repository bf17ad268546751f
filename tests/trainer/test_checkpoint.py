"""Checkpoints: whole or not there, the newest and the best ones kept."""

import json
import os
import re
import shutil

import numpy as np
import pytest

from schemas.errors import InputError, MachineError, UsageError
from trainer.checkpoint import Checkpoints
from trainer.loaded import load_run
from trainer.saved import Saved, write_list


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


def counted(monkeypatch):
    """Steps whose every byte is read, in order."""
    from trainer import checkpoint

    read, whole = [], checkpoint.whole
    monkeypatch.setattr(checkpoint, "whole", lambda folder, step: read.append(step) or whole(folder, step))
    return read


def test_of_gigabytes_only_what_must_be_is_read(run, monkeypatch):
    read = counted(monkeypatch)
    assert Checkpoints(str(run)).choose("last") == 30 and read == [30]
    read.clear()
    assert Checkpoints(str(run)).choose("best") == 20 and read == [20]
    read.clear()
    save(Checkpoints(str(run), keep=2), 40, 5.0)
    assert sorted(read) == [20, 30] and Checkpoints(str(run)).steps() == [20, 30, 40]


def test_a_score_that_was_changed_afterwards_is_none(run, capsys):
    for step, score in ((10, 0.5), (20, 9.5)):
        path = run / "checkpoints" / str(step) / "state.json"
        path.write_text(re.sub('"score": [0-9.]+', f'"score": {score}', path.read_text()))
    assert Checkpoints(str(run)).choose("best") == 30
    assert capsys.readouterr().err.count("state.json: sha256 does not match") == 2


def test_one_that_a_running_training_removes_while_it_is_chosen_is_chosen_again(run, monkeypatch, capsys):
    from trainer import checkpoint

    def whole(folder, step):
        if step == 30 and not (run / "checkpoints" / "40").exists():
            monkeypatch.undo()
            save(Checkpoints(str(run), keep=1), 40, 0.5)
        return sound(folder, step)

    sound = checkpoint.whole
    for step in (10, 20):
        shutil.rmtree(run / "checkpoints" / str(step))
    monkeypatch.setattr(checkpoint, "whole", whole)
    assert Checkpoints(str(run)).choose("last") == 40 and capsys.readouterr().err == ""


@pytest.mark.parametrize("which", ["best", "20"])
def test_one_that_is_removed_between_choosing_and_loading_is_chosen_again_unless_it_was_named(run, monkeypatch, which):
    from types import SimpleNamespace

    from trainer import loaded

    given = []
    backend = SimpleNamespace(restore=lambda items, found: given.extend(found))
    monkeypatch.setattr(loaded, "current", lambda: backend)
    checkpoints = Checkpoints(str(run))
    step = checkpoints.choose(which)
    shutil.rmtree(run / "checkpoints" / "20")
    if which == "20":
        with pytest.raises(InputError, match=r"20/state\.json"):
            loaded.restore_weights(SimpleNamespace(variables=arrays(0)), checkpoints, step, which)
        return
    assert loaded.restore_weights(SimpleNamespace(variables=arrays(0)), checkpoints, step, which).step == 30
    assert given[0][0, 0] == 30


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_what_a_process_that_ended_left_is_taken_away_and_what_stays_is_not_said_to_be(
    run, tmp_path, kind, monkeypatch
):
    from trainer import checkpoint

    left, kept = run / "checkpoints" / ".saving", tmp_path / "kept"
    kept.mkdir()
    (kept / "thesis.txt").write_text("do not touch")
    {"file": left.touch, "link": lambda: left.symlink_to(kept), "folder": lambda: shutil.copytree(kept, left)}[kind]()
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "_remove", refuse)
        assert Checkpoints(str(run)).clear() == []
        with pytest.raises(MachineError, match="saving is in the way and cannot be removed"):
            save(Checkpoints(str(run)), 40)
    (sentence,) = Checkpoints(str(run)).clear()
    assert sentence.startswith(f"removed {left}: ") and not os.path.lexists(left)
    assert (kept / "thesis.txt").read_text() == "do not touch"


def refuse(path):
    raise PermissionError(13, "Permission denied", path)


def test_an_old_one_that_cannot_be_removed_is_told_and_a_later_one_ends_the_run(run, monkeypatch, capsys):
    from trainer import checkpoint

    monkeypatch.setattr(checkpoint, "_remove", refuse)
    save(Checkpoints(str(run), keep=2), 40, 0.5)
    assert Checkpoints(str(run)).newest() == (40, [])
    assert f"{run}/checkpoints/10: this checkpoint cannot be removed: Permission denied" in capsys.readouterr().err
    with pytest.raises(MachineError, match="checkpoints/40: this checkpoint cannot be removed: Permission denied"):
        save(Checkpoints(str(run)), 35)


def test_one_of_another_dataset_or_at_a_place_that_no_run_reaches_is_skipped_by_name(run):
    assert Checkpoints(str(run), data="data").newest() == (30, [])
    step, skipped = Checkpoints(str(run), data="fingerprint").newest()
    assert step is None and all("state.json: data is data, which is not the fingerprint" in one for one in skipped)
    path = run / "checkpoints" / "30"
    (path / "state.json").write_text(
        (path / "state.json").read_text().replace('"position": 120', f'"position": {2**53}')
    )
    write_list(str(path))
    step, (sentence,) = Checkpoints(str(run)).newest()
    assert step == 20 and f"30: state.json: position is '{2**53}', which cannot be" in sentence


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
