"""`prepare` in one process: accounts, refusals, and what a half-built folder means."""

import errno
import json
import os
import zipfile
from dataclasses import dataclass, replace

import pytest

from beam_pipelines.build import prepare
from beam_pipelines.corpora.corpus import Skip
from beam_pipelines.corpora.midi import MidiFolder
from beam_pipelines.folder import Folder, read_value
from beam_pipelines.outcome import reserve, told
from beam_pipelines.seal import read_seal
from beam_pipelines.verify import verify
from schemas.errors import InputError, MachineError, MissingExtra, StoppedByHand, StrettoError, UsageError
from schemas.hashing import file_sha256
from schemas.manifest import read_manifest
from schemas.music import Notes, Piece
from tests.beam_pipelines.midi_files import DAMAGED, build_of, midi_folder, write_piece
from tests.beam_pipelines.tiny_dataset import made_piece


@pytest.fixture
def made(tmp_path):
    """A function: choices -> the folder of a finished dataset of twelve sound files."""

    def make(**choices):
        midi_folder(tmp_path / "in")
        build = build_of(tmp_path, **choices)
        assert prepare(build, [], as_json=False) == 0
        return build.output

    return make


def ledger(output):
    with open(os.path.join(output, "items.jsonl"), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def shas(output):
    manifest = read_manifest(output)
    return [(shard.name, shard.sha256, shard.index_sha256) for shard in manifest.shards]


def test_every_input_has_a_line_and_the_dataset_verifies(made):
    output = made(transpose=(-1, 0, 1), stretch=(0.95, 1.0))
    lines = ledger(output)
    assert [line["name"] for line in lines] == [f"midi/{number:03d}.mid" for number in range(12)]
    assert {line["status"] for line in lines} == {"written"}
    report = verify(output)
    assert report.exit_code == 0, report.findings
    assert sum(line["records"] for line in lines) == report.checked["records"]


def test_no_working_file_is_left_and_the_seal_covers_every_file(made):
    output = made()
    found = {
        os.path.relpath(os.path.join(place, name), output) for place, _, names in os.walk(output) for name in names
    } - {"COMPLETED"}
    assert set(read_seal(output)) == found
    assert not any(path.split("/")[0] in ("items", "survey", "progress", "lock", "workers") for path in found)
    assert not os.path.exists(output + ".building")
    assert all(file_sha256(os.path.join(output, path)) == sha for path, sha in read_seal(output).items())


def test_skipped_and_quarantined_inputs_are_counted_with_reasons(tmp_path, capsys):
    folder = midi_folder(tmp_path / "in", 8)
    (folder / "bad.mid").write_bytes(DAMAGED)
    write_piece(folder, "empty.mid", Piece("empty", Notes.empty()))
    write_piece(folder, "twin.mid", made_piece(3))
    build = build_of(tmp_path, max_bad="1")
    assert prepare(build, [], as_json=True) == 0
    result = json.loads(capsys.readouterr().out)
    account = result["account"]
    assert (account["inputs"], account["written"]) == (11, 8)
    assert account["skipped"] == {"duplicate": 1, "empty": 1}
    assert sum(account["quarantined"].values()) == result["bad"] == 1
    with open(result["quarantine"], encoding="utf-8") as file:
        (entry,) = map(json.loads, file)
    assert entry["name"] == "midi/bad.mid" and entry["message"] and len(entry["sha256"]) == 64
    assert read_manifest(build.output).dropped == account["skipped"] | account["quarantined"]


def test_a_duplicate_is_told_with_the_input_that_is_written_in_ledger_report_and_terminal(tmp_path, capsys):
    folder = midi_folder(tmp_path / "in", 4)
    for number in range(7):
        write_piece(folder, f"twin {number}.mid", made_piece(3))
    build = build_of(tmp_path)
    assert prepare(build, [], as_json=False) == 0
    said = capsys.readouterr().out
    assert "midi/twin 4.mid: duplicate of midi/003.mid" in said and "and 2 more" in said
    assert {line.get("of") for line in ledger(build.output)} == {None, "midi/003.mid"}
    assert "its music is that of midi/003.mid" in open(os.path.join(build.output, "report.html")).read()
    assert verify(build.output).exit_code == 0


def test_the_table_adds_up_and_says_where_bad_inputs_are_named(tmp_path, capsys):
    (midi_folder(tmp_path / "in", 5) / "bad.mid").write_bytes(DAMAGED)
    prepare(build_of(tmp_path, max_bad="50%"), [], as_json=False)
    lines = capsys.readouterr().out.splitlines()
    total = next(line.split() for line in lines if line.split()[0] == "total")
    assert total == ["total", "6", "5", "0", "1"]
    assert lines[-1].startswith("1 input was bad") and "quarantine.jsonl" in lines[-1]


def test_too_many_bad_inputs_end_before_completed_and_a_larger_allowance_continues(tmp_path, capsys):
    folder = midi_folder(tmp_path / "in", 5)
    (folder / "bad.mid").write_bytes(DAMAGED)
    build = build_of(tmp_path)
    with pytest.raises(
        InputError, match=r"1 of 6 inputs are bad, --max-bad 5% allows 0\.3[\s\S]*midi/bad\.mid"
    ) as caught:
        prepare(build, [], as_json=False)
    assert "while running" not in str(caught.value)
    assert not os.path.exists(build.output)
    assert os.path.exists(os.path.join(build.building, "quarantine", "quarantine.jsonl"))
    capsys.readouterr()
    assert prepare(replace(build, max_bad="1"), [], as_json=False) == 0
    assert "5 of 6 inputs are surveyed and are not surveyed again" in capsys.readouterr().err


def test_skipped_inputs_never_count_as_bad(tmp_path):
    for number in range(9):
        write_piece(tmp_path / "in", f"{number}.mid", Piece("empty", Notes.empty()))
    write_piece(tmp_path / "in", "music.mid", made_piece(1))
    assert prepare(build_of(tmp_path, max_bad="0"), [], as_json=False) == 0


def test_nothing_written_is_an_error_that_says_why(tmp_path):
    write_piece(tmp_path / "in", "empty.mid", Piece("empty", Notes.empty()))
    with pytest.raises(InputError, match=r"nothing can be written: all 1 inputs were refused \(skipped: empty 1\)"):
        prepare(build_of(tmp_path), [], as_json=False)


def test_a_dataset_is_replaced_only_when_told(made):
    output = made()
    before = shas(output)
    build = build_of_output(output)
    with pytest.raises(UsageError, match="--overwrite"):
        prepare(build, [], as_json=False)
    assert prepare(replace(build, overwrite=True, transpose=(0, 1)), [], as_json=False) == 0
    assert shas(output) != before and verify(output).exit_code == 0
    assert not os.path.exists(output + ".replaced")


def build_of_output(output):
    from pathlib import Path

    return build_of(Path(output).parent)


def test_a_folder_that_is_no_dataset_is_never_replaced(tmp_path):
    midi_folder(tmp_path / "in", 3)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letters.txt").write_text("dear all")
    with pytest.raises(UsageError, match="something else is there"):
        prepare(build_of(tmp_path, overwrite=True), [], as_json=False)
    assert (tmp_path / "out" / "letters.txt").read_text() == "dear all"


def test_an_empty_output_folder_is_taken(tmp_path):
    midi_folder(tmp_path / "in", 3)
    (tmp_path / "out").mkdir()
    assert prepare(build_of(tmp_path), [], as_json=False) == 0


def test_a_dry_run_says_what_would_be_made_and_writes_nothing(tmp_path, capsys):
    midi_folder(tmp_path / "in", 3)
    assert prepare(build_of(tmp_path, dry_run=True, transpose=(-1, 0, 1)), [], as_json=True) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["inputs"] == 3 and plan["copies_of_a_training_piece"] == 3
    assert sorted(os.listdir(tmp_path)) == ["in"]


@dataclass(frozen=True)
class Fragile(MidiFolder):
    """A corpus whose parser stops at one file, in the way it is told."""

    how: str = ""

    def parse(self, item, root, data=None):
        if self.how and item.path == "007.mid":
            raise {"bug": ZeroDivisionError("a bug"), "skip": Skip("no-music", "no music in it"),
                   "extra": MissingExtra("music21", "music21")}[self.how]  # fmt: skip
        return super().parse(item, root, data)


def test_a_parser_that_fails_costs_one_input_and_its_traceback_is_kept(tmp_path):
    midi_folder(tmp_path / "in", 9)
    build = replace(build_of(tmp_path, max_bad="1"), corpus=Fragile(how="bug"))
    assert prepare(build, [], as_json=False) == 0
    with open(os.path.join(build.output, "quarantine", "quarantine.jsonl"), encoding="utf-8") as file:
        (entry,) = map(json.loads, file)
    assert entry["reason"] == "unexpected" and "ZeroDivisionError: a bug" in entry["message"]


def test_a_parser_may_skip(tmp_path):
    midi_folder(tmp_path / "in", 9)
    assert prepare(replace(build_of(tmp_path), corpus=Fragile(how="skip")), [], as_json=False) == 0
    assert read_manifest(str(tmp_path / "out")).dropped == {"no-music": 1}


def test_an_error_that_a_person_can_act_on_reaches_them_with_its_exit_code(tmp_path):
    midi_folder(tmp_path / "in", 9)
    with pytest.raises(StrettoError, match="music21 is not installed") as caught:
        prepare(replace(build_of(tmp_path), corpus=Fragile(how="extra")), [], as_json=False)
    assert caught.value.exit_code == 4 and "while running" not in str(caught.value)


def half_built(tmp_path, **choices):
    """A build that was stopped after its survey, by an allowance of no bad input."""
    folder = midi_folder(tmp_path / "in", 9)
    (folder / "bad.mid").write_bytes(DAMAGED)
    build = build_of(tmp_path, max_bad="0", **choices)
    with pytest.raises(InputError):
        prepare(build, [], as_json=False)
    return replace(build, max_bad="1")


def test_a_half_built_dataset_of_other_choices_is_refused_with_the_difference(tmp_path):
    other = replace(half_built(tmp_path), transpose=(0, 1))
    with pytest.raises(UsageError, match=r"transpose there \[0\], now \[0, 1\]"):
        prepare(other, [], as_json=False)
    assert prepare(replace(other, overwrite=True), [], as_json=False) == 0


def test_a_half_built_dataset_keeps_its_limits_and_the_ways_out_are_named(tmp_path):
    build = half_built(tmp_path)
    with pytest.raises(
        UsageError, match=r"\(max_notes there 500000, now 90\)\. .*limits too.*--retry-quarantined.*add --ov"
    ):
        prepare(replace(build, max_notes=90), [], as_json=False)
    assert prepare(build, [], as_json=False) == 0
    assert prepare(replace(build, max_notes=90, retry_quarantined=True), [], as_json=False) == 0


@pytest.mark.parametrize("kind", ["empty", "unlisted"])
def test_an_input_that_is_refused_before_anything_is_made_leaves_nothing(tmp_path, kind):
    (tmp_path / "in").mkdir()
    if kind == "unlisted":
        midi_folder(tmp_path / "in", 40)
        (tmp_path / "only").write_text("none.mid\n" + "".join(f"{number:03d}.mid\n" for number in range(40)))
    with pytest.raises(InputError):
        prepare(build_of(tmp_path, only=str(tmp_path / "only") if kind == "unlisted" else None), [], as_json=False)
    assert not {name for name in os.listdir(tmp_path) if name.startswith("out")}


def test_nothing_written_names_the_archive_and_where_the_bad_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "songs.zip", "w") as archive:
        archive.writestr("bad.mid", DAMAGED)
    build = replace(build_of(tmp_path, max_bad="100%"), input=str(tmp_path / "songs.zip"))
    with pytest.raises(InputError, match=r"songs\.zip: nothing can be written.*quarantine\.jsonl") as caught:
        prepare(build, [], as_json=False)
    assert os.path.exists(next(word for word in str(caught.value).split() if "quarantine.jsonl" in word).rstrip(","))


def test_ctrl_c_says_how_to_continue(tmp_path, monkeypatch):
    midi_folder(tmp_path / "in", 3)
    with monkeypatch.context() as patch:
        patch.setattr("beam_pipelines.build.gather_suspects", lambda _: exec("raise KeyboardInterrupt"))
        with pytest.raises(StoppedByHand, match="stopped by Ctrl-C.*run the same command again to continue"):
            prepare(build_of(tmp_path), [], as_json=False)
    assert prepare(build_of(tmp_path), [], as_json=False) == 0


def test_a_half_built_dataset_of_other_code_is_refused(tmp_path, monkeypatch):
    build = half_built(tmp_path)
    monkeypatch.setattr("beam_pipelines.config.code_version", lambda: "another")
    with pytest.raises(UsageError, match="the code of this program has changed"):
        prepare(build, [], as_json=False)


def test_a_folder_that_no_build_made_is_not_taken_for_a_half_built_dataset(tmp_path):
    midi_folder(tmp_path / "in", 3)
    (tmp_path / "out.building").mkdir()
    (tmp_path / "out.building" / "letters.txt").write_text("dear all")
    with pytest.raises(UsageError, match=r"letters\.txt"):
        prepare(build_of(tmp_path, overwrite=True), [], as_json=False)


def test_a_new_file_is_surveyed_when_a_build_continues(tmp_path, capsys):
    build = half_built(tmp_path)
    write_piece(tmp_path / "in", "999.mid", made_piece(99))
    assert prepare(build, [], as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["account"]["inputs"] == 11


def test_a_repaired_file_is_surveyed_when_a_build_continues(tmp_path):
    build = half_built(tmp_path)
    write_piece(tmp_path / "in", "bad.mid", made_piece(77))
    write_piece(tmp_path / "in", "003.mid", made_piece(78))
    assert prepare(replace(build, max_bad="0"), [], as_json=False) == 0
    assert {line["status"] for line in ledger(build.output)} == {"written"}


def test_what_was_bad_is_looked_at_again_when_a_build_continues(tmp_path, capsys):
    build = half_built(tmp_path)
    capsys.readouterr()
    assert prepare(build, [], as_json=False) == 0
    assert "9 of 10 inputs are surveyed" in capsys.readouterr().err


def test_a_killed_commit_is_finished_without_a_graph(made, monkeypatch, capsys):
    output = made()
    build, wanted = build_of_output(output), shas(output)
    os.rename(output, build.building)
    os.rename(os.path.join(build.building, "COMPLETED"), os.path.join(build.building, "COMPLETED.pending"))
    monkeypatch.setattr("beam_pipelines.build.run", lambda *_: pytest.fail("a graph was run"))
    capsys.readouterr()
    assert prepare(build, [], as_json=False) == 0
    assert "kept 1" in capsys.readouterr().out
    assert shas(output) == wanted and verify(output).exit_code == 0


def test_options_of_beam_are_checked(tmp_path):
    build = build_of(tmp_path)
    with pytest.raises(UsageError, match="Write it before: stretto prepare … --runner DirectRunner"):
        prepare(build, ["--runner=DirectRunner"], as_json=False)
    with pytest.raises(UsageError, match="Did you mean --job_name"):
        prepare(build, ["--jop_name=x"], as_json=False)
    with pytest.raises(UsageError, match="unknown runner 'DirctRunner'. Did you mean 'DirectRunner'"):
        prepare(replace(build, runner="DirctRunner"), [], as_json=False)
    assert not os.path.exists(build.building)


def test_a_full_disk_is_said_in_one_sentence(tmp_path):
    folder = Folder(str(tmp_path))
    reserve(folder)
    with pytest.raises(MachineError, match="No space left on device. Free some space"), told(folder):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "shard"))
    assert read_value(folder.outcome)["exit_code"] == 4


def test_a_corpus_without_its_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--input is missing"):
        prepare(replace(build_of(tmp_path), input=""), [], as_json=False)


def test_notes_that_were_dropped_because_they_never_end_are_counted(tmp_path):
    folder = midi_folder(tmp_path / "in", 3)
    events = bytes.fromhex("00903c40 603c00") + bytes.fromhex("003c40 603c00") * 199 + bytes.fromhex("003d40 00ff2f00")
    header = b"MThd" + (6).to_bytes(4, "big") + bytes.fromhex("0000 0001 01e0")
    (folder / "hanging.mid").write_bytes(header + b"MTrk" + len(events).to_bytes(4, "big") + events)
    build = build_of(tmp_path)
    assert prepare(build, [], as_json=False) == 0
    assert "1 of the notes of 1 inputs" in open(os.path.join(build.output, "stats.json")).read()


def test_copies_that_leave_the_range_are_told_at_the_end_and_foretold_by_a_dry_run(tmp_path, capsys):
    midi_folder(tmp_path / "in", 3)
    build = build_of(tmp_path, transpose=(0, 120))
    assert prepare(replace(build, dry_run=True), [], as_json=False) == 0
    assert "2 at most; those with a note that leaves the range are not made" in capsys.readouterr().out
    assert prepare(build, [], as_json=False) == 0
    count = read_value(os.path.join(build.output, "stats.json"))["dropped_copies"]["instrument"]
    assert count > 0
    assert f"note: {count} copies were not made, because a note leaves the range: instrument" in capsys.readouterr().out
