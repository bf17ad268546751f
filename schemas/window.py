"""Windows: where a long sequence is cut, so that every element falls into at least one, and how it is joined again."""

from collections.abc import Iterable, Iterator, Mapping
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


def check_window(window: int, hop: int, largest: int, multiple: int = 1) -> None:
    """Raises ValueError unless window and hop (0: none) are whole numbers of elements that records can have."""
    wanted = f"on a multiple of {multiple} (a token for each voice)" if multiple > 1 else "on a whole number"
    for name, value in (("window", window), ("hop", hop)):
        if not isinstance(value, int) or isinstance(value, bool) or value % multiple or not 0 <= value <= largest:
            raise ValueError(f"{name} {value} must lie {wanted} from 0 to {largest}")
    if hop > window:
        raise ValueError(f"hop {hop} must lie between 0 and the window {window}")


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

    def cut(self, values: npt.NDArray[Any], window: int, hop: int, pad: int) -> Iterator[dict[str, Any]]:
        """Records of one piece, its elements [element, ...] in, each window filled up with `pad`; hop 0: the window."""
        total = np.int64(len(values))
        for start in window_starts(len(values), window, hop or window):
            piece = values[start : start + window] if window else values
            if len(piece) < window:
                padding = np.full((window - len(piece), *values.shape[1:]), pad, values.dtype)
                piece = np.concatenate([piece, padding])
            yield {self.values: piece, self.start: np.int64(start), self.total: total}

    def part(self, record: Mapping[str, Any], first: int, length: int, pad: int) -> dict[str, Any]:
        """The record of `length` elements of a record from its element `first` on, filled up with `pad`."""
        values = record[self.values][first : first + length]
        if len(values) < length:
            values = np.concatenate([values, np.full((length - len(values), *values.shape[1:]), pad, values.dtype)])
        return {**record, self.values: values, self.start: record[self.start] + np.int64(first)}

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


def unit_of(features: Mapping[str, Any]) -> str:
    """What records with these features are counted in: "steps" or "tokens"."""
    return "steps" if CELLS.total in features else "tokens"


def piece_length(record: Mapping[str, Any]) -> int:
    """How many elements the whole piece of a record has; 0 for a record that is no window of a known kind."""
    return next((int(record[layout.total]) for layout in (TOKENS, CELLS) if layout.total in record), 0)


def layout_of(features: Mapping[str, Any]) -> Layout:
    """The layout of records with these features. Raises KeyError for records that are no windows of a known kind."""
    for layout in (TOKENS, CELLS):
        if features.keys() >= set(layout.names):
            return layout
    raise KeyError(f"neither tokens nor pitches among {', '.join(sorted(features))}")
