"""A profile of a few steps, for TensorBoard's profile plugin: what ran on the device and on the host, and how long."""

from __future__ import annotations

import os
from collections.abc import Callable

from trainer.backends import current
from trainer.course import Place

FOLDER = os.path.join("tensorboard", "train")


class Profile:
    """Writes a profile of some steps into a run's folder; use it in a `with` statement, or a late stop loses it.

    Args:
        folder: of the run.
        steps: the first one, and the one after the last.
        say: takes a sentence when it is written.
    """

    def __init__(self, folder: str, steps: tuple[int, int], say: Callable[[str], None]) -> None:
        self.folder, self.steps, self.say = os.path.join(folder, FOLDER), steps, say
        self._first: int | None = None
        self._place: Place | None = None
        self._done = False

    def __enter__(self) -> Profile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()
        if self.steps[1] and not self._done:
            self.say(f"--profile {self.steps[0]}:{self.steps[1]}: this process made none of these steps")

    def at(self, place: Place) -> None:
        """To be called before each step, with where training stands."""
        if self._first is not None and place.step >= self.steps[1]:
            self._stop()
        elif self._first is None and not self._done and self.steps[0] <= place.step < self.steps[1]:
            _finish(place)
            os.makedirs(self.folder, exist_ok=True)
            current().start_profile(self.folder)
            self._first = place.step
        self._place = place

    def _stop(self) -> None:
        if self._first is not None and self._place is not None:
            _finish(self._place)
            current().stop_profile()
            self.say(f"profile of steps {self._first} to {self._place.step - 1}: {self.folder}/plugins/profile")
            self._first, self._done = None, True


def _finish(place: Place) -> None:
    """Waits until the device has made every step: what is only queued is in no profile, or in the wrong one."""
    for value in place.logs.values():
        float(value)
