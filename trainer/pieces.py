"""The dataset beside a trained run, and its whole pieces, put together from their windows by key and start_token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.errors import UsageError
from schemas.manifest import Manifest, read_manifest
from schemas.naming import Key, parse_key
from schemas.representations import from_settings
from schemas.settings import to_json
from schemas.window import layout_of
from trainer.data import Reader
from trainer.loaded import Loaded

_CHUNK = 1024


def piece_features(features: Mapping[str, Any]) -> tuple[str, ...]:
    """What a reader of records with these features must be asked for before `pieces` can work with it."""
    return ("key", *layout_of(features).names)


def dataset_of(loaded: Loaded, folder: str) -> tuple[str, Manifest]:
    """The dataset in a folder, or with "" the one that the run was trained on.

    Raises:
        UsageError: its ids do not mean what they mean to the run.
        InputError: no finished dataset is there.
    """
    folder = folder or loaded.data
    manifest = read_manifest(folder)
    ours, theirs = _meaning(loaded.representation), _meaning(from_settings(manifest.representation, manifest.settings))
    if ours != theirs:
        raise UsageError(
            f"{folder}: its tokens mean something else than those of {loaded.folder}: {theirs} there, {ours} here. "
            f"Give --data another dataset, or prepare one like {loaded.data}."
        )
    return folder, manifest


def _meaning(representation: Any) -> dict[str, Any]:
    """What ids mean; where pieces are cut, which copies were dropped and how fast they are played is another thing."""
    without = ("window", "hop", "ranges", "decoded_tempo")
    settings = {name: value for name, value in to_json(representation).items() if name not in without}
    return {"representation": type(representation).__name__.lower(), **settings}


@dataclass(frozen=True)
class Whole:
    """One copy of a piece.

    Attributes:
        copy: its key without the window.
        tokens: those that are there, uint16 [token]; of cells, uint8 [step, voice].
        lacking: how many are not, because a record was corrupt; then the others do not follow one another.
    """

    copy: str
    tokens: np.ndarray[Any, Any]
    lacking: int = 0


def pieces(reader: Reader, wanted: Callable[[Key], bool] = lambda key: True) -> Iterator[Whole]:
    """Every copy whose key is wanted, sorted by key, one in memory at a time.

    The reader must have been asked for `piece_features`. Raises CorruptRecord as it does.
    """
    layout = layout_of(reader.features)
    for copy, records in sorted(_records_of(reader, wanted).items()):
        columns, _ = reader.read(np.array(records))
        rows = [{name: columns[name][row] for name in columns} for row in range(len(records))]
        tokens = layout.join(rows)
        yield Whole(copy, tokens, int(rows[0][layout.total]) - len(tokens))


def _records_of(reader: Reader, wanted: Callable[[Key], bool]) -> dict[str, list[int]]:
    """The numbers of the sound records of each copy."""
    found: dict[str, list[int]] = {}
    for start in range(0, len(reader), _CHUNK):
        numbers = range(start, min(start + _CHUNK, len(reader)))
        columns, weights = reader.read(np.array(numbers))
        for number, text, weight in zip(numbers, columns["key"], weights, strict=True):
            key, copy = _key(reader, number, text)
            if weight and wanted(key):
                found.setdefault(copy, []).append(number)
    return found


def _key(reader: Reader, number: int, text: bytes) -> tuple[Key, str]:
    """The key of a record, and the part of it that names the copy. Raises CorruptRecord for what is none."""
    try:
        return parse_key(text.decode()), text.decode().rpartition("/")[0]
    except ValueError as error:
        raise reader.shards.corrupt(number, str(error)) from error
