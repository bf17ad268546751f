"""Token records: the layout shared by every representation that is one sequence of ids."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.feature import Feature, Record
from schemas.window import TOKENS, window_starts

Tokens = npt.NDArray[np.uint16]


def token_features(window: int, largest_id: int) -> dict[str, Feature]:
    """Features of a token record; `window` 0 leaves the length open."""
    length = window or None
    return {
        "tokens": Feature(
            "uint16", ("token",), (length,), "id", "Event ids without BOS, padded at the end.", "raw", 0, largest_id
        ),
        "start_token": Feature("int64", unit="token", doc="Place of the first id in its piece.", minimum=0),
        "piece_tokens": Feature("int64", unit="token", doc="How many ids the whole piece has.", minimum=0),
    }


def cut_tokens(tokens: Tokens, window: int, hop: int, pad: int) -> Iterator[Record]:
    """Token records of one piece, uint16 [token] in, each window padded to its full length."""
    total = np.int64(len(tokens))
    for start in window_starts(len(tokens), window, hop or window):
        piece = tokens[start : start + window] if window else tokens
        if len(piece) < window:
            piece = np.concatenate([piece, np.full(window - len(piece), pad, np.uint16)])
        yield {"tokens": piece, "start_token": np.int64(start), "piece_tokens": total}


def real_length(record: Record) -> int:
    """How many ids of a record are events and not padding."""
    return TOKENS.real_length(record)


def join_tokens(records: Iterable[Record]) -> npt.NDArray[Any]:
    """The ids of a piece from its windows in any order; where windows overlap the earlier one speaks."""
    return TOKENS.join(records)
