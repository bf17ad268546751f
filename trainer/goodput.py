"""Where the time of a run went, over all processes that trained it one after the other: steps, and all that is none.

Goodput is the share of the time that went into steps whose result is in the run. What is no step: starting, compiling,
waiting for input, saving, evaluating, showing music, and steps that were made again because nothing had saved them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

STEPS = "steps"
REDONE = "redone"
LOST = ("starting", "compiling", "input", "saving", "evaluating", "showing", REDONE)
_PREFIX = "seconds_"


class Spent:
    """The seconds of a run by what they went into.

    Args:
        began: `time.monotonic()` when this process began.
        earlier: what earlier processes wrote, oldest first: lines with `step` and what `figures` gives.
        step: the step that this one goes on from.
    """

    def __init__(self, began: float, earlier: Iterable[Mapping[str, Any]] = (), step: int = 0) -> None:
        self._began, self._seconds = began, carried(earlier, step)
        self._here = dict.fromkeys(LOST, 0.0)

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """A `with` block whose time goes into one of LOST."""
        before = time.monotonic()
        try:
            yield
        finally:
            self.add(what, time.monotonic() - before)

    def add(self, what: str, seconds: float) -> None:
        """The same for time that was measured elsewhere."""
        self._here[what] += seconds

    def started(self) -> None:
        """All until now went into starting."""
        self.add("starting", time.monotonic() - self._began - sum(self._here.values()))

    def told(self) -> str:
        """A sentence for the person who waited."""
        found = self.figures()
        lost = {name: found[_PREFIX + name] for name in LOST if found[_PREFIX + name] >= 1}
        rest = ", ".join(
            f"{name} {seconds:,.0f} s" for name, seconds in sorted(lost.items(), key=lambda item: -item[1])
        )
        whole = sum(value for name, value in found.items() if name.startswith(_PREFIX))
        return f"goodput: {found['goodput']:.1%} of {whole:,.0f} s went into steps" + (f"; {rest}" if rest else "")

    def figures(self) -> dict[str, float]:
        """`goodput`, the share of steps, and the seconds that each of LOST and STEPS took in all."""
        here = time.monotonic() - self._began
        steps = max(0.0, here - sum(self._here.values()))
        whole = {name: self._seconds[name] + self._here.get(name, steps) for name in (STEPS, *LOST)}
        share = whole[STEPS] / max(1e-9, sum(whole.values()))
        return {"goodput": share, **{_PREFIX + name: seconds for name, seconds in whole.items()}}


def carried(earlier: Iterable[Mapping[str, Any]], step: int) -> dict[str, float]:
    """The seconds of earlier processes; those in steps after the one that is gone on from are REDONE."""
    last, kept = dict.fromkeys((STEPS, *LOST), 0.0), 0.0
    for line in earlier:
        found = {name: line.get(_PREFIX + name) for name in (STEPS, *LOST)}
        if any(type(value) not in (int, float) for value in found.values()):
            continue
        last = {name: float(value) for name, value in found.items()}
        if line["step"] <= step:
            kept = last[STEPS]
    lost = max(0.0, last[STEPS] - kept)
    return {**last, STEPS: last[STEPS] - lost, REDONE: last[REDONE] + lost}
