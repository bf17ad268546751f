"""`verify` finds copies in another split from the shards alone, and says of what, where, and how they were changed."""

import json
import os
from dataclasses import replace

import pytest

from beam_pipelines import check_copies
from beam_pipelines.build import prepare
from beam_pipelines.corpora.maestro import Maestro
from beam_pipelines.fingerprints import music_fingerprint
from beam_pipelines.verify import verify
from schemas.manifest import read_manifest
from schemas.music import Notes, Piece
from tests.beam_pipelines.made_copies import at_resolution, begun_later, copied, played_again, with_velocities
from tests.beam_pipelines.midi_files import build_of, midi_folder, write_piece
from tests.beam_pipelines.tiny_dataset import Entry, entries, forge_manifest, made_piece, write_dataset

CHANGES: dict[str, dict] = {
    "2 semitones higher": {"semitones": 2},
    "13 semitones lower": {"semitones": -13},
    "1.50": {"factor": 1.5},
    "0.50": {"factor": 0.5},
    "2.00 s later": {"later": 2.0},
    "at the same pitch and pace": {"velocities": 3},
    "5 semitones higher, 0.80": {"semitones": 5, "factor": 0.8, "later": 2.0, "velocities": 4},
}


def with_copy(tmp_path, copy: Piece, split: str, **choices) -> str:
    """A dataset whose test split holds the original `midi/long.mid`, and `split` the copy under another name."""
    original = Entry("midi/long.mid", "test", made_piece(99, notes=200), "its group")
    twin = Entry("midi/twin.mid", split, copy, "another group", **choices)
    return write_dataset(str(tmp_path / "data"), [*entries(), original, twin])


@pytest.mark.parametrize("told", CHANGES)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_copy_in_another_split_is_found_with_its_original_its_split_and_its_change(tmp_path, told, split):
    report = verify(with_copy(tmp_path, copied(made_piece(99, notes=200), **CHANGES[told]), split))
    assert report.exit_code == 5
    [finding] = report.findings
    assert (finding.kind, finding.key) == ("copy", "midi/twin.mid")
    assert finding.message.startswith("is a copy of midi/long.mid, which is in test: ")
    assert told in finding.message
    assert "tfrecord-" in finding.file and split in finding.file
    assert finding.offset is not None and finding.record is not None


def test_a_copy_in_the_same_split_is_no_leak(tmp_path):
    assert verify(with_copy(tmp_path, copied(made_piece(99, notes=200), 3, 1.2), "test")).counts == {}


def test_a_part_of_a_piece_of_another_split_is_found(tmp_path):
    long = made_piece(99, notes=200)
    cut = replace(long, notes=long.notes.select(slice(60, 140)))
    [finding] = verify(with_copy(tmp_path, copied(cut, -2), "train")).findings
    assert finding.kind == "copy"
    assert finding.message.startswith("is a part of midi/long.mid, which is in test: 2 semitones lower; ")


def test_a_piece_that_holds_one_of_another_split_is_found(tmp_path):
    long = made_piece(99, notes=200)
    added = begun_later(made_piece(98, notes=100), 25.0)
    columns = ("start", "end", "pitch", "velocity")
    notes = Notes.of(*([*getattr(long.notes, name), *getattr(added.notes, name)] for name in columns))
    [finding] = verify(with_copy(tmp_path, replace(long, notes=notes), "train")).findings
    assert finding.message.startswith("holds midi/long.mid, which is in test: at the same pitch and pace; 100%")


def test_another_performance_in_another_split_is_no_copy(tmp_path):
    assert verify(with_copy(tmp_path, played_again(made_piece(99, notes=200), 1), "train")).counts == {}


def test_a_piece_of_which_train_holds_changed_copies_only_is_compared_as_the_original_it_was(tmp_path):
    copy = copied(made_piece(99, notes=200), 2, 1.25)
    folder = with_copy(tmp_path, copy, "train", copies=((3, 1.0), (3, 1.1), (-4, 1.1)))
    [finding] = verify(folder).findings
    assert (finding.kind, finding.key) == ("copy", "midi/twin.mid")
    assert "2 semitones higher, 1.250 times as long;" in finding.message


def test_a_piece_with_the_same_notes_is_told_once(tmp_path):
    assert verify(with_copy(tmp_path, made_piece(99, notes=200), "train")).counts == {"same-piece": 1}


TWIN, LONG, OTHER = "midi/twin.mid", "midi/long.mid", "midi/00.mid"


@pytest.mark.parametrize("notes", [0, 3])
def test_a_pair_that_the_manifest_names_is_known_and_wrong_where_one_is_strict(tmp_path, notes):
    folder = with_copy(tmp_path, copied(made_piece(99, notes=200), notes), "train")
    forge_manifest(folder, crossing_copies=((TWIN, LONG),))
    report, strict = verify(folder), verify(folder, strict=True)
    assert (report.exit_code, [finding.key for finding in report.known_copies]) == (0, [TWIN])
    assert strict.exit_code == 5 and [finding.key for finding in strict.findings] == [TWIN]


@pytest.mark.parametrize("named", [(), ((TWIN, OTHER),), ((OTHER, LONG),), ((LONG, TWIN),)])
def test_a_copy_that_the_manifest_does_not_name_is_wrong_whatever_else_it_names(tmp_path, named):
    folder = with_copy(tmp_path, copied(made_piece(99, notes=200), 3), "train")
    forge_manifest(folder, crossing_copies=named)
    report = verify(folder)
    assert report.exit_code == 5 and report.counts == {"copy": 1} and report.known_copies == ()


def test_a_second_copy_is_wrong_where_the_manifest_names_another_one(tmp_path):
    long = made_piece(99, notes=200)
    chosen = [Entry(LONG, "test", long), Entry(TWIN, "train", copied(long, 1)), Entry(OTHER, "train", copied(long, 2))]
    folder = write_dataset(str(tmp_path / "data"), [*entries()[1:], *chosen])
    forge_manifest(folder, crossing_copies=((TWIN, LONG),))
    report = verify(folder)
    assert [finding.key for finding in report.findings] == [OTHER] and report.exit_code == 5
    assert [finding.key for finding in report.known_copies] == [TWIN]


def test_two_copies_in_two_splits_are_both_found(tmp_path):
    long = made_piece(99, notes=200)
    chosen = [
        Entry("midi/a.mid", "train", copied(long, 1), "one"),
        Entry("midi/b.mid", "validation", copied(long, 2), "two"),
        Entry("midi/c.mid", "test", long, "three"),
    ]
    report = verify(write_dataset(str(tmp_path / "data"), [*entries(), *chosen]))
    assert [finding.key for finding in report.findings] == ["midi/b.mid", "midi/a.mid"]


def test_a_shard_that_vanishes_while_copies_are_compared_is_no_crash(tmp_path, monkeypatch):
    folder = with_copy(tmp_path, copied(made_piece(99, notes=200), 1), "train")
    compare = check_copies.near_leaks

    def without_shards(pieces, load):
        for shard in read_manifest(folder).shards:
            os.unlink(os.path.join(folder, shard.name))
        return compare(pieces, load)

    monkeypatch.setattr(check_copies, "near_leaks", without_shards)
    assert "copy" not in verify(folder).counts


def splits_of(output: str) -> dict[str, str]:
    with open(os.path.join(output, "items.jsonl"), encoding="utf-8") as file:
        return {line["name"]: line["split"] for line in map(json.loads, file)}


def test_prepare_keeps_copies_together_in_splits_of_its_own_and_verify_agrees(tmp_path):
    folder = midi_folder(tmp_path / "in", 12, notes=150)
    for number in range(12):
        piece = made_piece(number, notes=150)
        changed = at_resolution(copied(piece, number - 6, 0.5 + number / 8, 2.0, number), 220)
        write_piece(folder, f"copy {number:03d}.mid", changed)
        write_piece(folder, f"loud {number:03d}.mid", with_velocities(begun_later(piece, 2.0), number))
    build = build_of(tmp_path, splits="train=0.4,validation=0.3,test=0.3")
    assert prepare(build, [], as_json=False) == 0
    splits = splits_of(build.output)
    assert len(splits) == 36 and set(splits.values()) == {"train", "validation", "test"}
    for number in range(12):
        together = {splits[f"midi/{kind}{number:03d}.mid"] for kind in ("", "copy ", "loud ")}
        assert len(together) == 1, number
    assert verify(build.output).counts == {}


def test_prepare_and_verify_agree_on_parts_of_any_length(tmp_path):
    for number in range(20):
        piece = made_piece(number, notes=400)
        write_piece(tmp_path / "in", f"{number:03d}.mid", piece)
        cut = replace(piece, notes=piece.notes.select(slice(20, 60 + 15 * number)))
        write_piece(tmp_path / "in", f"part {number:03d}.mid", at_resolution(copied(cut, 3, 0.7), 220))
    build = build_of(tmp_path, splits="train=0.4,validation=0.3,test=0.3")
    assert prepare(build, [], as_json=False) == 0
    splits = splits_of(build.output)
    apart = [n for n in range(20) if splits[f"midi/{n:03d}.mid"] != splits[f"midi/part {n:03d}.mid"]]
    assert apart and max(apart) < 10, "parts of over a half stay with their whole"
    assert verify(build.output).counts == {}


def test_where_splits_are_official_a_copy_of_a_test_piece_is_left_out_of_train(tmp_path):
    folder = tmp_path / "in"
    original = played_again(made_piece(99, notes=200), seed=1)
    near = at_resolution(with_velocities(begun_later(original, 2.0), 5), 220)
    assert music_fingerprint(near) != music_fingerprint(original), "it would be found without a second look"
    rows = ["canonical_composer,canonical_title,split,midi_filename"]
    for number, (split, piece) in enumerate(
        [("test", original), ("train", near), ("train", made_piece(1)), ("validation", made_piece(2))]
    ):
        write_piece(folder, f"{number}.midi", piece)
        rows.append(f"A. Composer,Work {number},{split},{number}.midi")
    (folder / "maestro-v3.0.0.csv").write_text("\n".join(rows))
    build = replace(build_of(tmp_path), corpus=Maestro())
    assert prepare(build, [], as_json=False) == 0
    ledger = [json.loads(line) for line in open(os.path.join(build.output, "items.jsonl"))]
    assert [(line["status"], line["reason"]) for line in ledger][:2] == [("written", ""), ("skipped", "leak")]
    assert ledger[1]["of"] == "maestro/0.midi" and all(
        "of" not in line for line in ledger if line["name"] != ledger[1]["name"]
    )
    assert verify(build.output).exit_code == 0
