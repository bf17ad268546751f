"""Near copies: which pieces are likely to be the same music, by their sketches, at a cost linear in their number."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from beam_pipelines.fingerprints import sketch_hashes

LEAST_SHARED = 3
LEAST_SHARE = 0.25
_WORTH_A_LOOK = 0.125
MOST_HOLDERS = 64
"""How many pieces are remembered for one hash: what more of them hold says little, and must not cost their square."""


def agree(shared: int, smaller: int) -> bool:
    """Whether two sketches are of one composition: hashes in common, and hashes of the smaller sketch."""
    return shared >= max(LEAST_SHARED, LEAST_SHARE * smaller)


def worth_a_look(shared: int, smaller: int) -> bool:
    """Whether the notes of two pieces should be compared, which costs milliseconds but is certain."""
    return shared >= _WORTH_A_LOOK * smaller


class Index:
    """Sketches by their hashes: whose sketch shares how much with this one? A question costs the same at any size."""

    def __init__(self) -> None:
        self._holders: dict[int, list[int]] = {}
        self._sizes: dict[int, int] = {}

    def add(self, number: int, hashes: Sequence[int]) -> None:
        """Remembers the sketch of a numbered piece."""
        self._sizes[number] = len(hashes)
        for value in hashes:
            holders = self._holders.setdefault(value, [])
            if len(holders) < MOST_HOLDERS:
                holders.append(number)

    def sharing(self, hashes: Sequence[int]) -> list[tuple[int, int, int]]:
        """(number, hashes in common, hashes of the smaller sketch) of all that have any in common, the most first."""
        counts = Counter(number for value in hashes for number in self._holders.get(value, ()))
        found = [(number, shared, min(len(hashes), self._sizes[number])) for number, shared in counts.items()]
        return sorted(found, key=lambda sharer: (-sharer[1], sharer[0]))


def alike(sketches: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Pairs of places (earlier, later) of sketches that agree, enough of them to join all that are alike."""
    index = Index()
    for place, text in enumerate(sketches):
        hashes = sketch_hashes(text).tolist()
        yield from ((other, place) for other, *found in index.sharing(hashes) if agree(*found))
        index.add(place, hashes)
