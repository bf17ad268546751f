"""Every hostile MIDI file gets the verdict that is right for it, alone and in one folder with sound files.

`expected.csv` says what is right and why, above all where other parsers say something else. Notes and seconds are those
of the piece, where there is one; verdicts are those of one build over the whole folder, so that the second file with
the same music is a duplicate.
"""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_pipelines.clean import Refusal
from beam_pipelines.config import Build
from beam_pipelines.corpora.midi import MidiFolder
from beam_pipelines.limits import over_limit
from beam_pipelines.split import duplicates
from beam_pipelines.survey import Report, survey
from schemas.manifest import read_manifest
from schemas.naming import item_name
from schemas.record import from_example, read_records
from schemas.representations.events import Events

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = Path(__file__).with_name("expected.csv")
MAIN = "import sys; from stretto import main; sys.exit(main())"
WITHOUT_A_PLACE = {"too-long", "hanging-notes"}
"""Reasons that a whole file gives."""
IN_A_TRACK = {"damaged-midi", "bad-tempo", "bad-track-length", "missing-tracks", "notes-after-end"}


def expected() -> dict[str, dict[str, str]]:
    """File -> its row of expected.csv."""
    with open(EXPECTED, encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def reports(sample_data) -> dict[str, Report]:
    """File -> what the survey says of it, limits included, each as if it were alone."""
    folder = str(sample_data("hostile"))
    build = Build(MidiFolder(), Events(), input=folder)
    found = {}
    for item in build.corpus.items(folder):
        report = survey(build, item)
        limit = over_limit(build, item.name, report.bytes, report.measures)
        found[item.path] = Report(
            item, report.refusal or limit, report.sha256, report.bytes, report.measures, report.exact
        )
    return found


def test_every_expectation_says_why_and_is_whole():
    rows = expected()
    assert all(len(row["why"]) > 10 for row in rows.values())
    assert all((row["verdict"] == "written") == (row["reason"] == "") for row in rows.values())
    assert all((row["notes"] == "") == (row["seconds"] == "") for row in rows.values())


def test_every_hostile_file_is_judged_as_expected(reports):
    fit = {path: report.exact for path, report in reports.items() if not report.refusal}
    twins = duplicates([(path, "train", exact) for path, exact in fit.items()])
    found = {path: said(report.refusal, path in twins) for path, report in reports.items()}
    assert found == {path: (row["verdict"], row["reason"]) for path, row in expected().items()}


def said(refusal: Refusal | None, is_twin: bool) -> tuple[str, str]:
    """Verdict and reason."""
    if refusal:
        return refusal.status, refusal.reason
    return ("skipped", "duplicate") if is_twin else ("written", "")


def test_every_piece_in_a_hostile_file_has_the_notes_and_the_length_expected(reports):
    rows = expected()
    pieces = {path for path, row in rows.items() if row["notes"]}
    found = {path: (report.measures.notes, f"{report.measures.seconds:.2f}") for path, report in reports.items()}
    assert {path for path, (notes, _) in found.items() if notes} <= pieces
    assert {path: found[path] for path in pieces} == {
        path: (int(rows[path]["notes"]), rows[path]["seconds"]) for path in pieces
    }


def test_every_refused_file_is_refused_at_a_byte_and_damage_in_a_track(reports):
    refused = {path: report.refusal for path, report in reports.items() if report.refusal}
    bad = {path: refusal for path, refusal in refused.items() if refusal.status == "quarantined"}
    assert bad
    for path, refusal in bad.items():
        assert refusal.message.startswith(reports[path].item.name), path
        assert refusal.offset is not None or refusal.reason in WITHOUT_A_PLACE, path
        assert refusal.track is not None or refusal.reason not in IN_A_TRACK, path


def prepare(music: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """One real build of everything in a folder."""
    words = ["prepare", "midi", "--input", str(music), "--output", str(output), "--transpose=-1..1", "--workers", "2"]
    command = [sys.executable, "-c", MAIN, *words, "--max-bad", "100%"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def ledger(output: Path) -> list[dict]:
    """Every line of the ledger."""
    return [json.loads(line) for line in (output / "items.jsonl").read_text(encoding="utf-8").splitlines()]


def records(output: Path) -> Iterator[tuple[bytes, bytes]]:
    """Key and bytes of every record."""
    manifest = read_manifest(str(output))
    for shard in manifest.shards:
        for record in read_records(str(output / shard.name)):
            yield from_example(record, manifest.all_features)["key"], record


@pytest.fixture(scope="module")
def builds(sample_data, tmp_path_factory) -> tuple[Path, Path, subprocess.CompletedProcess[str]]:
    """A build of 45 performances, one of them and all hostile files in one folder, and how that one ended."""
    root = tmp_path_factory.mktemp("verdicts")
    maestro = sample_data("maestro")
    for path in (maestro / "subsets" / "small.txt").read_text(encoding="utf-8").splitlines():
        place = root / "music" / "good" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(maestro / "maestro-v3.0.0" / path, place)
    alone = prepare(root / "music", root / "alone")
    assert alone.returncode == 0, alone.stderr
    shutil.copytree(sample_data("hostile"), root / "music" / "hostile")
    return root / "alone", root / "mixed", prepare(root / "music", root / "mixed")


@pytest.mark.slow
def test_a_build_over_hostile_files_ends_well_and_judges_each_once_as_expected(builds):
    _, mixed, ended = builds
    assert ended.returncode == 0, ended.stderr
    lines = ledger(mixed)
    found = {line["name"]: (line["status"], line["reason"]) for line in lines}
    assert len(lines) == len(found) == 45 + len(expected())
    for path, row in expected().items():
        assert found.pop(item_name("midi", f"hostile/{path}")) == (row["verdict"], row["reason"]), path
    assert set(found.values()) == {("written", "")}


@pytest.mark.slow
def test_records_of_sound_files_are_the_same_bytes_with_and_without_hostile_ones(builds):
    alone, mixed, _ = builds
    sound = dict(records(alone))
    assert len({key.partition(b"#")[0] for key in sound}) == 45
    beside = {key: record for key, record in records(mixed) if key.startswith(b"midi/good/")}
    assert beside == sound
