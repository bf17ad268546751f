"""Which pieces in voices have a tune that is in train too: chorales harmonise the same tunes again and again.

A model has heard half of such a piece before, so both groups are reported. A tune is the soprano on the beats, up to
transposition; it is shared where more than half of its runs of seven notes are those of one piece of train. On the
16ths of the published split that is so for 30 of 76 pieces of valid and 34 of 77 of test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_NOTES = 7
_SHARE = 0.5


def shared_tunes(train: Sequence[Array], pieces: Mapping[str, Array], tokens_per_beat: int) -> set[str]:
    """The names of the pieces whose tune one of train has.

    All are ids [token] of whole pieces, soprano first in each step; a beat begins every `tokens_per_beat` ids.
    """
    known = [_runs(piece[::tokens_per_beat]) for piece in train]
    found = set()
    for name, piece in pieces.items():
        own = _runs(piece[::tokens_per_beat])
        if any(len(own & other) > _SHARE * len(own) for other in known):
            found.add(name)
    return found


def _runs(tune: Array) -> set[bytes]:
    """The runs of a tune [note], each as its intervals."""
    steps = np.diff(tune.astype(np.int16))
    return {steps[first : first + _NOTES - 1].tobytes() for first in range(len(tune) - _NOTES + 1)}
