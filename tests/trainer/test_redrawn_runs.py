"""Runs on windows drawn from whole pieces, through the commands that a user types."""

import json
from pathlib import Path

import numpy as np
import pytest

from schemas.naming import copy_key, window_key
from schemas.representations.raster import Raster
from schemas.representations.voices import Voices
from tests.trainer.synthetic import CORPUS, scales, whole_scales, write_dataset
from tests.trainer.test_after_training import commands
from tests.trainer.test_train import assert_equal, metrics

TINY = "--layers 1 --hidden 16 --attention 16 --feed-forward 32 --heads 2 --dropout 0.1"
HOW = "--backend jax --batch 4 --warmup 2 --log-every 5 --checkpoint-every 10"
CELLS = "--blocks 1 --filters 4 --backend jax --batch 4 --warmup 2 --log-every 5"
DRAWN = "--redraw-crop 16 --redraw-transpose=-6..6"


def whole_chords(folder, representation):
    """Chorales of held chords near the edge of what the voices sing, whole pieces of 5 to 14 quarters."""
    splits = {}
    for split, count in {"train": 12, "validation": 3}.items():
        splits[split] = [record for number in range(count) for record in chorale(representation, split, number)]
    write_dataset(str(folder), representation.features(), splits, representation=representation)


def chorale(representation, split, number):
    rise = np.arange(4 * (5 + number % 10))[:, None] // 4 % 4 + number % 5
    key = window_key(copy_key(f"{CORPUS}/{split}/{number}.mid", 0, 1.0), 0)
    for record in representation.encode(representation.piece_from_cells(np.array([72, 65, 58, 48]) + rise)):
        yield {**record, "key": key.encode(), "group": str(number).encode()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with runs, and what each command said, by name."""
    root = tmp_path_factory.mktemp("redrawn")
    whole_scales(str(root / "pieces"))
    scales(str(root / "windows"), window=32)
    whole_chords(root / "raster", Raster(window=0))
    whole_chords(root / "voices", Voices(window=0))
    train = f"train music-transformer {TINY} {HOW} --data {root}/pieces --output {root}"
    windows = f"train music-transformer {TINY} {HOW} --data {root}/windows --output {root}"
    chorales = f"train chorales-rotary {TINY} {HOW} --data {root}/raster --output {root}"
    lines = {
        "whole": f"{train}/whole {DRAWN} --steps 20",
        "begun": f"{train}/parts {DRAWN} --steps 10",
        "continued": f"{train}/parts {DRAWN} --steps 20",
        "other crop": f"{train}/parts --redraw-crop 8 --redraw-transpose=-6..6 --steps 20",
        "other keys": f"{train}/parts --redraw-crop 16 --redraw-transpose=-5..6 --steps 20",
        "no crop": f"{train}/none --steps 20",
        "too long": f"{windows}/none --redraw-crop 33 --steps 20",
        "halves": f"{windows}/halves --redraw-crop 16 --steps 5",
        "raster": f"{chorales}/on-raster --steps 10 {DRAWN}",
        "not on a step": f"{chorales}/none --redraw-crop 18",
        "cells": f"train chorales-coconet {CELLS} --data {root}/voices --output {root}/on-cells --steps 5 {DRAWN}",
        "evaluate": f"evaluate {root}/whole --checkpoint last --json",
        "evaluate cells": f"evaluate {root}/on-cells --orders 1 --json",
        "longer": f"evaluate {root}/on-cells --window 17",
        "sample": f"sample {root}/whole --output {root}/samples --count 1 --length 16 --json",
    }
    return root, dict(zip(lines, commands(*lines.values()), strict=True))


@pytest.mark.parametrize(
    "name", ["whole", "begun", "continued", "halves", "raster", "cells", "evaluate cells", "sample"]
)
def test_it_ends_well(made, name):
    assert made[1][name]["code"] == 0, made[1][name]["err"]


def test_a_continued_run_draws_what_an_undisturbed_one_draws_bit_for_bit(made):
    root = made[0]
    assert_equal(root / "whole", root / "parts", 20)
    for name in ("examples", "drawn_again", "loss"):
        told = [[line[name] for line in metrics(root / run, "train")] for run in ("whole", "parts")]
        assert told[0] == told[1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other crop", "train.redraw_crop: 16 there, 8 here"),
        ("other keys", "train.redraw_transpose: [-6, "),
        ("no crop", "--redraw-crop N"),
        ("too long", "--redraw-crop 33: records of this dataset have 32 tokens. Take at most 32"),
        ("not on a step", "--redraw-crop 18: window 18 must lie on a multiple of 4"),
        ("longer", "--allow-longer"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_to_do(made, name, words):
    assert made[1][name]["code"] == 2
    assert words in made[1][name]["err"] and "Traceback" not in made[1][name]["err"]


def test_validation_while_training_and_the_evaluation_after_it_agree_on_whole_pieces(made):
    found = json.loads(made[1]["evaluate"]["out"])
    last = metrics(made[0] / "whole", "validation")[-1]
    assert found["window"] == 16 and found["step"] == last["step"] == 20
    assert last["loss"] == pytest.approx(found["nats_per_token"], rel=1e-5)
    assert last["accuracy"] == pytest.approx(found["accuracy"], rel=1e-5)


@pytest.mark.parametrize("run", ["on-raster", "on-cells"])
def test_draws_that_left_the_range_are_told_in_the_journal_and_at_the_end(made, run):
    last = metrics(made[0] / run, "train")[-1]
    assert last["drawn_again"] > 0
    said = made[1]["raster" if run == "on-raster" else "cells"]["err"]
    assert f"{last['drawn_again']:,.0f} draws of another key left the range" in said


def test_a_run_stores_how_it_draws_and_the_window_that_its_model_reads(made):
    config = json.loads((Path(made[0]) / "whole" / "config.json").read_text())
    assert config["train"]["redraw_crop"] == 16
    assert config["train"]["redraw_transpose"] == list(range(-6, 7))
    assert config["data"]["features"]["tokens"]["shape"] == [16]
    assert config["data"]["settings"]["window"] == 0
