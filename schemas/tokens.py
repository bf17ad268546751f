"""Token records: the layout shared by every representation that is one sequence of ids."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.feature import Feature, Record
from schemas.window import TOKENS

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
    return TOKENS.cut(tokens, window, hop, pad)


def real_length(record: Record) -> int:
    """How many ids of a record are events and not padding."""
    return TOKENS.real_length(record)


def join_tokens(records: Iterable[Record]) -> npt.NDArray[Any]:
    """The ids of a piece from its windows in any order; where windows overlap the earlier one speaks."""
    return TOKENS.join(records)
