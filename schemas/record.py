"""A record as bytes: tf.train.Example, TFRecord framing and the index of a shard. No TensorFlow.

The Example message is built in a descriptor pool of its own: the default pool would clash with TensorFlow's in the
same process.
"""

import os
import struct
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from schemas.documents import read_document
from schemas.errors import InputError
from schemas.feature import Feature, Features, Record, RecordError

FRAMING_BYTES = 16
"""Length, its checksum before the payload, and the payload's checksum after it."""

MAX_RECORD_BYTES = 1 << 30
MAX_INDEX_BYTES = 128 << 20
_REMEDY = "Run `stretto verify` on its folder."
MASK_DELTA = 0xA282EAD8
_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")


class CorruptRecord(InputError):
    """Bytes of a shard that are not what was written."""

    def __init__(self, shard: str, record: int, offset: int, what: str, remedy: str = _REMEDY) -> None:
        super().__init__(f"{shard}: record {record} at byte {offset}: {what}. {remedy}")
        self.shard, self.record, self.offset, self.what = shard, record, offset, what


@cache
def example_class() -> Any:
    """The message class of tf.train.Example."""
    file = descriptor_pb2.FileDescriptorProto(name="stretto/example.proto", package="tensorflow", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    lists = (("BytesList", field.TYPE_BYTES), ("FloatList", field.TYPE_FLOAT), ("Int64List", field.TYPE_INT64))
    for name, kind in lists:
        message = file.message_type.add(name=name)
        message.field.add(name="value", number=1, label=field.LABEL_REPEATED, type=kind)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (attribute, (kind_name, _)) in enumerate(zip(_ATTRIBUTES, lists, strict=True), 1):
        feature.field.add(
            name=attribute,
            number=number,
            label=field.LABEL_OPTIONAL,
            type=field.TYPE_MESSAGE,
            type_name=f".tensorflow.{kind_name}",
            oneof_index=0,
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_STRING)
    _message_field(entry, "value", 2, "Feature", field.LABEL_OPTIONAL)
    _message_field(features, "feature", 1, "Features.FeatureEntry", field.LABEL_REPEATED)
    _message_field(file.message_type.add(name="Example"), "features", 1, "Features", field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


_ATTRIBUTES = ("bytes_list", "float_list", "int64_list")


def _message_field(owner: Any, name: str, number: int, type_name: str, label: Any) -> None:
    kind = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    owner.field.add(name=name, number=number, label=label, type=kind, type_name=f".tensorflow.{type_name}")


def list_attribute(feature: Feature) -> str:
    """Which list of the Example message holds a feature: bytes_list, float_list or int64_list."""
    if feature.dtype == "bytes" or feature.storage != "list":
        return "bytes_list"
    return "float_list" if feature.dtype == "float32" else "int64_list"


def to_example(record: Mapping[str, Any], features: Features) -> bytes:
    """One record as the bytes of a tf.train.Example; equal records give equal bytes.

    The features stand in the order of their names. They are laid out here because protobuf promises no order: its own
    deterministic one puts "key" before "k" today. The record must match its features (`check_record`).
    """
    entries = b"".join([_entry(name, features[name], record[name]) for name in sorted(features)])
    return delimited(b"\x0a", entries)


LIST_TAGS = {"bytes_list": b"\x0a", "float_list": b"\x12", "int64_list": b"\x1a"}


def _entry(name: str, feature: Feature, value: Any) -> bytes:
    """One entry of the map from names to features."""
    data, attribute = _value_bytes(feature, value), list_attribute(feature)
    values = delimited(b"\x0a", data) if data or attribute == "bytes_list" else b""
    slot = delimited(b"\x12", delimited(LIST_TAGS[attribute], values))
    return delimited(b"\x0a", delimited(b"\x0a", name.encode()) + slot)


def _value_bytes(feature: Feature, value: Any) -> bytes:
    """A byte string as it is, an array as its bytes, a list as packed numbers."""
    if feature.dtype == "bytes":
        return bytes(value)
    if feature.storage == "raw":
        return np.ascontiguousarray(value, _little_endian(feature)).tobytes()
    if feature.dtype == "float32":
        return np.asarray(value, "<f4").tobytes()
    return b"".join([varint(number) for number in np.asarray(value).ravel().tolist()])


def delimited(tag: bytes, data: bytes) -> bytes:
    """A field of a protocol buffer whose value is bytes: tag, length, the bytes."""
    return tag + varint(len(data)) + data


def varint(value: int) -> bytes:
    """A whole number of 64 bits in groups of seven, the lowest first; a negative one as its two's complement."""
    if 0 <= value < 128:
        return _SHORT_VARINTS[value]
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


_SHORT_VARINTS = [bytes([value]) for value in range(128)]


@cache
def _little_endian(feature: Feature) -> np.dtype[Any]:
    return np.dtype(feature.dtype).newbyteorder("<")


def from_example(payload: bytes, features: Features) -> Record:
    """The inverse of `to_example`. Raises RecordError, naming the feature, for bytes that do not match."""
    try:
        example = example_class().FromString(payload)
    except DecodeError as error:
        raise RecordError(f"not a tf.train.Example: {error}") from error
    slots = example.features.feature
    if slots.keys() != features.keys():
        raise RecordError(f"record holds {sorted(slots)}, its features are {sorted(features)}")
    return {name: _value(name, slots[name], feature) for name, feature in features.items()}


def _value(name: str, slot: Any, feature: Feature) -> Any:
    values = getattr(slot, list_attribute(feature)).value
    if list_attribute(feature) != "bytes_list":
        return _shaped(name, _numbers(name, values, feature), feature)
    if len(values) != 1:
        raise RecordError(f"feature {name!r}: expected one byte string, got {len(values)}")
    if feature.dtype == "bytes":
        return values[0]
    if feature.storage == "flac":
        raise RecordError(f"feature {name!r}: stored as flac, which is read by media.audio")
    if len(values[0]) % _little_endian(feature).itemsize:
        raise RecordError(f"feature {name!r}: {len(values[0])} bytes are no whole number of {feature.dtype}")
    return _shaped(name, np.frombuffer(values[0], _little_endian(feature)).astype(feature.dtype), feature)


def _numbers(name: str, values: Any, feature: Feature) -> np.ndarray[Any, Any]:
    try:
        return np.array(list(values), feature.dtype)
    except OverflowError as error:
        raise RecordError(f"feature {name!r}: {error}") from error


def _shaped(name: str, array: np.ndarray[Any, Any], feature: Feature) -> np.ndarray[Any, Any]:
    fixed = [length for length in feature.shape if length is not None]
    shape = tuple(-1 if length is None else length for length in feature.shape)
    if len(feature.shape) - len(fixed) > 1 or (0 in fixed and -1 in shape):
        raise RecordError(f"feature {name!r}: shape {feature.shape} leaves more than one length open")
    try:
        return array.reshape(shape)
    except ValueError as error:
        raise RecordError(f"feature {name!r}: {array.size} values do not fill shape {feature.shape}") from error


def masked_crc(data: bytes | memoryview) -> int:
    """CRC-32C as TFRecord stores it: rotated, plus a constant, so that a checksum of a checksum is no checksum."""
    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF


def frame(payload: bytes) -> bytes:
    """One TFRecord: length, checksum of the length, payload, checksum of the payload."""
    length = _LENGTH.pack(len(payload))
    return b"".join((length, _CHECKSUM.pack(masked_crc(length)), payload, _CHECKSUM.pack(masked_crc(payload))))


def index_line(offset: int, length: int) -> str:
    """One line of an index: where the framing begins, and its length with the payload."""
    return f"{offset} {length}\n"


def read_index(path: str, limit_bytes: int = MAX_INDEX_BYTES) -> np.ndarray[Any, Any]:
    """Offsets and lengths, int64 [record, 2]. Raises InputError for a file that is no index, or is larger than that."""
    text = read_document(path, limit_bytes)
    lines = text.count(b"\n")
    if text.translate(None, b"0123456789") != b" \n" * lines:
        raise InputError(f"{path}: not an index: every line holds an offset and a length. {_REMEDY}")
    numbers = np.fromstring(text.decode(), np.int64, sep=" ") if lines else np.zeros(0, np.int64)
    # A number too large for int64 comes back as the largest of them.
    if numbers.size != 2 * lines or (numbers == np.iinfo(np.int64).max).any():
        raise InputError(f"{path}: not an index: a number is missing or too large. {_REMEDY}")
    return numbers.reshape(-1, 2)


def index_limit(records: int) -> int:
    """How many bytes the index of so many records has at most: two numbers of 19 digits a line."""
    return min(MAX_INDEX_BYTES, 40 * records)


def read_records(path: str) -> Iterator[bytes]:
    """The payloads of a shard in order, both checksums of each checked. Raises CorruptRecord."""
    for _, payload in read_framed(path):
        yield payload


def read_framed(path: str) -> Iterator[tuple[int, bytes]]:
    """Offset and payload of every record of a shard in order. Raises CorruptRecord."""
    size, offset, number = os.path.getsize(path), 0, 0
    with open(path, "rb") as file:
        while offset < size:
            header = file.read(12)
            length = _payload_length(header, size - offset, path, number, offset)
            payload, checksum = file.read(length), file.read(4)
            if len(payload) != length or checksum != _CHECKSUM.pack(masked_crc(payload)):
                raise CorruptRecord(path, number, offset, "checksum of the payload does not match")
            yield offset, payload
            offset += length + FRAMING_BYTES
            number += 1


def _payload_length(header: bytes, left: int, path: str, number: int, offset: int) -> int:
    if len(header) < 12 or left < FRAMING_BYTES:
        raise CorruptRecord(path, number, offset, f"{left} bytes are left, a record needs {FRAMING_BYTES} or more")
    length = int(_LENGTH.unpack_from(header)[0])
    if _CHECKSUM.unpack_from(header, 8)[0] != masked_crc(header[:8]):
        raise CorruptRecord(path, number, offset, "checksum of the length does not match")
    if length > min(left - FRAMING_BYTES, MAX_RECORD_BYTES):
        raise CorruptRecord(path, number, offset, f"length {length} reaches past the end of the file")
    return length
