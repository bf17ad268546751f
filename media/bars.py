"""Where bar lines stand in a piece: by its metre, and by what its file says of them. An upbeat is a short bar."""

from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from schemas.grid import LENGTH_TICKS
from schemas.music import BAR_TICKS, InvalidMusic, Piece

MOST_BARS = 10_000
_BOTTOMS = (4, 8, 16, 32, 64)


class Bar(NamedTuple):
    """A bar as it is written.

    Attributes:
        start: its first tick.
        end: the tick after its last.
        metre: (numerator, denominator).
        full: the ticks that its metre has; it may have fewer.
        changes: whether its metre is written.
        number: from 1; an upbeat has 0, and what completes a bar the number of that.
        implicit: whether the number is not its own.
    """

    start: int
    end: int
    metre: tuple[int, int]
    full: int
    changes: bool
    number: int
    implicit: bool

    @property
    def ticks(self) -> int:
        """How long it is."""
        return self.end - self.start


def bars_of(piece: Piece) -> Iterator[Bar]:
    """The bars of a piece to its end, one at least, each as its metre has it or shorter.

    A new time signature and a tick of BAR_TICKS end a bar. Raises InvalidMusic: `too-long`, more than 10,000 bars.
    """
    last = max(int(piece.labels.get(LENGTH_TICKS, 0)), int(piece.notes.end.max(initial=0)), 1)
    changes = {0: (4, 4), **{tick: (top, bottom) for tick, top, bottom in piece.time_signatures}}
    ends = sorted({*changes, *piece.labels.get(BAR_TICKS, ())})
    start, metre, number, lacks = 0, changes[0], 0, 0
    for index in range(MOST_BARS):
        metre = changes.get(start, metre)
        full = max(1, 4 * piece.tempo.ticks_per_quarter * metre[0] // metre[1])
        end = min([start + full, *ends[(after := bisect_right(ends, start)) : after + 1]])
        is_upbeat = index == 0 and end - start < full and end < last
        implicit = is_upbeat or 0 < lacks == end - start
        lacks = 0 if implicit else full - (end - start)
        number += not implicit
        yield Bar(start, end, metre, full, start in changes, number, implicit)
        start = end
        if start >= last:
            return
    raise InvalidMusic("too-long", f"{piece.name}: more than {MOST_BARS:,} bars")


def played_metres(piece: Piece) -> tuple[tuple[int, int, int], ...]:
    """Time signatures for MIDI, which has no bar lines: a bar that is not full is one of a shorter metre."""
    found: list[tuple[int, int, int]] = []
    for bar in bars_of(piece):
        part = Fraction(bar.ticks, 4 * piece.tempo.ticks_per_quarter)
        bottom = max(4, part.denominator)
        can_be = bar.ticks < bar.full and bottom in _BOTTOMS and part * bottom < 256
        metre = (int(part * bottom), bottom) if can_be else bar.metre
        if not found or found[-1][1:] != metre:
            found.append((bar.start, *metre))
    return tuple(found)
