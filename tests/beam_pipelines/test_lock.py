"""The lock: one launcher at a time, freed when its process is dead, and new launchers wait for old workers."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from beam_pipelines.lock import join_workers, locked, remove_dead_lock, workers_of
from schemas.errors import MachineError

HOLD = """
import sys, time
from beam_pipelines.lock import join_workers, locked
if sys.argv[2] == "launcher":
    with locked(sys.argv[1]):
        print("ready", flush=True)
        time.sleep(60)
open(sys.argv[1] + "/workers", "w").close()
join_workers(sys.argv[1])
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A function: role -> a process that holds the lock of that role."""
    processes = []

    def start(role):
        command = [sys.executable, "-c", HOLD, str(tmp_path), role]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_a_second_launcher_is_refused_with_the_name_of_the_first(tmp_path, holder):
    process = holder("launcher")
    with pytest.raises(MachineError, match=f"process {process.pid} on "), locked(str(tmp_path)):
        pass


def test_the_lock_of_a_killed_launcher_is_free(tmp_path, holder):
    process = holder("launcher")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with locked(str(tmp_path)):
        assert str(os.getpid()) in Path(f"{tmp_path}.lock").read_text()
    assert not os.path.exists(f"{tmp_path}.lock")


def test_a_new_launcher_waits_for_the_workers_of_a_dead_one(tmp_path, holder, monkeypatch):
    holder("worker")
    monkeypatch.setattr("beam_pipelines.lock._WAIT_SECONDS", 0.3)
    with pytest.raises(MachineError, match="workers of an earlier build"), locked(str(tmp_path)):
        pass


def test_the_lock_of_a_killed_launcher_can_be_cleared_away_but_not_that_of_a_living_one(tmp_path, holder):
    path, process = Path(f"{tmp_path}.lock"), holder("launcher")
    remove_dead_lock(str(tmp_path))
    assert path.exists()
    process.kill()
    process.wait()
    assert path.exists()
    remove_dead_lock(str(tmp_path))
    remove_dead_lock(str(tmp_path))
    assert not path.exists()


def test_a_lock_that_was_just_taken_is_not_said_to_be_a_dead_process_s(tmp_path, holder):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    process = holder("launcher")
    lock, held = Path(f"{tmp_path}.lock"), Path(f"{tmp_path}.lock").read_text()
    lock.write_text(held.replace(str(process.pid), str(dead.pid)))
    threading.Timer(0.3, lock.write_text, [held]).start()
    with pytest.raises(MachineError, match=f"process {process.pid} on "), locked(str(tmp_path)):
        pass


def test_what_is_no_lock_is_not_followed_and_not_written_to(tmp_path):
    (tmp_path / "letters.txt").write_text("dear all")
    (tmp_path / "out.building.lock").symlink_to(tmp_path / "letters.txt")
    with pytest.raises(MachineError, match=r"out\.building\.lock: cannot be written"):
        with locked(str(tmp_path / "out.building")):
            pass
    assert (tmp_path / "letters.txt").read_text() == "dear all"


def test_a_folder_in_which_nothing_was_done_is_removed(tmp_path):
    with locked(str(tmp_path / "out.building")):
        assert (tmp_path / "out.building" / "workers").exists()
    assert not os.listdir(tmp_path)


def test_a_folder_can_be_locked_again_afterwards(tmp_path):
    for _ in range(2):
        with locked(str(tmp_path)):
            pass


def test_workers_are_known_by_their_launcher(tmp_path):
    (tmp_path / "workers").touch()
    descriptor = join_workers(str(tmp_path))
    assert workers_of(str(tmp_path), os.getppid()) == [os.getpid()]
    assert workers_of(str(tmp_path), 1) == [] or os.getppid() == 1
    os.close(descriptor)


def test_a_worker_ends_when_its_launcher_is_killed(tmp_path):
    worker = (
        "import os, time; from beam_pipelines.worker import end_with; end_with(os.getppid()); "
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
    process = subprocess.Popen([sys.executable, "-c", launcher], stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline and _state(pid) != "Z":
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pid}") or _state(pid) == "Z"


def _state(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
