"""A process that dies before any single change of a file, in the commit or elsewhere, costs nothing that was done."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def killed_at_steps(folder, scene, stride):
    """What every_step found after each kill; at least a dozen of them."""
    command = [sys.executable, "-m", "tests.hostile.every_step", str(folder), scene, str(stride)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(one["killed"] for one in found) >= 3 and not found[-1]["killed"]
    return found


def check(found):
    for one in found:
        where = f"killed at step {one['step']}: {one}"
        assert not one["half"] and not one["wrong"], where
        assert one["same"] and not one["litter"], where
        # Typed again when everything was done already, it is refused as ever: a dataset is there.
        assert one["then"] == (2 if one["there"] and not one["overwrite"] else 0), where


def test_a_commit_killed_at_every_seventeenth_step_is_finished_by_the_same_command(tmp_path):
    check(killed_at_steps(tmp_path, "commit", 17))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scene", "stride"),
    [
        ("commit", 1),
        ("commit over another", 1),
        ("throw away", 3),
        ("throw away, then the first", 3),
        ("throw away a pending one, then the first", 1),
        ("whole", 4),
        ("whole over another", 9),
    ],
)
def test_a_build_killed_at_any_step_is_finished_by_the_same_command(tmp_path, scene, stride):
    check(killed_at_steps(tmp_path, scene, stride))
