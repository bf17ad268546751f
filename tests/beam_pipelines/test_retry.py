"""`--retry-quarantined`: a finished dataset made again for little work, equal to a full new build or refused."""

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from beam_pipelines.build import prepare
from beam_pipelines.corpora.midi import MidiFolder
from beam_pipelines.verify import verify
from schemas.errors import InputError, MachineError, UsageError
from schemas.hashing import file_sha256
from schemas.representations.events import Events
from tests.beam_pipelines.midi_files import build_of, midi_folder, write_piece
from tests.beam_pipelines.test_build import DAMAGED
from tests.beam_pipelines.tiny_dataset import made_piece, seal

OF_THIS_BUILD = {"config.json", "provenance.json", "COMPLETED"}


def log_of(root):
    return os.path.join(os.path.dirname(root), "parsed")


@dataclass(frozen=True)
class Watched(MidiFolder):
    """A folder of MIDI files that notes beside itself which of them are parsed."""

    def parse(self, item, root, data=None):
        with open(log_of(root), "a") as file:
            file.write(item.path + "\n")
        return super().parse(item, root, data)


def content(folder):
    paths = [
        os.path.relpath(os.path.join(place, name), folder) for place, _, names in os.walk(folder) for name in names
    ]
    return {path: file_sha256(os.path.join(folder, path)) for path in paths if path not in OF_THIS_BUILD}


def statuses(build):
    lines = map(json.loads, (Path(build.output) / "items.jsonl").read_text().splitlines())
    return {line["name"]: line["status"] + line["reason"] for line in lines}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where a dataset lies in which 004.mid has too many notes and bad.mid is damaged, and what it was made of."""
    place = tmp_path_factory.mktemp("made")
    folder = midi_folder(place / "in", 9)
    write_piece(folder, "004.mid", made_piece(99, notes=60))
    (folder / "bad.mid").write_bytes(DAMAGED)
    assert prepare(watched(place), [], as_json=False) == 0
    (place / "parsed").unlink()
    return place


def watched(place):
    build = build_of(place, max_bad="100%", max_notes=50, shards=4)
    return replace(build, corpus=Watched())


@pytest.fixture
def finished(made, tmp_path):
    """A copy of it, to be made again."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return watched(tmp_path)


def parsed(build):
    log = log_of(build.input)
    return Path(log).read_text().split() if os.path.exists(log) else []


def anew(build):
    full = replace(build, output=build.output + "-full", retry_quarantined=False, overwrite=False)
    assert prepare(full, [], as_json=False) == 0
    return content(full.output)


def test_a_raised_limit_lets_the_refused_in_and_the_result_equals_a_full_new_build(finished, capsys):
    retried = replace(finished, max_notes=100, retry_quarantined=True)
    before = statuses(finished)
    assert prepare(retried, [], as_json=False) == 0
    assert before["midi/004.mid"] == "quarantinedtoo-many-notes" and statuses(retried)["midi/004.mid"] == "written"
    work = parsed(retried)
    assert "bad.mid" in work and len(set(work)) < 10, "every input was parsed again"
    assert "kept" in capsys.readouterr().out
    assert content(retried.output) == anew(retried)
    assert verify(retried.output).exit_code == 0 and not os.path.exists(retried.output + ".replaced")


def test_a_lowered_limit_is_judged_without_reading(finished):
    retried = replace(finished, max_notes=30, max_seconds=1e-3, retry_quarantined=True)
    with pytest.raises(Exception, match="nothing can be written"):
        prepare(retried, [], as_json=False)
    assert parsed(retried) == ["bad.mid"]


def test_a_repaired_file_is_taken_in_and_no_other_is_parsed_but_to_write_its_shard(finished):
    write_piece(Path(finished.input), "bad.mid", made_piece(77))
    retried = replace(finished, retry_quarantined=True)
    assert prepare(retried, [], as_json=False) == 0
    assert statuses(retried)["midi/bad.mid"] == "written"
    assert content(retried.output) == anew(retried)


def test_where_nothing_was_quarantined_everything_is_taken_over(finished, capsys):
    write_piece(Path(finished.input), "bad.mid", made_piece(77))
    whole = replace(finished, max_notes=100, retry_quarantined=True)
    assert prepare(whole, [], as_json=False) == 0
    before = content(finished.output)
    os.unlink(log_of(finished.input))
    assert prepare(whole, [], as_json=False) == 0
    assert content(finished.output) == before and parsed(finished) == []


@pytest.mark.parametrize(
    "limits",
    [
        {"max_bytes": 325},
        pytest.param({"max_seconds": 20.0}, marks=pytest.mark.slow),
        pytest.param({"max_controls": 1, "max_tracks": 1}, marks=pytest.mark.slow),
    ],
)
def test_any_lowered_limit_gives_what_a_full_new_build_gives(finished, limits):
    retried = replace(finished, retry_quarantined=True, **limits)
    assert prepare(retried, [], as_json=False) == 0
    assert len(statuses(retried)) == 10
    assert content(retried.output) == anew(retried)


@pytest.mark.parametrize("limit", ["item_seconds", "item_megabytes"])
def test_less_time_or_memory_is_refused_because_nobody_knows_who_would_need_more(finished, limit):
    with pytest.raises(UsageError, match=limit.replace("_", "-")):
        prepare(replace(finished, retry_quarantined=True, **{limit: 16}), [], as_json=False)


def test_a_corpus_with_another_range_is_other_code(finished, monkeypatch):
    monkeypatch.setattr(Watched, "pitch_range", (30, 100))
    with pytest.raises(UsageError, match="the code that writes records has changed"):
        prepare(replace(finished, retry_quarantined=True), [], as_json=False)


def test_a_shard_that_is_not_there_any_more_is_written_anew(finished):
    before = content(finished.output)
    os.unlink(os.path.join(finished.output, next(path for path in sorted(before) if "train.tfrecord" in path)))
    assert prepare(replace(finished, retry_quarantined=True), [], as_json=False) == 0
    assert content(finished.output) == before


def test_a_killed_retry_keeps_the_shards_it_wrote(finished, monkeypatch, capsys):
    retried = replace(finished, max_notes=100, retry_quarantined=True)
    with monkeypatch.context() as patch:
        patch.setattr("beam_pipelines.commit._seal", lambda *_: exec("raise OSError(28, 'No space left on device')"))
        with pytest.raises(MachineError):
            prepare(retried, [], as_json=False)
    shards = len(list(Path(retried.building).glob("*.tfrecord*")))
    capsys.readouterr()
    assert prepare(retried, [], as_json=False) == 0
    assert f"kept {shards} of {shards}" in capsys.readouterr().out
    assert content(retried.output) == anew(retried)


def test_a_retry_does_not_throw_away_what_another_build_has_begun(finished, monkeypatch):
    other = replace(finished, overwrite=True, seed=5)
    with monkeypatch.context() as patch:
        patch.setattr("beam_pipelines.commit._seal", lambda *_: exec("raise OSError(28, 'No space left on device')"))
        with pytest.raises(MachineError):
            prepare(other, [], as_json=False)
    with pytest.raises(UsageError, match="a half-built dataset of another build"):
        prepare(replace(finished, retry_quarantined=True), [], as_json=False)


def test_other_code_that_reads_has_everything_surveyed_again(finished, monkeypatch):
    monkeypatch.setattr("beam_pipelines.retry.code_version", lambda: "another")
    retried = replace(finished, retry_quarantined=True)
    assert prepare(retried, [], as_json=False) == 0
    assert len(set(parsed(retried))) == 10
    assert content(retried.output) == anew(retried)


@pytest.mark.parametrize(
    ("change", "told"),
    [({"transpose": (0, 1)}, r"transpose there \[0\], now \[0, 1\]"), ({"seed": 5}, "seed there 0, now 5")],
)
def test_a_choice_that_is_no_limit_is_refused_with_both_sides(finished, change, told):
    before = content(finished.output)
    with pytest.raises(UsageError, match=told):
        prepare(replace(finished, retry_quarantined=True, **change), [], as_json=False)
    assert content(finished.output) == before


def test_other_code_that_writes_is_refused(finished, monkeypatch):
    monkeypatch.setattr("beam_pipelines.config.written_code", lambda: "another")
    with pytest.raises(UsageError, match="the code that writes records has changed"):
        prepare(replace(finished, retry_quarantined=True), [], as_json=False)


def test_an_input_that_is_new_gone_or_changed_is_refused_by_name(finished):
    retried, folder, before = replace(finished, retry_quarantined=True), Path(finished.input), content(finished.output)
    kept = (folder / "002.mid").read_bytes()
    write_piece(folder, "new.mid", made_piece(5))
    with pytest.raises(UsageError, match=r"1 input is new, midi/new\.mid\. Put back.*--overwrite in place of"):
        prepare(retried, [], as_json=False)
    (folder / "new.mid").unlink()
    (folder / "002.mid").unlink()
    (folder / "bad.mid").rename(folder / "bad.txt")
    with pytest.raises(UsageError, match=r"2 inputs are gone, for example midi/002\.mid\. Put back"):
        prepare(retried, [], as_json=False)
    (folder / "bad.txt").rename(folder / "bad.mid")
    write_piece(folder, "002.mid", made_piece(55))
    with pytest.raises(UsageError, match=r"midi/002\.mid: other bytes"):
        prepare(retried, [], as_json=False)
    assert content(finished.output) == before and not os.path.exists(retried.building)
    (folder / "002.mid").write_bytes(kept)
    assert prepare(retried, [], as_json=False) == 0


def test_what_a_lowered_limit_leaves_out_is_said_before_anything_is_done(finished, capsys):
    retried = replace(finished, max_bytes=325, retry_quarantined=True, dry_run=True)
    before, parsed_before = content(finished.output), parsed(finished)
    assert prepare(retried, [], as_json=True) == 0
    plan = json.loads(capsys.readouterr().out)
    told = plan["retry"]
    assert (told["inputs"], told["again"], told["let_in"]) == (10, 1, 0) and told["left_out"] > 0
    assert prepare(retried, [], as_json=False) == 0
    said = capsys.readouterr().out
    assert f"they will be left out: {told['left_out']} of 10 inputs" in said and "--max-bytes allows 325" in said
    assert content(finished.output) == before and parsed(finished) == parsed_before
    assert not os.path.exists(retried.building)
    raised = replace(finished, max_notes=100, retry_quarantined=True)
    assert prepare(raised, [], as_json=False) == 0
    said = capsys.readouterr().err
    assert "within the limits given now: 1 of 10 inputs" in said and "left out" not in said


def test_a_dry_run_of_a_retry_is_refused_where_the_retry_would_be(finished):
    (Path(finished.input) / "002.mid").unlink()
    with pytest.raises(UsageError, match=r"1 input is gone, midi/002\.mid"):
        prepare(replace(finished, retry_quarantined=True, dry_run=True), [], as_json=False)


def test_a_retry_that_failed_does_not_stand_in_the_way_of_one_with_other_limits(finished):
    with pytest.raises(InputError, match=r"in: nothing can be written.*named in .*quarantine\.jsonl"):
        prepare(replace(finished, retry_quarantined=True, max_notes=1), [], as_json=False)
    retried = replace(finished, retry_quarantined=True, max_notes=100)
    assert prepare(retried, [], as_json=False) == 0
    assert content(retried.output) == anew(retried)


def test_a_retry_and_a_replacement_at_once_are_refused(finished):
    with pytest.raises(UsageError, match="Give one of both"):
        prepare(replace(finished, retry_quarantined=True, overwrite=True), [], as_json=False)


def test_a_refused_retry_tells_of_a_setting_what_differs_in_it_and_no_more(finished):
    other = replace(finished, retry_quarantined=True, representation=Events(window=128))
    with pytest.raises(UsageError, match=r"this differs: representation\.window there 64, now 128\. Repeat"):
        prepare(other, [], as_json=False)


def test_without_a_dataset_there_is_nothing_to_retry(tmp_path):
    midi_folder(tmp_path / "in", 3)
    with pytest.raises(UsageError, match="Leave --retry-quarantined out"):
        prepare(build_of(tmp_path, retry_quarantined=True), [], as_json=False)


def test_a_dataset_without_what_it_needs_is_refused(finished):
    os.unlink(os.path.join(finished.output, "rebuild", "survey.jsonl"))
    with pytest.raises(UsageError, match=r"rebuild/survey\.jsonl is not there"):
        prepare(replace(finished, retry_quarantined=True), [], as_json=False)


@pytest.mark.parametrize("name", ["rebuild/survey.jsonl", "rebuild/shards.jsonl", "items.jsonl", "config.json"])
def test_what_is_not_as_it_was_sealed_is_not_believed(finished, name):
    path = Path(finished.output) / name
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(UsageError, match=f"{name} is not what COMPLETED says"):
        prepare(replace(finished, retry_quarantined=True), [], as_json=False)


@pytest.mark.parametrize("line", ["[]", '{"shard": 3}', '{"shard": {"name": "../../../escaped"}, "items": {}}'])
def test_a_forged_dataset_leads_nowhere(finished, line):
    path = Path(finished.output) / "rebuild" / "shards.jsonl"
    path.write_text(line + "\n")
    os.unlink(Path(finished.output) / "COMPLETED")
    seal(finished.output)
    if "escaped" in line:
        assert prepare(replace(finished, retry_quarantined=True), [], as_json=False) == 0
        assert not list(Path(finished.output).parents[2].glob("escaped*"))
        return
    with pytest.raises(UsageError, match="is not what a build writes"):
        prepare(replace(finished, retry_quarantined=True), [], as_json=False)
