"""Settings on several devices: what they find is what one device finds, with the commands that a user types."""

import json
import subprocess

import pytest

from tests.trainer.synthetic import held_chords, scales
from tests.trainer.test_train import ROOT, STRETTO, command

pytestmark = pytest.mark.slow
STEPS = 8
CELLS = "--blocks 2 --filters 4 --pitch-range 36..81 --batch 8 --log-every 1 --steps 8 --checkpoint-every 100".split()
TOKENS = ("--batch", "8", "--accumulate", "1", "--dropout", "0", "--log-every", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Tokens and cells; no batch of 8 divides either."""
    folder = tmp_path_factory.mktemp("data")
    scales(str(folder / "tokens"), window=32, train=43)
    held_chords(str(folder / "cells"), train=43)
    return folder


def cells(data, output, *flags, backend="jax"):
    told = [str(STRETTO), "train", "chorales-coconet", "--data", str(data / "cells"), "--output", str(output)]
    return [*told, "--backend", backend, *CELLS, *flags]


def tokens(data, output, *flags, backend="jax"):
    return command(data / "tokens", output, *TOKENS, *flags, backend=backend, steps=STEPS, every=100)


def losses(typed, output):
    """Of every step, and of validation after the last."""
    done = subprocess.run(typed, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] in ("train", "validation")]


KINDS = {
    "cells": (cells, ()),
    "cells, computed again": (cells, ("--remat",)),
    "parts of a batch": (tokens, ("--accumulate", "2")),
    "computed again": (tokens, ("--remat",)),
}


def test_a_divided_model_whose_blocks_are_computed_again_finds_what_one_device_finds(data, tmp_path):
    alone = losses(tokens(data, tmp_path / "one"), tmp_path / "one")
    divided = losses(tokens(data, tmp_path / "two", "--remat", "--mesh", "data=1,model=2"), tmp_path / "two")
    assert divided[:5] == pytest.approx(alone[:5], rel=1e-5)


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
@pytest.mark.parametrize("kind", KINDS)
def test_two_devices_find_what_one_finds(kind, backend, data, tmp_path):
    typed, flags = KINDS[kind]
    alone = losses(typed(data, tmp_path / "one", *flags, backend=backend), tmp_path / "one")
    both = losses(typed(data, tmp_path / "two", *flags, "--mesh", "data=2", backend=backend), tmp_path / "two")
    assert len(alone) == STEPS + 1
    assert both[:5] == pytest.approx(alone[:5], rel=1e-5)
    assert both == pytest.approx(alone, rel=1e-3)


def test_dropout_on_jax_draws_the_same_masks_on_any_mesh(data, tmp_path):
    flags = ("--dropout", "0.3", "--attention-dropout", "0.2")
    alone = losses(tokens(data, tmp_path / "one", *flags), tmp_path / "one")
    divided = losses(tokens(data, tmp_path / "two", *flags, "--mesh", "data=2,model=2"), tmp_path / "two")
    assert divided[:5] == pytest.approx(alone[:5], rel=1e-5)


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_weights_of_a_run_on_one_device_begin_one_on_two(backend, data, tmp_path):
    losses(tokens(data, tmp_path / "one", backend=backend), tmp_path / "one")
    flags = ("--init", str(tmp_path / "one"), "--seed", "1")
    alone = losses(tokens(data, tmp_path / "alone", *flags, backend=backend), tmp_path / "alone")
    both = losses(tokens(data, tmp_path / "both", *flags, "--mesh", "data=2", backend=backend), tmp_path / "both")
    assert both[:5] == pytest.approx(alone[:5], rel=1e-5)
