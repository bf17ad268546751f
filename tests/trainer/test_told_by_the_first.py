"""What the first process tells the others before they compute: refusals, a finished run, one folder for all."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack

import pytest

from schemas.errors import InputError, Interrupted, MachineError, StrettoError, UsageError
from tests.trainer.synthetic import scales
from tests.trainer.test_device_layouts import free_port
from tests.trainer.test_train import ROOT, command
from trainer import meeting
from trainer.checkpoint import Checkpoints
from trainer.devices import Processes
from trainer.meeting import Asked, meet, refuse
from trainer.run_folder import is_finished, locked
from trainer.saved import Saved, seal

SAME = Asked("settings", -1)


@pytest.fixture
def address():
    return f"127.0.0.1:{free_port()}"


def told_to(*calls):
    """What each of some calls, at the same time, raises: None where all is well."""
    told = [None] * len(calls)

    def one(number):
        try:
            calls[number]()
        except StrettoError as error:
            told[number] = error

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def meeting_in(address, *folders):
    """What processes are told that see these folders where the run's should be."""
    count = len(folders)
    return told_to(
        *(
            lambda number=number, folder=folder: meet(
                Processes(count, number, address), 20, SAME, folder=os.fspath(folder)
            )
            for number, folder in enumerate(folders)
        )
    )


# === One folder for all ===


def test_processes_that_see_one_folder_meet_and_leave_nothing_in_it(address, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".meeting-of-one-that-was-killed").touch()
    (tmp_path / "as another machine calls it").symlink_to(tmp_path / "run")
    told = meeting_in(address, tmp_path / "run", tmp_path / "run", tmp_path / "as another machine calls it")
    assert told == [None, None, None]
    assert os.listdir(tmp_path / "run") == []


@pytest.mark.parametrize("there", [True, False])
def test_at_the_first_start_one_with_a_folder_of_its_own_is_named_to_all(there, address, tmp_path, monkeypatch):
    monkeypatch.setattr(meeting, "_SECONDS_TO_SEE", 0.5)
    (tmp_path / "run").mkdir()
    if there:
        (tmp_path / "own").mkdir()
    told = meeting_in(address, tmp_path / "run", tmp_path / "run", tmp_path / "own")
    assert {type(error) for error in told} == {UsageError}
    assert all(
        "process 2 of 3 does not see" in str(error) and "one that all of them see" in str(error) for error in told
    )
    assert str(tmp_path / "own") in str(told[2])


def test_a_folder_that_is_seen_some_seconds_late_is_waited_for(address, tmp_path):
    (tmp_path / "run").mkdir()
    late = threading.Timer(1.0, lambda: (tmp_path / "late").symlink_to(tmp_path / "run"))
    late.start()
    assert meeting_in(address, tmp_path / "run", tmp_path / "late") == [None, None]


def test_where_the_first_cannot_write_into_the_folder_all_are_told_why(address, tmp_path):
    told = meeting_in(address, tmp_path / "removed", tmp_path)
    assert {type(error) for error in told} == {MachineError}
    assert all(f"{tmp_path}/removed/.meeting-" in str(error) for error in told)


def test_one_that_goes_away_when_it_is_asked_to_look_is_named(address, tmp_path):
    def leaves():
        host, port = address.split(":")
        for _ in range(200):
            try:
                with socket.create_connection((host, int(port)), timeout=20) as connection:
                    connection.sendall(b'{"process": 1, "configuration": "settings", "step": -1}\n')
                    assert b"look" in connection.recv(4096)
                return
            except ConnectionRefusedError:
                time.sleep(0.02)

    told = told_to(lambda: meet(Processes(2, 0, address), 20, SAME, folder=str(tmp_path)), leaves)
    assert isinstance(told[0], Interrupted) and "process 1 of 2 went away again" in str(told[0])


# === A first process that cannot begin ===


@pytest.mark.parametrize("kind", [UsageError, InputError, MachineError])
def test_the_others_end_with_the_reason_and_the_exit_code_of_a_first_that_cannot_begin(kind, address):
    told = told_to(
        lambda: refuse(Processes(3, 0, address), 20, kind("this is why")),
        *(lambda number=number: meet(Processes(3, number, address), 20, SAME) for number in (1, 2)),
    )
    assert [type(error) for error in told] == [type(None), kind, kind]
    assert all("process 0 of 3 cannot begin: this is why" in str(error) for error in told[1:])


def test_telling_why_ends_after_the_seconds_to_join_and_where_the_address_is_taken(address):
    began = time.monotonic()
    refuse(Processes(2, 0, address), 0.5, UsageError("this is why"))
    assert 0.4 < time.monotonic() - began < 5
    with socket.create_server(("", 0)) as server:
        refuse(Processes(2, 0, f"127.0.0.1:{server.getsockname()[1]}"), 20, UsageError("this is why"))
    refuse(Processes(2, 0), 20, UsageError("a cluster gives no address"))
    assert time.monotonic() - began < 5


# === What users type ===


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "scales"
    scales(str(path), window=32)
    return path


FLAGS = ("--accumulate", "1", "--batch", "8", "--mesh", "data=2", "--join-seconds", "25")


@pytest.fixture(scope="module")
def config(data):
    """What config.json of such a run holds."""
    typed = [*command(data, "run", *FLAGS), "--dry-run"]
    done = subprocess.run(typed, cwd=ROOT, capture_output=True, text=True)
    return {name: value for name, value in json.loads(done.stdout).items() if name != "output"}


@pytest.fixture
def finished(config, tmp_path):
    """The folder of a run that made its 40 steps, with a whole checkpoint of no arrays."""
    run = tmp_path / "run"
    (run / "checkpoints" / "40").mkdir(parents=True)
    seal(str(run / "checkpoints" / "40"), Saved(40, 320, config["data"]["fingerprint"], "", None, {}))
    (run / "config.json").write_text(json.dumps(config))
    (run / "COMPLETED").write_text(json.dumps({"step": 40, "validation": {}}))
    return run


def ended(*typed, **environ):
    """Exit code and standard error of commands that were started together."""
    running = [
        subprocess.Popen(
            words, cwd=ROOT, env=os.environ | environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for words in typed
    ]
    told = [process.communicate(timeout=100)[1] for process in running]
    return [(process.returncode, text) for process, text in zip(running, told, strict=True)]


def numbered(data, outputs, address):
    who = ("--coordinator", address, "--processes", str(len(outputs)), "--process-id")
    return [command(data, output, *FLAGS, *who, str(number)) for number, output in enumerate(outputs)]


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("count", "number"),
    [
        ({"SLURM_STEP_NUM_TASKS": "2"}, "SLURM_PROCID"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_RANK"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "TPU_WORKER_ID"),
    ],
)
def test_a_finished_run_that_a_cluster_starts_again_ends_with_0_in_every_process(count, number, data, finished):
    [(code, told)] = ended(command(data, finished, *FLAGS), **count, **{number: "0"})
    assert code == 0, told
    before = everything(finished)
    [(code, told)] = ended(command(data, finished, *FLAGS), **count, **{number: "1"})
    assert code == 0 and f"{finished} is finished" in told
    assert everything(finished) == before


def test_whoever_only_looks_whether_a_run_is_finished_takes_no_mark_away(finished):
    assert is_finished(str(finished), 40) and is_finished(str(finished), 30)
    assert not is_finished(str(finished), 50) and not is_finished(str(finished / "nowhere"), 40)
    (finished / "checkpoints" / "40" / "state.json").write_text("{}")
    assert Checkpoints(str(finished)).newest()[0] is None
    assert not is_finished(str(finished), 40) and (finished / "COMPLETED").exists()


def foreign(run):
    (run / "config.json").unlink()
    return ExitStack(), 2, "not empty and not a run"


def in_use(run):
    return locked(str(run)), 4, f"process {os.getpid()} is training there"


def without_a_mark(run):
    (run / "COMPLETED").write_text("{}")
    return ExitStack(), 3, "is not the mark of a finished run"


@pytest.mark.parametrize("spoil", [foreign, in_use, without_a_mark], ids=lambda spoil: spoil.__name__)
def test_what_the_first_refuses_before_the_meeting_ends_the_others_with_the_same_code(spoil, data, finished, address):
    held, expected, sentence = spoil(finished)
    with held:
        began = time.monotonic()
        first, other = ended(*numbered(data, [finished] * 2, address))
    assert [first[0], other[0]] == [expected] * 2, (first, other)
    assert sentence in first[1] and "process 0 of 2 cannot begin" not in first[1]
    assert sentence in other[1] and "process 0 of 2 cannot begin" in other[1]
    assert time.monotonic() - began < 20  # not the 25 seconds that they would have waited for each other


def test_while_the_others_are_told_the_folder_is_free_and_ctrl_c_hides_no_reason(data, finished, address):
    (finished / "COMPLETED").write_text("{}")
    first = subprocess.Popen(
        numbered(data, [finished] * 2, address)[0], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert "waits to tell the other processes why" in first.stderr.readline()
    with locked(str(finished)):
        first.send_signal(signal.SIGINT)
    assert "is not the mark of a finished run" in first.communicate(timeout=30)[1] and first.returncode == 3


@pytest.mark.slow
def test_processes_with_folders_of_their_own_are_refused_at_the_first_start(data, address, tmp_path):
    told = ended(*numbered(data, [tmp_path / "one", tmp_path / "other"], address))
    assert [code for code, _ in told] == [2, 2], told
    assert all("process 1 of 2 does not see" in text and "Traceback" not in text for _, text in told)
