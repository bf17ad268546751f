"""Training that diverges: the step and its examples are named, and the state before it is saved, bit for bit."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.synthetic import scales

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_the_state_before_the_first_bad_step_is_saved_wherever_between_two_checkpoints_that_is(tmp_path, backend):
    scales(str(tmp_path / "data"), window=32)
    words = [sys.executable, str(HERE / "diverging_runs.py"), backend, str(tmp_path / "data"), str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-4000:]
    *told, batch, validation = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == 5 and len({case["bad"] for case in told}) == 5
    for case in told:
        bad, left = case["bad"], case["left"]
        assert case["code"] == 6 and case["message"].startswith(f"step {bad}: "), case
        assert (left["step"], left["checkpoint"], left["split"]) == (bad, bad - 1, "train"), case
        assert [example["key"] for example in left["examples"]] == case["keys"], case
        assert all(key in case["message"] for key in case["keys"][:3]) and "diverged.json" in case["message"]
        assert (case["newest"], case["skipped"]) == (bad - 1, []) and case["equal"], case
        assert case["last_line"] < bad and case["again"].startswith(f"step {bad}: "), case
        assert case["best"] == bad - 1 and max(case["steps"]) == bad - 1 and set(case["scores"]) == {None}, case
    assert batch["newest"] == 2 and "State before it: " in batch["message"], batch
    assert re.search(r"/checkpoints/2; that of step \d+ could not be saved \(the batch size was", batch["message"]), (
        batch
    )
    left = validation["left"]
    assert (left["step"], left["what"], left["split"], left["checkpoint"]) == (6, "validation loss", "validation", 5)
    assert [example["key"] for example in left["examples"]] == [
        f"synthetic/validation/{number}.mid#+0@1/00000" for number in (0, 2, 4, 6)
    ]
    assert validation["newest"] == [5, []] and validation["best"] == 5
    assert validation["message"].startswith("step 6: validation loss is nan")
