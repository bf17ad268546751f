"""The Representation protocol: how a piece becomes records and records become a piece again."""

from collections.abc import Iterable, Iterator
from typing import Protocol, Self

from schemas.feature import Feature, Record
from schemas.music import Piece


class Representation(Protocol):
    """One encoding of music. Implementations are frozen dataclasses whose fields are their settings.

    `encode` and `decode` are one class so that they cannot drift apart. Where moving a piece to another key moves its
    records in a simple way, a representation may offer `transposed(record, semitones) -> Record`, equal to encoding
    the transposed piece: copies in other keys then cost a tenth.

    One that cannot say every piece, whatever its key, has `misfit(piece) -> (reason, sentence) | None`, asked before
    `fits`; one that does not say all of a piece may count what is lost: `unsaid(piece) -> {what: notes}`. One of voices
    has `voices`, their number: each decoded note ends by itself, not where its pitch sounds again in another voice.

    One whose records a reader may draw anew has `redraw(record, generator, crop, transpose) -> Record | None`: one draw
    of a window of `crop` elements (0: all of them) in a key moved by one of the semitones `transpose` (none: in its
    own), None where that leaves the range (`schemas.redrawing`). It has `window` and `hop` among its settings, and
    `pad`, what stands behind the last element of a piece.
    """

    def features(self) -> dict[str, Feature]:
        """What each array of a record is, without the key features that every record carries."""
        ...

    def for_split(self, split: str) -> Self:
        """The same representation as it applies to one split: a hop applies to train only."""
        ...

    def prepared(self, piece: Piece) -> Piece:
        """The part of encoding that a change of key or tempo does not touch, done once for all copies. Idempotent."""
        ...

    def fits(self, piece: Piece) -> bool:
        """Whether every note can be expressed; a copy that does not fit is dropped and counted, never clipped."""
        ...

    def encode(self, piece: Piece) -> Iterator[Record]:
        """The records of a piece in order, cut into windows."""
        ...

    def decode(self, records: Iterable[Record]) -> Piece:
        """The piece that records stand for, in any order. Never raises for nonsense that matches the features."""
        ...
