"""Two builds into one folder: one works, the other is refused and told by whom; a dead one keeps nothing."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections import Counter

import pytest

from tests.beam_pipelines.midi_files import midi_folder
from tests.hostile import dying_prepare
from tests.hostile.dying_prepare import Blow
from tests.hostile.killed_builds import ROOT, STRETTO, contents, group, litter, parts_there, run, start, wait


def check_race(folder, scene, rounds):
    """Lets builds race and looks at every round."""
    command = [sys.executable, "-m", "tests.hostile.racing_builds", str(folder), scene, str(rounds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == rounds
    for one in found:
        codes = Counter(racer["code"] for racer in one["ended"])
        assert codes[0] == 1 and set(codes) <= {0, 2, 4}, one
        (winner,) = (racer["pid"] for racer in one["ended"] if racer["code"] == 0)
        for racer in one["ended"]:
            refused = {0: "", 2: "a dataset is there already", 4: "another build is writing here (process "}
            assert refused[racer["code"]] in racer["said"], one
            if racer["code"] == 4:
                assert f"(process {winner} on {socket.gethostname()}, since 2" in racer["said"], one
        assert one["same"] and not one["litter"] and not one["wrong"], one
    return Counter(racer["code"] for one in found for racer in one["ended"])


def test_of_builds_that_start_in_the_same_instant_one_works(tmp_path):
    check_race(tmp_path, "nothing there", 2)


@pytest.mark.slow
@pytest.mark.parametrize("scene", ["nothing there", "replace", "half finished"])
def test_of_builds_that_start_in_the_same_instant_one_works_twenty_times(tmp_path, scene):
    codes = check_race(tmp_path, scene, 20)
    assert codes[0] == 20 and codes[2] + codes[4] == 40


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return ["midi", "--input", str(midi_folder(tmp_path_factory.mktemp("music"), 12)), "--window", "64"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--workers", "2"]])
def test_a_second_command_is_refused_with_process_and_host_of_the_first(words, tmp_path, more):
    output = tmp_path / "out"
    if "--overwrite" in more:
        assert run([*words, "--output", str(output), "--transpose=0..1"]).code == 0
    first = start([*words, "--output", str(output), *more])
    while first.poll() is None and not parts_there(1)(output.with_name("out.building")):
        time.sleep(0.0005)
    os.killpg(first.pid, signal.SIGSTOP)
    second = run([*words, "--output", str(output), *more])
    assert second.code == 4 and f"process {first.pid} on {socket.gethostname()}, since 2" in second.errors
    assert "end it, or choose another --output" in second.errors
    os.killpg(first.pid, signal.SIGCONT)
    assert wait(first).code == 0 and not litter(output)


@pytest.mark.slow
@pytest.mark.parametrize("place", [r"/progress$", r"COMPLETED\.pending -> ", r"\.building -> "])
def test_a_build_is_locked_until_its_last_step(words, tmp_path, place):
    """The second one starts when the first has removed its working files, or is about to give the folder its name."""
    output, said, code = tmp_path / "out", tmp_path / "said", tmp_path / "code"
    second = shlex.join([*STRETTO, "prepare", *words, "--output", str(output)])
    blow = Blow(place, run=f"{second} 2> {said}; echo $? > {code}")
    first = wait(start([*words, "--output", str(output)], dying_prepare.words(blow)))
    assert first.code == 0, first.errors
    assert code.read_text() == "4\n" and "another build is writing here" in said.read_text()
    assert contents(output) and not litter(output)


@pytest.mark.slow
def test_a_killed_build_that_is_stopped_in_its_commit_leaves_a_lock_that_is_taken_over(words, tmp_path):
    output = tmp_path / "out"
    ended = wait(start([*words, "--output", str(output)], dying_prepare.words(Blow(r"/items$", "os.rmdir"))))
    assert ended.code == -signal.SIGKILL and "out.building.lock" in litter(output)
    # A process of that number lives again; it is not the one that held the lock.
    (tmp_path / "out.building.lock").write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    ended = run([*words, "--output", str(output)])
    assert ended.code == 0 and "only the last steps of the commit were left" in ended.errors
    assert contents(output) and not litter(output)


@pytest.mark.slow
def test_stopped_workers_of_a_killed_launcher_end_with_it(words, tmp_path):
    output = tmp_path / "out"
    first = start([*words, "--output", str(output), "--workers", "2"])
    while first.poll() is None and not parts_there(1)(output.with_name("out.building")):
        time.sleep(0.0005)
    os.killpg(first.pid, signal.SIGSTOP)
    assert len(group(first.pid)) >= 3
    os.kill(first.pid, signal.SIGKILL)
    os.kill(first.pid, signal.SIGCONT)
    # The processes that read are stopped still, and hold nothing.
    assert run([*words, "--output", str(output)]).code == 0
    os.killpg(first.pid, signal.SIGCONT)
    assert not wait(first).left and not litter(output)
