"""A profile of a few steps, for TensorBoard's profile plugin: what ran on the device and on the host, and how long."""

from __future__ import annotations

import os
from collections.abc import Callable

from trainer.backends import current

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
        self._runs = False

    def __enter__(self) -> Profile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()

    def at(self, step: int) -> None:
        """To be called before each step."""
        if self._runs and step >= self.steps[1]:
            self._stop()
        elif not self._runs and self.steps[0] <= step < self.steps[1]:
            os.makedirs(self.folder, exist_ok=True)
            current().start_profile(self.folder)
            self._runs = True

    def _stop(self) -> None:
        if self._runs:
            current().stop_profile()
            self._runs = False
            self.say(f"profile of steps {self.steps[0]} to {self.steps[1] - 1}: {self.folder}/plugins/profile")
