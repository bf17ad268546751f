"""Lets a run make music: MIDI, sound and a picture of each sample, and a file that says how to make them again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from media.midi import read_midi, write_midi
from media.render import render, write_wav
from media.roll import png_bytes, roll
from media.storage import read_bytes, write_atomic
from schemas.errors import InputError, Unreadable, UsageError
from schemas.music import Notes, Piece, TempoMap
from schemas.settings import setting, to_json
from trainer.config import ON_CORRUPT
from trainer.layers.sampling import Sampler

if TYPE_CHECKING:
    from trainer.data import Reader
    from trainer.loaded import Loaded

SAMPLES = "samples.json"
RATE = 44_100
MAX_MIDI_BYTES = 16 << 20
_NOTE_TICKS, _NOTE_VELOCITY = 500, 80  # of a single note that is given: half a second, mezzo-forte
MAX_TOKENS = 1_000_000
MAX_SECONDS = 6 * 3600


def parse_length(text: str) -> int | float:
    """`1024` -> 1024 tokens, `30s` -> 30.0 seconds. Raises ValueError for anything else."""
    try:
        length = float(text[:-1]) if text.endswith("s") else int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no length: write tokens (1024) or seconds (30s)") from None
    longest = MAX_SECONDS if isinstance(length, float) else MAX_TOKENS
    if not 0 < length <= longest:
        raise ValueError(f"{text!r} is no length: it must be above 0, and at most {MAX_TOKENS} or {MAX_SECONDS}s")
    return length


@dataclass(frozen=True)
class Sampling:
    """What is asked of the model, and where it goes."""

    output: str = setting(help="folder for MIDI, WAV and PNG files and samples.json", metavar="DIR")
    checkpoint: str = setting("best", help="best, last, or a step", metavar="best|last|N")
    count: int = setting(4, help="how many samples")
    given: str = setting("", help="MIDI file that every sample begins with and goes on from", metavar="FILE")
    given_length: str = setting(
        "", help="how much of the file's beginning is taken; without it at most half of --length", metavar="N|Ns"
    )
    note: int = setting(-1, help="MIDI pitch of one note that every sample begins with", metavar="PITCH")
    length: str = setting(
        "",
        help="tokens, or with an s seconds of music, what is given included; without it the trained length",
        metavar="N|Ns",
    )
    seed: int = setting(0, help="equal seeds give equal music on one backend")
    data: str = setting(
        "", help="dataset whose train split is searched for copied runs; without it the run's own", metavar="DIR"
    )
    on_corrupt: str = setting(
        "fail",
        help="skip leaves out of that search, and names, pieces with records that are not what was written",
        choices=ON_CORRUPT,
    )
    overwrite: bool = setting(False, help="replace samples that are already in the folder")

    def __post_init__(self) -> None:
        for text in (self.length, self.given_length):
            if text:
                parse_length(text)
        if self.count < 1:
            raise UsageError(f"--count {self.count}: must be 1 or more")
        if self.given and self.note >= 0:
            raise UsageError("--given and --note: a sample begins with one of them, not with both")
        if not -1 <= self.note <= 127:
            raise UsageError(f"--note {self.note}: a MIDI pitch is 0..127")

    def given_limit(self, length: int | float) -> int | float:
        """The most tokens (int) or seconds (float) of what is given that are taken into music of this length."""
        if self.given_length:
            return parse_length(self.given_length)
        return max(1, length // 2) if isinstance(length, int) else length / 2


def beginning(settings: Sampling) -> Piece | None:
    """What every sample begins with, or None. Raises InputError for a file that is no MIDI or holds no note."""
    if settings.note >= 0:
        return Piece(
            "note", Notes.of([0], [_NOTE_TICKS], [settings.note], [_NOTE_VELOCITY]), tempo=TempoMap.constant(500)
        )
    if not settings.given:
        return None
    try:
        piece = read_midi(read_bytes(settings.given, MAX_MIDI_BYTES), settings.given)
    except Unreadable as error:
        raise InputError(f"--given {settings.given}: cannot be read as MIDI ({error}). Give another file.") from error
    if not len(piece.notes):
        raise InputError(f"--given {settings.given}: holds no note. Give a file with notes, or leave --given out.")
    return piece


def sample(run: str, settings: Sampling, sampler: Sampler) -> dict[str, Any]:
    """Makes samples, writes them, and returns what samples.json holds.

    Keras must not have been imported yet: the run says on which backend it was trained.

    Raises:
        UsageError: the folder holds samples, the run has no such checkpoint, or its positions do not reach the length.
        InputError: the given file, the checkpoint or a record of the train split cannot be read.
        MachineError: nothing that renders sound is installed.
    """
    _check_output(settings)
    piece = beginning(settings)
    from trainer.loaded import load_run

    loaded = load_run(run, settings.checkpoint)
    length = parse_length(settings.length) if settings.length else int(loaded.model.window)
    given = opening(piece, loaded, settings.given_limit(length))
    unit = "seconds" if isinstance(length, float) else "tokens"
    print(f"making {settings.count} of {length:g} {unit}", file=sys.stderr, flush=True)
    records = loaded.task.sample(
        loaded.model,
        loaded.representation,
        given,
        settings.count,
        length,
        settings.seed,
        sampler,
    )
    rows = [_written(settings.output, number, record, loaded) for number, record in enumerate(records)]
    if settings.overwrite:
        remove_from(settings.output, len(rows))
    given_tokens = 0 if given is None else len(loaded.representation.tokens(given))
    tokens = [row.pop("ids")[given_tokens:] for row in rows]
    copied, passed_over = copied_runs(loaded, settings, tokens)
    result = {
        "run": loaded.run.name,
        "step": loaded.saved.step,
        "backend": _backend(),
        "given_tokens": given_tokens,
        **{name: value for name, value in to_json(settings).items() if name not in ("output", "overwrite", "data")},
        "length": settings.length or str(length),
        "sampler": to_json(sampler),
        "samples": [{**row, "longest_copied_run": run} for row, run in zip(rows, copied, strict=True)],
        **passed_over,
    }
    write_atomic(os.path.join(settings.output, SAMPLES), (json.dumps(result, indent=1) + "\n").encode())
    return result


def remove_from(folder: str, first: int) -> None:
    """Removes samples of an earlier, longer series: those numbered `first` and above."""
    for name in os.listdir(folder):
        found = re.fullmatch(r"sample-([0-9]+)\.(mid|wav|png)", name)
        if found and int(found[1]) >= first:
            os.unlink(os.path.join(folder, name))


def _check_output(settings: Sampling) -> None:
    path = os.path.join(settings.output, SAMPLES)
    if os.path.exists(path) and not settings.overwrite:
        raise UsageError(f"{path}: already there. Choose another --output, or replace it with --overwrite.")


def opening(given: Piece | None, loaded: Loaded, limit: int | float) -> Piece | None:
    """The beginning of what is given, at most so many tokens (int) or seconds (float) of it.

    Notes that sound where it is cut end there.
    """
    if given is None:
        return None
    representation, tokens = loaded.representation, loaded.representation.tokens(_fitting(given, loaded))
    count = limit
    if isinstance(limit, float):
        count = bisect_right(range(len(tokens)), limit, key=lambda n: representation.count_seconds(tokens[: n + 1]))
    if len(tokens) <= count:
        return given
    tokens = tokens[: int(count)]
    record = {"tokens": tokens, "start_token": np.int64(0), "piece_tokens": np.int64(len(tokens))}
    return representation.decode([record])


def _fitting(given: Piece, loaded: Loaded) -> Piece:
    if not loaded.representation.fits(given):
        raise UsageError(
            f"{given.name}: a pitch is outside what this run was trained on: {to_json(loaded.representation)}"
        )
    return given


def _backend() -> str:
    import keras

    return str(keras.backend.backend())


def _written(folder: str, number: int, record: dict[str, Any], loaded: Loaded) -> dict[str, Any]:
    """Writes MIDI, WAV and PNG of one record; what is known of it, and its tokens as "ids"."""
    piece, stem = loaded.representation.decode([record]), os.path.join(folder, f"sample-{number:03d}")
    write_atomic(f"{stem}.mid", write_midi(piece))
    write_atomic(f"{stem}.png", png_bytes(roll(piece)))
    write_wav(f"{stem}.wav", render(piece, RATE), RATE)
    tokens = np.ascontiguousarray(record["tokens"], "<u2")
    return {
        "midi": f"{stem}.mid",
        "wav": f"{stem}.wav",
        "png": f"{stem}.png",
        "tokens": len(tokens),
        "tokens_sha256": hashlib.sha256(tokens.tobytes()).hexdigest(),
        "notes": len(piece.notes),
        "seconds": piece.seconds,
        "ids": tokens,
    }


def copied_runs(
    loaded: Loaded, settings: Sampling, samples: list[np.ndarray[Any, Any]]
) -> tuple[list[int | None], dict[str, Any]]:
    """The longest run of tokens of each sample that occurs in train, copies too; None without the dataset.

    And what was not searched: "left_out" names pieces that are not whole, "corrupt_records" says why.
    """
    from trainer.corrupt import CorruptRecords
    from trainer.data import Reader
    from trainer.metrics.copying import longest_copied_runs
    from trainer.pieces import PIECE_FEATURES, dataset_of

    left_out: list[str] = []
    corrupt = CorruptRecords()
    runs: list[int | None] = [None] * len(samples)
    if settings.data or os.path.isdir(loaded.data):
        reader = Reader(*dataset_of(loaded, settings.data), "train", PIECE_FEATURES, settings.on_corrupt)
        runs = list(longest_copied_runs(samples, _wholes(reader, left_out)))
        corrupt.note("train", reader, sorted(reader.corrupt))
    return runs, {"left_out": left_out, "corrupt_records": corrupt.take()}


def _wholes(reader: Reader, left_out: list[str]) -> Iterator[np.ndarray[Any, Any]]:
    """The tokens of every whole copy; the names of the others are added to `left_out`."""
    from trainer.pieces import pieces

    for whole in pieces(reader):
        if whole.lacking:
            # What is left does not follow one another: a run over the gap would be none.
            left_out.append(whole.copy)
        else:
            yield whole.tokens


def table(result: dict[str, Any]) -> str:
    """One line a sample, for a person, and what could not be searched."""
    from trainer.corrupt import sentences

    lines = [f"{result['run']}, step {result['step']}, seed {result['seed']}, {result['sampler']['sampler']}"]
    for row in result["samples"]:
        copied = (
            ""
            if row["longest_copied_run"] is None
            else f", longest run copied from train {row['longest_copied_run']} tokens"
        )
        lines.append(
            f"  {row['midi']} .wav .png  {row['notes']} notes, {row['seconds']:.1f} s, {row['tokens']} tokens{copied}"
        )
    if result["given_tokens"]:
        lines.append(f"  each begins with {result['given_tokens']} tokens of what was given")
    lines += [f"  not searched, because not all of it can be read: {copy}" for copy in result["left_out"]]
    return "\n".join([*lines, *sentences(result["corrupt_records"])])
