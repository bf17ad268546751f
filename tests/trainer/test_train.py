"""The life of a run, through the command that a user types: begun, killed, stopped, continued, finished, refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.synthetic import scales
from trainer.checkpoint import Checkpoints

STRETTO = Path(sys.executable).with_name("stretto")
SMALL = (
    "--layers 2 --hidden 16 --attention 16 --feed-forward 32 --heads 2 --max-distance 32 --dropout 0.1 --batch 4 "
    "--accumulate 2 --optimiser adamw --weight-decay 0.01 --clip 1 --learning-rate 0.003 --warmup 5 --log-every 10"
).split()
ROOT = Path(__file__).resolve().parents[2]


def command(data, output, *flags, backend="jax", steps=40, every=20):
    return [
        str(STRETTO), "train", "music-transformer", "--data", str(data), "--output", str(output), *SMALL,
        "--backend", backend, "--steps", str(steps), "--checkpoint-every", str(every), *flags,
    ]  # fmt: skip


def run(*words, **options):
    return subprocess.run(command(*words, **options), cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "scales"
    scales(str(path), window=32)
    return path


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A finished run of 40 steps."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    done = run(data, path)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def arrays(folder, step):
    """Every array of a checkpoint, as bytes."""
    import orbax.checkpoint as ocp

    found = []
    for part in ("weights", "optimiser"):
        with ocp.StandardCheckpointer() as checkpointer:
            found += checkpointer.restore(Path(Checkpoints(str(folder)).folder) / str(step) / part)
    return [np.asarray(item) for item in found]


def assert_equal(one, other, step):
    """Weights, random seeds and optimiser of two runs are equal bit for bit."""
    left, right = arrays(one, step), arrays(other, step)
    assert len(left) == len(right) > 20
    for a, b in zip(left, right, strict=True):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes()


def metrics(folder, kind):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def test_a_run_leaves_what_the_documentation_says(finished):
    names = {path.name for path in finished.iterdir()} - {".lock"}
    assert names == {"config.json", "checkpoints", "tensorboard", "metrics.jsonl", "logs", "samples", "COMPLETED"}
    kept = {f"step-40-{number}.{kind}" for number in (0, 1) for kind in ("mid", "png", "wav")}
    assert {path.name for path in (finished / "samples").iterdir()} == kept
    spent = metrics(finished, "goodput")
    assert [line["step"] for line in spent] == [0, 10, 20, 30, 40, 40]
    assert spent[-1]["seconds_evaluating"] > spent[-2]["seconds_evaluating"]
    assert [line["step"] for line in metrics(finished, "train")] == [10, 20, 30, 40]
    assert [line["step"] for line in metrics(finished, "validation")] == [20, 40]
    figures = metrics(finished, "train")[-1]
    wanted = (
        "loss accuracy learning_rate gradient_norm weight_norm examples_per_second tokens_per_second input_wait epoch"
    )
    assert set(wanted.split()) <= figures.keys()
    assert figures["epoch"] == 4.0 and figures["loss"] < metrics(finished, "train")[0]["loss"]
    assert Checkpoints(str(finished)).steps() == [20, 40]


def test_a_finished_run_ends_at_once_and_changes_nothing(data, finished):
    before = sorted((path, path.stat().st_mtime_ns) for path in finished.rglob("*") if path.name != ".lock")
    done = run(data, finished)
    assert done.returncode == 0 and "finished" in done.stdout
    assert before == sorted((path, path.stat().st_mtime_ns) for path in finished.rglob("*") if path.name != ".lock")


def test_a_finished_run_says_which_changed_settings_had_no_effect(data, finished):
    done = run(data, finished, "--batch", "8", "--keep-every", "10")
    assert done.returncode == 0 and "finished" in done.stdout
    assert "finished at step 40, so this had no effect: --batch 8 --keep-every 10." in done.stderr


def test_a_run_begun_before_a_setting_was_there_goes_on_with_its_default(data, copy):
    config = json.loads((copy / "config.json").read_text())
    del config["train"]["keep_every"]
    (copy / "config.json").write_text(json.dumps(config))
    done = run(data, copy)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.parametrize("mark", ["", "[]", '{"step": "40", "validation": {}}', '{"step": 40, "validation": 1}'])
def test_a_mark_of_a_finished_run_that_is_none_is_named(data, copy, mark):
    (copy / "COMPLETED").write_text(mark)
    done = run(data, copy)
    assert done.returncode == 3 and "COMPLETED: is no" in done.stderr


def test_ctrl_c_is_noted_once_and_is_the_systems_the_second_time():
    from trainer.stopping import Stop

    before = signal.getsignal(signal.SIGINT)
    with Stop() as stop:
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested and stop.by_hand and signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is before
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested and not stop.by_hand


def test_the_result_can_be_had_as_json(data, finished):
    found = json.loads(run(data, finished, "--json").stdout)
    assert found["step"] == 40 and found["best"] in (20, 40) and found["validation"]["loss"] > 0


def test_another_configuration_is_refused_with_the_difference(data, finished):
    done = run(data, finished, "--seed", "7", "--dropout", "0.2")
    assert done.returncode == 2
    assert "model.dropout: 0.1 there, 0.2 here; train.seed: 0 there, 7 here" in done.stderr
    assert run(data, finished, steps=30).returncode == 2


def test_a_run_of_which_no_step_is_saved_takes_other_settings(tmp_path, capsys):
    from schemas.errors import UsageError
    from trainer.run_folder import prepare_folder, with_defaults

    data = {"fingerprint": "a", "path": "a", "corpus": "c", "representation": "events", "settings": {}, "features": {}}
    config = {"family": "music-transformer", "name": "one", "data": data}
    old, new = ({**config, "train": {"seed": seed}, "model": {}} for seed in (0, 7))
    folder = str(tmp_path)
    assert prepare_folder(folder, with_defaults(old)) == {} and prepare_folder(folder, with_defaults(new)) == {}
    assert "no step is saved there, so these settings take the place" in capsys.readouterr().err
    assert json.loads((tmp_path / "config.json").read_text())["train"]["seed"] == 7
    for made in (tmp_path / "checkpoints" / "20", tmp_path / "COMPLETED"):
        made.mkdir(parents=True)
        with pytest.raises(UsageError, match="train.seed: 7 there, 0 here"):
            prepare_folder(folder, with_defaults(old))
        shutil.rmtree(made)


def test_other_data_are_refused_even_in_a_folder_of_the_same_name(data, finished, tmp_path):
    scales(str(tmp_path / "scales"), window=32, train=41)
    done = run(tmp_path / "scales", finished)
    assert done.returncode == 2 and "data: trained on" in done.stderr


def test_a_folder_that_is_no_run_is_refused(data, tmp_path):
    (tmp_path / "thesis.txt").write_text("do not touch")
    done = run(data, tmp_path)
    assert done.returncode == 2 and "not empty and not a run" in done.stderr


def test_a_dataset_that_does_not_fit_is_refused_with_both_sides_and_the_command(tmp_path):
    from schemas.feature import Feature
    from tests.trainer.synthetic import write_dataset

    features = {"roll": Feature("uint8", ("step",), (4,))}
    record = {"roll": np.zeros(4, np.uint8), "key": b"k", "group": b"g"}
    write_dataset(str(tmp_path / "rolls"), features, {"train": [record]}, shards=1)
    done = run(tmp_path / "rolls", tmp_path / "run")
    assert done.returncode == 2 and "representation: music-transformer needs tokens" in done.stderr
    assert "stretto prepare synthetic" in done.stderr and "--representation events" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_dry_run_checks_and_prints_the_settings_and_makes_nothing(data, tmp_path):
    done = run(data, tmp_path / "run", "--dry-run")
    assert done.returncode == 0 and json.loads(done.stdout)["train"]["batch"] == 4
    assert not (tmp_path / "run").exists()


def test_two_processes_cannot_train_in_one_folder(data, finished):
    import fcntl

    with open(finished / ".lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run(data, finished)
    assert done.returncode == 4 and "is training there" in done.stderr


def test_a_damaged_checkpoint_is_skipped_by_name_and_the_end_is_the_same(data, finished, copy):
    victim = max(
        (copy / "checkpoints" / "40").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0
    )
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    (copy / "COMPLETED").unlink()
    done = run(data, copy)
    assert done.returncode == 0, done.stderr
    assert f"skipped checkpoint {copy}/checkpoints/40" in done.stderr and "continuing from step 20" in done.stderr
    assert_equal(finished, copy, 40)
    assert [line["step"] for line in metrics(copy, "train")] == [10, 20, 30, 40]


def test_a_run_killed_after_its_last_checkpoint_still_says_what_it_reached(data, finished, copy):
    (copy / "COMPLETED").unlink()
    done = run(data, copy)
    assert done.returncode == 0, done.stderr
    assert (copy / "COMPLETED").read_text() == (finished / "COMPLETED").read_text()


def test_a_file_in_the_place_of_the_run_is_named(data, tmp_path):
    (tmp_path / "run").write_text("do not touch")
    done = run(data, tmp_path / "run")
    assert done.returncode == 4 and "run: cannot be made: File exists" in done.stderr


def test_a_run_that_began_with_the_weights_of_another_goes_on_when_that_is_gone(data, copy, tmp_path):
    words = ("--init", str(copy), "--log-every", "1")
    assert run(data, tmp_path / "run", *words, steps=1, every=1).returncode == 0
    shutil.rmtree(copy)
    done = run(data, tmp_path / "run", *words, steps=2, every=1)
    assert done.returncode == 0 and "continuing from step 1" in done.stderr, done.stderr


def test_a_run_that_is_to_go_on_longer_records_the_change_and_takes_another_batch(data, copy):
    done = run(data, copy, "--batch", "8", "--log-every", "1", steps=43)
    assert done.returncode == 0, done.stderr
    assert "continuing from step 40" in done.stderr
    (change,) = metrics(copy, "change")
    assert change["train.steps"] == [40, 43] and change["train.batch"] == [4, 8] and change["step"] == 40
    # 40 steps of 4 examples and 3 of 8, of 40 records: no example was left out or taken twice.
    assert metrics(copy, "train")[-1]["epoch"] == (40 * 4 + 3 * 8) / 40
    assert json.loads((copy / "config.json").read_text())["train"]["batch"] == 8


def test_a_loss_that_is_not_finite_ends_the_run_with_the_step_named(data, tmp_path):
    done = run(data, tmp_path / "run", "--learning-rate", "1e15", "--warmup", "0", "--clip", "0")
    assert done.returncode == 6, done.stderr
    assert "stretto: step 2: " in done.stderr and "--learning-rate" in done.stderr
    assert Checkpoints(str(tmp_path / "run")).newest() == (1, [])
    told = json.loads((tmp_path / "run" / "diverged.json").read_text())
    assert (told["step"], told["checkpoint"], len(told["examples"])) == (2, 1, 4)
    assert all(example["key"] in done.stderr for example in told["examples"][:3])


def wait_for_checkpoint(folder, process, after=-1):
    """Waits until a checkpoint later than `after` is whole."""
    for _ in range(1200):
        newest = Checkpoints(str(folder)).newest()[0]
        if newest is not None and newest > after:
            return newest
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("no checkpoint within two minutes")


def killed_stopped_and_continued(data, folder, backend, steps, every):
    """A run that is killed some time after a checkpoint, stopped in order later, then left alone to finish."""
    words = command(data, folder, backend=backend, steps=steps, every=every)
    first = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    reached = wait_for_checkpoint(folder, first)
    time.sleep(0.15)
    first.kill()
    first.communicate()
    reached = max(reached, Checkpoints(str(folder)).newest()[0])
    second = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_for_checkpoint(folder, second, after=reached)
    second.send_signal(signal.SIGTERM)
    said = second.communicate()[1]
    third = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert third.returncode == 0, third.stderr
    return second.returncode, said


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_a_killed_and_stopped_run_ends_bit_for_bit_where_an_undisturbed_one_does(data, tmp_path, backend):
    steps, every = 1500, 75
    code, said = killed_stopped_and_continued(data, tmp_path / "disturbed", backend, steps, every)
    assert code == 75 and "continuing from step" in said and "the state is saved" in said
    assert run(data, tmp_path / "undisturbed", backend=backend, steps=steps, every=every).returncode == 0
    assert_equal(tmp_path / "undisturbed", tmp_path / "disturbed", steps)
    whole = [line["step"] for line in metrics(tmp_path / "disturbed", "train")]
    assert whole == sorted(set(whole)) and set(range(10, steps + 1, 10)) <= set(whole)


def wait_for(process, sentence):
    """Reads what a process says until a sentence comes."""
    for line in process.stderr:
        if sentence in line:
            return
    raise AssertionError(f"{sentence!r} was not said; it ended with {process.wait()}")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_ctrl_c_before_the_first_checkpoint_saves_and_the_same_command_goes_on(data, tmp_path, backend):
    words = command(data, tmp_path / "run", "--log-every", "1", backend=backend, steps=100_000, every=100_000)
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "metrics.jsonl").exists() or len(metrics(tmp_path / "run", "train")) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    (step,) = Checkpoints(str(tmp_path / "run")).steps()
    assert process.returncode == 130 and step >= 3
    assert f"stopped by Ctrl-C at step {step} of 100000, the state is saved" in said
    again = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_for(again, f"continuing from step {step}, ")
    again.send_signal(signal.SIGINT)
    assert again.wait() == 130 and Checkpoints(str(tmp_path / "run")).newest()[0] >= step


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(data, tmp_path):
    words = command(data, tmp_path / "run", steps=100_000, every=100_000)
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "config.json").exists():
        time.sleep(0.01)
    time.sleep(0.3)  # the backend is being imported, which takes seconds: there is nothing to save yet
    process.send_signal(signal.SIGINT)
    wait_for(process, "Ctrl-C again ends at once")
    process.send_signal(signal.SIGINT)
    assert process.wait() == -signal.SIGINT and Checkpoints(str(tmp_path / "run")).steps() == []


def test_init_from_a_network_of_another_width_is_refused_before_anything_heavy(data, finished, tmp_path):
    done = run(data, tmp_path / "run", "--init", str(finished), "--feed-forward", "48")
    assert done.returncode == 2, done.stderr
    assert "feed_forward" in done.stderr and "do not fit" in done.stderr


def test_a_family_without_blocks_refuses_remat_before_it_makes_a_folder(data, tmp_path):
    words = ["performance-rnn", "--data", str(data), "--output", str(tmp_path / "run"), "--remat"]
    done = subprocess.run([str(STRETTO), "train", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "--remat: performance-rnn has no blocks" in done.stderr
    assert not (tmp_path / "run").exists()
