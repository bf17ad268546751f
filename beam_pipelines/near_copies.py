"""Near copies: which pieces are likely to be the same music, by their sketches, at a cost linear in their number.

The share of hashes that two sketches have in common, of the smaller one's, measured on 330 performances of MAESTRO, 60
songs of POP909, 174 files of several instruments and 364 chorales of Bach:

| pieces                                                                            | least | 1 % below | median |
| --------------------------------------------------------------------------------- | ----- | --------- | ------ |
| a file and its copy: other key, tempo x 0.5 to 2, begun later, 220 ticks a quarter | 0.78  | 0.84      | 0.97   |
| the same two decoded from shards, where times are whole hundredths of a second    | 0.53  | 0.66      | 0.84   |
| two performances of one composition (110 pairs of equal titles in MAESTRO)        | 0     | 0         | 0.34   |
| pieces of different groups (136,000 pairs): 0.22 at most, over 0.1 in 36 pairs    | 0     | 0         | 0      |

So a quarter (and three hashes) says "one composition": enough to keep groups in one split, where a mistake costs
nothing. It joins 57 titles of the MAESTRO sample to others, all of them spellings of one work, and no two pieces of
different official splits. It is no proof of a copy: that takes the onsets (`alignment`).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from beam_pipelines.fingerprints import Hashes, sketch_hashes

LEAST_SHARED = 3
LEAST_SHARE = 0.25
_WORTH_A_LOOK = 0.125
MOST_HOLDERS = 64
"""How many pieces are remembered for one hash: what more of them hold says little, and must not cost their square."""
_AT_ONCE = 10_000


def agree(shared: int, smaller: int) -> bool:
    """Whether two sketches are of one composition: hashes in common, and hashes of the smaller sketch."""
    return shared >= max(LEAST_SHARED, LEAST_SHARE * smaller)


def worth_a_look(shared: int, smaller: int) -> bool:
    """Whether the notes of two pieces should be compared, which costs milliseconds but is certain."""
    return shared >= _WORTH_A_LOOK * smaller


class Sharer(NamedTuple):
    """A piece by its number, hashes that its sketch shares with another, and hashes of the smaller of the two."""

    number: int
    shared: int
    smaller: int


class Index:
    """Sketches by their hashes: whose sketch shares how much with this one? A question costs the same at any size.

    Only hashes that several of the given sketches hold are kept, so that memory grows with what pieces have in common.
    """

    def __init__(self, sketches: Sequence[str]) -> None:
        self._repeated = _repeated(sketches)
        self._holders: dict[int, list[int]] = {}
        self._sizes: dict[int, int] = {}

    def add(self, number: int, text: str) -> None:
        """Remembers one of the sketches under a number."""
        hashes, self._sizes[number] = self._known(text)
        for value in hashes:
            holders = self._holders.setdefault(value, [])
            if len(holders) < MOST_HOLDERS:
                holders.append(number)

    def sharing(self, text: str, enough: Callable[[int, int], bool]) -> list[Sharer]:
        """The pieces that share enough with this sketch, the most first.

        Args:
            text: a sketch.
            enough: of hashes in common and hashes of the smaller sketch: `agree` or `worth_a_look`.
        """
        hashes, size = self._known(text)
        counts = Counter(chain.from_iterable(self._holders.get(value, ()) for value in hashes))
        sharers = (Sharer(number, shared, min(size, self._sizes[number])) for number, shared in counts.items())
        return sorted((it for it in sharers if enough(it.shared, it.smaller)), key=lambda it: (-it.shared, it.number))

    def _known(self, text: str) -> tuple[list[int], int]:
        """Those hashes of a sketch that can be shared, and how many it has in all."""
        hashes = sketch_hashes(text)
        if not len(self._repeated):
            return [], len(hashes)
        at = np.minimum(np.searchsorted(self._repeated, hashes), len(self._repeated) - 1)
        return hashes[self._repeated[at] == hashes].tolist(), len(hashes)


def _repeated(sketches: Sequence[str]) -> Hashes:
    """The hashes that more than one sketch holds, ascending."""
    parts = [sketch_hashes("".join(sketches[at : at + _AT_ONCE])) for at in range(0, len(sketches), _AT_ONCE)]
    hashes = np.concatenate([np.zeros(0, np.uint64), *parts])
    hashes.sort()
    return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])


def alike(sketches: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of places (earlier, later) of sketches that agree, enough of them to join all that are alike."""
    index = Index(sketches)
    for place, text in enumerate(sketches):
        yield from ((other.number, place) for other in index.sharing(text, agree))
        index.add(place, text)
