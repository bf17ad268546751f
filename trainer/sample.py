"""Lets a run make music: MIDI, sound and a picture of each sample, and a file that says how to make them again."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from media.musicxml import write_musicxml
from media.storage import write_atomic
from schemas.errors import UsageError
from schemas.grid import VOICES
from schemas.music import InvalidMusic, Piece
from schemas.settings import setting, to_json
from schemas.window import TOKENS, layout_of, unit_of
from trainer.config import ON_CORRUPT
from trainer.given import (
    check_pitches,
    check_steps,
    check_whole_steps,
    in_voices,
    kept_voices,
    one_note,
    opening,
    parse_voices,
    read_given,
    steps_asked,
    tell_rest,
    tell_voices,
)
from trainer.layers.sampling import Sampler
from trainer.made import Made, dressed, write_sample
from trainer.telling import tell

if TYPE_CHECKING:
    from trainer.data import Reader
    from trainer.loaded import Loaded

SAMPLES = "samples.json"
REFERENCE_PIECES = 32  # of validation, beside which samples are measured
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
    given: str = setting(
        "",
        help="MIDI file that every sample begins with and goes on from; for a run on voices, MIDI or MusicXML of the "
        "voices that stay while the others are made",
        metavar="FILE",
    )
    voices: str = setting(
        "",
        help="voices of --given that stay, such as soprano or soprano,bass; as many as parts have notes name these in "
        "order, unless the parts' own names are the same voices; without it parts are what their names say or, without "
        "names, their numbers",
        metavar="NAMES",
    )
    given_length: str = setting(
        "", help="how much of the file's beginning is taken; without it at most half of --length", metavar="N|Ns"
    )
    note: int = setting(-1, help="MIDI pitch of one note that every sample begins with", metavar="PITCH")
    length: str = setting(
        "",
        help="tokens or steps (8192 at most), or with an s seconds of music, what is given included; without it the "
        "trained length, and where voices are given their own",
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
        if self.voices and not self.given:
            raise UsageError(f"--voices {self.voices}: names voices of --given, which is missing")
        if self.given and self.note >= 0:
            raise UsageError("--given and --note: a sample begins with one of them, not with both")
        if not -1 <= self.note <= 127:
            raise UsageError(f"--note {self.note}: a MIDI pitch is 0..127")

    @property
    def asked_length(self) -> int | float | None:
        """Tokens or steps (int), or seconds (float); None where nothing is said."""
        return parse_length(self.length) if self.length else None

    def given_limit(self, length: int | float) -> int | float:
        """The most tokens (int) or seconds (float) of what is given that are taken into music of this length."""
        if self.given_length:
            return parse_length(self.given_length)
        return max(1, length // 2) if isinstance(length, int) else length / 2


def beginning(settings: Sampling) -> Piece | None:
    """What samples are made from, or None. Raises InputError for a file that is no music or holds no note."""
    if settings.note >= 0:
        return one_note(settings.note)
    return read_given(settings.given) if settings.given else None


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
    sampler = sampler.for_kind(loaded.task.samplers, loaded.run.name)
    asked = _asked(settings, piece, loaded)
    unsaid = _told_unsaid(asked.given, loaded)
    if sampler.fill_rests and asked.kept:
        tell("--fill-rests: rests of the voices that stay are made too; one that gets the pitch beside it lengthens it")
    made = _made(settings, asked, sampler, loaded)
    begun = _tokens_of(asked.given, loaded)
    copied, passed_over = copied_runs(loaded, settings, [one.ids[begun:] for one in made])
    result = {
        "run": loaded.run.name,
        "step": loaded.saved.step,
        "backend": _backend(),
        "given_tokens": begun,
        "given_unsaid": unsaid,
        "given_voices": {VOICES[voice]: part + 1 for part, voice in asked.kept.items()},
        **{name: value for name, value in to_json(settings).items() if name not in ("output", "overwrite", "data")},
        "length": settings.length or str(asked.length),
        "sampler": to_json(sampler),
        "samples": [{**one.row, "longest_copied_run": run} for one, run in zip(made, copied, strict=True)],
        "music": measured(loaded, settings, [one.piece for one in made]),
        **passed_over,
    }
    write_atomic(os.path.join(settings.output, SAMPLES), (json.dumps(result, indent=1) + "\n").encode())
    return result


class Asked(NamedTuple):
    """How much music is asked for, in the run's unit (int) or seconds (float), what from, and its parts' voices."""

    length: int | float
    given: Piece | None
    kept: Mapping[int, int]


def _asked(settings: Sampling, piece: Piece | None, loaded: Loaded) -> Asked:
    """What is asked of a run. Raises UsageError for what it cannot do."""
    length = settings.asked_length or int(loaded.model.window)
    if layout_of(loaded.features) == TOKENS:
        if settings.voices:
            raise UsageError(f"--voices: {loaded.run.name} goes on from a beginning; only runs on voices fill a score")
        check_whole_steps(settings.asked_length, loaded.representation)
        return Asked(length, None if piece is None else opening(piece, loaded, settings.given_limit(length)), {})
    if piece is None:
        steps = length if isinstance(length, int) else loaded.representation.steps_in(length)
        check_steps(steps, "--length", loaded.representation)
        return Asked(length, None, {})
    if settings.given_length:
        raise UsageError(f"--given-length: {loaded.run.name} fills a score; --length says how much of it")
    try:
        return _score_asked(settings, piece, loaded)
    except InvalidMusic as error:
        remedy = (
            "Give each voice a part, one note at a time."
            if error.reason == "not-four-voices"
            else "Take its beginning with --length."
        )
        what = str(error).removeprefix(f"{piece.name}: ")
        raise UsageError(f"--given {piece.name}: {what}. {remedy}") from error


def _score_asked(settings: Sampling, piece: Piece, loaded: Loaded) -> Asked:
    """A score that is to be filled. Raises InvalidMusic for what is no score in voices, or is too long for one."""
    kept = kept_voices(piece, parse_voices(settings.voices, VOICES), len(VOICES))
    given = in_voices(piece, kept)
    length = settings.asked_length
    if settings.note >= 0:
        length = length or int(loaded.model.window)
    else:
        tell_voices(piece, kept)
    steps = steps_asked(length, given, loaded.representation)
    if settings.note < 0:
        tell_rest(given, steps, loaded.representation)
    heard = given.notes.start * loaded.representation.steps_per_quarter < steps * given.tempo.ticks_per_quarter
    check_pitches(replace(given, notes=given.notes.select(heard)), *loaded.task.pitch_range)
    # What cannot be written as a score is better known before hours are spent on it.
    template = np.resize(loaded.representation.cells(given), (steps, len(VOICES)))
    write_musicxml(dressed(loaded.representation.piece_from_cells(template, piece.name), given))
    return Asked(steps, given, kept)


def _made(settings: Sampling, asked: Asked, sampler: Sampler, loaded: Loaded) -> list[Made]:
    """Makes and writes the samples, and removes those of an earlier, longer series that are to be replaced."""
    length, given, _ = asked
    unit = "seconds" if isinstance(length, float) else unit_of(loaded.features)
    print(f"making {settings.count} of {length:g} {unit}", file=sys.stderr, flush=True)
    records = loaded.task.sample(
        loaded.model, loaded.representation, given, settings.count, length, settings.seed, sampler
    )
    made = [write_sample(settings.output, number, record, loaded, given) for number, record in enumerate(records)]
    if settings.overwrite:
        remove_from(settings.output, len(made))
    return made


def _told_unsaid(given: Piece | None, loaded: Loaded) -> dict[str, int]:
    """How many notes of what is given the representation says otherwise or not at all, by what; said too."""
    count = getattr(loaded.representation, "unsaid", None)
    unsaid = {what: notes for what, notes in count(given).items() if notes} if given is not None and count else {}
    for what, notes in unsaid.items():
        tell(f"--given: {notes} notes {what}")
    return unsaid


def _tokens_of(given: Piece | None, loaded: Loaded) -> int:
    """How many tokens each sample begins with; voices that are given lie beside those that are made."""
    if given is None or layout_of(loaded.features) != TOKENS:
        return 0
    return len(loaded.representation.tokens(given))


def remove_from(folder: str, first: int) -> None:
    """Removes samples of an earlier, longer series: those numbered `first` and above."""
    for name in os.listdir(folder):
        found = re.fullmatch(r"sample-([0-9]+)(-sweeps|-similarity)?\.(mid|wav|png|musicxml)", name)
        if found and int(found[1]) >= first:
            os.unlink(os.path.join(folder, name))


def _check_output(settings: Sampling) -> None:
    path = os.path.join(settings.output, SAMPLES)
    if os.path.exists(path) and not settings.overwrite:
        raise UsageError(f"{path}: already there. Choose another --output, or replace it with --overwrite.")


def _backend() -> str:
    import keras

    return str(keras.backend.backend())


def measured(loaded: Loaded, settings: Sampling, produced: list[Piece]) -> dict[str, Any]:
    """Figures of the samples beside those of real music of the validation split and of a shuffled control."""
    from trainer.metrics.music import measure

    return measure(produced, _reference(loaded, settings), settings.seed)


def _reference(loaded: Loaded, settings: Sampling) -> list[Piece]:
    """Some pieces of validation, none without the dataset."""
    from trainer.data import Reader
    from trainer.pieces import dataset_of, piece_features, pieces

    if not settings.data and not os.path.isdir(loaded.data):
        return []
    folder, manifest = dataset_of(loaded, settings.data)
    if not manifest.records("validation"):
        return []
    layout = layout_of(manifest.features)
    reader = Reader(folder, manifest, "validation", piece_features(manifest.features), settings.on_corrupt)
    found = []
    for whole in islice(pieces(reader), REFERENCE_PIECES):
        record = {layout.values: whole.tokens, layout.start: np.int64(0), layout.total: np.int64(len(whole.tokens))}
        found.append(loaded.representation.decode([record]))
    return found


def copied_runs(
    loaded: Loaded, settings: Sampling, samples: list[np.ndarray[Any, Any]]
) -> tuple[list[int | None], dict[str, Any]]:
    """The longest run of tokens of each sample that occurs in train, copies too; None without the dataset.

    And what was not searched: "left_out" names pieces that are not whole, "corrupt_records" says why.
    """
    from trainer.corrupt import CorruptRecords
    from trainer.data import Reader
    from trainer.metrics.copying import longest_copied_runs
    from trainer.pieces import dataset_of, piece_features

    left_out: list[str] = []
    corrupt = CorruptRecords()
    runs: list[int | None] = [None] * len(samples)
    if settings.data or os.path.isdir(loaded.data):
        names = piece_features(loaded.features)
        reader = Reader(*dataset_of(loaded, settings.data), "train", names, settings.on_corrupt)
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
            yield whole.tokens.reshape(-1)


def table(result: dict[str, Any]) -> str:
    """One line a sample, for a person, and what could not be searched."""
    from trainer.corrupt import sentences
    from trainer.metrics.music import table_lines

    lines = [f"{result['run']}, step {result['step']}, seed {result['seed']}, {result['sampler']['sampler']}"]
    for row in result["samples"]:
        copied = (
            ""
            if row["longest_copied_run"] is None
            else f", longest run copied from train {row['longest_copied_run']} tokens"
        )
        unit = "tokens" if "tokens" in row else "steps"
        files = " .musicxml" if row.get("musicxml") else ""
        likely = f", {row['nats_per_cell']:.3f} nats a filled cell" if "nats_per_cell" in row else ""
        size = f"{row['notes']} notes, {row['seconds']:.1f} s, {row[unit]} {unit}"
        lines.append(f"  {row['midi']} .wav .png{files}  {size}{likely}{copied}")
    if result["given_tokens"]:
        lines.append(f"  each begins with {result['given_tokens']} tokens of what was given")
    lines += [f"  not searched, because not all of it can be read: {copy}" for copy in result["left_out"]]
    lines += table_lines(result["music"])
    return "\n".join([*lines, *sentences(result["corrupt_records"])])
