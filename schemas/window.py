"""Windows: where a long sequence is cut, so that every element falls into at least one, and how it is joined again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


def window_starts(length: int, window: int, hop: int) -> range:
    """First element of each window over `length` elements.

    With hop == window every element is in exactly one window. The last window may be short; none begins past the end,
    and a window that would add nothing new (all of it lies in the one before) is not made. `window` 0 means: one
    window, the whole.

    Raises:
        ValueError: hop is not in 1..window.
    """
    if length <= 0:
        return range(0)
    if window == 0:
        return range(1)
    if not 1 <= hop <= window:
        raise ValueError(f"hop {hop} must lie between 1 and the window {window}, or elements would be skipped")
    last = max(0, -(-(length - window) // hop))
    return range(0, (last + 1) * hop, hop)


@dataclass(frozen=True)
class Layout:
    """The names under which records of windows hold their elements [element, ...], where the first lies, and the total.

    Attributes:
        values: the elements, padded at the end.
        start: the place of the first element in its piece.
        total: how many elements the whole piece has.
    """

    values: str
    start: str
    total: str

    @property
    def names(self) -> tuple[str, str, str]:
        """All three."""
        return self.values, self.start, self.total

    def real_length(self, record: Mapping[str, Any]) -> int:
        """How many elements of a record are of the piece and not padding."""
        return int(max(0, min(len(record[self.values]), int(record[self.total]) - int(record[self.start]))))

    def join(self, records: Iterable[Mapping[str, Any]]) -> npt.NDArray[Any]:
        """The elements of a piece from its windows in any order; where windows overlap the earlier one speaks.

        Without records: none, uint16 [0].
        """
        parts, reached = [], None
        for record in sorted(records, key=lambda item: int(item[self.start])):
            start, length = int(record[self.start]), self.real_length(record)
            reached = start if reached is None else reached
            parts.append(record[self.values][max(0, reached - start) : length])
            reached = max(reached, start + length)
        return np.concatenate(parts) if parts else np.zeros(0, np.uint16)


TOKENS = Layout("tokens", "start_token", "piece_tokens")
CELLS = Layout("pitches", "start_step", "piece_steps")


def layout_of(features: Mapping[str, Any]) -> Layout:
    """The layout of records with these features. Raises KeyError for records that are no windows of a known kind."""
    for layout in (TOKENS, CELLS):
        if features.keys() >= set(layout.names):
            return layout
    raise KeyError(f"neither tokens nor pitches among {', '.join(sorted(features))}")
