"""JSON and TOML that come from a file, read with suspicion: bounded in bytes, depth, containers and size of a number.

A plain `json.loads` ends in RecursionError, in gigabytes, in NaN or in an integer that no float holds; here every
document that is not plain ends in an InputError which names it. Checks cost little beside parsing, because depth is
told from the brackets alone, without a walk over the values.
"""

import json
import math
import os
import re
import stat
import tomllib
from collections import Counter
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from schemas.errors import InputError

LARGEST_JSON = 64 << 20
LARGEST_TOML = 1 << 20
DEEPEST_JSON = 64
DEEPEST_TOML = 32
MOST_CONTAINERS = 1 << 20
"""Lists and objects of one document: `[[],[],…]` of 64 MB would otherwise fill gigabytes of memory."""
LONGEST_INTEGER = 100
"""Digits; a float still holds what fits, so that no later conversion overflows."""

Array = npt.NDArray[Any]

_BOM = b"\xef\xbb\xbf"
_SMALL = 1 << 16
"""Bytes; below, counting brackets is cheaper than looking where they stand."""
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))
# What each byte adds to the depth.
_STEP = np.zeros(256, np.int8)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1


def parse_json(
    data: bytes | str,
    where: str,
    limit_bytes: int = LARGEST_JSON,
    depth: int = DEEPEST_JSON,
    *,
    unique_keys: bool = False,
) -> Any:
    """The values of a JSON document.

    Args:
        data: UTF-8 bytes (with or without a byte order mark), or a text.
        where: the file, and the line if it is one of many; errors begin with it.
        limit_bytes: refuse what is longer.
        depth: refuse lists and objects inside each other more often than this.
        unique_keys: refuse an object that names a key twice, where the last one would win in silence.

    Raises:
        InputError: the document is too large or too deep, is not UTF-8 or no JSON, or holds NaN, Infinity, a number
            beyond a float's range, an integer of more than 100 digits or half of a surrogate pair.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    _check_size(where, len(raw), limit_bytes)
    if b"\0" in raw:
        raise InputError(f"{where}: holds a zero byte, so it is no JSON, but another kind of file, or UTF-16.")
    _check_brackets(where, raw, depth)
    text = data if isinstance(data, str) else utf8_text(data, where)
    try:
        value = _decoder(raw, unique_keys).decode(text)
    except _LongIntegerError as error:
        raise InputError(f"{where}: {_long_integer(text)}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is no JSON that can be read: {error}") from error
    if b"\\" in raw and (b"\\ud" in raw or b"\\uD" in raw):
        _check_surrogates(where, value)
    return value


def parse_toml(data: bytes | str, where: str, limit_bytes: int = LARGEST_TOML, depth: int = DEEPEST_TOML) -> Any:
    """The table of a TOML document; arguments and refusals are those of `parse_json` (TOML's keys are unique).

    Raises:
        InputError: as `parse_json` does.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    _check_size(where, len(raw), limit_bytes)
    text = utf8_text(raw, where)
    # tomllib needs time by the square of the parts of a dotted key.
    if _dotted_parts(text) > depth:
        raise InputError(f"{where}: a key of more than {depth} parts. Write fewer tables inside each other.")
    try:
        value = tomllib.loads(text)
    except RecursionError as error:
        raise InputError(f"{where}: nested more than {depth} deep. Write fewer tables inside each other.") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: is no TOML that can be read: {error}") from error
    except ValueError as error:  # all that it says beside: Python's own words on integers of thousands of digits
        raise InputError(f"{where}: {_long_integer(text)}") from error
    _check_values(where, value, depth)
    return value


def read_json(
    path: str | os.PathLike[str],
    limit_bytes: int = LARGEST_JSON,
    depth: int = DEEPEST_JSON,
    *,
    unique_keys: bool = False,
) -> Any:
    """The values of a JSON file, as `parse_json` reads them.

    Raises:
        InputError: as `parse_json` does; or there is no such file, or it is no regular file or cannot be read.
    """
    return parse_json(read_document(path, limit_bytes), os.fspath(path), limit_bytes, depth, unique_keys=unique_keys)


def read_document(path: str | os.PathLike[str], limit_bytes: int) -> bytes:
    """The bytes of a regular file of at most `limit_bytes`.

    Raises:
        InputError: there is no such file, it is larger, is a pipe or a device, or cannot be read.
    """
    name = os.fspath(path)
    try:
        # Without O_NONBLOCK the mere opening of a named pipe waits for a writer.
        with open(name, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"{name}: is not a regular file.")
            data = file.read(limit_bytes + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{name}: cannot be read: {reason}. Check the path and its permissions.") from error
    _check_size(name, len(data), limit_bytes)
    return data


def utf8_text(data: bytes, where: str) -> str:
    """The text of UTF-8 bytes, without the byte order mark that may stand before it.

    Raises:
        InputError: a byte is not UTF-8; with line, byte and its offset in `data`.
    """
    try:
        return data.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        start = error.start + len(data) - len(error.object)
        line = data.count(b"\n", 0, start) + 1
        raise InputError(
            f"{where}, line {line}: byte {data[start]:#04x} at offset {start} is not UTF-8. Save the file as UTF-8, "
            "or fetch it again."
        ) from error


def _check_size(where: str, size: int, limit_bytes: int) -> None:
    if size > limit_bytes:
        raise InputError(f"{where}: more than {limit_bytes:,} bytes, so it is none of the documents expected here.")


def _check_brackets(where: str, data: bytes, depth: int) -> None:
    if len(data) < _SMALL and data.count(b"{") + data.count(b"[") <= depth:
        return
    if b"\\" in data:
        # From the left, so that of an odd run of backslashes the last one escapes what follows it.
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes side by side change nothing for what stands behind them; where texts hold no brackets, all of them go.
    marks = data.translate(None, _NOT_STRUCTURE).replace(b'""', b"")
    if marks.count(b"{") + marks.count(b"[") > MOST_CONTAINERS:
        raise InputError(f"{where}: more than {MOST_CONTAINERS:,} lists and objects; that is none of ours.")
    if _nesting(np.frombuffer(marks, np.uint8)) > depth:
        raise InputError(f"{where}: nested more than {depth} deep, so it is none of the documents expected here.")


def _nesting(marks: Array) -> int:
    """How deep lists and objects lie in each other, from the brackets and quotes of a document; not those in texts."""
    quotes = marks == ord('"')
    steps = _STEP[marks]
    if quotes.any():
        steps[np.logical_xor.accumulate(quotes)] = 0
    return int(np.cumsum(steps, dtype=np.int64).max(initial=0))


def _may_hold_long_integer(data: bytes) -> bool:
    # A run of more than 100 digits covers eight neighbours of every twelfth byte; a checksum of 64 hex digits does not.
    digit = np.subtract(np.frombuffer(data, np.uint8)[::12], ord("0"), dtype=np.uint8) < 10
    pairs = digit[:-1] & digit[1:]
    fours = pairs[:-2] & pairs[2:]
    return bool((fours[:-4] & fours[4:]).any())


class _LongIntegerError(ValueError):
    """An integer has too many digits."""


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_INTEGER:
        raise _LongIntegerError
    return int(digits)


_DIGITS = re.compile(r"[0-9][0-9_]*")
_KEY_BEFORE = re.compile(r"(?:\"([^\"\n]+)\"|'([^'\n]+)'|([A-Za-z0-9_-]+))\s*$")
_LONGEST_KEY = 100


def _long_integer(text: str) -> str:
    """What is wrong with a document that holds an integer of too many digits: which key has it, where a key has it."""
    found = "an integer of too many digits"
    # As much as any configuration file has: no more time is spent on a sentence.
    for digits in _DIGITS.finditer(text, 0, LARGEST_TOML):
        count = len(digits[0].replace("_", ""))
        if count > LONGEST_INTEGER:
            found = f"an integer of {count} digits"
            if key := _key_before(text[max(0, digits.start() - 2 * _LONGEST_KEY) : digits.start()]):
                found = f"{key!r} is {found}"
                break
    return f"{found}; at most {LONGEST_INTEGER} are read. Write a smaller number."


def _key_before(text: str) -> str:
    text = text.rstrip("+-").rstrip()
    key = _KEY_BEFORE.search(text[:-1]) if text.endswith((":", "=")) else None
    return (key[1] or key[2] or key[3])[:_LONGEST_KEY] if key else ""


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:20]} is beyond the range of a float")
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return table


_JSON, _JSON_OF_LONG_INTEGERS, _UNIQUE_JSON = (
    json.JSONDecoder(parse_float=_number, parse_constant=_constant, **more)
    for more in ({}, {"parse_int": _integer}, {"parse_int": _integer, "object_pairs_hook": _unique})
)


def _decoder(data: bytes, unique_keys: bool) -> json.JSONDecoder:
    # Calling back for every integer would double the time of parsing.
    if unique_keys:
        return _UNIQUE_JSON
    return _JSON if len(data) > _SMALL and not _may_hold_long_integer(data) else _JSON_OF_LONG_INTEGERS


def _check_surrogates(where: str, value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: holds half of a surrogate pair, which is no character.") from error


# No token can be lengthened by what another one holds, so that reading them takes time by the length of the text.
_TOKEN = re.compile(r"(?P<word>[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*')|(?P<dot>\.)|(?P<space>[ \t]+)|.", re.DOTALL)


def _dotted_parts(text: str) -> int:
    """The parts of the longest run of words joined by dots, in keys, values and comments alike."""
    longest = parts = 0
    after_dot = False
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "word":
            parts = parts + 1 if after_dot else 1
            longest = max(longest, parts)
        if token.lastgroup != "space":
            after_dot = token.lastgroup == "dot" and parts > 0
        if token.lastgroup is None:
            parts = 0
    return longest


def _check_values(where: str, value: Any, depth: int) -> None:
    """Refuses a parsed value that is too deep, or holds a number that JSON would refuse; no recursion."""
    level: list[tuple[str, Any]] = [("", value)]
    for _ in range(depth + 1):
        for key, item in level:
            _check_number(f"{where}: {key[:_LONGEST_KEY]!r} holds" if key else f"{where}: holds", item)
        containers = [(key, item) for key, item in level if isinstance(item, dict | list)]
        if not containers:
            return
        level = [inner for key, item in containers for inner in _keyed(key, item)]
    raise InputError(f"{where}: nested more than {depth} deep. Write fewer tables inside each other.")


def _keyed(key: str, container: dict[str, Any] | list[Any]) -> Iterable[tuple[str, Any]]:
    """What a container holds, each with the key that is nearest to it."""
    return container.items() if isinstance(container, dict) else ((key, item) for item in container)


def _check_number(where: str, item: Any) -> None:
    """Raises InputError for a number that is none to compute with; `where` says who holds it."""
    if isinstance(item, float) and not math.isfinite(item):
        raise InputError(f"{where} {item}, which is no number to compute with.")
    if isinstance(item, int) and abs(item) >= 10**LONGEST_INTEGER:
        raise InputError(f"{where} an integer of more than {LONGEST_INTEGER} digits.")
