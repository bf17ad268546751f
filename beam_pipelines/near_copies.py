"""Near copies: which pieces are likely to be one (their sketches), and whether two are (their notes)."""

from collections import Counter
from collections.abc import Iterable

from beam_pipelines.fingerprints import SKETCH_SIZE, sketch_hashes

LEAST_SHARED = 3
LEAST_SHARE = 0.25
MOST_HOLDERS = 64
"""How many pieces are remembered for one hash: what more of them hold says little, and must not cost their square."""


def agree(shared: int, smaller: int) -> bool:
    """Whether two sketches are of one composition: hashes in common, and hashes of the smaller sketch."""
    return shared >= max(LEAST_SHARED, LEAST_SHARE * min(smaller, SKETCH_SIZE))


class Index:
    """Sketches by their hashes: whose sketch shares how much with this one? A question costs the same at any size."""

    def __init__(self, most_holders: int = MOST_HOLDERS) -> None:
        self._holders: dict[int, list[int]] = {}
        self._sizes: dict[int, int] = {}
        self._most_holders = most_holders

    def add(self, number: int, hashes: Iterable[int]) -> None:
        """Remembers the sketch of a numbered piece."""
        for count, value in enumerate(hashes, 1):
            holders = self._holders.setdefault(value, [])
            if len(holders) < self._most_holders:
                holders.append(number)
            self._sizes[number] = count

    def sharing(self, hashes: Iterable[int]) -> list[tuple[int, int]]:
        """(number, hashes in common) of the pieces that have any in common, the most first."""
        counts: Counter[int] = Counter()
        for value in hashes:
            counts.update(self._holders.get(value, ()))
        return sorted(counts.items(), key=lambda found: (-found[1], found[0]))

    def agreeing(self, hashes: list[int]) -> list[int]:
        """Numbers of the pieces whose sketches agree with this one, the most like it first."""
        return [
            number for number, shared in self.sharing(hashes) if agree(shared, min(len(hashes), self._sizes[number]))
        ]


def alike(sketches: Iterable[str]) -> Iterable[tuple[int, int]]:
    """Pairs of places (earlier, later) of sketches that agree, enough of them to join all that are alike."""
    index = Index()
    for number, text in enumerate(sketches):
        hashes = sketch_hashes(text).tolist()
        for other in index.agreeing(hashes):
            yield other, number
        index.add(number, hashes)
