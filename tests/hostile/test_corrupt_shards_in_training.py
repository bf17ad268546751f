"""A run meets corrupt records: it names the first and ends, or passes over all of them, stopped in between or not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.manifest import read_manifest
from tests.trainer.synthetic import scales
from tests.trainer.test_corrupt_records import damage

pytestmark = pytest.mark.slow

COMMANDS = Path(__file__).resolve().parents[1] / "trainer" / "commands.py"
TINY = (
    "--layers 1 --hidden 16 --attention 16 --feed-forward 16 --heads 2 --max-distance 16 --batch 4 --log-every 2 "
    "--checkpoint-every 4 --backend jax"
)


def shard(data, split):
    return os.path.join(data, read_manifest(data).shards_of(split)[0].name)


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    """A folder of runs on a damaged dataset, and the outcome of each command by name."""
    root = tmp_path_factory.mktemp("corrupt")
    scales(str(root / "sound"), window=32)
    data = str(shutil.copytree(root / "sound", root / "data"))
    for split, record in (("train", 3), ("train", 8), ("validation", 1)):
        damage(shard(data, split), record)
    train = f"train music-transformer --data {data} {TINY} --output {root}"
    lines = {
        "fails": f"train music-transformer --data {data} {TINY} --output {root}/whole --steps 12",
        "goes on": f"{train}/whole --steps 12 --on-corrupt skip",
        "first part": f"{train}/parts --steps 5 --on-corrupt skip",
        "second part": f"{train}/parts --steps 12 --on-corrupt skip",
        "scoring fails": f"evaluate {root}/whole --json",
        "scoring goes on": f"evaluate {root}/whole --on-corrupt skip --json",
        "table": f"evaluate {root}/whole --on-corrupt skip",
        "sampling fails": f"sample {root}/whole --count 1 --length 8 --output {root}/music",
        "sampling goes on": f"sample {root}/whole --count 1 --length 8 --output {root}/music --on-corrupt skip",
    }
    done = subprocess.run(
        [sys.executable, str(COMMANDS), json.dumps([line.split() for line in lines.values()])],
        capture_output=True, text=True, timeout=500, env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return root, dict(zip(lines, json.loads(done.stdout.splitlines()[-1]), strict=True))


def lines(folder, kind):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def test_a_corrupt_record_ends_the_run_with_its_place_and_what_can_be_done(road):
    outcome = road[1]["fails"]
    assert outcome["code"] == 3
    assert ".tfrecord-00000-of-00002: record " in outcome["err"] and "--on-corrupt skip" in outcome["err"]


def test_the_same_command_goes_on_without_corrupt_records_and_names_each(road):
    root, outcomes = road
    assert outcomes["goes on"]["code"] == 0, outcomes["goes on"]["err"]
    told = [(one["split"], one["record"]) for one in lines(root / "whole", "corrupt")]
    assert sorted(told) == [("train", 3), ("train", 8), ("validation", 1)]
    assert "corrupt, passed over: " in outcomes["goes on"]["err"]
    assert lines(root / "whole", "train")[-1]["corrupt_records"] == 3


def test_a_stopped_run_passes_over_the_same_records_and_ends_with_the_same_figures(road):
    root, outcomes = road
    assert outcomes["first part"]["code"] == outcomes["second part"]["code"] == 0
    whole, parts = (lines(root / name, "train")[-1] for name in ("whole", "parts"))
    for name in ("loss", "weight_norm", "corrupt_records"):
        assert whole[name] == parts[name], name
    assert [one["record"] for one in lines(root / "whole", "corrupt")] == [
        one["record"] for one in lines(root / "parts", "corrupt")
    ]


def test_scoring_refuses_or_leaves_out_what_cannot_be_read_and_says_so(road):
    root, outcomes = road
    assert outcomes["scoring fails"]["code"] == 3
    found = json.loads(outcomes["scoring goes on"]["out"])
    (written,) = (root / "whole" / "evaluations").iterdir()
    assert str(written) == found["file"] and written.name.endswith("-segment-without3.json")
    assert len(found["pieces"]) == 6 and found["left_out"] == [] and found["unnamed_records"] == 1
    assert "left out too: 1 corrupt records of pieces that cannot be named" in outcomes["table"]["out"]
    assert sorted((one["split"], one["record"]) for one in found["corrupt_records"]) == [
        ("train", 3), ("train", 8), ("validation", 1),
    ]  # fmt: skip
    assert "corrupt, passed over: " in outcomes["table"]["out"]


def test_sampling_searches_what_can_be_read_for_copied_runs_and_names_the_rest(road):
    root, outcomes = road
    assert outcomes["sampling fails"]["code"] == 3 and "--on-corrupt skip" in outcomes["sampling fails"]["err"]
    assert outcomes["sampling goes on"]["code"] == 0, outcomes["sampling goes on"]["err"]
    found = json.loads((root / "music" / "samples.json").read_text())
    assert [(one["split"], one["record"]) for one in found["corrupt_records"]] == [("train", 3), ("train", 8)]
    assert found["samples"][0]["longest_copied_run"] is not None
    assert outcomes["sampling goes on"]["out"].count("corrupt, passed over: ") == 2
