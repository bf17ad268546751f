"""No credential and no value of the environment is written down: not in a dataset, a run, a log or a message."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from beam_pipelines.build import prepare
from tests.beam_pipelines.midi_files import DAMAGED, build_of, midi_folder
from tests.beam_pipelines.tiny_dataset import entries, write_dataset

STRETTO = Path(sys.executable).with_name("stretto")
ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": "enviro-5ecret-aws",
    "HF_TOKEN": "enviro-5ecret-hf",
    "GOOGLE_APPLICATION_CREDENTIALS": "/home/enviro-5ecret/key.json",
    "DATABASE_URL": "postgres://user:enviro-5ecret@host/db",
    "A_PLAIN_SETTING": "enviro-5ecret-plain",
}
BEAM = (
    "--",
    "--s3_secret_access_key=typed-5ecret-a",
    "--s3_session_token",
    "typed-5ecret-b",
    "--s3_endpoint_url=https://user:typed-5ecret-c@host/path?X-Amz-Signature=typed-5ecret-d",
)


def stretto(*words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **ENVIRONMENT}
    return subprocess.run([STRETTO, *words], env=environment, capture_output=True, text=True, timeout=300)


def spilled(folder: Path, *done: subprocess.CompletedProcess[str]) -> list[str]:
    """Files and outputs that hold a secret, also packed ones; the folder must hold files."""
    found = [f"output {number}" for number, each in enumerate(done) if "5ecret" in each.stdout + each.stderr]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    return found + [str(path) for path in files if b"5ecret" in path.read_bytes() or "5ecret" in path.name]


def test_a_small_build_writes_down_no_secret_of_its_options_and_nothing_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    midi_folder(tmp_path / "in", 3)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["stretto", "prepare", "midi", "--token", "-typed-5ecret", *BEAM])
    assert prepare(build_of(tmp_path), [], as_json=False) == 0
    assert spilled(tmp_path / "out") == []
    assert '"--token", "***", "--", "--s3_secret' in " ".join(
        (tmp_path / "out" / "provenance.json").read_text().split()
    )


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_build_writes_down_no_secret_of_its_options_and_nothing_of_the_environment(
    workers: str, tmp_path: Path
) -> None:
    music = midi_folder(tmp_path / "in")
    (music / "bad.mid").write_bytes(DAMAGED)
    words = ("prepare", "midi", "--input", music, "--output", tmp_path / "out")
    stopped = stretto(*words, "--workers", workers, "--max-bad", "0", *BEAM)
    assert stopped.returncode == 3
    assert spilled(tmp_path / "out.building", stopped) == []
    done = stretto(*words, "--workers", workers, "--max-bad", "50%", *BEAM)
    assert done.returncode == 0, done.stderr
    assert spilled(tmp_path / "out", done, stretto("inspect", tmp_path / "out", "--json")) == []
    provenance = (tmp_path / "out" / "provenance.json").read_text()
    assert "--s3_secret_access_key=***" in provenance and "https://***@host/path?***" in provenance


@pytest.mark.parametrize(
    "words",
    [
        ("prepare", "midi", "--input", "x", "--output", "y", "--", "--my_api_token=typed-5ecret"),
        ("prepare", "midi", "--input", "https://user:typed-5ecret@host/x", "--output", "y"),
        ("prepare", "midi", "--api-key=typed-5ecret"),
        ("verify", "https://user:typed-5ecret@host/x"),
        ("train", "transformer", "--data", "x", "--output", "y", "--", "--token=typed-5ecret"),
    ],
)
def test_a_message_repeats_no_secret(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = stretto(*words)
    assert done.returncode in (2, 3, 4) and "stretto: " in done.stderr
    assert "5ecret" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_run_writes_down_nothing_of_the_environment(tmp_path: Path) -> None:
    data = write_dataset(str(tmp_path / "data"), entries(4, 2, 2), 1)
    sizes = ("--steps", "2", "--batch", "2", "--layers", "1", "--hidden", "16", "--heads", "2")
    done = stretto("train", "transformer", "--data", data, "--output", tmp_path / "run", *sizes)
    assert done.returncode == 0, done.stderr
    assert spilled(tmp_path / "run", done) == []
    sampled = stretto("sample", tmp_path / "run", "--output", tmp_path / "music", "--count", "1", "--length", "16")
    assert sampled.returncode == 0, sampled.stderr
    assert spilled(tmp_path, sampled) == []
