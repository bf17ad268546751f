"""A file that kills whoever reads it costs one run and one quarantined input, not every run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from beam_pipelines.folder import Folder
from beam_pipelines.suspects import Reading, gather_suspects, read_suspects, survives
from tests.beam_pipelines.midi_files import midi_folder

ROOT = Path(__file__).resolve().parents[2]


def test_what_a_dead_process_was_reading_is_remembered(tmp_path):
    (tmp_path / "progress").mkdir()
    folder = Folder(str(tmp_path))
    Reading(folder).begin("midi/a\udcff.mid")
    assert gather_suspects(folder) == {"midi/a\udcff.mid"}
    assert gather_suspects(folder) == read_suspects(folder) == {"midi/a\udcff.mid"}


def test_what_was_read_to_its_end_is_no_suspect(tmp_path):
    (tmp_path / "progress").mkdir()
    folder = Folder(str(tmp_path))
    reading = Reading(folder)
    reading.begin("a")
    reading.end()
    assert gather_suspects(folder) == frozenset()


def test_a_process_of_its_own_says_how_it_ended(monkeypatch):
    assert survives("math:sqrt", 4.0) == ""
    assert survives("os:_exit", 3) == "ended with 3"
    monkeypatch.setattr("beam_pipelines.suspects._PATIENCE_SECONDS", 0.5)
    assert "did not end" in survives("time:sleep", 60)


@pytest.mark.parametrize(("workers", "code"), [(1, 42), (2, 75)])
def test_a_file_that_kills_its_reader_is_quarantined_the_second_time(tmp_path, workers, code):
    midi_folder(tmp_path / "in", 9)

    def run():
        command = [sys.executable, "-m", "tests.beam_pipelines.deadly_corpus", str(tmp_path), str(workers)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)

    first = run()
    assert (75 if "Interrupted" in first.stderr else first.returncode) == code, first.stderr
    second = run()
    assert second.returncode == 0, second.stderr
    entries = (tmp_path / "out" / "quarantine" / "quarantine.jsonl").read_text().splitlines()
    assert [(json.loads(line)["name"], json.loads(line)["reason"]) for line in entries] == [("midi/005.mid", "crash")]
