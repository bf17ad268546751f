"""What users type once a run is trained: evaluate, sample, export, monitor, on a run of a few steps."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import urllib.request
import wave
from math import log
from pathlib import Path

import numpy as np
import pytest

from media.midi import read_midi, write_midi
from schemas.music import Notes, Piece

HERE = Path(__file__).parent
STRETTO = Path(sys.executable).with_name("stretto")
TINY = "--layers 2 --hidden 32 --attention 32 --feed-forward 64 --heads 2 --steps 40 --batch 8 --checkpoint-every 20"


def synthetic():
    spec = importlib.util.spec_from_file_location("synthetic", HERE / "synthetic.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands(*lines):
    words = json.dumps([line if isinstance(line, list) else line.split() for line in lines])
    done = subprocess.run(
        [sys.executable, str(HERE / "commands.py"), words],
        capture_output=True, text=True, timeout=500, env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    """A folder with a dataset, a run, and everything that is made of it; the outcome of each command by name."""
    root = tmp_path_factory.mktemp("after_training")
    synthetic().scales(str(root / "data"), window=64)
    synthetic().scales(str(root / "other"), window=32)
    (root / "given.mid").write_bytes(write_midi(Piece("given", Notes.of([0, 240], [240, 480], [60, 64], [80, 80]))))
    steps = np.arange(200) * 240
    (root / "long.mid").write_bytes(
        write_midi(Piece("long", Notes.of(steps, steps + 240, 40 + np.arange(200) % 40, 80)))
    )
    lines = {
        "train": f"train tiny-chorales --data {root}/data --output {root}/run --backend jax {TINY}",
        "sliding": f"evaluate {root}/run --protocol sliding --window 32 --hop 16 --checkpoint last --json",
        "other": f"evaluate {root}/run --data {root}/other --json",
        "longer": f"evaluate {root}/run --window 65",
        "allowed": f"evaluate {root}/run --window 65 --allow-longer",
        "segment": f"evaluate {root}/run --json",
        "table": f"evaluate {root}/run",
        "elsewhere": f"evaluate {root}/run --window 32 --output {root}/scores --json",
        "no evaluation": f"evaluate {root}/run --output {root}/run/config.json",
        "file": f"evaluate {root}/run --window 32 --output {root}/mine.json --json",
        "another": f"evaluate {root}/run --output {root}/mine.json",
        "missing step": f"evaluate {root}/run --checkpoint 7",
        "missing split": f"evaluate {root}/run --split test",
        "sample": f"sample {root}/run --output {root}/one --count 2 --length 64 --json",
        "again": f"sample {root}/run --output {root}/two --count 2 --length 64 --json",
        "seed": f"sample {root}/run --output {root}/three --count 1 --seed 1 --sampler nucleus --json",
        "given": f"sample {root}/run --output {root}/four --count 1 --length 40 --given {root}/given.mid --json",
        "long": f"sample {root}/run --output {root}/seven --count 1 --length 40 --given {root}/long.mid --json",
        "some": f"sample {root}/run --output {root}/eight --count 1 --length 60 --given {root}/long.mid "
        "--given-length 1s --json",
        "note": f"sample {root}/run --output {root}/five --count 1 --length 3s --note 60 --allow-longer --json",
        "existing": f"sample {root}/run --output {root}/one --count 2",
        "too long": f"sample {root}/run --output {root}/six --length 65",
        "export": f"export {root}/run {root}/model.safetensors",
        "export again": f"export {root}/run {root}/model.safetensors",
    }
    return root, dict(zip(lines, commands(*lines.values()), strict=True))


def made(road, name):
    outcome = road[1][name]
    assert outcome["code"] == 0, outcome["err"]
    return json.loads(outcome["out"])


def test_evaluation_writes_named_figures_that_are_one_sum_divided_once(road):
    found = made(road, "segment")
    written = json.loads((road[0] / "run" / "evaluations" / f"validation-{found['step']}-segment.json").read_text())
    assert {**written, "file": found["file"]} == found
    total = sum(row["nats"] for row in found["segments"])
    assert found["nats_per_token"] == found["nll_seg64"] == pytest.approx(total / found["tokens"], rel=1e-12)
    assert found["nats_per_note"] == pytest.approx(total / found["notes"], rel=1e-12)
    assert found["bits_per_second"] == pytest.approx(total / log(2) / found["seconds"], rel=1e-12)
    assert found["ratio"] == pytest.approx(found["nats_per_token"] / found["bigram_nats_per_token"], rel=1e-12)
    assert found["accuracy"] == pytest.approx(sum(row["right"] for row in found["segments"]) / found["tokens"])
    assert len(found["pieces"]) == len(found["segments"]) == 7
    assert "nll_cell" not in found


def test_the_loss_of_training_and_the_evaluation_agree(road):
    lines = [json.loads(line) for line in (road[0] / "run" / "metrics.jsonl").read_text().splitlines()]
    found = made(road, "segment")
    text = json.dumps([line for line in lines if line.get("step") == found["step"]])
    losses = [value for line in lines for value in numbers(line) if abs(value - found["nats_per_token"]) < 1e-4]
    assert losses, text


def numbers(value):
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers(item)]
    return [float(value)] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


def test_sliding_windows_score_every_token_once_too(road):
    sliding, segment = made(road, "sliding"), made(road, "segment")
    assert (sliding["tokens"], sliding["notes"]) == (segment["tokens"], segment["notes"])
    assert len(sliding["segments"]) > len(segment["segments"])
    assert sliding["nll_sliding32"] == sliding["nats_per_token"]


def test_another_dataset_of_the_same_tokens_can_be_scored(road):
    assert made(road, "other")["window"] == 64


def test_what_is_scored_in_another_way_leaves_the_usual_result_alone(road):
    found = {path.name for path in (road[0] / "run" / "evaluations").iterdir()}
    step, last = made(road, "segment")["step"], made(road, "sliding")["step"]
    data = made(road, "other")["data_fingerprint"][:8]
    assert found == {
        f"validation-{step}-segment.json", f"validation-{step}-segment-window65.json",
        f"validation-{last}-sliding-window32.json", f"validation-{step}-segment-data{data}.json",
    }  # fmt: skip
    assert (made(road, "sliding")["window"], made(road, "sliding")["hop"]) == (32, 16)


def test_a_result_can_be_written_beside_the_run(road):
    elsewhere = made(road, "elsewhere")
    assert elsewhere["file"] == f"{road[0]}/scores/validation-{elsewhere['step']}-segment-window32.json"
    assert json.loads(Path(elsewhere["file"]).read_text())["hop"] == 32
    named = json.loads((road[0] / "mine.json").read_text())
    assert named["configuration"] and {**named, "file": elsewhere["file"]} == elsewhere


def test_a_person_sees_a_table(road):
    assert road[1]["table"]["code"] == 0
    for words in ("nats per token", "nats per note", "bits per second of music", "bigram counted on train", "segment"):
        assert words in road[1]["table"]["out"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("longer", "--allow-longer"),
        ("no evaluation", "--output"),
        (
            "another",
            "holds another evaluation (window: 32 there, 64 here; hop: 32 there, 64 here). Give --output another",
        ),
        ("missing step", "--checkpoint 7"),
        ("missing split", "'test'"),
        ("existing", "--overwrite"),
        ("too long", "--allow-longer"),
        ("export again", "--overwrite"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_to_do(road, name, words):
    assert road[1][name]["code"] == 2
    assert words in road[1][name]["err"]


def test_longer_windows_are_scored_when_told(road):
    assert road[1]["allowed"]["code"] == 0, road[1]["allowed"]["err"]


def test_samples_are_music_sound_and_pictures(road):
    from PIL import Image

    for row in made(road, "sample")["samples"]:
        piece = read_midi(Path(row["midi"]).read_bytes(), row["midi"])
        assert len(piece.notes) == row["notes"]
        assert piece.seconds == pytest.approx(row["seconds"], abs=0.01)
        with wave.open(row["wav"]) as sound:
            assert sound.getnchannels() == 2
            assert sound.getnframes() / sound.getframerate() >= row["seconds"]
        assert Image.open(row["png"]).size[0] > 100
        assert row["tokens"] == 64
        assert 0 <= row["longest_copied_run"] <= 64


def test_equal_seeds_give_equal_samples_and_other_seeds_others(road):
    hashes = [[row["tokens_sha256"] for row in made(road, name)["samples"]] for name in ("sample", "again", "seed")]
    assert hashes[0] == hashes[1]
    assert hashes[0][0] != hashes[0][1]
    assert hashes[2][0] not in hashes[0]
    midi = [(road[0] / folder / "sample-000.mid").read_bytes() for folder in ("one", "two")]
    assert midi[0] == midi[1]


def test_without_a_length_samples_are_as_long_as_what_was_trained_on(road):
    assert made(road, "seed")["samples"][0]["tokens"] == 64
    assert made(road, "seed")["length"] == "64"


def test_a_sample_begins_with_the_file_that_was_given(road):
    (row,) = made(road, "given")["samples"]
    piece = read_midi(Path(row["midi"]).read_bytes(), row["midi"])
    first = np.argsort(piece.notes.start, kind="stable")[:2]
    assert sorted(piece.notes.pitch[first].tolist()) == [60, 64]


def test_of_a_long_file_only_the_beginning_is_taken_and_the_rest_of_the_length_is_new(road):
    half, second = made(road, "long"), made(road, "some")
    assert 10 < half["given_tokens"] <= 22  # half of 40, and the releases of what sounds there
    assert half["samples"][0]["tokens"] == 40
    piece = read_midi(Path(second["samples"][0]["midi"]).read_bytes(), "second")
    assert piece.notes.pitch[:4].tolist() == [40, 41, 42, 43]  # four notes a second
    assert second["given_tokens"] < 20


def test_a_sample_begins_with_the_note_that_was_given_and_lasts_as_long_as_asked(road):
    found = made(road, "note")
    (row,) = found["samples"]
    piece = read_midi(Path(row["midi"]).read_bytes(), row["midi"])
    assert piece.notes.pitch[0] == 60
    assert piece.seconds == pytest.approx(3.0, abs=1.1)
    assert found["given_tokens"] == 4


def test_exported_weights_carry_what_is_needed_to_build_the_network(road):
    from safetensors import safe_open

    path = road[0] / "model.safetensors"
    assert road[1]["export"]["code"] == 0, road[1]["export"]["err"]
    with safe_open(path, "numpy") as file:
        metadata, names = file.metadata(), list(file.keys())
        total = sum(file.get_tensor(name).size for name in names)
    assert "music_transformer/block_00/attention/query/kernel" in names
    assert not [name for name in names if "seed" in name]
    assert metadata["family"] == "music-transformer"
    assert json.loads(metadata["settings"])["hidden"] == 32
    assert metadata["representation"] == "events"
    assert int(metadata["step"]) in (20, 40)
    assert total > 10_000


def test_an_export_is_the_same_bytes_in_another_process(road):
    words = ["export", str(road[0] / "run"), str(road[0] / "again.safetensors")]
    subprocess.run([STRETTO, *words], check=True, timeout=300, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert (road[0] / "again.safetensors").read_bytes() == (road[0] / "model.safetensors").read_bytes()


def test_monitor_serves_a_page_and_ends_quietly_at_ctrl_c(road):
    server = subprocess.Popen(
        [STRETTO, "monitor", str(road[0] / "run"), "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        line = server.stdout.readline()
        assert line.startswith("TensorBoard: http"), line
        with urllib.request.urlopen(line.split()[1], timeout=60) as page:
            assert b"tensorboard" in page.read().lower()
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize("command", ["monitor", "evaluate", "export"])
def test_a_folder_that_is_no_run_is_refused_by_name(tmp_path, command):
    words = [command, str(tmp_path), *(["x.safetensors"] if command == "export" else [])]
    done = subprocess.run([STRETTO, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr
    assert "stretto train" in done.stderr
