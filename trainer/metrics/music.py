"""What is measured on finished music of any family: samples beside their corpus and beside the corpus shuffled.

A bare value says nothing: each stands in three columns. Shuffled is the corpus with the bars of each piece in another
order; for voice leading each voice is shuffled for itself, as if the voices did not listen to one another.
"""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np
import numpy.typing as npt

from media.plot import matrix_png
from schemas.grid import VOICES, Cells, cells_of
from schemas.hashing import generator
from schemas.music import Piece
from trainer.metrics.bars import Bars, in_voices, laid_out, measured_in
from trainer.metrics.structure import chroma_features, self_similarity, structure
from trainer.metrics.style import differences, means
from trainer.metrics.voice_leading import QUARTERS_A_BAR, faults, rates

Figures = dict[str, Any]
Array = npt.NDArray[Any]

COLUMNS = ("samples", "corpus", "shuffled")
_STEPS_PER_QUARTER = 4
_ROWS = (
    ("style", "notes_per_second", "notes a second"),
    ("style", "pitch_class_entropy", "pitch-class entropy, bits"),
    ("style", "polyphony", "notes at once"),
    ("voice_leading", "parallel_fifths", "parallel fifths a bar"),
    ("voice_leading", "parallel_octaves", "parallel octaves a bar"),
    ("voice_leading", "hidden", "hidden fifths and octaves a bar"),
    ("voice_leading", "crossings", "crossings a bar"),
    ("voice_leading", "wide", "wide spacings a bar"),
    ("voice_leading", "out_of_range", "notes out of range a bar"),
    ("voice_leading", "dissonant_beats", "dissonant beats, share"),
    ("structure", "repeated", "{unit} that were there before, share"),
    ("structure", "exact.3", "equal four {unit} later, share"),
    ("structure", "similar_chroma.0", "alike in chroma, neighbouring {unit}"),
    ("structure", "novelty_chroma", "novelty of borders in chroma"),
    ("structure", "information_bits.0", "bits an interval tells of the next"),
    ("structure", "short_notes", "short notes, share"),
    ("structure", "lonely_notes", "lonely notes, share"),
)
"""Group, figure (of a list the place) and its words in the table."""


def measure(produced: Sequence[Piece], reference: Sequence[Piece], seed: int) -> Figures:
    """Figures of samples, of pieces of their corpus and of these shuffled by a seed; NumPy alone, seconds for hundreds.

    Pieces without notes are counted as `silent` and measured no further. For structure the reference is cut to the
    length of the longest sample, so that what comes back late is not asked of short music. Voice leading is there
    only where all pieces are in four voices, with cells of a 16th. Every value is finite, or None where there was
    nothing to count.

    Returns:
        {"unit": "bars" or "seconds", "samples": {"pieces", "silent", "style", "structure", "voice_leading"},
        "corpus": the same, "shuffled": {"structure", "voice_leading"}, "style_difference": samples minus corpus};
        without a reference only the unit and the samples.
    """
    made, real = ([piece for piece in pieces if len(piece.notes)] for pieces in (produced, reference))
    unit, voices = measured_in([*made, *real]), in_voices([*made, *real])
    bars = [laid_out(piece, unit) for piece in made]
    result: Figures = {"unit": unit, "samples": _column(produced, made, bars, voices)}
    if real:
        longest = max((piece.units for piece in bars), default=0)
        real_bars = [laid_out(piece, unit).shortened(longest) for piece in real]
        result["corpus"] = _column(reference, real, real_bars, voices)
        result["shuffled"] = _shuffled(real, real_bars, voices, seed)
        result["style_difference"] = differences(real, made)
    return result


def table_lines(figures: Mapping[str, Any]) -> list[str]:
    """A short table for a person; what nobody could count is a dash."""
    columns = [name for name in COLUMNS if name in figures]
    lines = [f"{'music':<40}" + "".join(f"{name:>10}" for name in columns)]
    for group, name, words in _ROWS:
        values = [_shown(figures[column].get(group, {}), name) for column in columns]
        if any(value != "-" for value in values):
            lines.append(f"  {words.format(unit=figures['unit']):<38}" + "".join(f"{value:>10}" for value in values))
    if len(columns) == 1:
        lines.append("  no pieces of the corpus to compare with")
    return lines


def similarity_picture(piece: Piece) -> bytes:
    """How alike the bars or seconds of a piece are in chroma, as a PNG. Raises MissingExtra without Pillow."""
    unit = measured_in([piece])
    similarity = self_similarity(chroma_features(laid_out(piece, unit)))
    return matrix_png(similarity, f"{piece.name}: self-similarity in chroma", unit.removesuffix("s"), "cosine")


def _column(given: Sequence[Piece], pieces: Sequence[Piece], bars: Sequence[Bars], voices: bool) -> Figures:
    figures: Figures = {"pieces": len(given), "silent": len(given) - len(pieces), "style": means(pieces)}
    figures["structure"] = structure(bars)
    if voices:
        figures["voice_leading"] = _voice_leading([cells_of(piece, _STEPS_PER_QUARTER) for piece in pieces])
    return figures


def _shuffled(pieces: Sequence[Piece], bars: Sequence[Bars], voices: bool, seed: int) -> Figures:
    """The orders hang on the places of the pieces, because decoded pieces may all have one name."""
    figures: Figures = {"structure": structure([piece.shuffled(seed, place) for place, piece in enumerate(bars)])}
    if voices:
        cells = [_apart(cells_of(piece, _STEPS_PER_QUARTER), place, seed) for place, piece in enumerate(pieces)]
        figures["voice_leading"] = _voice_leading(cells)
    return figures


def _voice_leading(pieces: Sequence[Cells]) -> dict[str, float | None]:
    found = rates(faults(cells, _STEPS_PER_QUARTER) for cells in pieces)
    return {name: None if isnan(value) else value for name, value in found.items()}


def _apart(cells: Cells, place: int, seed: int) -> Array:
    """The whole bars of each voice in an order of its own; what is left after the last whole bar is gone."""
    steps = QUARTERS_A_BAR * _STEPS_PER_QUARTER
    bars = cells[: len(cells) // steps * steps].reshape(-1, steps, len(VOICES))
    orders = [generator(seed, place, f"shuffled {voice}").permutation(len(bars)) for voice in VOICES]
    voices = [bars[order, :, voice].reshape(-1) for voice, order in enumerate(orders)]
    return np.stack(voices, axis=1)


def _shown(figures: Mapping[str, Any], name: str) -> str:
    name, _, place = name.partition(".")
    value = figures.get(name)
    value = value[int(place)] if place and value else value
    return "-" if value is None else f"{value:.3f}"
