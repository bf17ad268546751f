"""SIGKILL of driver, workers and readers over survey, shards and commit: continued, a build ends as if undisturbed."""

import json
import signal

import pytest

from tests.beam_pipelines.midi_files import midi_folder
from tests.hostile.killed_builds import (
    HEADER,
    KILLS,
    SURVEY,
    Kill,
    after,
    attack,
    contents,
    litter,
    parts_there,
    row,
    run,
    shards_there,
    strike,
)

IN_HAND = 6
"""Inputs that one worker has in hand at most: a part of the listing is four, a shard of these corpora two."""


@pytest.fixture(scope="module")
def performances(sample_data):
    """The command that prepares the small list of MAESTRO, without its output."""
    root = sample_data("maestro/maestro-v3.0.0")
    return ["maestro", "--input", str(root), "--only", str(sample_data("maestro/subsets/small.txt"))]


@pytest.fixture(scope="module")
def undisturbed(performances, tmp_path_factory):
    """What an undisturbed build of them makes."""
    return made(performances, tmp_path_factory.mktemp("undisturbed") / "out")


def made(words, output):
    ended = run([*words, "--output", str(output)])
    assert ended.code == 0, ended.errors
    return contents(output)


def title(kill):
    return f"{kill.stage}: {kill.place}, {kill.victim} of {kill.workers}"


def check(outcome, output, wanted):
    """What must hold after every kill."""
    kill, before, ended = outcome.kill, outcome.before, outcome.ended
    print(HEADER, row(outcome), sep="\n")
    code = {"driver": -signal.SIGKILL, "worker": 75, "reader": 0}[kill.victim] if kill.ends is None else kill.ends
    assert ended.code == code, ended.errors
    assert "Traceback" not in ended.errors and not ended.left
    if ended.code == 75:
        assert "a worker process died" in ended.errors and "run the same command again" in ended.errors
    assert outcome.after.code == 0, outcome.after.errors
    assert contents(output) == wanted
    assert not litter(output)
    assert outcome.kept == before.surveyed_safe + before.written_safe
    assert outcome.kept >= before.surveyed + before.written - kill.workers * IN_HAND


@pytest.mark.slow
@pytest.mark.parametrize("kill", KILLS, ids=title)
def test_a_killed_build_is_continued_to_the_bytes_of_an_undisturbed_one(performances, undisturbed, tmp_path, kill):
    output = tmp_path / "out"
    if kill.overwrite:
        made([*performances, "--window", "512"], output)
    check(attack(kill, performances, output), output, undisturbed)


def test_there_are_twenty_kills_and_at_least_three_of_driver_and_workers_in_each_stage():
    assert len(KILLS) >= 20
    for stage in ("survey", "shards", "commit"):
        kills = [kill for kill in KILLS if kill.stage == stage]
        assert len(kills) >= 3 and {"driver", "worker"} <= {kill.victim for kill in kills}
        assert {kill.workers for kill in kills} == {1, 2}


def test_a_small_build_that_is_killed_in_its_survey_is_continued(tmp_path):
    words = ["midi", "--input", str(midi_folder(tmp_path / "in", 16)), "--window", "64", "--workers", "1"]
    wanted, output = made(words, tmp_path / "undisturbed"), tmp_path / "out"
    check(attack(Kill("survey", "9 inputs read", "driver", 1, after(SURVEY, 9)), words, output), output, wanted)


@pytest.mark.slow
def test_one_build_killed_again_and_again_loses_nothing_on_the_way(performances, undisturbed, tmp_path):
    output, surveyed, shards = tmp_path / "out", 0, 0
    places = [*(parts_there(count) for count in (2, 5, 9)), *(shards_there(count) for count in (1, 4, 11, 30))]
    for number, place in enumerate(places):
        before, ended = strike(Kill("", f"{number}", "driver", 1, place), performances, output)
        assert ended.code == -signal.SIGKILL and not ended.left
        assert before.surveyed_safe >= surveyed and before.shards >= shards
        surveyed, shards = before.surveyed_safe, before.shards
    last = run([*performances, "--output", str(output), "--json"])
    assert json.loads(last.said)["kept_shards"] == shards >= 30
    assert contents(output) == undisturbed and not litter(output)
