"""Settings: frozen dataclasses whose fields are flags, keys of a configuration file and part of a fingerprint."""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
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


def as_flags(kind: type, values: Mapping[str, Any]) -> list[str]:
    """Plain values of a settings dataclass as one types them: `--grid=8th`, `--no-hold`, `--pitch-range=21..108`."""
    return [_flag(field, values[field.name]) for field in dataclasses.fields(kind) if field.name in values]


def _flag(field: dataclasses.Field[Any], value: Any) -> str:
    name = field.name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    if isinstance(value, list):
        return f"--{name}={('..' if field.metadata['parse'] is parse_span else ',').join(map(str, value))}"
    return f"--{name}={value:g}" if isinstance(value, float) else f"--{name}={value}"


def plain_type(hint: Any) -> Any:
    """The type itself where a hint allows None beside it."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(part for part in typing.get_args(hint) if part is not type(None))
    return hint


def from_json(kind: type[T], values: dict[str, Any]) -> T:
    """A settings dataclass from plain JSON values.

    Raises:
        UsageError: a key that it does not have, or a value that its field cannot have.
    """
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in names:
            guess = nearest(key, names)
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise UsageError(f"unknown setting {key!r} of {kind.__name__}.{hint} Known: {', '.join(names)}.")
    made = {key: _frozen(value) for key, value in values.items()}
    _check_values(kind, made)
    return kind(**made)


def _check_values(kind: Any, values: dict[str, Any]) -> None:
    """Raises UsageError for a value of another type than its field's, or none of its choices."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.name not in values:
            continue
        value, choices = values[field.name], field.metadata.get("choices")
        if not _is_of(hints[field.name], value) or (choices and value not in choices):
            named = " or ".join(choice or "''" for choice in choices or ())
            expected = named or getattr(hints[field.name], "__name__", "another type")
            raise UsageError(f"{field.name} of {kind.__name__} cannot be {str(value)[:60]!r}: expected {expected}")


def _is_of(hint: Any, value: Any) -> bool:
    """Whether a plain value is of the annotated type; an annotation that is no plain type says nothing."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_is_of(part, value) for part in parts)
    if origin is tuple:
        inner = (parts[0],) * len(value) if isinstance(value, tuple) and parts[-1] is ... else parts
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(_is_of, inner, value))
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint if hint in (bool, int, str, type(None)) else True


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
