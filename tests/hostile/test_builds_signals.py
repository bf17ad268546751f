"""SIGTERM and Ctrl-C at drawn moments: exit 75 and 130, nobody left behind, and the same command continues."""

import os
import signal
import subprocess
import sys
import time

import pytest

from beam_pipelines.folder import Folder
from beam_pipelines.progress import ticks
from schemas.hashing import generator
from tests.hostile.killed_builds import INPUTS, ROOT, contents, litter, run, start, wait

MOMENTS = 12


def drawn(number):
    """(inputs surveyed and written by then, signal, whether the whole group gets it, workers)."""
    draw = generator(number, "moment", "test")
    how = [(signal.SIGTERM, False), (signal.SIGINT, False), (signal.SIGINT, True)][number % 3]
    # The last inputs are left alone: a build that has finished cannot be stopped.
    return int(draw.integers(0, 2 * INPUTS - 4)), *how, str(1 + number // 3 % 2)


def stopped(words, output, reached, number, group):
    """How the build ends that gets a signal as soon as its folder is as wanted."""
    process = start([*words, "--output", str(output)])
    while process.poll() is None and not reached(output.with_name(f"{output.name}.building")):
        time.sleep(0.0005)
    assert process.poll() is None, process.communicate()
    (os.killpg if group else os.kill)(process.pid, number)
    return wait(process)


def check_stopped(ended, number):
    assert ended.code == {signal.SIGTERM: 75, signal.SIGINT: 130}[number], ended.errors
    assert "Traceback" not in ended.errors and not ended.left
    assert {signal.SIGTERM: "told to stop", signal.SIGINT: "stopped by Ctrl-C"}[number] in ended.errors
    assert "run the same command again" in ended.errors


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_build_that_is_told_to_stop_does_and_continues(words, undisturbed, tmp_path, moment):
    inputs, number, group, workers = drawn(moment)
    output = tmp_path / "out"

    def reached(building):
        return building.exists() and sum(ticks(Folder(str(building))).values()) >= inputs

    check_stopped(stopped([*words, "--workers", workers], output, reached, number, group), number)
    assert run([*words, "--output", str(output)]).code == 0
    assert contents(output) == undisturbed and not litter(output)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "group"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_build_is_stopped_in_silence_while_its_workers_are_starting(words, tmp_path, number, group):
    def reached(building):
        # The first line is the launcher's.
        return (building / "workers").exists() and (building / "workers").read_text().count("\n") > 1

    check_stopped(stopped([*words, "--workers", "2"], tmp_path / "out", reached, number, group), number)


TOLD = """
import os, signal, stretto, sys, time
with stretto.told_to_stop(sys.argv[1:]):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(9)
"""


@pytest.mark.parametrize(("command", "code"), [("prepare", 75), ("train", 75), ("verify", -signal.SIGTERM)])
def test_what_can_be_continued_ends_with_75_before_it_has_begun(command, code):
    done = subprocess.run([sys.executable, "-c", TOLD, command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == code and "Traceback" not in done.stderr
    assert ("run the same command again" in done.stderr) == (code == 75)


SWALLOWING = """
import os, signal, sys
from beam_pipelines import build
from schemas.errors import Interrupted
gather = build.gather_suspects

def swallow(folder):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except Interrupted:
        pass
    return gather(folder)

build.gather_suspects = swallow
import stretto
sys.exit(stretto.main(sys.argv[1:]))
"""


def test_a_signal_that_somebody_s_code_takes_for_its_own_failure_is_not_forgotten(words, tmp_path):
    entry = [sys.executable, "-c", SWALLOWING]
    check_stopped(wait(start([*words, "--output", str(tmp_path / "out"), "--workers", "1"], entry)), signal.SIGTERM)
