"""A disk that fills up while a run is written: it is said which file, older checkpoints are whole, and it goes on."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import MachineError
from tests.trainer.synthetic import scales
from trainer.checkpoint import Checkpoints
from trainer.saved import Saved
from trainer.summaries import Summaries
from trainer.watch import Journal

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STRETTO = Path(sys.executable).with_name("stretto")


def mount(folder, kilobytes):
    words = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    return shutil.which("mount") is not None and subprocess.run(words, capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path):
    """A function that makes an empty disk of so many kilobytes; in its place where there was one."""
    folder, mounted = tmp_path / "disk", []
    folder.mkdir()

    def make(kilobytes):
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
        if not mounted and not mount(folder, kilobytes):
            pytest.skip("file systems may not be mounted here")
        elif mounted:
            assert mount(folder, kilobytes)
        mounted[:] = [folder]
        return folder

    yield make
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder):
    """Leaves not a byte free. Returns the file that is in the way."""
    path = folder / "in-the-way"
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    return path


def arrays(step):
    draw = np.random.default_rng(step)
    return [draw.random((30, 400)).astype(np.float32), np.array([step, 7], np.uint32), np.array(step, np.int32)]


def save(folder, step):
    state = Saved(step, step * 4, "data", "configuration", None, {"loss": 1.5})
    Checkpoints(str(folder)).save(state, arrays(step), arrays(step + 100))


def test_wherever_saving_runs_out_of_room_the_older_checkpoint_is_whole_and_nothing_else_is_left(disk):
    folder = disk(1 << 16)
    save(folder, 1)
    used, refused = shutil.disk_usage(folder).used / 1024, []
    for part in (1.1, 1.3, 1.5, 1.7, 1.9, 2.5):  # of what one takes, whatever the pages of this machine are
        folder = disk(round(used * part))
        save(folder, 1)
        try:
            save(folder, 2)
        except MachineError as error:
            refused.append(part)
            assert f"{folder}/checkpoints: the checkpoint of step 2 could not be saved: No space left" in str(error)
            assert "are as they were (1)" in str(error) and "Free some space" in str(error)
            assert Checkpoints(str(folder)).newest() == (1, [])
        else:
            assert Checkpoints(str(folder)).newest() == (2, [])
    assert len(refused) >= 3 and 2.5 not in refused


WRITES = ("trainer.checkpoint.write_arrays", "trainer.saved.write_atomic", "trainer.saved._sync", "os.rename")
"""What saving a checkpoint does to a disk, in order."""


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("where", WRITES)
def test_a_disk_that_fails_at_any_part_of_saving_harms_no_older_checkpoint(tmp_path, monkeypatch, where, code):
    def fail(*ignored):
        raise OSError(code, os.strerror(code))

    save(tmp_path, 1)
    with monkeypatch.context() as patched:
        patched.setattr(where, fail)
        with pytest.raises(MachineError, match=f"step 2 could not be saved: {os.strerror(code)}") as caught:
            save(tmp_path, 2)
    assert ("Free some space" in str(caught.value)) == (code == errno.ENOSPC)
    assert Checkpoints(str(tmp_path)).newest() == (1, []) and os.listdir(tmp_path / "checkpoints") == ["1"]
    save(tmp_path, 2)
    assert Checkpoints(str(tmp_path)).newest() == (2, [])


def test_a_disk_on_which_no_folder_can_be_made_is_named_at_the_first_checkpoint(tmp_path, monkeypatch):
    def refuse(*ignored, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # no room for another inode

    monkeypatch.setattr("os.makedirs", refuse)
    with pytest.raises(MachineError, match="checkpoint of step 1 could not be saved: No space left on device"):
        save(tmp_path / "missing", 1)


def test_with_room_again_the_same_step_is_saved(disk):
    folder = disk(400)
    save(folder, 1)
    file = fill(folder)
    with pytest.raises(MachineError, match="could not be saved: No space left on device"):
        save(folder, 2)
    file.unlink()
    save(folder, 2)
    assert Checkpoints(str(folder)).newest() == (2, [])


def test_a_line_that_does_not_fit_is_an_error_that_names_the_file_and_leaves_no_half_line(disk):
    folder = disk(200)
    path = str(folder / "metrics.jsonl")
    journal, written = Journal(path, 0), 0
    journal.write(1, "train", {"loss": 1.0})
    file = fill(folder)
    with pytest.raises(MachineError, match=r"metrics\.jsonl: cannot be written: No space left on device"):
        while written < 200:
            journal.write(2, "train", {"loss": 1.0, "text": "x" * 100})
            written += 1
    with pytest.raises(MachineError, match="No space left"):
        Journal(path, 2)
    file.unlink()
    again = Journal(path, 2)
    again.write(3, "train", {"loss": 2.0})
    steps = [json.loads(line)["step"] for line in Path(path).read_text().splitlines()]
    assert steps == [1, *[2] * written, 3] and again.damaged == 0


def test_a_damaged_line_is_left_out_and_counted(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": NaN}\n[1]\n{"loss": 2}\n\xff\n{"step": 2}\n{"step": 3}\n{"st')
    journal = Journal(str(path), 2)
    assert journal.damaged == 4 and path.read_text() == '{"step":1}\n{"step":2}\n'


def test_tensorboard_on_a_full_disk_is_an_error_at_once_and_closing_adds_none(disk):
    folder = disk(100)
    with pytest.raises(MachineError, match=r"events\.out\.tfevents.*: cannot be written: No space left on device"):
        with Summaries(str(folder), 0) as summaries:
            fill(folder)
            for step in range(2000):
                summaries.scalars(step, {"loss": 1.0})


def test_the_command_says_which_file_did_not_fit_and_exits_with_4(disk, tmp_path):
    scales(str(tmp_path / "data"), window=32)
    folder = disk(40)
    os.mkdir(folder / "run")
    fill(folder)
    words = [str(STRETTO), "train", "tiny-chorales", "--data", str(tmp_path / "data"), "--output", str(folder / "run")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 4, done.stderr
    assert f"{folder}/run/" in done.stderr and "No space left on device. Free some space" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_a_training_that_ran_out_of_room_anywhere_ends_with_the_same_bits_once_there_is_some(disk, tmp_path, backend):
    disk(100)  # skips where mounting is not permitted
    scales(str(tmp_path / "data"), window=32)
    words = [sys.executable, str(HERE / "full_disk_runs.py"), backend, str(tmp_path / "data"), str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-4000:]
    *told, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) > 15 and last["kind"] == "NoneType" and last["equal"]
    for case in told:
        assert case["kind"] == "MachineError" and "No space left on device" in case["message"], case
        assert "Traceback" not in case["said"], case
        assert case["faults"] == [""] * len(case["steps"]) and case["equal"], case
        if case["steps"]:
            assert f"continuing from step {case['steps'][-1]}," in case["then"], case
    assert {tuple(case["steps"]) for case in told} >= {(), (2,), (2, 4)}
    assert "Traceback" not in done.stderr
