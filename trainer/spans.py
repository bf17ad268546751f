"""Where the values lie in the bytes of many records at once, found without parsing.

A record is a tf.train.Example, a tree of lengths and names that `schemas.record.to_example` writes in the order of
the names. So the bytes that a value must be preceded by are known but for a few lengths. They are compared, for all
records together, in NumPy: one record costs a fraction of a microsecond. Where a single byte differs from what is
expected, the record is left to the parser.

The tree, with the tags of its fields:

    0A length                      Features, the one field of Example
      0A length                    an entry of the map
        0A length name
        12 length                  Feature
          0A | 12 | 1A length      BytesList | FloatList | Int64List
            0A length value        one byte string, or numbers packed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from schemas.feature import Feature, Features
from schemas.record import LIST_TAGS, delimited, list_attribute, varint

Array = np.ndarray[Any, Any]
_MAX_VARINT_BYTES = 10
_LONGEST_NAME = 100
_GUARD_BYTES = 512
"""Zeros after the last record, so that a look past its end finds nothing."""


@dataclass(frozen=True)
class Bytes:
    """Payloads one after the other.

    Attributes:
        data: uint8, all of them and some zeros.
        begin, end: of each payload in data, int64 [record].
    """

    data: Array
    begin: Array
    end: Array

    def at(self, places: Array, count: int) -> Array:
        """The `count` bytes from each place on, uint8 [record, count]; places past the end give what stands there."""
        rows = len(self.data) - count + 1
        # Every run of `count` bytes, without copying; `sliding_window_view` does the same twenty times slower.
        runs = np.ndarray((rows, count), np.uint8, self.data, strides=(1, 1))
        return runs[np.minimum(places, rows - 1)]

    def byte(self, places: Array) -> Array:
        """The byte at each place, uint8 [record]; places past the end give what stands there."""
        return self.data[np.minimum(places, len(self.data) - 1)]

    def varint(self, places: Array) -> tuple[Array, Array]:
        """Value and the place after it of the varint at each place; nonsense gives nonsense, within int64."""
        byte = self.byte(places).astype(np.int64)
        found, at, going = byte & 127, places + 1, byte > 127
        for shift in range(7, 7 * _MAX_VARINT_BYTES, 7):
            if not going.any():
                break
            byte = self.byte(at).astype(np.int64)
            found |= ((byte & 127) << np.int64(shift)) * going
            at += going
            going &= byte > 127
        return found, at


def join(payloads: Sequence[bytes]) -> Bytes:
    """Payloads as one array."""
    data = np.frombuffer(b"".join([*payloads, bytes(_GUARD_BYTES)]), np.uint8)
    end = np.cumsum(np.fromiter(map(len, payloads), np.int64, len(payloads)))
    return Bytes(data, np.concatenate([[0], end[:-1]]).astype(np.int64), end)


@dataclass(frozen=True)
class Spans:
    """One feature's values in many payloads: whether each is written as expected, and where it begins and ends."""

    fits: Array
    begin: Array
    end: Array


@dataclass(frozen=True)
class Fixed:
    """A value of the same number of bytes in every record: raw arrays and lists of floats."""

    name: str
    feature: Feature
    size: int

    @cached_property
    def head(self) -> Array:
        """The bytes before the value."""
        return _head(self.name, self.feature, self.size)

    def find(self, data: Bytes, at: Array) -> Spans:
        """The values in the entries that begin at these places."""
        begin = at + len(self.head)
        return Spans((data.at(at, len(self.head)) == self.head).all(axis=1), begin, begin + self.size)

    def values(self, data: Bytes, spans: Spans) -> Array:
        """[record, ...] in the feature's dtype."""
        rows = np.ascontiguousarray(data.at(spans.begin, self.size))
        typed = rows.view(np.dtype(self.feature.dtype).newbyteorder("<"))
        return typed.reshape(len(rows), *_lengths(self.feature)).astype(self.feature.dtype, copy=False)


@dataclass(frozen=True)
class Scalar:
    """One integer, written in one to ten bytes."""

    name: str
    feature: Feature

    @cached_property
    def heads(self) -> Array:
        """The bytes before a value of so many bytes, uint8 [bytes, head]; row 0 fits nothing."""
        heads = [_head(self.name, self.feature, size) for size in range(1, _MAX_VARINT_BYTES + 1)]
        return np.stack([np.full_like(heads[0], 255), *heads])

    def find(self, data: Bytes, at: Array) -> Spans:
        """The values in the entries that begin at these places."""
        length = self.heads.shape[1]
        head = data.at(at, length)
        # Only lengths differ between the heads, and the second byte is one.
        size = head[:, 1].astype(np.int64) - int(self.heads[1, 1]) + 1
        size[(size < 1) | (size > _MAX_VARINT_BYTES)] = 0
        begin = at + length
        value, end = data.varint(begin)
        # One number that fills its place and its dtype: two short ones, or a larger one, are left to the parser.
        fits = (head == self.heads[size]).all(axis=1) & (end == begin + size)
        return Spans(fits & (value.astype(self.feature.dtype) == value), begin, end)

    def values(self, data: Bytes, spans: Spans) -> Array:
        """[record] in the feature's dtype."""
        return data.varint(spans.begin)[0].astype(self.feature.dtype)


@dataclass(frozen=True)
class String:
    """One byte string of any length."""

    name: str
    feature: Feature

    def find(self, data: Bytes, at: Array) -> Spans:
        """The values in the entries that begin at these places."""
        length, inner = data.varint(at + 1)
        end = inner + length
        name = np.frombuffer(delimited(b"\x0a", self.name.encode()), np.uint8)
        fits = (data.at(inner, len(name)) == name).all(axis=1)
        place = inner + len(name)
        for tag in (0x12, 0x0A, 0x0A):
            fits &= data.byte(place) == tag
            length, place = data.varint(place + 1)
            fits &= place + length == end
        # A length of ten bytes may be negative here, and a record that ends before its value would lead anywhere.
        return Spans(fits & (place <= end), place, end)

    def values(self, data: Bytes, spans: Spans) -> list[bytes]:
        """A list of byte strings."""
        pairs = zip(spans.begin.tolist(), spans.end.tolist(), strict=True)
        return [data.data[begin:end].tobytes() for begin, end in pairs]


@dataclass(frozen=True)
class Varying:
    """A raw array whose first axis is of another length in every record.

    Attributes:
        row_bytes: of one element of the first axis.
    """

    name: str
    feature: Feature
    row_bytes: int

    def find(self, data: Bytes, at: Array) -> Spans:
        """The values in the entries that begin at these places."""
        spans = String(self.name, self.feature).find(data, at)
        return Spans(spans.fits & ((spans.end - spans.begin) % self.row_bytes == 0), spans.begin, spans.end)

    def values(self, data: Bytes, spans: Spans) -> list[Array]:
        """A list of [length, ...] in the feature's dtype; parts of the payloads, not copies, where the machine can."""
        kind, rest = np.dtype(self.feature.dtype), _lengths(self.feature)
        stored, pairs = kind.newbyteorder("<"), zip(spans.begin.tolist(), spans.end.tolist(), strict=True)
        # What is cut out of a long piece is copied soon enough.
        return [data.data[begin:end].view(stored).astype(kind, copy=False).reshape(-1, *rest) for begin, end in pairs]


Field = Fixed | Scalar | String | Varying


def make_fields(features: Features) -> list[Field]:
    """How to find each feature, in the order they are written; none where one of them can only be parsed."""
    fields = [_make_field(name, feature) for name, feature in sorted(features.items())]
    return [field for field in fields if field] if all(fields) else []


def _make_field(name: str, feature: Feature) -> Field | None:
    # A length above 127 would take two bytes, which `Scalar` does not expect; the bytes before a value stay few.
    if len(name.encode()) >= _LONGEST_NAME:
        return None
    if feature.dtype == "bytes":
        return String(name, feature)
    if feature.storage == "flac" or None in feature.shape[1:] or 0 in feature.shape:
        return None
    if feature.shape[:1] == (None,):
        return Varying(name, feature, _row_bytes(feature)) if feature.storage == "raw" else None
    if list_attribute(feature) == "int64_list":
        return Scalar(name, feature) if feature.shape == () else None
    return Fixed(name, feature, _row_bytes(feature))


def find(data: Bytes, fields: Sequence[Field]) -> tuple[Array, dict[str, Spans]]:
    """Which payloads are exactly these fields in order, bool [record], and where each field's values lie."""
    # A field number other than 1, or a length that is not that of the rest, is not what was written.
    length, at = data.varint(data.begin + 1)
    fits = (data.byte(data.begin) == 0x0A) & (at + length == data.end)
    found = {}
    for field in fields:
        spans = found[field.name] = field.find(data, at)
        fits &= (data.byte(at) == 0x0A) & spans.fits & (spans.end <= data.end)
        # A record that is lost anyway looks for the rest at its own beginning, so that no place leaves the array.
        at = np.where(fits, spans.end, data.begin)
    return fits & (at == data.end), found


def _head(name: str, feature: Feature, size: int) -> Array:
    """The bytes of an entry before its value of `size` bytes."""
    head = b""
    for tag in (b"\x0a", LIST_TAGS[list_attribute(feature)], b"\x12"):
        head = tag + varint(len(head) + size) + head
    head = delimited(b"\x0a", name.encode()) + head
    return np.frombuffer(b"\x0a" + varint(len(head) + size) + head, np.uint8)


def _row_bytes(feature: Feature) -> int:
    """Bytes of an array, or of one element of its first axis where that varies."""
    return int(np.prod(_lengths(feature), dtype=np.int64)) * np.dtype(feature.dtype).itemsize


def _lengths(feature: Feature) -> tuple[int, ...]:
    return tuple(length for length in feature.shape if length is not None)
