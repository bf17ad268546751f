"""MAESTRO's list of performances, read from its csv or json; what is wrong in it is named by file, row and column."""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from beam_pipelines.corpora.corpus import read_file
from media.archive import is_archive
from media.storage import list_files, local
from schemas.documents import parse_json, utf8_text
from schemas.errors import InputError, Unreadable

COLUMNS = ("canonical_composer", "canonical_title", "split", "midi_filename")
LARGEST_METADATA = 16 << 20
"""Bytes; those of 1276 performances have half a megabyte."""
DEEPEST_METADATA = 4
_NAME = re.compile(r"maestro-v(?P<version>\d+(?:\.\d+)*)\.(?P<kind>csv|json)")
_SHOWN = 3


@dataclass(frozen=True)
class Row:
    """One performance as the metadata names it; `number` is its line in the csv or its entry in the json."""

    composer: str
    title: str
    split: str
    path: str
    number: int


@dataclass(frozen=True)
class Metadata:
    """What the root says of itself: rows of the file that counts, its name, the version, and sentences for the user."""

    rows: tuple[Row, ...]
    file: str
    version: str
    files: tuple[str, ...]
    reports: tuple[str, ...]


def read_metadata(root: str) -> Metadata:
    """The metadata of a MAESTRO folder: csv before json, from the root only.

    Raises:
        InputError: there is none, there are two versions, or the file that counts cannot be read.
    """
    names = _metadata_names(root)
    version = _only_version(root, names)
    chosen = names[0]
    rows = tuple(_rows(root, chosen))
    if not rows:
        raise InputError(f"{root}/{chosen}: lists no performances. Fetch the file again from the release.")
    reports = [*_oddities(root, chosen), *(_comparison(root, chosen, rows, other) for other in names[1:])]
    return Metadata(rows, chosen, version, tuple(names), tuple(filter(None, reports)))


def _metadata_names(root: str) -> list[str]:
    every = list_files(local(root))
    names = sorted(name for name in every if _NAME.fullmatch(name))
    if names:
        return names
    deeper = sorted({name.rpartition("/")[0] for name in every if _NAME.fullmatch(name.rpartition("/")[2])})
    hint = "Give the release's zip, or the folder that it unpacks to"
    if deeper and not is_archive(root):
        hint = f"Give --input {root}/{deeper[0]}"
    raise InputError(f"{root}: no maestro-v*.csv or maestro-v*.json at its top. {hint}.")


def _only_version(root: str, names: list[str]) -> str:
    versions = sorted({_NAME.fullmatch(name)["version"] for name in names})  # type: ignore[index]
    if len(versions) > 1:
        raise InputError(
            f"{root}: metadata of several versions ({', '.join(names)}). Leave only one version in the folder."
        )
    return versions[0]


def _rows(root: str, name: str) -> Iterator[Row]:
    for number, values in _records(root, name):
        yield _row(f"{root}/{name}", number, values)


def _records(root: str, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    file, data = f"{root}/{name}", _bytes(root, name)
    return _csv_records(file, utf8_text(data, file)) if name.endswith(".csv") else _json_records(file, data)


def _bytes(root: str, name: str) -> bytes:
    try:
        return read_file(root, name, LARGEST_METADATA)
    except Unreadable as error:
        raise InputError(f"{root}/{name}: {error}. Fetch the file again from the release.") from error


def _csv_records(file: str, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if not reader.fieldnames:
            raise InputError(f"{file}: is empty. Fetch the file again from the release.")
        _check_columns(file, reader.fieldnames)
        for values in reader:
            yield reader.line_num, values
    except csv.Error as error:
        raise InputError(f"{file}, line {reader.line_num}: is no csv: {error}. Fetch the file again.") from error


def _check_columns(file: str, names: Any) -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        there = ", ".join(map(str, names)) or "none"
        raise InputError(
            f"{file}: column {missing[0]!r} is missing (there are: {there}). Fetch the file again from the release."
        )
    twice = [name for name in COLUMNS if list(names).count(name) > 1]
    if twice:
        raise InputError(f"{file}: column {twice[0]!r} is there twice. Fetch the file again from the release.")


def _json_records(file: str, data: bytes) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # A key given twice would put a performance into the split that is written last, in silence.
    values = parse_json(data, file, LARGEST_METADATA, DEEPEST_METADATA, unique_keys=True)
    if isinstance(values, list):
        yield from _row_oriented(file, values)
    elif isinstance(values, dict):
        yield from _column_oriented(file, values)
    else:
        raise InputError(
            f"{file}: expected a list of performances or a table of columns, found {type(values).__name__}."
        )


def _row_oriented(file: str, values: list[Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, row in enumerate(values):
        if not isinstance(row, dict):
            raise InputError(f"{file}, entry {number}: expected a performance, found {type(row).__name__}.")
        _check_columns(f"{file}, entry {number}", row)
        yield number, row


def _column_oriented(file: str, values: dict[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    _check_columns(file, values)
    columns = {name: column for name, column in values.items() if isinstance(column, dict)}
    _check_columns(file, columns)
    for number, index in enumerate(columns["midi_filename"]):
        yield number, {name: column.get(index) for name, column in columns.items()}


def _row(file: str, number: int, values: Mapping[str, Any]) -> Row:
    for name in COLUMNS:
        if not isinstance(values[name], str) or not values[name].strip():
            raise InputError(
                f"{file}, row {number}, column {name!r}: expected a text, found {values[name]!r}. "
                "Correct the row, or fetch the file again from the release."
            )
    return Row(
        values["canonical_composer"], values["canonical_title"], values["split"], values["midi_filename"], number
    )


def _oddities(root: str, name: str) -> list[str]:
    records = list(_records(root, name))
    odd = [number for number, values in records if not _is_duration(values.get("duration", 1))]
    # What csv puts under None are values behind the last column, mostly a comma that should stand in quotes.
    long = [number for number, values in records if None in values]
    rows = [
        (odd, "durations are no positive number", "they are not used, the notes say how long a piece is"),
        (long, "rows have more values than there are columns", "what is too much is not used"),
    ]
    return [f"{name}: {len(of)} {what} (rows {_some(of)}); {so}" for of, what, so in rows if of]


def _is_duration(value: Any) -> bool:
    try:
        return 0 < float(value) < float("inf")
    except (TypeError, ValueError):
        return False


def _comparison(root: str, chosen: str, rows: tuple[Row, ...], other: str) -> str:
    try:
        theirs = {_content(row) for row in _rows(root, other)}
    except InputError as error:
        return f"{chosen} is used; {other} cannot be compared with it: {error}"
    ours = {_content(row) for row in rows}
    paths = sorted({content[-1] for content in ours ^ theirs})
    if not paths:
        return ""
    return f"{chosen} and {other} disagree about {len(paths)} performances ({_some(paths)}); {chosen} is used"


def _content(row: Row) -> tuple[str, ...]:
    return row.composer, row.title, row.split, row.path


def _some(values: list[Any]) -> str:
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(map(str, values[:_SHOWN])) + more
