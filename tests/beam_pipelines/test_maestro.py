"""MAESTRO is read as its metadata says; bad metadata are refused with file, row and column, or quarantined singly."""

import csv
import json
import os
import shutil
from collections import Counter

import pytest

from beam_pipelines.corpora.corpus import item_from_line, item_line
from beam_pipelines.corpora.maestro import Maestro
from media.midi import write_midi
from schemas.errors import InputError, Unreadable
from schemas.music import Notes, Piece

COLUMNS = ["canonical_composer", "canonical_title", "split", "year", "midi_filename", "audio_filename", "duration"]
MAESTRO = Maestro()


def row(number, split="train", composer="A. Composer", title=None, **more):
    return {
        "canonical_composer": composer,
        "canonical_title": title or f"Work {number}",
        "split": split,
        "year": 2004,
        "midi_filename": f"2004/{number}.midi",
        "audio_filename": f"2004/{number}.wav",
        "duration": 1.0,
        **more,
    }


@pytest.fixture
def root(tmp_path):
    """A folder with three performances and no metadata."""
    (tmp_path / "2004").mkdir()
    for number in range(3):
        notes = Notes.of([0, 480], [480, 960], [60 + number, 64], 80)
        (tmp_path / "2004" / f"{number}.midi").write_bytes(write_midi(Piece("made", notes)))
    return tmp_path


def write_csv(root, rows, version="3.0.0", columns=COLUMNS):
    with open(root / f"maestro-v{version}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def write_json(root, rows, version="3.0.0", by_column=True):
    columns = {name: {str(number): row[name] for number, row in enumerate(rows)} for name in rows[0]}
    (root / f"maestro-v{version}.json").write_text(json.dumps(columns if by_column else rows))


def items(root):
    return list(MAESTRO.items(str(root)))


def refusal(root, item):
    with pytest.raises(Unreadable) as error:
        MAESTRO.parse(item, str(root))
    return error.value


def test_the_sample_keeps_its_official_splits_and_groups(sample_data):
    root = sample_data("maestro/maestro-v3.0.0")
    found = items(root)
    assert Counter(item.split for item in found) == {"train": 246, "validation": 38, "test": 46}
    assert [item.name for item in found] == sorted(item.name for item in found)
    assert MAESTRO.version_at(str(root)) == "3.0.0"
    assert MAESTRO.reports(str(root)) == []
    assert sum(len(MAESTRO.parse(item, str(root)).notes) for item in found) == 1_813_227


def test_the_release_has_1276_performances_and_five_titles_that_cross_its_splits(sample_data, tmp_path):
    for file in sample_data("maestro/official-metadata").iterdir():
        shutil.copy(file, tmp_path)
    found = items(tmp_path)
    splits = {}
    for item in found:
        splits.setdefault(item.group, set()).add(item.split)
    assert (len(found), sum(len(of) > 1 for of in splits.values())) == (1276, 5)
    assert MAESTRO.reports(str(tmp_path)) == []
    assert refusal(tmp_path, found[0]).reason == "missing-file"


def test_names_and_groups_say_where_a_performance_comes_from(root):
    write_csv(
        root, [row(0, title='A "quoted", title'), row(1, "test", title="Ballade  No. 1"), row(2, title="BALLADE no. 1")]
    )
    first, second, third = items(root)
    assert (first.name, first.path, first.split) == ("maestro/2004/0.midi", "2004/0.midi", "train")
    assert first.group == 'a. composer: a "quoted", title'
    assert second.group == third.group
    assert MAESTRO.parse(first, str(root)).notes.pitch.tolist() == [60, 64]


@pytest.mark.parametrize(("version", "by_column"), [("1.0.0", False), ("2.0.0", False), ("3.0.0", True)])
def test_json_alone_is_enough_in_the_form_of_every_version(root, version, by_column):
    rows = [row(0), row(1, "validation"), row(2, "test")]
    write_json(root, rows, version, by_column)
    assert [item.split for item in items(root)] == ["train", "validation", "test"]
    assert MAESTRO.version_at(str(root)) == version
    write_csv(root, rows, version)
    assert MAESTRO.reports(str(root)) == []


def test_csv_goes_before_json_and_a_disagreement_is_reported(root):
    write_csv(root, [row(0), row(1), row(2)])
    write_json(root, [row(0), row(1, "test"), row(2)])
    assert [item.split for item in items(root)] == ["train"] * 3
    assert MAESTRO.reports(str(root)) == [
        "maestro-v3.0.0.csv and maestro-v3.0.0.json disagree about 1 performances (2004/1.midi); "
        "maestro-v3.0.0.csv is used"
    ]


def test_a_json_that_cannot_be_read_beside_a_good_csv_is_reported(root, sample_data):
    write_csv(root, [row(0), row(1), row(2)])
    shutil.copy(sample_data("hostile/metadata/truncated.json"), root / "maestro-v3.0.0.json")
    assert len(items(root)) == 3
    [report] = MAESTRO.reports(str(root))
    assert "cannot be compared" in report and "line " in report


def test_metadata_below_the_root_are_not_read_but_pointed_to(root, tmp_path):
    write_csv(root, [row(0)])
    outer = tmp_path / "outer"
    shutil.copytree(root, outer / "maestro-v3.0.0", ignore=shutil.ignore_patterns("outer"))
    with pytest.raises(InputError, match=r"Give --input .*outer/maestro-v3\.0\.0"):
        items(outer)


def test_metadata_of_two_versions_are_refused(root):
    write_csv(root, [row(0)])
    write_csv(root, [row(0)], "2.0.0")
    with pytest.raises(InputError, match="several versions"):
        items(root)


def test_a_listed_file_that_is_missing_becomes_an_item_that_is_quarantined(root):
    write_csv(root, [row(0), row(1), row(2), row(3)])
    error = refusal(root, items(root)[3])
    assert error.reason == "missing-file"
    assert "2004/3.midi" in str(error)


@pytest.mark.parametrize(
    "path", ["../outside.midi", "/etc/passwd", "2004/../../outside.midi", "link.midi", "nul\0.midi"]
)
def test_a_path_that_leads_out_of_the_root_is_never_opened(root, tmp_path_factory, path, monkeypatch):
    outside = tmp_path_factory.mktemp("outside")
    (root.parent / "outside.midi").write_bytes(b"MThd")
    (outside / "outside.midi").write_bytes(b"MThd")
    (root / "link.midi").symlink_to(outside / "outside.midi")
    write_json(root, [row(0, midi_filename=path)])
    [item] = items(root)
    opened = []
    really = os.open

    def watched(*arguments, **more):
        handle = really(*arguments, **more)
        opened.append(os.readlink(f"/proc/self/fd/{handle}"))
        return handle

    monkeypatch.setattr("os.open", watched)
    assert refusal(root, item).reason == "path-escapes-root"
    assert set(opened) <= {os.path.realpath(root)}


def test_midi_files_that_are_not_listed_are_reported_and_counted(root):
    write_csv(root, [row(0)])
    (root / "README").write_text("x")
    (root / "2004" / "0.wav").write_bytes(b"")
    assert MAESTRO.ignored(str(root)) == {"": 1, ".midi": 2, ".wav": 1}
    assert MAESTRO.reports(str(root)) == [
        "2 MIDI files are not listed in maestro-v3.0.0.csv and are not read: 2004/1.midi, 2004/2.midi"
    ]


def hostile(root, sample_data, name):
    shutil.copy(sample_data(f"hostile/metadata/{name}"), root / f"maestro-v3.0.0.{name.rpartition('.')[2]}")
    return root


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty.csv", "is empty"),
        ("header-only.csv", "lists no performances"),
        ("latin1.csv", r"line \d+: byte 0x.. at offset \d+ is not UTF-8.*Save the file as UTF-8"),
        ("truncated.json", r"is no JSON that can be read: .*line \d+ column \d+"),
        ("row-oriented.json", "entry 0: column 'canonical_composer' is missing"),
    ],
)
def test_metadata_that_cannot_be_read_are_refused_with_the_place(root, sample_data, name, message):
    with pytest.raises(InputError, match=message):
        items(hostile(root, sample_data, name))


@pytest.mark.parametrize("name", ["bom-crlf.csv", "column-order.csv", "missing-files.csv", "newline-in-title.csv"])
def test_odd_but_sound_metadata_are_read(root, sample_data, name):
    found = items(hostile(root, sample_data, name))
    assert found and {item.split for item in found} <= {"train", "validation", "test"}
    assert not any(item.refused for item in found)
    assert not any("\n" in item.group for item in found)


def test_rows_given_twice_are_one_item_and_reported(root, sample_data):
    found = items(hostile(root, sample_data, "duplicate-rows.csv"))
    assert len({item.name for item in found}) == len(found)
    [report] = [line for line in MAESTRO.reports(str(root)) if "more than once" in line]
    assert "lists 2 files more than once" in report


def test_bad_durations_are_reported_and_not_used(root, sample_data):
    found = items(hostile(root, sample_data, "bad-duration.csv"))
    assert found
    durations, commas, *_ = MAESTRO.reports(str(root))
    assert "durations are no positive number" in durations
    assert "1 rows have more values than there are columns (rows 6)" in commas


def test_a_file_in_two_splits_is_quarantined(root, sample_data):
    found = items(hostile(root, sample_data, "same-file-two-splits.csv"))
    [refused] = [item for item in found if item.refused]
    error = refusal(root, refused)
    assert error.reason == "two-splits"
    assert "row" in str(error) and "train" in str(error)


def test_an_unknown_split_is_quarantined_with_row_column_and_value(root, sample_data):
    found = items(hostile(root, sample_data, "unknown-split.csv"))
    [refused] = [item for item in found if item.refused]
    error = refusal(root, refused)
    assert error.reason == "unknown-split"
    assert "column 'split': 'dev'" in str(error) and "row " in str(error)


def test_a_path_that_climbs_out_in_the_official_form_is_quarantined(root, sample_data):
    found = items(hostile(root, sample_data, "path-escape.csv"))
    reasons = {item.path: refusal(root, item).reason for item in found}
    assert reasons["../../../outside.midi"] == "path-escapes-root"


def test_a_missing_column_is_named_with_those_that_are_there(root):
    write_csv(root, [row(0)], columns=["canonical_composer", "midi_filename"])
    with pytest.raises(InputError, match="column 'canonical_title' is missing .*midi_filename"):
        items(root)


def test_a_missing_value_is_named_with_row_and_column(root):
    write_csv(root, [row(0), row(1, midi_filename="")])
    with pytest.raises(InputError, match="row 3, column 'midi_filename'"):
        items(root)


@pytest.mark.parametrize("text", ["[1]", "3", "{}", "[" * 100_000, '{"split": []}', "\x00"])
def test_json_of_any_other_shape_is_an_input_error(root, text):
    (root / "maestro-v3.0.0.json").write_text(text)
    with pytest.raises(InputError, match=r"maestro-v3\.0\.0\.json"):
        items(root)


def test_items_survive_the_way_through_a_line_of_json(root):
    write_csv(root, [row(0, title="Étude\nin Ü")])
    [item] = items(root)
    assert item_from_line(item_line(item)) == item
    assert item_line(item).isascii() and "\n" not in item_line(item)
