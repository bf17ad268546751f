"""Checkpoints written beside the training: one at a time, in order, their errors told, and nothing left half done."""

import threading

import pytest

from schemas.errors import MachineError
from trainer.saving import Saving


class Slow:
    """Checkpoints whose writing waits until it is let go."""

    def __init__(self, error=None):
        self.go, self.written, self.error, self.begun = threading.Event(), [], error, threading.Event()

    def save(self, saved, weights, optimiser):
        self.begun.set()
        assert self.go.wait(10)
        if self.error:
            raise self.error
        self.written.append((saved, weights))


def test_training_goes_on_while_a_checkpoint_is_written():
    slow = Slow()
    with Saving(slow) as saving:
        saving.begin(1, ["weights"], [])
        assert slow.begun.wait(10) and slow.written == []
        slow.go.set()
    assert slow.written == [(1, ["weights"])]


def test_the_next_one_waits_for_the_one_before():
    slow = Slow()
    with Saving(slow) as saving:
        saving.begin(1, [], [])
        threading.Timer(0.1, slow.go.set).start()
        saving.begin(2, [], [])
        assert (1, []) in slow.written
    assert [saved for saved, _ in slow.written] == [1, 2]


@pytest.mark.parametrize("how", ["check", "wait", "begin", "end"])
def test_a_disk_that_failed_is_told_by_whatever_comes_next(how):
    slow = Slow(MachineError("the disk is full"))
    slow.go.set()
    with pytest.raises(MachineError, match="the disk is full"), Saving(slow) as saving:
        saving.begin(1, [], [])
        saving._thread.join()
        if how == "begin":
            saving.begin(2, [], [])
        elif how != "end":
            getattr(saving, how)()


def test_it_is_told_once():
    slow = Slow(MachineError("the disk is full"))
    slow.go.set()
    with Saving(slow) as saving:
        saving.begin(1, [], [])
        with pytest.raises(MachineError):
            saving.wait()
        saving.check()


def test_what_ended_the_training_is_raised_and_the_disk_that_failed_too_is_told(capsys):
    slow = Slow(MachineError("the disk is full"))
    slow.go.set()
    with pytest.raises(KeyError), Saving(slow) as saving:
        saving.begin(1, [], [])
        raise KeyError
    assert "the disk is full" in capsys.readouterr().err
