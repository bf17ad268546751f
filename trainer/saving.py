"""Checkpoints written while training goes on: one at a time, in a thread of its own.

What is saved is copied first, so that the next step may write over it. A disk that fails is told with the next step or
the next checkpoint, whichever comes first; nothing ends while something is being written.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from schemas.errors import MachineError
from trainer.checkpoint import Checkpoints
from trainer.saved import Saved
from trainer.telling import tell


class Saving:
    """The checkpoints of one run, written in the background.

    Args:
        checkpoints: where they go.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Saving:
        return self

    def __exit__(self, kind: object, error: BaseException | None, *trace: object) -> None:
        """Waits until nothing is being written; where something else failed first, that is what is raised."""
        try:
            self.wait()
        except MachineError as failed:
            if error is None:
                raise
            tell(f"stretto: {failed}")

    def begin(self, saved: Saved, weights: Sequence[Any], optimiser: Sequence[Any]) -> None:
        """Begins to write a checkpoint of arrays that nobody changes any more; waits for the one before.

        Raises:
            MachineError: the one before could not be written.
        """
        self.wait()
        self._thread = threading.Thread(target=self._work, args=(saved, weights, optimiser), name="saving")
        self._thread.start()

    def check(self) -> None:
        """Raises what `wait` would, where something has failed already; waits for nothing."""
        if self._error is not None:
            self.wait()

    def wait(self) -> None:
        """Waits until nothing is being written. Raises MachineError where the last checkpoint could not be written."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self, saved: Saved, weights: Sequence[Any], optimiser: Sequence[Any]) -> None:
        try:
            self.checkpoints.save(saved, weights, optimiser)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            self._error = error
