"""What the nats of scored windows come to: figures of all, of each piece and window, and of each voice.

A row is one window: piece, start_token, nats, tokens, right (tokens that were the likeliest), notes, seconds,
bigram_nats. Voices, and cells that stay apart from those that change, are told where a token is a cell of a raster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainer.metrics.likelihood import NOTHING, Likelihood

Array = np.ndarray[Any, Any]


def summary(rows: Sequence[Mapping[str, Any]], protocol: str, window: int) -> dict[str, Any]:
    """The figures of all windows together, those of each piece, and the windows themselves."""
    total = sum((_likelihood(row) for row in rows), NOTHING)
    bigram = sum(row["bigram_nats"] for row in rows) / total.tokens
    name = f"nll_seg{window}" if protocol == "segment" else f"nll_sliding{window}"
    by_piece: dict[str, Likelihood] = {}
    for row in rows:
        by_piece[row["piece"]] = by_piece.get(row["piece"], NOTHING) + _likelihood(row)
    return {
        **_finite(total.figures()),
        name: total.nats_per_token,
        "accuracy": sum(row["right"] for row in rows) / total.tokens,
        "standard_error": standard_error([found.nats_per_token for found in by_piece.values()]),
        "bigram_nats_per_token": bigram,
        "ratio": total.nats_per_token / bigram,
        "pieces": [{"piece": piece, **_finite(found.figures())} for piece, found in by_piece.items()],
        "segments": [{**row, "nats_per_token": row["nats"] / row["tokens"]} for row in rows],
    }


def standard_error(figures: Sequence[float]) -> float | None:
    """Of the mean over pieces; None for a single piece. Differences below twice this are noise, unless paired."""
    if len(figures) < 2:
        return None
    return float(np.std(figures, ddof=1) / np.sqrt(len(figures)))


def _likelihood(row: Mapping[str, Any]) -> Likelihood:
    return Likelihood(row["nats"], row["tokens"], row["notes"], row["seconds"])


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}


def of_cells(tokens: Mapping[str, Array], nats: Mapping[str, Array], names: Sequence[str]) -> dict[str, Any]:
    """Nats a cell: of all, of each voice by its name, and of cells that repeat their voice's last one or change it.

    `tokens` and `nats` are [token] of each whole piece, voices serialised step by step. A voice's first cell is in
    neither of the last two. None where there is no such cell.
    """
    voices = len(names)
    spent = np.concatenate(list(nats.values()))
    voice = np.concatenate([np.arange(len(piece)) % voices for piece in tokens.values()])
    repeats = np.concatenate([_repeats(piece, voices) for piece in tokens.values()])
    return {
        "nll_cell": _mean(spent),
        "voices": {name: _mean(spent[voice == number]) for number, name in enumerate(names)},
        "repeated": _mean(spent[repeats == 1]),
        "changed": _mean(spent[repeats == 0]),
    }


def _repeats(tokens: Array, voices: int) -> Array:
    """1 for a cell that equals its voice's last one, 0 for one that differs, -1 where there is none before."""
    found = np.full(len(tokens), -1)
    found[voices:] = tokens[voices:] == tokens[:-voices]
    return found


def _mean(nats: Array) -> float | None:
    """Of those that are scored: NaN stands where a cell is not."""
    scored = nats[~np.isnan(nats)]
    return float(scored.mean()) if len(scored) else None


def group(nats: Mapping[str, Array]) -> dict[str, Any]:
    """How some pieces, nats [token] of each, fare together: how many, nats a token, standard error of their mean."""
    spent = [item for item in nats.values() if len(item)]
    return {
        "pieces": len(spent),
        "nats_per_token": _mean(np.concatenate([np.zeros(0), *spent])),
        "standard_error": standard_error([float(item.mean()) for item in spent]),
    }
