"""The benchmarks' own arithmetic, and that what they start ends in time; nothing is trained here."""

import argparse
import gzip
import json
import os
import signal
import subprocess
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import one_call, profile_costs, train_step

NO_MEMORY = "exit code 1: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes"
PEER_NO_MEMORY = f"exit code 1: torch.OutOfMemoryError: CUDA out of memory. RuntimeError: {one_call.PEER_ENDED} 1"
BESIDE = ["--positions", "rotary", "--peer", "python3", "--profile", "folder"]


def operation(name: str, start: float, length: float, thread: int = 0) -> dict[str, Any]:
    return {"ph": "X", "pid": 1, "tid": thread, "ts": start, "dur": length, "args": {"hlo_op": name}}


def line_name(thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": "thread_name", "pid": 1, "tid": thread, "args": {"name": name}}


# === What a profile says ===


def test_an_operation_has_its_own_time_without_what_lies_inside_it() -> None:
    events = [operation("while.1", 0, 100), operation("fusion.2", 10, 30), operation("dot.3", 20, 5)]
    assert profile_costs.own_time(events) == {"while": 70, "fusion": 25, "dot": 5}


def test_neighbours_take_nothing_from_each_other_and_those_that_differ_by_number_are_one() -> None:
    events = [operation("dot.2", 10, 10), operation("dot.1", 0, 10), operation("add", 20, 7)]
    assert profile_costs.own_time(events) == {"dot": 20, "add": 7}


def test_what_begins_with_the_operation_around_it_lies_inside_it() -> None:
    assert profile_costs.own_time([operation("dot", 0, 4), operation("while", 0, 10)]) == {"while": 6, "dot": 4}


def test_the_line_of_operations_is_taken_before_the_streams_that_show_them_once_more() -> None:
    streams = [line_name(7, "Stream #13"), operation("dot", 0, 9, thread=7)]
    whole = [line_name(3, "XLA Ops"), operation("dot", 0, 8, thread=3), {"ph": "X", "pid": 1, "tid": 3}]
    assert profile_costs.operations([*streams, *whole]) == {(1, 3): [whole[1]]}
    assert profile_costs.operations(streams) == {(1, 7): [streams[1]]}


def test_the_largest_costs_of_the_newest_profile_are_named_with_their_share(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "one.trace.json.gz", "wt") as file:
        json.dump({"traceEvents": [operation("dot.1", 0, 75), operation("add.1", 80, 25)]}, file)
    found = profile_costs.largest(str(tmp_path), 1)
    assert found["microseconds"] == 100
    assert found["largest"] == [{"operation": "dot", "microseconds": 75, "share": 0.75}]


def test_a_folder_without_a_profile_is_told_with_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="stretto train --profile"):
        profile_costs.largest(str(tmp_path))


# === What a step is held against ===


def test_the_flop_of_a_token_are_those_counted_by_hand() -> None:
    # tiny: 3 layers of 4 x 128 x 128 and 2 x 128 x 512 weights, and 128 x 10 to the logits: 591,104. 6 of each, and
    # 12 x 3 layers x 128 x a window of 128, half of it.
    assert train_step.flop_per_token("tiny", 128, 10) == 6 * 591_104 + 294_912


def test_an_mfu_is_told_only_where_there_is_a_peak() -> None:
    assert train_step.rates([2.0, 1.0, 4.0], 10, 6.0, 60.0)["mfu"] == 0.5
    assert "mfu" not in train_step.rates([2.0], 10, 6.0, 0.0)


def test_a_peer_that_ends_is_told_by_the_phrase_that_one_call_looks_for() -> None:
    asked = argparse.Namespace(size="tiny", window=8, batch=1, precision="float32")
    with pytest.raises(RuntimeError, match=f"^{one_call.PEER_ENDED} 1$"):
        train_step.Peer("/bin/false", asked, 10)


# === One call ===


@pytest.fixture
def asked() -> argparse.Namespace:
    return argparse.Namespace(batch=8, size="tiny", window=8, precision="float32", peak=None, steps=1)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """A function that has `run` give these errors, one after another, and returns the list of what it is asked."""

    def put(*errors: str) -> list[list[str]]:
        rest, asked = iter(errors), list[list[str]]()

        def run(words: list[str], seconds: float) -> tuple[str, str]:
            asked.append(words)
            return '{"own": 1}', next(rest)

        monkeypatch.setattr(one_call, "run", run)
        return asked

    return put


def batches(calls: list[list[str]]) -> list[str]:
    return [words[words.index("--batch") + 1] for words in calls]


def fitted(asked: argparse.Namespace, words: list[str] | None = None) -> dict[str, Any]:
    return one_call.fitting_batch(asked, one_call.Clock(100), 1.0, words or BESIDE)


def test_a_batch_that_the_device_has_no_room_for_is_halved(asked: Any, calls: Any) -> None:
    made = calls(NO_MEMORY, NO_MEMORY, "")
    found = fitted(asked)
    assert batches(made) == ["8", "4", "2"] and all("--peer" in words for words in made)
    assert found["own"] == 1 and [one["batch"] for one in found["failed_before"]] == [8, 4]


def test_a_batch_of_which_not_even_one_example_fits_ends(asked: Any, calls: Any) -> None:
    made = calls(*[NO_MEMORY] * 9)
    assert len(fitted(asked)["failed"]) == len(made) == 4


def test_a_peer_that_has_no_memory_is_left_out_and_the_batch_stays(asked: Any, calls: Any) -> None:
    made = calls(PEER_NO_MEMORY, "")
    assert fitted(asked)["own"] == 1
    assert batches(made) == ["8", "8"]
    assert "--peer" not in made[1] and made[1][-4:] == ["--positions", "rotary", "--profile", "folder"]


def test_another_failure_is_tried_once_more_with_nothing_beside_and_then_ends(asked: Any, calls: Any) -> None:
    made = calls("exit code 1: ValueError", "exit code 1: ValueError")
    assert len(fitted(asked)["failed"]) == 2
    assert made[1][-2:] == ["--positions", "rotary"] and batches(made) == ["8", "8"]


@pytest.mark.parametrize(
    ("precision", "peak", "used"),
    [("float32", None, "0.0"), ("mixed_bfloat16", None, "989000000000000.0"), ("float32", 67e12, "67000000000000.0")],
)
def test_the_peak_of_bfloat16_is_not_that_of_float32(
    asked: Any, calls: Any, precision: str, peak: Any, used: str
) -> None:
    asked.precision, asked.peak = precision, peak
    made = calls("")
    fitted(asked)
    assert made[0][made[0].index("--peak") + 1] == used


@pytest.fixture
def grandchild(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A program that starts a sleeping one and writes its number to a file; ended afterwards, whatever happens."""
    number = tmp_path / "number"
    program = (
        "import pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(number)!r}).write_text(str(child.pid))\n"
        "print('said', flush=True)\n"
    )
    yield program, number
    with suppress(ProcessLookupError, FileNotFoundError):
        os.kill(int(number.read_text()), signal.SIGKILL)


def gone(pid: int) -> bool:
    """Whether a process ends within some seconds; one that waits to be reaped has."""
    for _ in range(50):
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
        if not state or state.startswith("Z"):
            return True
        time.sleep(0.1)
    return False


def test_what_takes_too_long_is_ended_with_all_that_it_started(grandchild: tuple[str, Path]) -> None:
    program, number = grandchild
    began = time.monotonic()
    out, error = one_call.run(["-c", program + "child.wait()"], 2.0)
    assert time.monotonic() - began < 2.0 + one_call.RESERVE
    assert out == "" and "not done after 2 s" in error
    assert gone(int(number.read_text()))


def test_a_child_of_a_program_that_has_ended_is_not_waited_for(grandchild: tuple[str, Path]) -> None:
    began = time.monotonic()
    assert one_call.run(["-c", grandchild[0]], 30.0) == ("said\n", "")
    assert time.monotonic() - began < 20


def test_a_failure_is_told_with_its_last_words_and_nothing_is_begun_too_late() -> None:
    assert one_call.run(["-c", "raise SystemExit('no such luck')"], 30.0)[1] == "exit code 1: no such luck\n"
    assert "no time was left" in one_call.run(["-c", "pass"], one_call.Clock(one_call.RESERVE).left())[1]


def test_silence_and_seconds_of_a_sound_are_heard(tmp_path: Path) -> None:
    rate, path = 1000, tmp_path / "one.wav"
    tone = np.sin(np.arange(rate * 3 // 2) * 0.5) * 20_000
    sound = np.concatenate([tone, np.zeros(rate // 2)]).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat(sound, 2).tobytes())
    assert one_call.heard(path) == {"seconds": 2.0, "silent": 0.25}


def test_a_sound_too_short_to_hear_is_silent(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "none.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(1000)
    assert one_call.heard(tmp_path / "none.wav") == {"seconds": 0.0, "silent": 1.0}
