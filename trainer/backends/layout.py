"""Which axis of a weight is divided among the devices that share one copy of a model.

Shoeybi et al. 2019, "Megatron-LM" (arXiv:1909.08053), section 3: the first product of attention and of the feed-forward
network is divided by columns, the second by rows, so that each block adds up over the devices twice. What is not named
here stays whole on every device. An optimiser's slots lie as the weights they belong to: their names end in its path.
"""

from __future__ import annotations

import re

_DIVIDED = (
    (re.compile(r"(query|key|value|widen)[/_]kernel"), 1),
    (re.compile(r"widen[/_]bias"), 0),
    (re.compile(r"(output|narrow)[/_]kernel"), 0),
    (re.compile(r"attention[/_]distances"), 0),
)


def divided_axis(path: str, shape: tuple[int, ...], parts: int) -> int | None:
    """The axis that is divided into `parts`, None where the weight stays whole: not named, or not divisible."""
    for pattern, axis in _DIVIDED:
        if pattern.search(path) and len(shape) > axis and shape[axis] % parts == 0:
            return axis
    return None
