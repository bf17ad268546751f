"""Settings: frozen dataclasses whose fields are flags, keys of a configuration file and part of a fingerprint."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from schemas.errors import UsageError
from schemas.registry import nearest

T = TypeVar("T")


def setting(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    parse: Callable[[str], Any] | None = None,
    choices: Sequence[str] = (),
    metavar: str | None = None,
) -> Any:
    """A dataclass field that documents itself.

    Args:
        default: the value where nothing is given; none makes the setting required.
        help: one sentence for `--help`, with the unit.
        parse: text -> value where the field's type alone does not say it (`-3..3`). Raises ValueError with a sentence.
        choices: the allowed texts, where there are few.
        metavar: how `--help` shows the value.
    """
    metadata = {"help": help, "parse": parse, "choices": tuple(choices), "metavar": metavar}
    return dataclasses.field(default=default, metadata=metadata)


def to_json(settings: Any) -> dict[str, Any]:
    """The fields of a settings dataclass as plain JSON values: tuples become lists, nested dataclasses dicts."""
    return {field.name: _plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def from_json(kind: type[T], values: dict[str, Any]) -> T:
    """A settings dataclass from plain JSON values. Raises UsageError for a key it does not have."""
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in names:
            guess = nearest(key, names)
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise UsageError(f"unknown setting {key!r} of {kind.__name__}.{hint} Known: {', '.join(names)}.")
    return kind(**{key: _frozen(value) for key, value in values.items()})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def parse_span(text: str) -> tuple[int, int]:
    """`21..108` -> (21, 108), both ends included. Raises ValueError for anything else."""
    low, dots, high = text.partition("..")
    if not dots:
        raise ValueError(f"{text!r} is no range: write LOW..HIGH, for example 21..108")
    try:
        span = int(low), int(high)
    except ValueError:
        raise ValueError(f"{text!r} is no range of whole numbers: write LOW..HIGH, for example 21..108") from None
    if span[0] > span[1]:
        raise ValueError(f"{text!r} is empty: the first number is above the second")
    return span


def parse_integers(text: str) -> tuple[int, ...]:
    """`-3..3` or `0,2,5` -> the whole numbers, in the order given. Raises ValueError for a repeat or nonsense."""
    if ".." in text:
        low, high = parse_span(text)
        if high - low > 255:
            raise ValueError(f"{text!r} names {high - low + 1} numbers: at most 256")
        return tuple(range(low, high + 1))
    return _distinct(text, int, "a whole number")


def parse_numbers(text: str) -> tuple[float, ...]:
    """`0.95,1,1.05` -> the numbers, in the order given. Raises ValueError for a repeat or nonsense."""
    return _distinct(text, float, "a number")


def _distinct(text: str, kind: Callable[[str], Any], noun: str) -> tuple[Any, ...]:
    values = []
    for part in text.split(","):
        try:
            values.append(kind(part))
        except ValueError:
            raise ValueError(f"{part.strip()!r} in {text!r} is not {noun}") from None
    if len(set(values)) != len(values):
        raise ValueError(f"{text!r} names a value twice")
    return tuple(values)
