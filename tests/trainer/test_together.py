"""One stop for all processes of a run."""

from types import SimpleNamespace

import numpy as np
import pytest

from trainer.devices import Processes
from trainer.task import STOPPING
from trainer.together import STEPS_LATE, Together


def asked(requested=False):
    return SimpleNamespace(requested=requested, by_hand=False)


def steps(stops, count):
    """The step after which each of some processes stops, where `stops` says when each is asked: {number: step}."""
    who = [asked() for _ in range(count)]
    together = [Together(one, Processes(count, number)) for number, one in enumerate(who)]
    for step in range(100):
        for number, at in stops.items():
            who[number].requested = step >= at
        if any(one.requested for one in together):
            return step, [one.requested for one in together]
        rows = [one.marked({"tokens": np.zeros((4, 8))})[STOPPING] for one in together]
        for one in together:
            assert one.read({"loss": 1.0, STOPPING: sum(float(mark.sum()) for mark in rows)}) == {"loss": 1.0}
    return None


@pytest.mark.parametrize("stops", [{0: 3}, {2: 3}, {0: 5, 1: 3}, {0: 3, 1: 3, 2: 3}])
def test_whoever_is_asked_all_stop_at_once_some_steps_later(stops):
    assert steps(stops, 3) == (3 + STEPS_LATE + 1, [True] * 3)


def test_nobody_stops_where_nobody_is_asked():
    assert steps({}, 2) is None


def test_a_process_alone_stops_at_once_and_marks_nothing():
    one = asked()
    together, batch = Together(one, Processes()), {"tokens": np.zeros((4, 8))}
    assert together.marked(batch) is batch and together.read({"loss": 1.0}) == {"loss": 1.0}
    assert not together.requested
    one.requested = True
    assert together.requested


def test_who_was_asked_from_the_keyboard_is_known_to_that_process_alone():
    by_hand = SimpleNamespace(requested=True, by_hand=True)
    assert Together(by_hand, Processes(2, 0)).by_hand and not Together(asked(), Processes(2, 1)).by_hand
