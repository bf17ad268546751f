"""Being asked to stop: by SIGTERM, or by a person at the keyboard."""

from __future__ import annotations

import signal
from typing import Protocol

from schemas.errors import Interrupted, StoppedByHand
from trainer.telling import tell_at_once


class Stopping(Protocol):
    """Whether this process was asked to stop, and whether it was a person at the keyboard."""

    requested: bool
    by_hand: bool


class Stop:
    """Notes SIGTERM and Ctrl-C, so that the step in hand can be finished and saved; a second Ctrl-C ends at once.

    Attributes:
        requested: whether either has come.
        by_hand: whether it was Ctrl-C.
    """

    requested = False
    by_hand = False

    def __enter__(self) -> Stop:
        self._old = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def take_back(self) -> None:
        """Takes the signals again from a library that has put an answer of its own in their place."""
        for number in self._old:
            if not (number == signal.SIGINT and self.by_hand):
                signal.signal(number, self._note)

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.requested = True
        if number == signal.SIGINT and not self.by_hand:
            self.by_hand = True
            # The system's own end, because Python would wait for a step, or a compiler, to come back.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            tell_at_once(b"stretto: saving after this step; Ctrl-C again ends at once, without")


def stopped(run: str, by_hand: bool, where: str) -> Interrupted:
    """The error of a run that was asked to stop, and where it was then; the same command goes on."""
    kind, how = (StoppedByHand, " by Ctrl-C") if by_hand else (Interrupted, "")
    return kind(f"{run}: stopped{how} {where}: run the same command again")
