"""`verify` finds what is damaged, forged or leaks, and names the place; a sound dataset passes."""

import errno
import io
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from beam_pipelines.findings import Findings
from beam_pipelines.seal import read_seal
from beam_pipelines.verify import verify
from schemas.errors import InputError, MachineError, UsageError
from schemas.manifest import COMPLETED, MANIFEST, read_manifest
from schemas.naming import index_name
from schemas.record import frame, from_example, read_framed, to_example
from tests.beam_pipelines.tiny_dataset import (
    EVENTS,
    Entry,
    edit_ledger,
    entries,
    forge_manifest,
    forge_shard,
    made_piece,
    seal,
    write_dataset,
    write_records,
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_dataset(str(tmp_path_factory.mktemp("sound") / "data"), entries())


@pytest.fixture
def dataset(sound, tmp_path):
    """A copy of a sound dataset, to be damaged."""
    return shutil.copytree(sound, str(tmp_path / "data"))


def kinds(folder, **options):
    return set(verify(folder, **options).counts)


def shard_path(folder, split="train", index=0):
    return os.path.join(folder, read_manifest(folder).shards_of(split)[index].name)


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def test_a_sound_dataset_has_no_findings_and_every_record_is_counted(sound):
    report = verify(sound)
    assert report.counts == {}
    assert report.exit_code == 0
    assert report.checked["records"] == sum(shard.records for shard in read_manifest(sound).shards)
    assert report.checked["originals"] == 10
    assert list(report.lines())[-1].startswith(f"{sound}: nothing wrong; checked 6 shards")


def test_the_report_is_plain_json(sound):
    assert json.loads(json.dumps(verify(sound).to_json()))["ok"] is True


def test_a_folder_that_is_no_dataset_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no finished dataset"):
        verify(str(tmp_path))
    with pytest.raises(InputError):
        verify(str(tmp_path / "nothing here"))


def test_of_a_flipped_byte_the_cause_stands_first_and_what_follows_is_summed_up_in_a_line(dataset):
    path = shard_path(dataset)
    flip(path, list(read_framed(path))[0][0] + 200)
    report = verify(dataset)
    assert [(one.kind, one.file) for one in report.findings if not one.follows] == [
        (kind, os.path.basename(path)) for kind in ("checksum", "sha256")
    ]
    assert {"statistics", "ledger"} <= report.following.keys() == report.counts.keys() - {"checksum", "sha256"}
    lines = list(report.lines())
    assert len(lines) == 4 and lines[0].startswith("checksum: ")
    follow = sum(report.following.values())
    assert lines[2].startswith(f"{follow} more follow from damaged files") and "ledger" in lines[2]
    assert f"2 findings and {follow} that follow" in lines[3]


def test_what_is_wrong_elsewhere_does_not_follow_from_a_damaged_shard(dataset):
    path = shard_path(dataset)
    flip(path, list(read_framed(path))[0][0] + 200)
    lost = {one.key for one in verify(dataset).findings if one.kind == "ledger"}
    other = next(entry.name for entry in entries() if entry.split == "test")
    edit_ledger(dataset, lambda lines: [{**line, "group": "x"} if line["name"] == other else line for line in lines])
    found = {one.key: one.follows for one in verify(dataset).findings if one.kind == "ledger"}
    assert found == {other: False, **dict.fromkeys(lost, True)}


def test_of_a_hundred_that_follow_none_takes_the_place_of_a_cause():
    findings = Findings(damaged={"stats.json"})
    for _ in range(150):
        findings.add("statistics", "follows", told_from=["stats.json"])
    findings.add("statistics", "a cause")
    assert findings.causes_first()[0].message == "a cause" and len(findings.kept) == 101


@pytest.mark.parametrize("finished", [True, False])
def test_a_training_run_is_called_one(tmp_path, finished):
    (tmp_path / "checkpoints" / "20").mkdir(parents=True)
    (tmp_path / "checkpoints" / "20" / "files.json").write_text("{}")
    (tmp_path / "config.json").write_text("{}")
    if finished:
        (tmp_path / COMPLETED).write_text("20 steps\n")
    done = stretto("verify", str(tmp_path))
    assert done.returncode == 2 and "this is a training run, not a dataset" in done.stderr


def test_a_folder_of_something_else_that_was_completed_is_no_dataset(tmp_path):
    (tmp_path / COMPLETED).write_text("yes\n")
    with pytest.raises(UsageError, match="not a dataset"):
        verify(str(tmp_path))


def test_a_dataset_of_which_the_manifest_and_the_seal_are_damaged_is_still_one(dataset):
    os.unlink(os.path.join(dataset, MANIFEST))
    with open(os.path.join(dataset, COMPLETED), "w"):
        pass
    assert verify(dataset).exit_code == 5


@pytest.mark.parametrize("name", ["a shard", "an index", MANIFEST, COMPLETED, "stats.json", "card.md"])
def test_a_file_that_may_not_be_read_is_no_finding_but_exit_4_with_its_path(dataset, monkeypatch, name):
    shard = os.path.basename(shard_path(dataset))
    path = os.path.join(dataset, {"a shard": shard, "an index": index_name(shard)}.get(name, name))
    opened = io.open

    def guarded(file, *rest, **options):
        if os.fspath(file) == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opened(file, *rest, **options)

    monkeypatch.setattr("builtins.open", guarded)
    with pytest.raises(MachineError) as told:
        verify(dataset)
    assert told.value.exit_code == 4 and str(told.value).startswith(f"{path}: may not be read: Permission denied")


def test_a_folder_that_may_not_be_listed_is_exit_4_with_its_path(dataset, monkeypatch):
    def walk(folder, onerror):
        onerror(PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.path.join(folder, "index")))
        return iter(())

    monkeypatch.setattr("media.storage.os.walk", walk)
    with pytest.raises(MachineError, match="index: may not be read"):
        verify(dataset)


def test_a_flipped_byte_in_a_payload_is_named_with_shard_record_offset(dataset):
    path = shard_path(dataset)
    offset = list(read_framed(path))[2][0]
    flip(path, offset + 200)
    report = verify(dataset)
    [finding] = [finding for finding in report.findings if finding.kind == "checksum"]
    assert (finding.file, finding.record, finding.offset) == (os.path.basename(path), 2, offset)
    assert report.exit_code == 5
    assert "sha256" in report.counts


def test_a_flipped_byte_that_the_forger_sealed_again_is_still_found(dataset):
    path = shard_path(dataset)
    flip(path, list(read_framed(path))[1][0] + 150)
    forge_manifest(dataset)
    assert "checksum" in kinds(dataset)
    assert "sha256" not in kinds(dataset)


def test_after_a_damaged_length_the_index_leads_to_the_next_record(dataset):
    path = shard_path(dataset)
    places = [offset for offset, _ in read_framed(path)]
    flip(path, places[1] + 2)
    report = verify(dataset)
    framing = [finding for finding in report.findings if finding.kind == "framing"]
    assert [(finding.record, finding.offset) for finding in framing] == [(1, places[1])]


def test_any_flipped_byte_anywhere_is_a_finding_and_never_a_crash(dataset):
    draw = random.Random(7)
    for folder, _, names in list(os.walk(dataset)):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.getsize(path):
                continue
            offset = draw.randrange(os.path.getsize(path))
            flip(path, offset)
            assert verify(dataset).exit_code == 5, (path, offset)
            flip(path, offset)
    assert verify(dataset).exit_code == 0


@pytest.mark.parametrize("keep", [0, 1, 15, 100])
def test_a_cut_shard_is_a_finding(dataset, keep):
    path = shard_path(dataset)
    with open(path, "r+b") as file:
        file.truncate(keep)
    assert {"size", "sha256"} <= kinds(dataset)


def test_a_missing_shard_is_named(dataset):
    path = shard_path(dataset, "test")
    os.unlink(path)
    report = verify(dataset)
    assert {finding.file for finding in report.findings if finding.kind == "missing"} == {os.path.basename(path)}
    assert "ledger" in report.counts


def test_a_missing_or_changed_index_is_named(dataset):
    name = index_name(read_manifest(dataset).shards[0].name)
    flip(os.path.join(dataset, name), 0)
    assert {finding.file for finding in verify(dataset).findings} == {name}
    os.unlink(os.path.join(dataset, name))
    assert ("missing", name) in {(finding.kind, finding.file) for finding in verify(dataset).findings}


def test_an_index_that_lies_is_found_though_it_was_sealed_again(dataset):
    name = index_name(read_manifest(dataset).shards[0].name)
    path = os.path.join(dataset, name)
    with open(path) as file:
        lines = file.readlines()
    with open(path, "w") as file:
        file.writelines([*lines[:1], lines[2], lines[1], *lines[3:]])
    forge_manifest(dataset)
    report = verify(dataset)
    assert set(report.counts) == {"index"}
    assert "line 2" in report.findings[0].message


def test_a_flipped_byte_in_the_manifest_is_named(dataset):
    flip(os.path.join(dataset, MANIFEST), 40)
    assert ("sha256", MANIFEST) in {(finding.kind, finding.file) for finding in verify(dataset).findings}


def test_a_manifest_that_is_no_json_is_a_finding(dataset):
    with open(os.path.join(dataset, MANIFEST), "w") as file:
        file.write("{")
    assert {"manifest", "sha256"} <= kinds(dataset)


def test_a_stray_shard_is_named(dataset):
    shutil.copy(shard_path(dataset), os.path.join(dataset, "midi-train.tfrecord-00007-of-00009"))
    assert kinds(dataset) == {"extra"}
    seal(dataset)
    assert kinds(dataset) == {"extra"}


def test_a_file_that_the_seal_lists_and_is_gone_is_named(dataset):
    os.unlink(os.path.join(dataset, "card.md"))
    assert ("missing", "card.md") in {(finding.kind, finding.file) for finding in verify(dataset).findings}


@pytest.mark.parametrize("text", ["", "nonsense\n", "\xff" * 70, "0" * 64 + "  \n"])
def test_a_seal_that_lists_nothing_is_a_finding(dataset, text):
    with open(os.path.join(dataset, COMPLETED), "wb") as file:
        file.write(text.encode("latin-1"))
    assert "completed" in kinds(dataset)


def test_a_seal_that_gives_a_shard_another_checksum_than_the_manifest_is_a_finding(dataset):
    path = os.path.join(dataset, COMPLETED)
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    changed = [f"{'0' * 64}  {line[66:]}" if ".tfrecord-" in line else line for line in lines]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(changed) + "\n")
    report = verify(dataset)
    assert report.counts == {"sha256": 2 * len(read_manifest(dataset).shards)}


def test_the_same_record_in_two_splits_is_named_in_both(tmp_path):
    chosen = entries()
    twice = replace(chosen[0], split="test", copies=((0, 1.0),))
    report = verify(write_dataset(str(tmp_path / "data"), [*chosen, twice]))
    found = [finding for finding in report.findings if finding.kind == "duplicate"]
    assert found and all("from train to test" in finding.message for finding in found)
    assert found[0].key.startswith("midi/00.mid#+0@1/")
    assert found[0].offset is not None
    assert "leak" in report.counts


def test_the_same_piece_under_two_names_in_two_splits_is_found(tmp_path):
    chosen = entries()
    twin = Entry("midi/twin.mid", "validation", replace(chosen[1].piece, name="twin"), "another group")
    report = verify(write_dataset(str(tmp_path / "data"), [*chosen, twin]))
    assert set(report.counts) == {"same-piece"}
    [finding] = report.findings
    assert {"midi/01.mid", "midi/twin.mid"} <= {finding.key, *finding.message.replace(",", " ").split()}
    assert finding.record is not None


def test_the_same_piece_twice_in_one_split_is_no_leak(tmp_path):
    chosen = entries()
    twin = Entry("midi/twin.mid", "train", chosen[1].piece, "another group")
    assert kinds(write_dataset(str(tmp_path / "data"), [*chosen, twin])) == set()


def test_a_forged_split_hint_that_tears_a_group_apart_is_a_leak(tmp_path):
    chosen = [
        replace(entry, group="one work" if number in (0, 9) else entry.group) for number, entry in enumerate(entries())
    ]
    report = verify(write_dataset(str(tmp_path / "data"), chosen))
    assert set(report.counts) == {"leak"}
    assert "'one work' is in train and test" in report.findings[0].message


def test_a_crossing_group_that_the_manifest_names_is_known_unless_strict(tmp_path):
    chosen = [
        replace(entry, group="one work" if number in (0, 9) else entry.group) for number, entry in enumerate(entries())
    ]
    folder = write_dataset(str(tmp_path / "data"), chosen, crossing=["one work"])
    assert verify(folder).known == ("one work",)
    assert verify(folder).exit_code == 0
    assert verify(folder, strict=True).exit_code == 5


def test_a_changed_copy_outside_train_is_found(tmp_path):
    chosen = entries()
    chosen[-1] = replace(chosen[-1], copies=((0, 1.0), (2, 1.0)))
    report = verify(write_dataset(str(tmp_path / "data"), chosen))
    assert set(report.counts) == {"variant"}
    assert "#+2@1/" in report.findings[0].key


def test_an_item_in_the_wrong_shard_of_its_split_is_found(dataset):
    first, second = read_manifest(dataset).shards_of("train")
    payloads = [[payload for _, payload in read_framed(os.path.join(dataset, shard.name))] for shard in (first, second)]
    for shard, data in zip((first, second), reversed(payloads), strict=True):
        write_records(dataset, shard.name, "train", [("", payload) for payload in data], ordered=False)
    swapped = [replace(first, records=len(payloads[1])), replace(second, records=len(payloads[0]))]
    shards = read_manifest(dataset).shards
    forge_manifest(dataset, shards=[*swapped, *(shard for shard in shards if shard not in (first, second))])
    report = verify(dataset)
    assert set(report.counts) == {"placement"}
    assert report.counts["placement"] == 6


def test_an_item_that_failed_while_its_shard_was_written_still_had_its_turn(tmp_path):
    chosen = entries(train=12)
    folder = write_dataset(str(tmp_path / "data"), chosen, shards=3)
    lost = chosen[4].name
    for shard in read_manifest(folder).shards_of("train"):
        payloads = [payload for _, payload in read_framed(os.path.join(folder, shard.name))]
        kept = [payload for payload in payloads if lost.encode() not in payload]
        less = write_records(folder, shard.name, "train", [("", payload) for payload in kept], ordered=False)
        others = [other for other in read_manifest(folder).shards if other.name != shard.name]
        forge_manifest(folder, shards=[less, *others])
    assert "placement" in kinds(folder)
    edit_ledger(
        folder,
        lambda lines: [
            {**line, "status": "quarantined", "records": 0} if line["name"] == lost else line for line in lines
        ],
    )
    assert not {"placement", "ledger"} & kinds(folder)


def test_records_out_of_order_are_found(dataset):
    path = shard_path(dataset)
    payloads = [payload for _, payload in read_framed(path)]
    name = os.path.basename(path)
    write_records(dataset, name, "train", [("", payload) for payload in reversed(payloads)], ordered=False)
    forge_manifest(dataset)
    assert kinds(dataset) == {"order"}


def test_a_removed_record_is_found_though_everything_was_sealed_again(dataset):
    shard = read_manifest(dataset).shards_of("train")[0]
    payloads = [payload for _, payload in read_framed(os.path.join(dataset, shard.name))]
    cut = write_records(dataset, shard.name, "train", [("", payload) for payload in payloads[:-1]], ordered=False)
    others = [other for other in read_manifest(dataset).shards if other.name != shard.name]
    forge_manifest(dataset, shards=[cut, *others])
    assert {"statistics", "ledger"} <= kinds(dataset)


def test_a_record_with_a_value_out_of_range_is_found(dataset):
    path = shard_path(dataset)
    payloads = [payload for _, payload in read_framed(path)]
    features = read_manifest(dataset).all_features
    record = from_example(payloads[3], features)
    record["tokens"][5] = 60_000
    payloads[3] = to_example(record, features)
    forge_shard(dataset, os.path.basename(path), b"".join(map(frame, payloads)))
    report = verify(dataset)
    found = [finding for finding in report.findings if finding.kind == "features"]
    assert found and found[0].record == 3
    assert "'tokens'" in found[0].message


def test_a_record_that_is_no_example_is_found(dataset):
    path = shard_path(dataset)
    payloads = [payload for _, payload in read_framed(path)]
    forge_shard(dataset, os.path.basename(path), b"".join(map(frame, [b"\xff" * 40, *payloads[1:]])))
    assert "features" in kinds(dataset)


@pytest.mark.parametrize("key", ["no key", "midi/00.mid#+0@1/1", "midi/00.mid#0@1/00000", ""])
def test_a_malformed_key_is_found(tmp_path, key):
    folder = write_dataset(str(tmp_path / "data"), entries())
    shard = read_manifest(folder).shards_of("test")[0]
    records = EVENTS.encode(made_piece(99))
    payload = to_example({"key": key.encode(), "group": b"g", **next(records)}, read_manifest(folder).all_features)
    old = [payload for _, payload in read_framed(os.path.join(folder, shard.name))]
    more = write_records(folder, shard.name, "test", [("", data) for data in [*old, payload]], ordered=False)
    others = [other for other in read_manifest(folder).shards if other.name != shard.name]
    forge_manifest(folder, shards=[more, *others])
    assert "key" in kinds(folder)


def moved(lines):
    return [{**line, "split": "test"} if line["name"] == "midi/00.mid" else line for line in lines]


def regrouped(lines):
    return [{**line, "group": "elsewhere"} if line["name"] == "midi/00.mid" else line for line in lines]


def disowned(lines):
    return [{**line, "status": "skipped", "records": 0} if line["name"] == "midi/00.mid" else line for line in lines]


def shortened(lines):
    return [line for line in lines if line["name"] != "midi/00.mid"]


def inflated(lines):
    return [*lines, {**lines[-1], "name": "midi/zz.mid"}]


def recounted(lines):
    return [{**line, "records": line["records"] + 1} if line["name"] == "midi/00.mid" else line for line in lines]


@pytest.mark.parametrize("forgery", [moved, regrouped, disowned, shortened, inflated, recounted])
def test_a_forged_ledger_is_found(dataset, forgery):
    edit_ledger(dataset, forgery)
    report = verify(dataset)
    assert report.counts == {"ledger": 1}
    assert report.findings[0].key in ("midi/00.mid", "midi/zz.mid")


@pytest.mark.parametrize("text", ["{", "[]\n", '{"name": 3}\n', "\xff", '{"name": "a"}\n' * 3])
def test_a_ledger_that_cannot_be_read_is_a_finding(dataset, text):
    with open(os.path.join(dataset, "items.jsonl"), "wb") as file:
        file.write(text.encode("latin-1"))
    assert "ledger" in kinds(dataset)


def test_forged_statistics_are_counted_again(dataset):
    path = os.path.join(dataset, "stats.json")
    with open(path) as file:
        stats = json.load(file)
    stats["splits"]["train"]["notes"] += 1
    stats["splits"]["test"]["pitch"][60] += 1
    with open(path, "w") as file:
        json.dump(stats, file)
    seal(dataset)
    report = verify(dataset)
    assert report.counts == {"statistics": 2}
    assert "notes of train" in report.findings[0].message


def test_of_very_many_findings_only_a_hundred_are_kept_and_all_are_counted(tmp_path):
    chosen = entries(train=60, validation=2, test=0)
    chosen[-1] = replace(chosen[-1], piece=made_piece(5, notes=3000), copies=((0, 1.0), (1, 1.0)))
    report = verify(write_dataset(str(tmp_path / "data"), chosen))
    assert report.counts["variant"] > 100
    assert sum(finding.kind == "variant" for finding in report.findings) == 100
    assert any("more of this kind" in line for line in report.lines())


def test_against_an_equal_dataset_nothing_drifted(sound, dataset):
    assert verify(sound, against=dataset).counts == {}


def test_where_how_fast_and_with_what_patience_it_was_built_is_no_drift(sound, dataset):
    with open(os.path.join(dataset, "config.json"), "r+", encoding="utf-8") as file:
        values = {**json.load(file), "workers": 9, "max_bad": "50%", "output": "elsewhere", "dry_run": False}
        file.seek(0)
        file.write(json.dumps(values))
    assert "drift" not in verify(dataset, against=sound).counts


def test_a_changed_setting_feature_or_split_is_drift(sound, tmp_path):
    chosen = entries()
    chosen[8] = replace(chosen[8], split="validation")
    folder = write_dataset(str(tmp_path / "data"), chosen)
    forge_manifest(folder, corpus_version="2", settings={**read_manifest(folder).settings, "pitch_range": [21, 108]})
    messages = [str(finding) for finding in verify(folder, against=sound).findings if finding.kind == "drift"]
    assert any("corpus_version" in message for message in messages)
    assert any("pitch_range" in message for message in messages)
    assert any("midi/08.mid" in message and '"test"' in message for message in messages)


def stretto(*words):
    command = Path(sys.executable).with_name("stretto")
    return subprocess.run([command, *words], capture_output=True, text=True, timeout=120)


def test_the_command_says_what_it_checked_and_exits_0(sound):
    done = stretto("verify", sound)
    assert done.returncode == 0, done.stderr
    assert "nothing wrong; checked 6 shards" in done.stdout


def test_the_command_names_the_damage_and_exits_5(dataset):
    path = shard_path(dataset)
    flip(path, list(read_framed(path))[2][0] + 200)
    done = stretto("verify", dataset, "--json")
    assert done.returncode == 5, done.stderr
    report = json.loads(done.stdout)
    assert {finding["file"] for finding in report["findings"]} >= {os.path.basename(path)}
    assert report["ok"] is False


def test_the_command_says_what_to_do_where_there_is_no_dataset(tmp_path):
    done = stretto("verify", str(tmp_path))
    assert done.returncode == 3
    assert "no finished dataset" in done.stderr and "Traceback" not in done.stderr


def test_strict_makes_known_crossing_groups_an_error_of_the_command(tmp_path):
    chosen = [
        replace(entry, group="one work" if number in (0, 9) else entry.group) for number, entry in enumerate(entries())
    ]
    folder = write_dataset(str(tmp_path / "data"), chosen, crossing=["one work"])
    assert "known: group 'one work'" in stretto("verify", folder).stdout
    assert stretto("verify", folder, "--strict").returncode == 5


def test_inspect_prints_what_is_there_and_writes_a_page(sound, tmp_path):
    done = stretto("inspect", sound, "--html", str(tmp_path / "page.html"))
    assert done.returncode == 0, done.stderr
    assert "midi 1 as events" in done.stdout
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert json.loads(stretto("inspect", sound, "--json").stdout)["shards"] == 6


def test_a_folder_that_is_not_there_is_an_input_error_and_no_finding(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        verify(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("text", [b"", b"\xff", b"no list", b"0" * 64 + b" manifest.json", b"\n" * 3])
def test_what_is_no_seal_is_not_taken_for_one(tmp_path, text):
    with pytest.raises(InputError, match="COMPLETED: cannot be read"):
        read_seal(str(tmp_path))
    (tmp_path / COMPLETED).write_bytes(text)
    with pytest.raises(InputError, match="COMPLETED: not a list of checksums"):
        read_seal(str(tmp_path))
