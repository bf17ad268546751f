"""Encoding one input: its copies as the keyed bytes of records, a thousand or more for a long piece."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from beam_pipelines.augment import Tempo, Variants, augment
from schemas.feature import KEY_FEATURES, Feature, Record, check_record
from schemas.music import Piece, transpose
from schemas.naming import copy_key, window_key
from schemas.record import to_example
from schemas.representation import Representation
from schemas.window import piece_length


@dataclass(frozen=True)
class Encoder:
    """How the pieces of one split become bytes."""

    representation: Representation
    variants: Variants

    def features(self) -> dict[str, Feature]:
        """Every feature of a record, key and group included."""
        return {**KEY_FEATURES, **self.representation.features()}


@dataclass(frozen=True)
class Copy:
    """One copy of a piece: key, the change against the file, and its records in order."""

    key: str
    semitones: int
    factor: float
    records: list[Record]

    @property
    def tokens(self) -> int:
        """Ids, or steps, of the whole copy, where its records are windows of such."""
        return piece_length(self.records[0]) if self.records else 0


def encode(encoder: Encoder, piece: Piece) -> tuple[Piece, dict[str, int], Iterator[Copy]]:
    """The piece as its representation prepares it, dropped copies by reason, and the copies one after another."""
    prepared = encoder.representation.prepared(piece)
    tempos, dropped = augment(prepared, encoder.variants, encoder.representation)
    return prepared, dropped, (copy for tempo in tempos for copy in _copies(encoder, tempo))


def _copies(encoder: Encoder, tempo: Tempo) -> Iterator[Copy]:
    for semitones, records in _transpositions(encoder, tempo):
        yield Copy(copy_key(tempo.piece.name, semitones, tempo.factor), semitones, tempo.factor, records)


def _transpositions(encoder: Encoder, tempo: Tempo) -> Iterator[tuple[int, list[Record]]]:
    """The records of every transposition; where a representation can transpose records, only one has to be encoded."""
    shift: Any = getattr(encoder.representation, "transposed", None)
    if shift is None or tempo.piece.notes.drum.any():
        for semitones in tempo.transpositions:
            yield semitones, _checked(encoder, transpose(tempo.piece, semitones))
        return
    records = _checked(encoder, tempo.piece)
    for semitones in tempo.transpositions:
        yield semitones, [shift(record, semitones) for record in records]


def _checked(encoder: Encoder, piece: Piece) -> list[Record]:
    records = list(encoder.representation.encode(piece))
    features = encoder.representation.features()
    for record in records:
        check_record(record, features)
    return records


def payloads(copy: Copy, group: bytes, features: dict[str, Feature]) -> Iterator[tuple[str, bytes]]:
    """Key and serialised record of every window of a copy."""
    for index, record in enumerate(copy.records):
        key = window_key(copy.key, index)
        yield key, to_example({"key": key.encode(), "group": group, **record}, features)
