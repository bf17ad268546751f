"""JSON documents with a value changed, gone, or there twice, and the rest whole: so that a fuzzer gets deep."""

from collections.abc import Sequence
from copy import deepcopy
from random import Random
from typing import Any

KEYS = ("key", "surplus", "a b", "x" * 300)


def change(values: Any, draw: Random, hostile: Sequence[Any]) -> None:
    """Changes something in a JSON object or list, anywhere below it, often into one of the hostile values."""
    while True:
        key = _some_key(values, draw)
        inner = values[key] if key is not None else None
        if not isinstance(inner, (dict, list)) or not inner or draw.random() < 0.2:
            break
        values = inner
    # Copies, or the document would hold itself.
    other, inner = deepcopy(draw.choice(hostile)), deepcopy(inner)
    if isinstance(values, dict):
        if key is not None and draw.random() < 0.15:
            values.pop(key)
        elif draw.random() < 0.1:
            values[draw.choice(KEYS)] = inner
        elif key is not None:
            values[key] = other
    elif key is None or draw.random() < 0.3:
        values.append(inner if draw.random() < 0.7 else other)
    else:
        values[key] = other


def _some_key(values: Any, draw: Random) -> Any:
    places = list(values) if isinstance(values, dict) else list(range(len(values)))
    return draw.choice(places) if places else None
