"""What users type to train on several devices and in several processes: killed, moved to others, started wrongly."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.trainer.synthetic import scales
from tests.trainer.test_device_layouts import free_port
from tests.trainer.test_train import ROOT, command

BATCH = ("--accumulate", "1", "--batch", "8", "--dropout", "0", "--log-every", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Windows of unequal length: no batch of 8 divides them, and of the last for validation one half has none."""
    path = tmp_path_factory.mktemp("data") / "scales"
    scales(str(path), window=32, train=43, validation=11)
    return path


def start(data, output, backend, mesh, count, *flags, steps=20, every=100):
    """The processes of a run, each the command that a user types."""
    ports = [free_port() for _ in range(count)]
    running = []
    for number in range(count):
        words = [*BATCH, *(("--mesh", mesh) if mesh else ()), *flags]
        environment = dict(os.environ)
        if count > 1 and backend == "jax":
            words += ["--coordinator", f"127.0.0.1:{ports[0]}", "--processes", str(count), "--process-id", str(number)]
        elif count > 1:
            cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": number}})
        typed = command(data, output, *words, backend=backend, steps=steps, every=every)
        running.append(
            subprocess.Popen(
                typed, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    return running


def ended(running):
    """Exit code and standard error of each."""
    told = [process.communicate(timeout=500)[1] for process in running]
    return [(process.returncode, text) for process, text in zip(running, told, strict=True)]


def train(*words, **options):
    for code, told in ended(start(*words, **options)):
        assert code == 0, told[-3000:]


def lines(run, kind="train", number=0):
    folder = run / "logs" / f"process-{number}" if number else run
    found = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in found if line["kind"] == kind]


def examples(run, count):
    """The hash of the examples of each step, over all processes that were there: {step: hash}."""
    found = {}
    for number in range(count):
        if number and not (run / "logs" / f"process-{number}").exists():
            continue
        for line in lines(run, number=number):
            found[line["step"]] = (found.get(line["step"], 0) + int(line["examples"], 16)) % 2**64
    return found


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory):
    """One run of 20 steps on one device of each backend."""
    folder = tmp_path_factory.mktemp("straight")
    for backend in ("jax", "tensorflow"):
        train(data, folder / backend, backend, "", 1)
    return folder


CHAINS = {
    "devices": ("jax", (("", 1), ("data=4", 1), ("data=2", 1))),
    "processes": ("jax", (("", 1), ("data=2", 2), ("", 1))),
    "parts of a model": ("jax", (("data=2,model=2", 1), ("", 1), ("data=1,model=4", 1))),
    "processes of TensorFlow": ("tensorflow", (("", 1), ("data=2", 2), ("data=2", 1))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAINS)
def test_a_run_that_is_moved_at_steps_7_and_13_reads_the_same_examples_and_finds_the_same_losses(
    name, data, straight, tmp_path
):
    backend, stations = CHAINS[name]
    for (mesh, count), before, steps in zip(stations, (0, 7, 13), (7, 13, 20), strict=True):
        if before:
            shutil.copytree(tmp_path / "run", tmp_path / f"alone from {before}")
            train(data, tmp_path / f"alone from {before}", backend, "", 1, steps=steps)
        train(data, tmp_path / "run", backend, mesh, count, steps=steps)
        if before:
            check_first_steps(tmp_path / "run", tmp_path / f"alone from {before}", before)
            check_validation(tmp_path / "run", tmp_path / f"alone from {before}", steps)
    assert examples(tmp_path / "run", 2) == examples(straight / backend, 1)
    assert len(examples(tmp_path / "run", 2)) == 20
    moved, alone = ({line["step"]: line for line in lines(run)} for run in (tmp_path / "run", straight / backend))
    for step in range(1, 21):
        # Twenty steps that run free drift by rounding.
        assert moved[step]["loss"] == pytest.approx(alone[step]["loss"], rel=1e-5 if step <= 5 else 1e-3)
    changes = [set(line) for line in lines(tmp_path / "run", "change")]
    assert all("train.mesh" in change or "train.steps" in change for change in changes) and changes


def check_first_steps(run, other, before):
    """From the state after `before` both found the same losses and sizes of gradients."""
    one, two = ({line["step"]: line for line in lines(folder)} for folder in (run, other))
    for step in range(before + 1, before + 6):
        assert one[step]["loss"] == pytest.approx(two[step]["loss"], rel=1e-5)
        assert one[step]["gradient_norm"] == pytest.approx(two[step]["gradient_norm"], rel=1e-4)


def check_validation(run, other, step):
    """However its examples are divided, each of them counts once: both reached the same figure a few steps later."""
    one, two = (json.loads((folder / "COMPLETED").read_text()) for folder in (run, other))
    assert one["step"] == two["step"] == step
    assert one["validation"]["loss"] == pytest.approx(two["validation"]["loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_two_processes_make_samples_on_the_way_and_the_first_keeps_them(backend, data, tmp_path):
    train(data, tmp_path / "run", backend, "data=2", 2, "--sample-every", "4", steps=8)
    kept = sorted(path.name for path in (tmp_path / "run/samples").iterdir())
    assert kept == [f"step-{step}-{n}.{kind}" for step in (4, 8) for n in (0, 1) for kind in ("mid", "png", "wav")]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_where_the_first_process_is_killed_the_other_ends_too_and_all_can_go_on(backend, data, tmp_path):
    run = tmp_path / "run"
    running = start(data, run, backend, "data=2", 2, steps=100_000, every=4)
    wait_for(lambda: saved(run) and len(lines(run, number=1)) > 8)
    before = max(saved(run))
    running[0].kill()
    (killed, _), (code, told) = ended(running)
    assert killed == -signal.SIGKILL and code != 0
    assert max(saved(run)) >= before and "internal error" not in told
    if code == 75:  # else the backend has ended it by itself, perhaps in the middle of our sentence
        assert "another process was lost after step" in told and f"step {max(saved(run))} is saved. Start all" in told
    goes_on(data, run, backend)


def saved(run):
    return {int(name) for name in os.listdir(run / "checkpoints") if name.isdecimal()}


def goes_on(data, run, backend):
    """One process alone continues it from the last step that was saved, and is stopped."""
    newest = max(saved(run))
    again = start(data, run, backend, "", 1, steps=100_000, every=4)
    wait_for(lambda: any(f"continuing from step {newest}, " in line["sentence"] for line in said(run)))
    again[0].send_signal(signal.SIGTERM)
    assert ended(again)[0][0] == 75


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
@pytest.mark.parametrize("asked", [0, 1])
def test_one_process_that_is_asked_to_stop_stops_both_after_the_same_step(backend, asked, data, tmp_path):
    running = start(data, tmp_path / "run", backend, "data=2", 2, steps=100_000)
    wait_for(lambda: len(lines(tmp_path / "run", number=1)) > 5)
    running[asked].send_signal(signal.SIGTERM)
    found = ended(running)
    assert [code for code, _ in found] == [75, 75], found
    [step] = os.listdir(tmp_path / "run" / "checkpoints")
    assert all(f"stopped at step {step} of 100000, the state is saved" in told for _, told in found)
    assert int(step) > 5


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_where_one_process_is_killed_the_other_ends_with_75_and_all_can_go_on(backend, data, tmp_path):
    run = tmp_path / "run"
    running = start(data, run, backend, "data=2", 2, steps=100_000, every=4)
    wait_for(lambda: saved(run) and len(lines(run, number=1)) > 8)
    running[1].kill()
    (code, told), _ = ended(running)
    assert code == 75 and "another process was lost after step" in told and "is saved. Start all" in told
    goes_on(data, run, backend)


def said(run):
    return [json.loads(line) for line in (run / "logs" / "train.jsonl").read_text().splitlines()]


def wait_for(happened, seconds=200):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if happened():
                return
        except (FileNotFoundError, json.JSONDecodeError):
            pass
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


@pytest.mark.parametrize("missing", [0, 1])
def test_a_process_that_never_comes_is_named_and_the_others_end_with_75(missing, data, tmp_path):
    running = start(data, tmp_path / "run", "jax", "data=2", 2, "--join-seconds", "3")
    running[missing].kill()
    code, told = ended(running)[1 - missing]
    assert code == 75
    assert f"process {missing} of 2 did not come to 127.0.0.1:" in told and "--join-seconds" in told


def test_processes_with_other_settings_are_refused_by_name(data, tmp_path):
    port = free_port()
    words = ("--mesh", "data=2", "--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process-id")
    typed = [
        command(data, tmp_path / "run", *BATCH, "--seed", str(number), *words, str(number), backend="jax")
        for number in range(2)
    ]
    running = [
        subprocess.Popen(one, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for one in typed
    ]
    for code, told in ended(running):
        assert code == 2 and "process 1 was asked to train something else than process 0" in told


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--mesh", "data=3"), "--batch 8: does not divide among 3 copies of the model"),
        (("--mesh", "rows=2"), "--mesh rows=2: 'rows=2' is no axis: write data=N"),
        (("--processes", "2", "--process-id", "0"), "without --coordinator"),
        (("--profile", "5"), "--profile 5: '5' are no steps: write FIRST:STOP"),
        (("--profile", "90:3000"), "--profile 90:3000: the run has 20 steps, counted from 0 to 19. Take at most 20"),
    ],
)
def test_a_launch_that_cannot_be_is_a_sentence_with_what_to_type(flags, sentence, data, tmp_path):
    [(code, told)] = ended(start(data, tmp_path / "run", "jax", "", 1, *flags))
    assert code == 2 and sentence in told and "Traceback" not in told


def test_tensorflow_says_that_it_divides_no_model(data, tmp_path):
    [(code, told)] = ended(start(data, tmp_path / "run", "tensorflow", "data=1,model=2", 1))
    assert code == 2 and "--backend jax" in told


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_a_profile_of_some_steps_is_written_where_tensorboard_looks_for_it(backend, data, tmp_path):
    train(data, tmp_path / "run", backend, "", 1, "--profile", "3:5", steps=8)
    assert list((tmp_path / "run/tensorboard/train/plugins/profile").glob("*/*.xplane.pb"))
