"""Coconet on both backends: each runs all its checks in one process, and each check is a test here."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from media.midi import read_midi, write_midi
from schemas.errors import UsageError
from schemas.grid import cells_of
from schemas.manifest import Manifest
from schemas.representations.voices import Voices
from schemas.settings import to_json
from tests.trainer.coconet_checks import CHECKS
from tests.trainer.on_backend import check_same_step, failures_printed, run_file
from tests.trainer.step_checks import STEPS
from tests.trainer.synthetic import held_chords
from trainer.cells import PROTOCOLS
from trainer.models.coconet import Coconet


@cache
def found_on(backend, folder):
    """{check: what failed} and the arrays of a backend; JAX's at the states that TensorFlow went through."""
    out, states = f"{folder}/{backend}.npz", []
    if backend == "jax":
        found_on("tensorflow", folder)
        states = [f"{folder}/tensorflow.npz"]
    failures = failures_printed(run_file("coconet_checks.py", backend, out, *states))
    return failures, dict(np.load(out))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("coconet")


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
@pytest.mark.parametrize("check", [check.__name__ for check in CHECKS])
def test_it_holds_on(backend, check, folder):
    assert found_on(backend, folder)[0][check] == ""


def test_both_backends_hide_the_same_cells(folder):
    one, other = (found_on(backend, folder)[1] for backend in ("tensorflow", "jax"))
    names = [name for name in one if name.split()[0] in ("orderless", "bernoulli", "erased", "digests")]
    assert len(names) == 8
    for name in names:
        assert (one[name] == other[name]).all(), name


@pytest.mark.parametrize("step", range(STEPS))
def test_from_the_same_state_both_backends_find_the_same_loss_and_gradient(step, folder):
    one, other = (found_on(backend, folder)[1] for backend in ("tensorflow", "jax"))
    check_same_step(one, other, step)


def manifest_of(**settings):
    representation = Voices(**settings)
    return Manifest("made-up", "1", "voices", to_json(representation), representation.features(), ())


@pytest.mark.parametrize(
    ("settings", "what"),
    [({}, []), ({"hold": True}, ["holds"]), ({"ranges": "any"}, ["ranges"]), ({"window": 0}, ["window"])],
)
def test_a_dataset_that_it_cannot_work_with_is_named_before_training(settings, what):
    assert [item.what for item in Coconet().needs(manifest_of(**settings))] == what


def test_a_wider_network_takes_any_pitch():
    assert Coconet(pitch_range=(0, 127)).needs(manifest_of(ranges="any")) == []


def test_cells_and_classes_are_each_others_inverse():
    cells = np.array([[36, 81, 60, 128]], np.uint8)
    assert Coconet().classes(cells).tolist() == [[0, 45, 24, 46]]
    assert Coconet().cells(Coconet().classes(cells)).tolist() == cells.tolist()
    assert Coconet().classes([35, 82, 129]).tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    "settings",
    [{"dilation": 3}, {"blocks": 0}, {"hide": 0.0}, {"erase": (5, 4)}, {"pitch_range": (60, 128)}, {"masks": "some"}],
)
def test_settings_that_make_no_network_are_refused_by_name(settings):
    name = next(iter(settings)).replace("_", "-")
    with pytest.raises(UsageError, match=f"--{name}"):
        Coconet(**settings)


@pytest.mark.slow
def test_what_users_type_trains_it_scores_it_by_every_protocol_and_fills_the_voices_that_a_melody_lacks(tmp_path):
    representation = Voices(window=16)
    held_chords(str(tmp_path / "data"))
    melody = np.full((20, 4), 128, np.uint8)
    melody[:, 0] = 67 + np.arange(20) // 4
    (tmp_path / "melody.mid").write_bytes(write_midi(representation.piece_from_cells(melody)))
    small = "--blocks 1 --filters 8 --steps 60 --warmup 5 --checkpoint-every 30 --learning-rate 0.01"
    lines = [
        f"train chorales-coconet --data {tmp_path}/data --output {tmp_path}/run {small}",
        *(f"evaluate {tmp_path}/run --protocol {name} --orders 2 --limit 2 --json" for name in PROTOCOLS),
        f"evaluate {tmp_path}/run --protocol segment",
        f"sample {tmp_path}/run --output {tmp_path}/made --count 1 --gibbs-steps 5 --given {tmp_path}/melody.mid",
    ]
    words = json.dumps([line.split() for line in lines])
    command = [sys.executable, str(Path(__file__).with_name("commands.py")), words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    train, masked, orderless, chronological, framewise, wrong, sample = json.loads(done.stdout.splitlines()[-1])
    assert train["code"] == 0, train["err"]
    masked, orderless, chronological, framewise = (
        json.loads(found["out"]) for found in (masked, orderless, chronological, framewise)
    )
    journal = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    best = min((row["loss"], row["step"]) for row in journal if row.get("kind") == "validation")
    one = json.loads((tmp_path / "run/COMPLETED").read_text())["validation"]
    assert {"loss", "nats_per_erased", "accuracy", "outside"} <= one.keys() and one["outside"] == 0
    assert best[0] <= one["loss"] < np.log(47) and masked["step"] == best[1]
    assert 0 < masked["probability"] < 1
    assert len(orderless["pieces"]) == 2 and orderless["limit"] == 2 and orderless["orders"] == 2
    assert (chronological["orders"], chronological["window"]) == (1, 16)
    assert {"unigram", "bigram", "ngram"} <= chronological["floors"].keys()
    for found in (orderless, chronological, framewise):
        assert 0 < found["nll_cell"] < np.log(47)
        assert found["nll_frame"] == pytest.approx(4 * found["nll_cell"])
        orders = "" if found["protocol"] == "chronological" else "-orders2"
        name = f"validation-{found['step']}-{found['protocol']}{orders}-limit2.json"
        assert Path(found["file"]).name == name
    assert wrong["code"] == 2 and "masked, orderless, chronological, framewise" in wrong["err"]
    assert sample["code"] == 0, sample["err"]
    made = cells_of(read_midi((tmp_path / "made/sample-000.mid").read_bytes(), "made"), 4)
    assert (made[:, 0] == melody[: len(made), 0]).all() and (made[:, 1:] != 128).any()
