"""Where the result of an evaluation goes, and what it may replace there: asked before anything is scored."""

import builtins
import errno
import json
import os

import pytest

from schemas.errors import MachineError, UsageError
from trainer.evaluation import Evaluation, check_place, without

ASKED = {
    "run": "tiny", "configuration": "c0ffee", "step": 30, "split": "test", "protocol": "segment",
    "data_fingerprint": "1a2b", "window": 64, "hop": 64,
}  # fmt: skip
SAME = Evaluation(protocol="segment").same(ASKED)


def result(path, **other):
    path.write_text(json.dumps({**ASKED, "pieces": [], **other}))
    return str(path)


def test_a_result_goes_into_the_run_or_into_a_file_or_a_folder_that_is_named(tmp_path):
    run, folder = str(tmp_path / "run"), str(tmp_path / "scores")
    assert Evaluation().file(run, "one.json", ASKED) == f"{run}/evaluations/one.json"
    assert Evaluation(output=folder).file(run, "one.json", ASKED) == f"{folder}/one.json"
    assert Evaluation(output=f"{folder}/mine.json").file(run, "one.json", ASKED) == f"{folder}/mine.json"


@pytest.mark.parametrize("text", ["", "[1]", '{"run": "mine"}', None])
def test_what_is_no_evaluation_is_not_overwritten(tmp_path, text):
    path = tmp_path / "mine.json"
    path.mkdir() if text is None else path.write_text(text)
    with pytest.raises(UsageError, match=r"mine\.json: is there, and is no evaluation.*--output"):
        check_place(str(path), SAME)


@pytest.mark.parametrize("there", [{}, {"hop": 64, "checkpoint": "last"}])
def test_an_earlier_evaluation_of_the_same_thing_is_overwritten(tmp_path, there):
    check_place(result(tmp_path / "mine.json", **there), SAME)


def test_an_earlier_evaluation_that_does_not_say_of_which_settings_the_run_was_is_overwritten(tmp_path):
    told = {name: value for name, value in ASKED.items() if name != "configuration"}
    (tmp_path / "mine.json").write_text(json.dumps({**told, "pieces": []}))
    check_place(str(tmp_path / "mine.json"), SAME)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("run", "large"),
        ("configuration", "decaf"),
        ("step", 20),
        ("split", "validation"),
        ("protocol", "sliding"),
        ("data_fingerprint", "3c4d"),
        ("window", 32),
        ("hop", 8),
    ],
)
@pytest.mark.parametrize("output", ["FILE", "DIR"])
def test_another_evaluation_is_not_overwritten_and_both_sides_are_told(tmp_path, name, value, output):
    path = result(tmp_path / "mine.json", **{name: value})
    asked = Evaluation(protocol="segment", output=path if output == "FILE" else str(tmp_path))
    with pytest.raises(UsageError, match=f"holds another evaluation .{name}: {value} there, {ASKED[name]} here.*name"):
        asked.file("run", "mine.json", ASKED)


def test_evaluations_of_cells_with_other_orders_or_pieces_are_others(tmp_path):
    path = result(tmp_path / "mine.json", protocol="orderless", orders=5, limit=0)
    asked = {**ASKED, "protocol": "orderless"}
    assert Evaluation(protocol="orderless", output=path).file("run", "", asked) == path
    for name in ("orders", "limit"):
        with pytest.raises(UsageError, match=f"{name}: . there, 3 here"):
            Evaluation(protocol="orderless", output=path, **{name: 3}).file("run", "", asked)
    # In order of time there is one order, whatever was asked for.
    result(tmp_path / "mine.json", protocol="chronological", orders=1, limit=0)
    asked = {**ASKED, "protocol": "chronological"}
    assert Evaluation(protocol="chronological", output=path, orders=3).file("run", "", asked) == path


def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_scored(tmp_path):
    (tmp_path / "evaluations").write_text("a file")
    with pytest.raises(MachineError, match="--output FILE or DIR"):
        Evaluation().file(str(tmp_path), "one.json", ASKED)


@pytest.mark.parametrize("output", ["gs://bucket/mine.json", "gs://bucket/scores"])
def test_a_bucket_is_refused_before_anything_is_scored(output):
    with pytest.raises(MachineError, match="gs://bucket/.*buckets come with"):
        Evaluation(output=output).file("run", "one.json", ASKED)


@pytest.mark.parametrize("name", ["x" * 251 + ".json", "ä" * 128 + "/mine.json", "a/" * 2048 + "mine.json", "a\0.json"])
def test_a_name_that_no_file_can_have_is_refused_before_anything_is_scored(tmp_path, name):
    with pytest.raises(UsageError, match=r"no file can be called so.*255 bytes.*--output"):
        Evaluation(output=f"{tmp_path}/{name}").file("run", "one.json", ASKED)


def test_the_longest_name_leaves_room_for_what_it_says_of_records_that_are_passed_over(tmp_path):
    path = f"{tmp_path}/{'x' * 250}.json"
    assert Evaluation(output=path).file("run", "", ASKED) == path
    with pytest.raises(UsageError, match="no file can be called so"):
        Evaluation(output=path, on_corrupt="skip").file("run", "", ASKED)


def test_a_result_without_all_records_says_so_in_its_name_also_in_a_file_that_was_named():
    assert without("run/test-3-segment.json", 2) == "run/test-3-segment-without2.json"
    assert without("mine.json", 0) == "mine.json"


def test_where_records_may_be_passed_over_no_other_result_that_says_so_is_in_the_way(tmp_path):
    result(tmp_path / "mine.json")
    result(tmp_path / "mine-without3.json")
    asked = Evaluation(protocol="segment", output=str(tmp_path / "mine.json"), on_corrupt="skip")
    result(tmp_path / "mine-without3 too.json", step=20)
    assert asked.file("run", "", ASKED) == asked.output
    result(tmp_path / "mine-without12.json", step=20)
    with pytest.raises(UsageError, match=r"mine-without12\.json: holds another evaluation .step: 20 there, 30 here"):
        asked.file("run", "", ASKED)
    assert Evaluation(protocol="segment", output=asked.output).file("run", "", ASKED) == asked.output


def test_a_result_that_may_not_be_read_is_not_taken_for_something_else(tmp_path, monkeypatch):
    path, opened = result(tmp_path / "mine.json"), builtins.open

    def refused(name, *words, **more):
        if name == path:  # root may read everything, so that permissions alone refuse nothing here
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        return opened(name, *words, **more)

    monkeypatch.setattr(builtins, "open", refused)
    with pytest.raises(MachineError, match=r"mine\.json: is there, and cannot be read: Permission denied.*--output"):
        check_place(path, SAME)


def test_what_is_too_large_for_an_evaluation_is_not_parsed(tmp_path):
    path = tmp_path / "mine.json"
    result(path)
    os.truncate(path, (64 << 20) + 1)
    with pytest.raises(UsageError, match="no evaluation of at most 64 MiB"):
        check_place(str(path), SAME)
