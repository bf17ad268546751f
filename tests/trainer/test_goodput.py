"""Where the time of a run went: every second is in one place, also of processes that ended and of steps made twice."""

import pytest

from trainer import goodput
from trainer.goodput import LOST, REDONE, STEPS, Spent, carried


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(goodput, "time", clock)
    return clock


def line(step, **seconds):
    whole = dict.fromkeys((STEPS, *LOST), 0.0) | seconds
    return {"step": step, **{f"seconds_{name}": value for name, value in whole.items()}}


def test_every_second_is_in_one_place_and_the_share_of_steps_is_the_goodput(clock):
    spent = Spent(100.0)
    clock.now = 104.0
    spent.started()
    with spent.on("input"):
        clock.now = 105.0
    clock.now = 112.0
    with spent.on("saving"):
        clock.now = 114.0
    found = spent.figures()
    assert found["seconds_starting"] == 4 and found["seconds_input"] == 1 and found["seconds_saving"] == 2
    assert found["seconds_steps"] == 7 and found["goodput"] == pytest.approx(0.5)
    assert sum(value for name, value in found.items() if name.startswith("seconds_")) == 14


def test_what_was_shown_while_starting_is_not_counted_twice(clock):
    spent = Spent(100.0)
    with spent.on("showing"):
        clock.now = 103.0
    clock.now = 104.0
    spent.started()
    assert spent.figures()["seconds_starting"] == 1 and spent.figures()["seconds_showing"] == 3


def test_time_is_counted_where_the_block_fails(clock):
    spent = Spent(100.0)
    with pytest.raises(KeyError), spent.on("evaluating"):
        clock.now = 102.0
        raise KeyError
    assert spent.figures()["seconds_evaluating"] == 2


def test_steps_that_nothing_saved_are_redone_and_no_goodput():
    earlier = [line(10, steps=20.0, starting=5.0), line(20, steps=40.0, starting=5.0)]
    found = carried(earlier, step=10)
    assert found[STEPS] == 20 and found[REDONE] == 20 and found["starting"] == 5
    assert carried(earlier, step=20)[REDONE] == 0


def test_a_process_goes_on_with_the_seconds_of_those_before_it(clock):
    spent = Spent(100.0, [line(10, steps=30.0, compiling=2.0)], step=10)
    clock.now = 110.0
    found = spent.figures()
    assert found["seconds_steps"] == 40 and found["seconds_compiling"] == 2
    assert found["goodput"] == pytest.approx(40 / 42)


def test_a_process_that_is_killed_before_its_first_report_leaves_what_was_lost_before_it(clock):
    first = line(20, steps=40.0, starting=5.0)
    clock.now = 110.0
    second = Spent(100.0, [first], step=10)
    second.started()
    written = {"step": 10, **second.figures()}  # the line of step 20 is cut off by then
    clock.now = 130.0
    third = Spent(125.0, [line(10, steps=20.0, starting=5.0), written], step=10)
    found = third.figures()
    assert found["seconds_redone"] == pytest.approx(40) and found["seconds_starting"] == pytest.approx(15)


def test_lines_that_are_none_of_ours_are_passed_over():
    assert carried([{"step": 3, "seconds_steps": "many"}, {"step": 4}], 4) == dict.fromkeys((STEPS, *LOST), 0.0)


def test_a_person_is_told_the_share_and_what_took_most_of_the_rest(clock):
    spent = Spent(100.0)
    spent.add("compiling", 3.0)
    spent.add("saving", 5.0)
    spent.add("input", 0.5)
    clock.now = 120.0
    assert spent.told() == "goodput: 57.5% of 20 s went into steps; saving 5 s, compiling 3 s"
