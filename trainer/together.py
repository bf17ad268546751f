"""One stop for all processes of a run: whoever is asked, all end after the same step.

What each process was asked travels with its rows of every batch, and is added up in the step itself, so that it costs
no meeting. The sum is read some steps late, when it is there already, so that no step waits for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from trainer.devices import Processes
from trainer.stopping import Stopping
from trainer.task import STOPPING

STEPS_LATE = 2


class Together:
    """What is asked of one process, as what all of them do.

    Attributes:
        requested: whether all are to stop now. Of one process alone: whether it was asked.
        by_hand: whether this process was asked from the keyboard.
    """

    def __init__(self, stop: Stopping, processes: Processes) -> None:
        self._stop, self._alone, self._agreed = stop, processes.count == 1, False
        self._sums: deque[Any] = deque()

    @property
    def requested(self) -> bool:
        """See the class."""
        return self._stop.requested if self._alone else self._agreed

    @property
    def by_hand(self) -> bool:
        """See the class."""
        return self._stop.by_hand

    def marked(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Rows of a batch that also say what this process was asked."""
        if self._alone:
            return batch
        rows = len(next(iter(batch.values())))
        return {**batch, STOPPING: np.full(rows, self._stop.requested, np.float32)}

    def read(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """What a compiled function found in a marked batch, without the mark; here the processes come to agree."""
        rest = dict(found)
        if not self._alone:
            self._sums.append(rest.pop(STOPPING))
            if len(self._sums) > STEPS_LATE:
                self._agreed |= float(self._sums.popleft()) > 0
        return rest
