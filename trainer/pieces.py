"""The dataset beside a trained run, and its whole pieces, put together from their windows by key and start_token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.errors import UsageError
from schemas.manifest import Manifest, read_manifest
from schemas.naming import Key, parse_key
from schemas.representations import from_settings
from schemas.settings import to_json
from schemas.tokens import join_tokens
from trainer.data import Reader
from trainer.loaded import Loaded

_CHUNK = 1024
PIECE_FEATURES = ("key", "piece_tokens", "start_token", "tokens")
"""What a reader must be asked for before `pieces` can work with it."""


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
    """What ids mean; where pieces are cut has nothing to do with it."""
    settings = {name: value for name, value in to_json(representation).items() if name not in ("window", "hop")}
    return {"representation": type(representation).__name__.lower(), **settings}


@dataclass(frozen=True)
class Whole:
    """One copy of a piece: its key without the window, and its tokens, uint16 [token]."""

    copy: str
    tokens: np.ndarray[Any, Any]


def pieces(reader: Reader, wanted: Callable[[Key], bool] = lambda key: True) -> Iterator[Whole]:
    """Every copy whose key is wanted, sorted by key, one in memory at a time.

    The reader must have been asked for key, tokens, start_token and piece_tokens.
    """
    for copy, records in sorted(_records_of(reader, wanted).items()):
        columns = reader.read(np.array(records))
        rows = [{name: columns[name][row] for name in columns} for row in range(len(records))]
        yield Whole(copy, join_tokens(rows))


def _records_of(reader: Reader, wanted: Callable[[Key], bool]) -> dict[str, list[int]]:
    """The numbers of the records of each copy."""
    found: dict[str, list[int]] = {}
    for start in range(0, len(reader), _CHUNK):
        numbers = range(start, min(start + _CHUNK, len(reader)))
        for number, key in zip(numbers, reader.read(np.array(numbers))["key"], strict=True):
            if wanted(parse_key(key.decode())):
                found.setdefault(key.decode().rpartition("/")[0], []).append(number)
    return found
