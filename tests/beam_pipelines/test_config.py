"""A build's choices: which texts are understood, and what makes two builds the same."""

from dataclasses import replace

import pytest

from beam_pipelines.config import Build, build_from_json, build_to_json, code_version, parse_allowance, parse_splits
from beam_pipelines.corpora.maestro import Maestro
from schemas.errors import UsageError
from schemas.representations.events import Events

BUILD = Build(Maestro(), Events(), input="in", output="out", transpose=(-1, 0, 1), stretch=(0.95, 1.0))


def test_fractions_that_are_not_named_are_zero():
    assert replace(BUILD, splits="train=0.75,test=0.25").fractions == (0.75, 0.0, 0.25)


@pytest.mark.parametrize("twice", [{"transpose": (0, 1, 0)}, {"stretch": (1.0, 0.95, 1)}])
def test_a_copy_that_is_asked_for_twice_is_refused_wherever_the_list_came_from(twice):
    with pytest.raises(UsageError, match="each number once"):
        replace(BUILD, **twice)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_a_longest_piece_is_a_number_above_0(seconds):
    with pytest.raises(UsageError, match="--max-seconds"):
        replace(BUILD, max_seconds=seconds)


@pytest.mark.parametrize("text", ["train=0.8", "train=2,test=-1", "dev=1", "", "train", "train=0.5,train=0.5"])
def test_fractions_that_do_not_add_up_are_refused(text):
    with pytest.raises(ValueError, match="write|add up"):
        parse_splits(text)


@pytest.mark.parametrize("text", ["-1", "101%", "1.5", "many", "5 %", ""])
def test_an_allowance_is_a_number_or_a_share(text):
    with pytest.raises(ValueError, match="allowance"):
        parse_allowance(text)


def test_paths_workers_runner_and_allowance_do_not_change_a_build():
    same = replace(BUILD, input="a", output="b", workers=7, runner="FnApiRunner", max_bad="50%", overwrite=True)
    assert same.fingerprint == BUILD.fingerprint


@pytest.mark.parametrize(
    "change",
    [{"transpose": (0,)}, {"stretch": (1.0,)}, {"seed": 1}, {"shards": 3}, {"splits": "composition"}, {"max_notes": 5},
     {"representation": Events(window=64)}, {"max_seconds": 5.0}],
)  # fmt: skip
def test_every_choice_that_changes_bytes_changes_the_fingerprint(change):
    assert replace(BUILD, **change).fingerprint != BUILD.fingerprint


def test_a_stored_build_reads_back():
    assert build_from_json(build_to_json(BUILD)) == BUILD


@pytest.mark.parametrize("change", [{"transpose": (200,)}, {"stretch": (0.0,)}, {"shards": 0}, {"workers": 0}])
def test_values_that_make_no_sense_are_refused_with_their_flag(change):
    with pytest.raises(UsageError, match=f"--{next(iter(change))}"):
        replace(BUILD, **change)


def test_the_code_version_is_a_sha256():
    assert len(code_version()) == 64 and int(code_version(), 16)
