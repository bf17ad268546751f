"""A file that kills, hangs or swells whoever reads it costs that file, in the same run, and nothing else."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from beam_pipelines.corpora.corpus import Item
from beam_pipelines.reading_process import ReadingProcess
from beam_pipelines.survey import safely_surveyed, survey
from schemas.errors import MachineError
from tests.beam_pipelines.deadly_corpus import Deadly
from tests.beam_pipelines.midi_files import build_of, midi_folder

ROOT = Path(__file__).resolve().parents[2]
ITEMS = [Item(f"midi/{number:03d}.mid", f"midi/{number:03d}", path=f"{number:03d}.mid") for number in range(4, 7)]


@pytest.fixture
def deadly(tmp_path):
    midi_folder(tmp_path / "in", 9)
    build, started = build_of(tmp_path, item_megabytes=256), []

    def make(seconds=60.0, **settings):
        process = ReadingProcess(replace(build, corpus=Deadly(**settings), item_seconds=seconds))
        started.append(process)
        return process

    yield make
    for process in started:
        process.close()


@pytest.mark.parametrize(
    ("way", "reason", "told"),
    [
        ("exit", "crash", "exit code 42"),
        ("segfault", "crash", "SIGSEGV"),
        ("killed", "killed", "too little memory"),
        ("fault", "unexpected", "KeyError"),
        ("hang", "too-slow", "--item-seconds 1"),
        ("grow", "too-much-memory", "--item-megabytes 256"),
    ],
)
def test_what_ends_its_reader_is_quarantined_and_the_next_input_is_read(deadly, tmp_path, way, reason, told):
    process, build = deadly(way=way, seconds=1.0 if way == "hang" else 60.0), build_of(tmp_path)
    before, bad, after = (safely_surveyed(process, item) for item in ITEMS)
    assert (bad.refusal.status, bad.refusal.reason) == ("quarantined", reason)
    assert told in bad.refusal.message and "midi/005.mid" in bad.refusal.message
    assert bad.bytes == (tmp_path / "in" / "005.mid").stat().st_size and len(bad.sha256) == 64
    assert [before, after] == [survey(build, ITEMS[0]), survey(build, ITEMS[2])]


def test_what_native_code_prints_is_no_answer(deadly, tmp_path):
    process, build = deadly(way="talk"), build_of(tmp_path)
    assert safely_surveyed(process, ITEMS[1]) == survey(build, ITEMS[1])


def test_an_input_whose_reader_was_killed_once_from_outside_is_innocent(deadly, tmp_path):
    process, build = deadly(only_by="nobody"), build_of(tmp_path)
    safely_surveyed(process, ITEMS[0])
    os.kill(process._process.pid, 9)
    assert safely_surveyed(process, ITEMS[1]) == survey(build, ITEMS[1])


def test_a_reader_that_cannot_start_is_the_fault_of_no_input(deadly, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "beam_pipelines.reading_process._command", lambda: [sys.executable, "-c", "raise SystemExit('no way')"]
    )
    with pytest.raises(MachineError, match="no way"):
        safely_surveyed(deadly(), ITEMS[0])


def test_what_ends_an_attempt_to_write_is_refused(deadly, tmp_path):
    report = survey(build_of(tmp_path), ITEMS[1])
    asked = {"item": ITEMS[1], "sha256": report.sha256, "split": "train"}
    assert deadly(way="exit").ask("encode", **asked).refusal.reason == "crash"
    assert deadly(only_by="nobody").ask("encode", **asked).refusal is None


def _run(tmp_path, *arguments):
    command = [sys.executable, "-m", "tests.beam_pipelines.deadly_corpus", str(tmp_path), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def _quarantined(tmp_path):
    entries = (tmp_path / "out" / "quarantine" / "quarantine.jsonl").read_text().splitlines()
    return [(entry["name"], entry["reason"]) for entry in map(json.loads, entries)]


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_build_with_a_file_that_kills_its_reader_ends_in_one_run(tmp_path, workers):
    midi_folder(tmp_path / "in", 9)
    done = _run(tmp_path, workers, "segfault")
    assert done.returncode == 0, done.stderr
    assert _quarantined(tmp_path) == [("midi/005.mid", "crash")]


@pytest.mark.parametrize(("workers", "code"), [("1", 42), pytest.param("2", 75, marks=pytest.mark.slow)])
def test_what_kills_its_writer_is_tried_apart_the_second_time(tmp_path, workers, code):
    midi_folder(tmp_path / "in", 9)
    first = _run(tmp_path, workers, "exit", "writer")
    assert (75 if "Interrupted" in first.stderr else first.returncode) == code, first.stderr
    second = _run(tmp_path, workers, "exit", "writer")
    assert second.returncode == 0, second.stderr
    assert _quarantined(tmp_path) == [("midi/005.mid", "crash")]
