"""Scores a run on a split: likelihood per token, per note and per second of music, beside a bigram's.

Protocols. `segment`: every piece is cut into windows that do not overlap, each read from BOS; this is what the
literature reports (Huang et al. 2018: segments of 2,048 events), and losing the context at each cut costs likelihood.
`sliding`: windows overlap and only tokens with context from the one before are scored, but for the first window;
lower, and not comparable with `segment`. Every token of a piece is scored once in both. The bigram (counted on train in
windows of the trained length, 0.1 added) reads the same windows. Where a token is a cell of a raster of voices, n-grams
over whole pieces, the voices, and the pieces whose tune is in train too are told apart. Runs that guess cells have
protocols of their own: `trainer.cells`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from media.storage import write_atomic
from schemas.errors import InputError
from schemas.grid import REST, VOICES
from schemas.hashing import canonical_json
from schemas.manifest import Manifest
from schemas.naming import Key
from schemas.settings import to_json
from schemas.tokens import real_length
from schemas.window import TOKENS, layout_of, window_starts
from trainer import cells
from trainer.evaluation import PROTOCOLS, Evaluation, without
from trainer.metrics.likelihood import bigram_counts, bigram_nats
from trainer.metrics.ngram import floors
from trainer.metrics.scores import group, of_cells, summary
from trainer.metrics.tunes import shared_tunes
from trainer.metrics.voice_leading import held
from trainer.segments import Scored, Segment, score, segments
from trainer.task import EXAMPLE_WEIGHT

if TYPE_CHECKING:
    from trainer.data import Reader
    from trainer.loaded import Loaded
    from trainer.pieces import Whole

Array = np.ndarray[Any, Any]
TOKENS_AT_ONCE = 8192  # attention needs memory for the square of a window


def evaluate(run: str, settings: Evaluation) -> dict[str, Any]:
    """Scores, writes `<run>/evaluations/<split>-<step>-<protocol>.json`, and returns what it holds.

    The name says too what was not as usual: `test-3000-sliding-window128-hop16.json`, `…-data1a2b3c4d` for a dataset
    that the run was not trained on (its fingerprint), `…-without3` where 3 corrupt records were passed over. Keras must
    not have been imported yet: the run says on which backend it was trained.

    Raises:
        UsageError: the run has no such checkpoint, the dataset has no such split or does not fit, the window is too
            long, or something else is in the place of the result, or another result.
        InputError: the dataset is not there or is not whole.
        MachineError: the result cannot be written.
    """
    from trainer.loaded import load_run
    from trainer.pieces import dataset_of

    loaded = load_run(run, settings.checkpoint)
    folder, manifest = dataset_of(loaded, settings.data)
    is_tokens, trained = layout_of(manifest.features) == TOKENS, loaded.model.window
    settings = settings.for_kind(PROTOCOLS if is_tokens else cells.PROTOCOLS, loaded.run.name)
    window, hop = settings.cut(trained, loaded.task.longest(loaded.model) if is_tokens else trained)
    asked = {**_asked(loaded, manifest, settings), "window": window, "hop": hop}
    path = settings.file(run, _name(loaded, manifest, settings), asked)
    if is_tokens:
        figures = _of_tokens(loaded, folder, manifest, settings, window, hop)
    else:
        figures = _of_cells(loaded, folder, manifest, settings, window)
    result = {**asked, **figures}
    path = without(path, len(result["corrupt_records"]))
    write_atomic(path, (json.dumps(json.loads(canonical_json(result)), indent=1) + "\n").encode())
    return {**result, "file": path}


def _name(loaded: Loaded, manifest: Manifest, settings: Evaluation) -> str:
    """The name of the file of a result."""
    other = "" if manifest.fingerprint == loaded.saved.data else f"-data{manifest.fingerprint[:8]}"
    apart = settings.apart(loaded.model.window)
    return f"{settings.split}-{loaded.saved.step}-{settings.protocol}{apart}{other}.json"


def _asked(loaded: Loaded, manifest: Manifest, settings: Evaluation) -> dict[str, Any]:
    """What a result says of what was asked, and of what."""
    asked = to_json(settings)
    return {
        "run": loaded.run.name,
        "configuration": loaded.saved.configuration,
        "step": loaded.saved.step,
        "representation": manifest.representation,
        "representation_settings": dict(manifest.settings),
        "data_fingerprint": manifest.fingerprint,
        **{name: asked[name] for name in ("split", "checkpoint", "protocol", "on_corrupt", "allow_longer")},
    }


def _of_tokens(
    loaded: Loaded, folder: str, manifest: Manifest, settings: Evaluation, window: int, hop: int
) -> dict[str, Any]:
    """The figures of a run that predicts the next token, and what was left out."""
    representation, model = loaded.representation, loaded.model
    readers = _readers(folder, manifest, settings)
    wholes, left_out, unnamed = _wholes(readers[0], settings.split)
    parts = [part for whole in wholes for part in segments(whole.copy, whole.tokens, window, hop)]
    batch = settings.batch or max(1, TOKENS_AT_ONCE // window)
    scored = list(score(model, loaded.task, parts, window, batch))
    counts = bigram_counts(_train_windows(readers[1], model.window), representation.size)
    return {
        **summary(_rows(parts, scored, wholes, counts, representation), settings.protocol, window),
        **_of_voices(parts, scored, wholes, readers[1], representation),
        "corrupt_records": _corrupt_records(settings.split, *readers),
        "left_out": left_out,
        "unnamed_records": unnamed,
    }


def _of_cells(loaded: Loaded, folder: str, manifest: Manifest, settings: Evaluation, window: int) -> dict[str, Any]:
    """The figures of a run that guesses cells, and what was left out; for a causal protocol n-grams beside it."""
    from trainer.pieces import pieces

    readers = _readers(folder, manifest, settings)
    wholes, left_out, unnamed = _wholes(readers[0], settings.split)
    chosen = {whole.copy: whole.tokens for whole in wholes[: settings.limit or None]}
    how = settings.protocol, settings.orders, settings.batch
    result = cells.evaluate_cells(loaded.task, loaded.model, chosen, window, *how)
    if settings.protocol == "chronological":
        learnt = [
            whole.tokens.ravel() for whole in pieces(readers[1], lambda key: key.is_original) if not whole.lacking
        ]
        result["floors"] = floors(learnt, [item.ravel() for item in chosen.values()], REST + 1, len(VOICES))
    return {
        "limit": settings.limit,
        **result,
        "corrupt_records": _corrupt_records(settings.split, *readers),
        "left_out": left_out,
        "unnamed_records": unnamed,
    }


def _rows(
    parts: Sequence[Segment], scored: Sequence[Scored], wholes: Sequence[Whole], counts: Array, representation: Any
) -> list[dict[str, Any]]:
    """What is known of each window, with the bigram of these `counts`; see `trainer.metrics.scores`.

    Notes are counted from the beginning of the piece: one that sounds over the border of a window began before it.
    """
    tokens_of = {whole.copy: whole.tokens for whole in wholes}
    rows = []
    for part, found in zip(parts, scored, strict=True):
        tokens, first = part.tokens[part.context :], part.start + part.context
        before, after = (tokens_of[part.piece][:stop] for stop in (first, first + len(tokens)))
        row = {
            "piece": part.piece,
            "start_token": first,
            "nats": float(found.nats[part.context :].sum()),
            "tokens": len(tokens),
            "right": int(found.right[part.context :].sum()),
            "notes": representation.count_notes(after) - representation.count_notes(before),
            "seconds": representation.count_seconds(tokens),
            "bigram_nats": float(bigram_nats(counts, part.tokens)[part.context :].sum()),
        }
        rows.append(row)
    return rows


def _of_voices(
    parts: Sequence[Segment], scored: Sequence[Scored], wholes: Sequence[Whole], train: Reader, representation: Any
) -> dict[str, Any]:
    """Figures that only a raster of voices has; nothing for other tokens."""
    from trainer.pieces import pieces

    if not (voices := getattr(representation, "voices", 0)):
        return {}
    nats: dict[str, list[Array]] = {}
    for part, found in zip(parts, scored, strict=True):
        nats.setdefault(part.piece, []).append(found.nats[part.context :])
    spent = {piece: np.concatenate(found) for piece, found in nats.items()}
    tokens = {whole.copy: whole.tokens for whole in wholes}
    learnt = [whole.tokens for whole in pieces(train, lambda key: key.is_original) if not whole.lacking]
    sung = {piece: _sung(ids, voices) for piece, ids in tokens.items()}
    shared = shared_tunes([_sung(ids, voices) for ids in learnt], sung, voices * representation.steps_per_quarter)
    return {
        **of_cells(sung, spent, VOICES),
        "floors": floors(learnt, list(tokens.values()), representation.size, voices),
        "tune_in_train": group({piece: found for piece, found in spent.items() if piece in shared}),
        "tune_not_in_train": group({piece: found for piece, found in spent.items() if piece not in shared}),
    }


def _sung(tokens: Array, voices: int) -> Array:
    """The ids [token] of a raster with what a hold means in its place."""
    return held(tokens.reshape(-1, voices)).reshape(-1)


def _readers(folder: str, manifest: Manifest, settings: Evaluation) -> tuple[Reader, Reader]:
    """Of the split that is scored, and of train, on which the floors are counted."""
    from trainer.data import Reader
    from trainer.pieces import piece_features

    names = piece_features(manifest.features)
    return (
        Reader(folder, manifest, settings.split, names, settings.on_corrupt),
        Reader(folder, manifest, "train", names, settings.on_corrupt),
    )


def _wholes(reader: Reader, split: str) -> tuple[list[Whole], list[str], int]:
    """The copies that are scored, the names of those that are not whole, and how many corrupt records are of neither.

    The last are of copies without one sound record, whose names therefore cannot be read.
    """
    from trainer.pieces import pieces

    found = list(pieces(reader, lambda key: _is_scored(key, split)))
    whole, left_out = [one for one in found if not one.lacking], [one.copy for one in found if one.lacking]
    window = reader.features[layout_of(reader.features).values].shape[0] or 1
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


def _train_windows(train: Reader, trained: int) -> Iterator[Array]:
    """The real tokens of train, copies too, in windows no longer than the `trained` length, each of which follows BOS.

    So the model saw them, but for keys, and for places where windows begin, that were drawn while it was trained.
    """
    for batch in train.in_order(256):
        for row in np.flatnonzero(batch[EXAMPLE_WEIGHT]):
            record = {name: batch[name][row] for name in ("tokens", "start_token", "piece_tokens")}
            tokens = record["tokens"][: real_length(record)]
            yield from (tokens[start : start + trained] for start in window_starts(len(tokens), trained, trained))


def table(result: dict[str, Any]) -> str:
    """The figures for a person."""
    from trainer.corrupt import sentences

    is_cells = result["protocol"] in cells.PROTOCOLS
    lines = [
        f"{result['run']}, step {result['step']}, {result['split']}: {len(result['pieces'])} pieces"
        + (cells.extent(result) if is_cells else _extent(result)),
        f"protocol {result['protocol']}, window {result['window']}, {result['representation']}",
    ]
    figures = cells.figures(result) if is_cells else _figures(result)
    lines += [f"  {'-' if value is None else f'{value:.4f}':>10}  {what}" for what, value in figures]
    lines += [f"  left out, because not all of it can be read: {copy}" for copy in result["left_out"]]
    if unnamed := result["unnamed_records"]:
        lines.append(f"  left out too: {unnamed} corrupt records of pieces that cannot be named")
    return "\n".join([*lines, *sentences(result["corrupt_records"]), f"written to {result['file']}"])


def _extent(result: dict[str, Any]) -> str:
    return (
        f", {result['tokens']:,} tokens, {result['notes']:,} notes, {result['seconds']:,.0f} s of music, "
        f"hop {result['hop']}"
    )


def _figures(result: dict[str, Any]) -> Iterator[tuple[str, float | None]]:
    """What a table shows, and its value."""
    yield "nats per token", result["nats_per_token"]
    yield f"standard error over {len(result['pieces'])} pieces", result["standard_error"]
    yield "of the tokens were the likeliest", result["accuracy"]
    yield "nats per note", result["nats_per_note"]
    yield "bits per second of music", result["bits_per_second"]
    yield "nats per token, bigram counted on train", result["bigram_nats_per_token"]
    yield "of the bigram's", result["ratio"]
    if "nll_cell" in result:
        yield from ((f"nats per cell, {voice}", value) for voice, value in result["voices"].items())
        yield "nats per cell that repeats its voice's last", result["repeated"]
        yield "nats per cell that changes it", result["changed"]
        for name, what in (("tune_in_train", "whose tune is in train"), ("tune_not_in_train", "whose tune is not")):
            yield f"nats per cell, {result[name]['pieces']} pieces {what}", result[name]["nats_per_token"]
        yield from cells.told_floors(result)
