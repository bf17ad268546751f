"""Another window, in another key, of a record that is already written: what a reader draws each time anew."""

from collections.abc import Callable, Sequence

import numpy as np

from schemas.feature import Record
from schemas.window import Layout

Transposition = Callable[[Record, int], Record]
"""The same window in another key. Raises ValueError where a note leaves the range."""


def redrawn(
    layout: Layout,
    record: Record,
    generator: np.random.Generator,
    crop: int,
    transpose: Sequence[int],
    transposed: Transposition,
    pad: int,
    multiple: int = 1,
) -> Record | None:
    """One draw; None where its key takes a note out of the range.

    Args:
        layout: the names of what a record holds.
        record: it is left as it is.
        generator: of all that is drawn.
        crop: elements of the window, which begins anywhere in the record, each place as likely; 0 keeps all of it.
        transpose: semitones, each as likely; none keeps the key, whatever the range.
        transposed: what moves a record.
        pad: what stands behind the last element of a piece.
        multiple: a window begins at a multiple of so many elements.
    """
    part = _window(layout, record, generator, crop, pad, multiple) if crop else record
    if not transpose:
        return part
    semitones = transpose[int(generator.integers(len(transpose)))]
    try:
        return transposed(part, semitones)
    except ValueError:
        return None


def _window(
    layout: Layout, record: Record, generator: np.random.Generator, crop: int, pad: int, multiple: int
) -> Record:
    places = max(0, layout.real_length(record) - crop) // multiple + 1
    return layout.part(record, multiple * int(generator.integers(places)), crop, pad)
