"""Scores a run on a split: likelihood per token, per note and per second of music, beside a bigram's.

Protocols. `segment`: every piece is cut into windows that do not overlap, each read from BOS; this is what the
literature reports (Huang et al. 2018: segments of 2,048 events), and losing the context at each cut costs likelihood.
`sliding`: windows overlap and only tokens with context from the one before are scored, but for the first window;
lower, and not comparable with `segment`. Every token of a piece is scored once in both. The bigram (counted on train,
0.1 added) reads the same windows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from media.storage import write_atomic
from schemas.errors import InputError, UsageError
from schemas.hashing import canonical_json
from schemas.manifest import Manifest
from schemas.naming import SPLITS, Key
from schemas.settings import setting, to_json
from schemas.tokens import real_length
from schemas.window import window_starts
from trainer.config import ON_CORRUPT
from trainer.metrics.likelihood import NOTHING, Likelihood, bigram_counts, bigram_nats
from trainer.task import EXAMPLE_WEIGHT

if TYPE_CHECKING:
    from trainer.data import Reader
    from trainer.pieces import Whole

PROTOCOLS = ("segment", "sliding")
TOKENS_AT_ONCE = 8192  # attention needs memory for the square of a window


@dataclass(frozen=True)
class Evaluation:
    """What is scored, and how."""

    data: str = setting("", help="dataset; without it the one that the run was trained on", metavar="DIR")
    split: str = setting("validation", help="which pieces; of train the originals alone", choices=SPLITS)
    checkpoint: str = setting("best", help="best, last, or a step", metavar="best|last|N")
    protocol: str = setting("segment", help="segment: windows apart; sliding: windows that overlap", choices=PROTOCOLS)
    window: int = setting(0, help="tokens that are read at once; 0 takes the trained length")
    hop: int = setting(0, help="sliding: tokens from one window to the next; 0 takes half the window")
    batch: int = setting(0, help="windows that are scored at once; 0 takes as many as hold 8,192 tokens")
    on_corrupt: str = setting(
        "fail", help="skip leaves out, and names, pieces with records that are not what was written", choices=ON_CORRUPT
    )
    allow_longer: bool = setting(False, help="read windows longer than the trained length with rotary positions")

    def __post_init__(self) -> None:
        for name in ("window", "hop", "batch"):
            if getattr(self, name) < 0:
                raise UsageError(f"--{name} {getattr(self, name)}: must be 0 or more")
        if self.hop and self.protocol == "segment":
            raise UsageError("--hop belongs to --protocol sliding: segments do not overlap")
        if self.window and self.hop > self.window:
            raise UsageError(f"--hop {self.hop} is larger than --window {self.window}: tokens would be skipped")

    def cut(self, trained: int, longest: int | None) -> tuple[int, int]:
        """Window and hop, tokens. Raises UsageError for a window that the positions of the run do not reach."""
        window = self.window or trained
        if longest is not None and window > longest and not self.allow_longer:
            raise UsageError(
                f"--window {window}: this run has rotary positions and was trained on {longest} tokens; longer ones "
                f"score badly. Take at most {longest} (--protocol sliding gives more context), or --allow-longer."
            )
        hop = window if self.protocol == "segment" else self.hop or max(1, window // 2)
        if hop > window:
            raise UsageError(f"--hop {hop} is larger than the window of {window}: tokens would be skipped")
        return window, hop


@dataclass(frozen=True)
class Segment:
    """A window of a piece: its tokens, where it begins, and how many at its beginning are context and not scored."""

    piece: str
    start: int
    tokens: np.ndarray[Any, Any]
    context: int


def segments(piece: str, tokens: np.ndarray[Any, Any], window: int, hop: int) -> Iterator[Segment]:
    """The windows of a piece, tokens [token]; each token is scored in exactly one of them."""
    for start in window_starts(len(tokens), window, hop):
        yield Segment(piece, start, tokens[start : start + window], window - hop if start else 0)


def batch_of(parts: Sequence[Segment], window: int, batch: int) -> dict[str, np.ndarray[Any, Any]]:
    """Segments as one batch of a fixed shape; rows that only fill it up have weight 0."""
    tokens = np.zeros((batch, window), np.uint16)
    lengths = np.zeros(batch, np.int64)
    for row, part in enumerate(parts):
        tokens[row, : len(part.tokens)] = part.tokens
        lengths[row] = len(part.tokens)
    weight = (np.arange(batch) < len(parts)).astype(np.float32)
    return {"tokens": tokens, "start_token": np.zeros(batch, np.int64), "piece_tokens": lengths, EXAMPLE_WEIGHT: weight}


def score(model: Any, task: Any, parts: Sequence[Segment], window: int, batch: int) -> Iterator[np.ndarray[Any, Any]]:
    """Nats of every token of each segment, context too, float64 [token]."""
    from trainer.backends import current

    names = sorted(batch_of([], window, batch))
    compiled = current().compile_function(
        model, lambda *arrays: task.log_likelihood(model, dict(zip(names, arrays, strict=True)))[0]
    )
    for start in range(0, len(parts), batch):
        some = parts[start : start + batch]
        arrays = batch_of(some, window, batch)
        nats = np.asarray(compiled(*(arrays[name] for name in names)), np.float64)
        for row, part in enumerate(some):
            yield nats[row, : len(part.tokens)]


def evaluate(run: str, settings: Evaluation) -> dict[str, Any]:
    """Scores, writes `<run>/evaluations/<split>-<step>-<protocol>.json`, and returns what it holds.

    Keras must not have been imported yet: the run says on which backend it was trained.

    Raises:
        UsageError: the run has no such checkpoint, the dataset has no such split or does not fit, or the window is
            too long.
        InputError: the dataset is not there or is not whole.
    """
    from trainer.loaded import load_run
    from trainer.pieces import dataset_of

    loaded = load_run(run, settings.checkpoint)
    folder, manifest = dataset_of(loaded, settings.data)
    representation, model, step = loaded.representation, loaded.model, loaded.saved.step
    window, hop = settings.cut(model.window, loaded.task.longest(model))
    batch = settings.batch or max(1, TOKENS_AT_ONCE // window)
    readers = _readers(folder, manifest, settings)
    wholes, left_out, unnamed = _wholes(readers[0], settings.split)
    parts = [part for whole in wholes for part in segments(whole.copy, whole.tokens, window, hop)]
    counts = bigram_counts(_train_windows(readers[1]), representation.size)
    rows = []
    for part, nats in zip(parts, score(model, loaded.task, parts, window, batch), strict=True):
        scored = part.tokens[part.context :]
        baseline = bigram_nats(counts, part.tokens)[part.context :]
        rows.append(_row(part, scored, nats[part.context :], baseline, representation))
    result = {
        "run": loaded.run.name,
        "step": step,
        "window": window,
        "hop": hop,
        "representation": manifest.representation,
        "representation_settings": dict(manifest.settings),
        "data_fingerprint": manifest.fingerprint,
        **{name: value for name, value in to_json(settings).items() if name not in ("data", "window", "hop", "batch")},
        **summary(rows, settings.protocol, window),
        "corrupt_records": _corrupt_records(settings.split, *readers),
        "left_out": left_out,
        "unnamed_records": unnamed,
    }
    path = os.path.join(run, "evaluations", f"{settings.split}-{step}-{settings.protocol}.json")
    write_atomic(path, (json.dumps(json.loads(canonical_json(result)), indent=1) + "\n").encode())
    return {**result, "file": path}


def _row(part: Segment, scored: Any, nats: Any, baseline: Any, representation: Any) -> dict[str, Any]:
    return {
        "piece": part.piece,
        "start_token": part.start + part.context,
        "nats": float(nats.sum()),
        "tokens": len(scored),
        "notes": representation.count_notes(scored),
        "seconds": representation.count_seconds(scored),
        "bigram_nats": float(baseline.sum()),
    }


def summary(rows: Sequence[dict[str, Any]], protocol: str, window: int) -> dict[str, Any]:
    """The figures of all segments together, those of each piece, and the segments themselves."""
    total = sum((_likelihood(row) for row in rows), NOTHING)
    bigram = sum(row["bigram_nats"] for row in rows) / total.tokens
    name = f"nll_seg{window}" if protocol == "segment" else f"nll_sliding{window}"
    by_piece: dict[str, Likelihood] = {}
    for row in rows:
        by_piece[row["piece"]] = by_piece.get(row["piece"], NOTHING) + _likelihood(row)
    return {
        **_finite(total.figures()),
        name: total.nats_per_token,
        "bigram_nats_per_token": bigram,
        "ratio": total.nats_per_token / bigram,
        "pieces": [{"piece": piece, **_finite(found.figures())} for piece, found in by_piece.items()],
        "segments": [{**row, "nats_per_token": row["nats"] / row["tokens"]} for row in rows],
    }


def _likelihood(row: dict[str, Any]) -> Likelihood:
    return Likelihood(row["nats"], row["tokens"], row["notes"], row["seconds"])


def _finite(figures: dict[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}


def _readers(folder: str, manifest: Manifest, settings: Evaluation) -> tuple[Reader, Reader]:
    """Of the split that is scored, and of train, on which the bigram is counted."""
    from trainer.data import Reader
    from trainer.pieces import PIECE_FEATURES

    return (
        Reader(folder, manifest, settings.split, PIECE_FEATURES, settings.on_corrupt),
        Reader(folder, manifest, "train", on_corrupt=settings.on_corrupt),
    )


def _wholes(reader: Reader, split: str) -> tuple[list[Whole], list[str], int]:
    """The copies that are scored, the names of those that are not whole, and how many corrupt records are of neither.

    The last are of copies without one sound record, whose names therefore cannot be read.
    """
    from trainer.pieces import pieces

    found = list(pieces(reader, lambda key: _is_scored(key, split)))
    whole, left_out = [one for one in found if not one.lacking], [one.copy for one in found if one.lacking]
    window = reader.features["tokens"].shape[0] or 1
    # The fewest that can hold what is lacking: where it takes more than are corrupt, some were never written.
    explained = sum(-(-one.lacking // window) for one in found)
    if explained > len(reader.corrupt):
        raise InputError(
            f"{left_out[-1]}: its windows, or those of another of {len(left_out)} pieces, are not all in the shards, "
            f"and {len(reader.corrupt)} corrupt records do not explain it. Run `stretto verify` on the dataset."
        )
    if not whole:
        raise InputError(f"{split}: no piece is left to score: all have corrupt records, {len(reader.corrupt)} in all.")
    return whole, left_out, len(reader.corrupt) - explained


def _corrupt_records(split: str, scored: Reader, train: Reader) -> list[dict[str, Any]]:
    """Every corrupt record that was met, once."""
    from trainer.corrupt import CorruptRecords

    found = CorruptRecords()
    found.note(split, scored, sorted(scored.corrupt))
    found.note("train", train, sorted(train.corrupt))
    return found.take()


def _is_scored(key: Key, split: str) -> bool:
    return key.is_original or split != "train"


def _train_windows(train: Reader) -> Iterator[np.ndarray[Any, Any]]:
    """The real tokens of each window of train, copies too: what the model was trained on."""
    for batch in train.in_order(256):
        for row in np.flatnonzero(batch[EXAMPLE_WEIGHT]):
            record = {name: batch[name][row] for name in ("tokens", "start_token", "piece_tokens")}
            yield record["tokens"][: real_length(record)]


def table(result: dict[str, Any]) -> str:
    """The figures for a person."""
    from trainer.corrupt import sentences

    lines = [
        f"{result['run']}, step {result['step']}, {result['split']}: {len(result['pieces'])} pieces, "
        f"{result['tokens']:,} tokens, {result['notes']:,} notes, {result['seconds']:,.0f} s of music",
        f"protocol {result['protocol']}, window {result['window']}, hop {result['hop']}, {result['representation']}",
    ]
    for name, unit in (
        ("nats_per_token", "nats per token"),
        ("nats_per_note", "nats per note"),
        ("bits_per_second", "bits per second of music"),
        ("bigram_nats_per_token", "nats per token, bigram counted on train"),
        ("ratio", "of the bigram's"),
    ):
        value = result[name]
        lines.append(f"  {'-' if value is None else f'{value:.4f}':>10}  {unit}")
    lines += [f"  left out, because not all of it can be read: {copy}" for copy in result["left_out"]]
    if unnamed := result["unnamed_records"]:
        lines.append(f"  left out too: {unnamed} corrupt records of pieces that cannot be named")
    return "\n".join([*lines, *sentences(result["corrupt_records"]), f"written to {result['file']}"])
