"""Who trains together, and on which devices: what flags and surroundings say, and how processes meet."""

import json
import re
import socket
import threading
from types import SimpleNamespace

import pytest

from schemas.errors import Interrupted, UsageError
from trainer.devices import Launch, Mesh, Processes, check_batch, parse_mesh, processes_of
from trainer.meeting import Asked, Dismissed, dismiss, meet

WORKERS = ["a:1", "b:2", "c:3"]


def tf_config(**changes):
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": WORKERS}, "task": {"type": "worker", "index": 1}} | changes)}


@pytest.mark.parametrize(
    ("text", "mesh"),
    [("", Mesh(0, 1)), ("data=8", Mesh(8, 1)), ("model=4", Mesh(0, 4)), ("data=2,model=4", Mesh(2, 4))],
)
def test_a_mesh_is_read_as_it_is_typed(text, mesh):
    assert parse_mesh(text) == mesh


@pytest.mark.parametrize("text", ["data", "data=0", "data=-1", "data=2,data=2", "rows=2", "data=1e3", "data=999999"])
def test_what_is_no_mesh_is_refused_with_the_part_that_is_wrong(text):
    with pytest.raises(ValueError, match=r"is no axis: write data=N"):
        parse_mesh(text)


def test_a_mesh_without_a_number_of_copies_takes_all_devices():
    assert Mesh().fitted(6) == Mesh(6, 1) and Mesh(0, 2).fitted(6) == Mesh(3, 2)


@pytest.mark.parametrize(
    ("mesh", "devices", "told"),
    [
        (Mesh(4, 1), 3, "asks for 4 devices, and there are 3. Type --mesh data=3,model=1, or less."),
        (Mesh(2, 2), 3, "asks for 4 devices, and there are 3. Type --mesh data=1,model=2, or less."),
        (Mesh(1, 8), 3, "asks for 8 devices, and there are 3. Type --mesh data=1,model=3, or less."),
        (Mesh(0, 4), 6, "does not divide the 6 devices that are there. Type --mesh data=N,model=M with N x M = 6"),
    ],
)
def test_a_mesh_that_does_not_fit_the_devices_is_told_with_what_would(mesh, devices, told):
    with pytest.raises(UsageError, match=re.escape(told)):
        mesh.fitted(devices)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"coordinator": "a:1"}, "--processes, --process-id"),
        ({"processes": 2, "process_id": 0}, "--coordinator"),
        ({"coordinator": "a:1", "processes": 2, "process_id": 2}, "0..1"),
        ({"coordinator": "a", "processes": 2, "process_id": 1}, "HOST:PORT"),
        ({"coordinator": "a:99999", "processes": 2, "process_id": 1}, "--coordinator: 'a:99999'.*HOST:PORT"),
        ({"coordinator": "[::1:5", "processes": 2, "process_id": 1}, "HOST:PORT"),
        ({"coordinator": "::1:5", "processes": 2, "process_id": 1}, r"write \[::1\]:5"),
        ({"processes": -1}, "--processes"),
        ({"join_seconds": 0}, "--join-seconds"),
    ],
)
def test_flags_of_processes_that_do_not_go_together_are_refused_by_name(flags, named):
    with pytest.raises(UsageError, match=named):
        Launch(**flags)


def test_flags_say_who_trains_together_whatever_the_surroundings_say():
    launch = Launch(coordinator="a:1", processes=2, process_id=1)
    assert processes_of(launch, "jax", {"SLURM_STEP_NUM_TASKS": "8"}) == Processes(2, 1, "a:1")


def test_flags_of_processes_are_refused_on_tensorflow_which_needs_the_address_of_each():
    launch = Launch(coordinator="a:1", processes=2, process_id=1)
    with pytest.raises(UsageError, match="TF_CONFIG.*--backend jax"):
        processes_of(launch, "tensorflow", {})
    assert processes_of(Launch(processes=1), "tensorflow", {}) == Processes()


@pytest.mark.parametrize(
    ("backend", "environ", "found"),
    [
        ("tensorflow", tf_config(), Processes(3, 1, "a:1")),
        ("jax", tf_config(), Processes()),
        ("jax", {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, Processes(4, 3)),
        ("jax", {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, Processes()),
        ("jax", {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, Processes(2, 1)),
        ("jax", {"TPU_WORKER_HOSTNAMES": "h0,h1", "TPU_WORKER_ID": "1"}, Processes(2, 1)),
        ("jax", {"TPU_WORKER_HOSTNAMES": "h0", "TPU_WORKER_ID": "0"}, Processes()),
        ("tensorflow", {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, Processes()),
        ("jax", {}, Processes()),
    ],
)
def test_surroundings_say_who_trains_together_where_no_flag_does(backend, environ, found):
    assert processes_of(Launch(), backend, environ) == found


@pytest.mark.parametrize(
    "environ",
    [
        {"TF_CONFIG": "{"},
        tf_config(task={"type": "worker", "index": 3}),
        tf_config(task={"type": "chief", "index": 0}),
        tf_config(cluster={"worker": WORKERS, "ps": ["d:4"]}),
        tf_config(cluster={"worker": ["nowhere"]}),
        tf_config(cluster={"worker": "a:1"}),
        {"TF_CONFIG": "[]"},
    ],
)
def test_a_tf_config_that_cannot_be_is_refused(environ):
    with pytest.raises(UsageError, match="^TF_CONFIG") as told:
        processes_of(Launch(), "tensorflow", environ)
    assert "--coordinator" not in str(told.value)  # which TensorFlow refuses


def test_every_row_of_a_batch_is_read_by_one_process():
    rows = [list(range(12))[Processes(3, number).rows(12)] for number in range(3)]
    assert sum(rows, []) == list(range(12)) and {len(part) for part in rows} == {4}


@pytest.mark.parametrize(
    ("batch", "accumulate", "mesh", "count", "named"),
    [
        (6, 1, Mesh(4), 1, "--batch 6.*Type --batch 4"),
        (8, 4, Mesh(4), 1, "--batch 8.*Type --batch 16"),
        (8, 1, Mesh(2), 4, "a copy must lie within one process"),
    ],
)
def test_a_batch_that_does_not_divide_is_refused_with_one_that_does(batch, accumulate, mesh, count, named):
    with pytest.raises(UsageError, match=named):
        check_batch(batch, accumulate, mesh, Processes(count))


def test_a_batch_that_divides_is_taken():
    check_batch(16, 2, Mesh(4, 2), Processes(2))


# === Meeting ===


@pytest.fixture
def address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"127.0.0.1:{port}"


def meeting(address, count, asked, seconds=5.0):
    """What each of some processes is told: {number: the error's text, "" where all is well}."""
    told = {}

    def one(number):
        try:
            meet(Processes(count, number, address), seconds, asked[number])
            told[number] = ""
        except (Interrupted, UsageError) as error:
            told[number] = f"{type(error).__name__}: {error}"

    threads = [threading.Thread(target=one, args=(number,)) for number in asked]
    for thread in reversed(threads):  # the first process need not be the first to come
        thread.start()
    for thread in threads:
        thread.join()
    return told


SAME = Asked("settings", 40)


def test_processes_that_were_asked_the_same_meet(address):
    assert meeting(address, 3, dict.fromkeys(range(3), SAME)) == {0: "", 1: "", 2: ""}


def test_one_that_does_not_come_is_named_to_all_others(address):
    told = meeting(address, 3, {0: SAME, 2: SAME}, seconds=1)
    assert set(told) == {0, 2}
    assert all(text.startswith("Interrupted: process 1 of 3 did not come") for text in told.values())


def test_where_the_first_does_not_come_the_others_say_so(address):
    told = meeting(address, 2, {1: SAME}, seconds=0.5)
    assert told[1].startswith("Interrupted: process 0 of 2 did not come")


@pytest.mark.parametrize("other", [Asked("other settings", 40), Asked("settings", 20)])
def test_one_that_was_asked_something_else_is_named(address, other):
    told = meeting(address, 3, {0: SAME, 1: SAME, 2: other})
    assert all(text.startswith("UsageError: process 2 was asked to train something else") for text in told.values())


def test_a_process_that_counts_otherwise_is_named_though_another_is_missing(address):
    told = meeting(address, 3, {0: SAME, 1: Asked("settings of two processes", 40)}, seconds=0.5)
    assert all(text.startswith("UsageError: process 1 was asked") and "number of processes" in text
               for text in told.values())  # fmt: skip


def test_jax_says_that_it_does_not_read_tf_config(capsys):
    assert processes_of(Launch(), "jax", tf_config(task={"type": "worker", "index": 1})) == Processes()
    assert "TF_CONFIG says nothing to JAX: give --coordinator" in capsys.readouterr().err


def test_strangers_who_call_are_sent_away(address):
    host, port = address.split(":")

    def disturb():
        for words in (b"GET / HTTP/1.0\n", b'{"process": 7, "configuration": "x", "step": 1}\n', b"[[[[", b""):
            for _ in range(50):
                try:
                    with socket.create_connection((host, int(port)), timeout=1) as connection:
                        connection.sendall(words)
                    break
                except OSError:
                    threading.Event().wait(0.02)

    stranger = threading.Thread(target=disturb)
    stranger.start()
    assert meeting(address, 2, {0: SAME, 1: SAME}, seconds=20) == {0: "", 1: ""}
    stranger.join()


def test_an_address_that_is_taken_is_told_with_where_it_comes_from():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        [worker, *_] = workers = [f"127.0.0.1:{port}", "b:2"]
        environ = tf_config(cluster={"worker": workers}, task={"type": "worker", "index": 0})
        for said_by, processes in (
            ("--coordinator", Processes(2, 0, worker)),
            ("TF_CONFIG", processes_of(Launch(), "tensorflow", environ)),
        ):
            with pytest.raises(UsageError, match=f"^{said_by}: cannot wait at {worker}"):
                meet(processes, 1, SAME)


@pytest.mark.parametrize("host", ["[::1]", "localhost"])
def test_processes_meet_at_an_address_of_the_sixth_version_and_at_a_name(host):
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
            port = server.getsockname()[1]
    except OSError as error:
        pytest.skip(f"no IPv6 loopback on this machine: {error}")
    assert meeting(f"{host}:{port}", 2, {0: SAME, 1: SAME}) == {0: "", 1: ""}


@pytest.mark.parametrize("last", [1, 2])
def test_one_that_was_started_again_while_others_are_awaited_is_there_once(address, last):
    host, port = address.split(":")
    told = {}

    def first_life():
        for _ in range(100):
            try:
                with socket.create_connection((host, int(port)), timeout=1) as connection:
                    connection.sendall(b'{"process": 1, "configuration": "settings", "step": 40}\n')
                return
            except OSError:
                threading.Event().wait(0.02)

    def one(number):
        meet(Processes(3, number, address), 20, SAME)
        told[number] = ""

    threads = [threading.Thread(target=one, args=(0,)), threading.Thread(target=first_life)]
    for thread in threads:
        thread.start()
    threads[1].join()
    threads += [threading.Thread(target=one, args=(number,)) for number in (3 - last, last)]
    for thread in threads[2:]:
        thread.start()
        threading.Event().wait(0.3)  # so that the last one is the one who is missed
    for thread in (threads[0], *threads[2:]):
        thread.join()
    assert told == {0: "", 1: "", 2: ""}


def test_one_that_is_told_to_stop_waits_no_longer(address):
    stop = SimpleNamespace(requested=False)
    threading.Timer(0.3, lambda: setattr(stop, "requested", True)).start()
    with pytest.raises(Interrupted, match="told to stop while waiting"):
        meet(Processes(2, 0, address), 60, SAME, stop)


def test_where_there_is_nothing_to_do_the_first_says_so(address):
    told = []

    def other():
        with pytest.raises(Dismissed, match="run is finished"):
            meet(Processes(2, 1, address), 20, SAME)
        told.append(True)

    thread = threading.Thread(target=other)
    thread.start()
    dismiss(Processes(2, 0, address), 20, "run is finished")
    thread.join()
    assert told == [True]


def test_a_process_alone_waits_for_nobody():
    meet(Processes(), 0.0, SAME)
