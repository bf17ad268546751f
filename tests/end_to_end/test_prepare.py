"""`stretto prepare` as it is typed: the same bytes with any number of workers, killed or not, by any runner's name."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from beam_pipelines.verify import verify
from schemas.manifest import read_manifest
from tests.beam_pipelines.midi_files import midi_folder

ROOT = Path(__file__).resolve().parents[2]
MAIN = "import sys; from stretto import main; sys.exit(main())"
CHOICES = ("--transpose=-3..3", "--stretch=0.95,1,1.05", "--window", "64", "--shards", "6")


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Files enough to be killed among."""
    return midi_folder(tmp_path_factory.mktemp("music"), 60, notes=300)


def command(music, output, *more):
    words = ["prepare", "midi", "--input", str(music), "--output", str(output), *CHOICES, *more]
    return [sys.executable, "-c", MAIN, *words]


def run(music, output, *more):
    return subprocess.run(command(music, output, *more), cwd=ROOT, capture_output=True, text=True, timeout=300)


def fingerprint(output):
    """sha256 of every shard, index and of the manifest."""
    manifest = read_manifest(str(output))
    shards = [(shard.name, shard.sha256, shard.index_sha256) for shard in manifest.shards]
    return shards, (output / "manifest.json").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(music, tmp_path_factory):
    """The dataset that one undisturbed process makes."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    done = run(music, output, "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert verify(str(output)).exit_code == 0
    return output


def kill_when(music, output, reached, *more):
    """Starts the command and kills it once `reached` says so; returns what it said."""
    process = subprocess.Popen(
        command(music, output, *more), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not reached():
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors
    return errors


def count(folder):
    return len(os.listdir(folder)) if folder.is_dir() else 0


@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_a_build_killed_during_survey_writing_and_commit_ends_where_an_undisturbed_one_does(
    music, undisturbed, tmp_path, workers
):
    output, building = tmp_path / "out", tmp_path / "out.building"
    more = ("--workers", workers)
    kill_when(music, output, lambda: count(building / "survey") >= 3, *more)
    said = kill_when(music, output, lambda: count(building / "progress" / "shards") >= 3, *more)
    assert "inputs are surveyed and are not surveyed again" in said
    said = kill_when(music, output, lambda: (building / "items.jsonl").exists(), *more)
    assert "60 of 60 inputs are surveyed" in said and "shards are finished and are kept" in said
    if workers == "1":
        kill_when(music, output, lambda: (building / "COMPLETED.pending").exists(), *more)
    done = run(music, output, *more)
    assert done.returncode == 0, done.stderr
    assert "kept" in done.stdout and not building.exists()
    assert fingerprint(output) == fingerprint(undisturbed)
    assert verify(str(output)).exit_code == 0


def test_two_workers_and_any_name_of_the_local_runner_give_the_same_bytes(music, undisturbed, tmp_path):
    for name, more in {
        "two": ("--workers", "2"),
        "direct": ("--runner", "DirectRunner", "--workers", "1"),
    }.items():
        done = run(music, tmp_path / name, *more)
        assert done.returncode == 0, done.stderr
        assert fingerprint(tmp_path / name) == fingerprint(undisturbed)
        assert done.stderr.count("FnApiRunner") == 1


def test_a_lost_worker_ends_the_build_with_75_and_the_same_command_continues(music, undisturbed, tmp_path):
    output, building = tmp_path / "out", tmp_path / "out.building"
    process = subprocess.Popen(
        command(music, output, "--workers", "2"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not count(building / "progress" / "shards"):
        time.sleep(0.001)
    os.kill(int((building / "workers").read_text().splitlines()[-1].split()[0]), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "a worker process died" in errors and "run the same command again" in errors and "Traceback" not in errors
    assert run(music, output, "--workers", "2").returncode == 0
    assert fingerprint(output) == fingerprint(undisturbed)


def test_a_terminated_build_says_so_with_75(music, tmp_path):
    building = tmp_path / "out.building"
    process = subprocess.Popen(command(music, tmp_path / "out", "--workers", "1"), cwd=ROOT, stderr=subprocess.PIPE)
    while process.poll() is None and not count(building / "progress" / "shards"):
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75 and b"told to stop" in errors


def test_a_folder_in_use_is_locked(music, tmp_path):
    building = tmp_path / "out.building"
    process = subprocess.Popen(command(music, tmp_path / "out", "--workers", "1"), cwd=ROOT, stderr=subprocess.PIPE)
    while process.poll() is None and not count(building / "survey"):
        time.sleep(0.001)
    process.send_signal(signal.SIGSTOP)
    second = run(music, tmp_path / "out", "--workers", "1")
    process.kill()
    process.communicate()
    assert second.returncode == 4 and "another build is writing here" in second.stderr


def test_exit_codes_of_refusals(music, undisturbed, tmp_path):
    assert run(music, undisturbed).returncode == 2
    assert run(tmp_path / "none", tmp_path / "out").returncode == 3
    refused = run(music, tmp_path / "out", "--", "--runner=DirectRunner")
    assert refused.returncode == 2 and "--runner DirectRunner" in refused.stderr


def test_json_gives_the_account_on_standard_output(music, tmp_path):
    done = run(music, tmp_path / "out", "--json", "--workers", "1")
    result = json.loads(done.stdout)
    assert result["account"]["inputs"] == result["account"]["written"] == 60
    assert result["records"] == sum(shard.records for shard in read_manifest(str(tmp_path / "out")).shards)


def test_neither_tensorflow_nor_pandas_is_loaded_by_launcher_or_worker():
    code = (
        "import sys; import beam_pipelines.build, beam_pipelines.worker; "
        "from beam_pipelines.beam_import import without_unneeded_packages\n"
        "with without_unneeded_packages():\n    from apache_beam.runners.worker import sdk_worker_main\n"
        "print(sorted({'tensorflow', 'keras', 'jax', 'torch', 'pandas'} & {n for n, m in sys.modules.items() if m}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_folder_without_input_leaves_nothing_in_the_way_of_another_build(music, tmp_path):
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", tmp_path / "out").returncode == 3
    done = run(music, tmp_path / "out", "--group", "folder", "--workers", "1")
    assert done.returncode == 0, done.stderr
