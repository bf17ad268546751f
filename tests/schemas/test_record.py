"""Records as bytes: equal to what TensorFlow writes, whole when read back, and never misread when damaged."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from schemas.errors import InputError
from schemas.feature import Feature, RecordError
from schemas.record import (
    FRAMING_BYTES,
    CorruptRecord,
    example_class,
    frame,
    from_example,
    index_limit,
    index_line,
    masked_crc,
    read_framed,
    read_index,
    read_records,
    to_example,
)

FEATURES = {
    "key": Feature("bytes"),
    "tokens": Feature("uint16", ("token",), (None,), storage="raw"),
    "steps": Feature("int64", ("step",), (None,)),
    "level": Feature("float32", ("frame", "band"), (None, 2)),
    "cells": Feature("int16", ("row", "column"), (2, 3), storage="raw"),
    "start": Feature("int64"),
}

RECORDS = st.fixed_dictionaries(
    {
        "key": st.binary(max_size=20),
        "tokens": arrays.arrays(np.uint16, st.integers(0, 20)),
        "steps": arrays.arrays(np.int64, st.integers(0, 20)),
        "level": arrays.arrays(np.float32, st.tuples(st.integers(0, 5), st.just(2))),
        "cells": arrays.arrays(np.int16, (2, 3)),
        "start": arrays.arrays(np.int64, ()),
    }
)


@given(RECORDS)
def test_a_record_comes_back_as_it_was(record):
    back = from_example(to_example(record, FEATURES), FEATURES)
    assert back.keys() == record.keys()
    assert back["key"] == record["key"]
    for name in FEATURES.keys() - {"key"}:
        assert back[name].dtype == record[name].dtype
        assert np.array_equal(back[name], record[name], equal_nan=record[name].dtype.kind == "f")


def varint(value):
    value &= (1 << 64) - 1
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def by_hand(record):
    """tf.train.Example written by hand, features sorted by name, numbers packed."""
    lists = {
        "key": field(1, field(1, record["key"])),
        "tokens": field(1, field(1, record["tokens"].astype("<u2").tobytes())),
        "cells": field(1, field(1, record["cells"].astype("<i2").tobytes())),
        "level": field(2, packed(record["level"].astype("<f4").tobytes())),
        "steps": field(3, packed(b"".join(map(varint, record["steps"].tolist())))),
        "start": field(3, packed(varint(record["start"].item()))),
    }
    entries = [field(1, field(1, name.encode()) + field(2, lists[name])) for name in sorted(lists)]
    return field(1, b"".join(entries))


def packed(numbers):
    return field(1, numbers) if numbers else b""


@given(RECORDS)
def test_the_bytes_are_those_of_the_format_with_features_sorted_by_name(record):
    assert to_example(record, FEATURES) == by_hand(record)
    assert to_example(dict(reversed(record.items())), dict(reversed(FEATURES.items()))) == by_hand(record)


def test_an_array_in_any_memory_order_is_stored_row_by_row_in_little_endian():
    feature = {"cells": FEATURES["cells"]}
    cells = np.arange(6, dtype=np.int16).reshape(2, 3)
    assert {
        to_example({"cells": variant}, feature) for variant in (cells, np.asfortranarray(cells), cells.astype(">i2"))
    } == {to_example({"cells": cells}, feature)}


def small(**changes):
    """A valid record as a message, to be damaged."""
    record = {
        "key": b"k",
        "tokens": np.arange(3, dtype=np.uint16),
        "steps": np.arange(3),
        "level": np.zeros((1, 2), np.float32),
        "cells": np.zeros((2, 3), np.int16),
        "start": np.int64(7),
    }
    return example_class().FromString(to_example({**record, **changes}, FEATURES))


def test_fields_that_a_later_format_may_add_do_no_harm():
    payload = small().SerializeToString() + field(15, b"from the future") + varint(14 << 3) + varint(1)
    assert from_example(payload, FEATURES)["start"] == 7


def damaged(change):
    example = small()
    change(example.features.feature)
    return example.SerializeToString()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda slots: slots.pop("start"), "its features are"),
        (lambda slots: slots["surplus"].bytes_list.value.append(b""), "surplus"),
        (lambda slots: slots["key"].bytes_list.value.append(b"second"), "'key': expected one byte string, got 2"),
        (lambda slots: slots["key"].int64_list.value.append(1), "'key': expected one byte string, got 0"),
        (lambda slots: slots["start"].bytes_list.value.append(b"7"), "'start': 0 values do not fill shape"),
        (lambda slots: slots["start"].int64_list.value.append(8), "'start': 2 values do not fill shape"),
        (lambda slots: slots["level"].float_list.value.append(1), "'level': 3 values do not fill shape"),
        (
            lambda slots: slots["tokens"].bytes_list.value.__setitem__(0, b"odd"),
            "'tokens': 3 bytes are no whole number",
        ),
        (lambda slots: slots["cells"].bytes_list.value.__setitem__(0, b"12"), "'cells': 1 values do not fill shape"),
    ],
)
def test_a_record_that_is_not_as_declared_is_refused_by_name(change, message):
    with pytest.raises(RecordError, match=message):
        from_example(damaged(change), FEATURES)


@given(st.binary(max_size=100))
def test_any_bytes_are_refused_clearly(payload):
    with pytest.raises(RecordError):
        from_example(payload, FEATURES)


@given(st.data())
def test_an_example_with_a_byte_changed_is_read_or_refused_never_anything_else(data):
    payload = bytearray(small().SerializeToString())
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert from_example(bytes(payload), FEATURES).keys() == FEATURES.keys()
    except RecordError as error:
        assert str(error)


def test_framing_is_tensorflows_byte_for_byte():
    # tf.io.TFRecordWriter's own output for these two payloads.
    assert frame(b"").hex() == "0000000000000000" + "29039807" + "d8ea82a2"
    assert frame(b"music").hex() == "0500000000000000" + "eab2043e" + b"music".hex() + "2bf9e336"


@pytest.fixture(scope="module")
def beam():
    return pytest.importorskip("apache_beam.io.tfrecordio", reason="compared with Beam's writer where it is installed")


@given(payload=st.binary(max_size=300))
def test_framing_is_beams_byte_for_byte(beam, payload):
    buffer = io.BytesIO()
    beam._TFRecordUtil.write_record(buffer, payload)
    assert frame(payload) == buffer.getvalue()


def test_the_checksum_is_castagnolis_with_its_mask():
    # CRC-32C of 32 zero bytes is 8a9136aa (RFC 3720, B.4).
    crc = 0x8A9136AA
    assert masked_crc(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) % (1 << 32)


@pytest.fixture
def shard(tmp_path):
    def write(*payloads):
        path = tmp_path / "shard"
        path.write_bytes(b"".join(map(frame, payloads)))
        return str(path)

    return write


@given(payloads=st.lists(st.binary(max_size=50), max_size=8))
def test_what_is_framed_is_read_back_and_the_index_leads_to_it(payloads, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shard")
    (folder / "shard").write_bytes(b"".join(map(frame, payloads)))
    framed = list(read_framed(str(folder / "shard")))
    assert [payload for _, payload in framed] == list(read_records(str(folder / "shard"))) == payloads
    (folder / "index").write_text("".join(index_line(at, len(p) + FRAMING_BYTES) for at, p in framed))
    whole = (folder / "shard").read_bytes()
    index = read_index(str(folder / "index"))
    assert index.shape == (len(payloads), 2) and index.dtype == np.int64
    assert [whole[at : at + length] for at, length in index] == list(map(frame, payloads))


def test_an_empty_shard_has_no_records(shard):
    assert list(read_records(shard())) == []


def test_a_flipped_bit_anywhere_is_found_and_placed(shard):
    path = shard(b"first", b"second", b"third")
    whole = bytearray(open(path, "rb").read())
    second, third = len(frame(b"first")), len(frame(b"first")) + len(frame(b"second"))
    for position in range(second, third):
        changed = bytearray(whole)
        changed[position] ^= 0x10
        with open(path, "wb") as file:
            file.write(changed)
        records = read_records(path)
        assert next(records) == b"first"
        with pytest.raises(CorruptRecord, match=f"record 1 at byte {second}: .*stretto verify") as caught:
            next(records)
        assert (caught.value.shard, caught.value.record, caught.value.offset) == (path, 1, second)


def test_a_shard_cut_off_anywhere_inside_a_record_is_found(shard):
    path = shard(b"first", b"second")
    whole = open(path, "rb").read()
    for length in range(len(frame(b"first")) + 1, len(whole)):
        with open(path, "wb") as file:
            file.write(whole[:length])
        with pytest.raises(CorruptRecord, match="record 1"):
            list(read_records(path))


def test_a_length_that_claims_the_whole_world_reads_nothing(shard):
    path = shard()
    length = struct.pack("<Q", 1 << 62)
    with open(path, "wb") as file:
        file.write(length + struct.pack("<I", masked_crc(length)) + bytes(100))
    with pytest.raises(CorruptRecord, match="reaches past the end of the file"):
        list(read_records(path))


@pytest.mark.parametrize(
    "text",
    ["0\n", "0 16 5\n", "0 16\n16", "a b\n", "0 -16\n", "0 16\n\n", "1e3 5\n", "9999999999999999999999 1\n", "\0 \0\n"]
    + [" \n", "0  16\n", "0\t16\n", "0 16\r\n", "1_0 16\n", "+1 16\n", "0 16", "\n0 16"],
)
def test_what_is_no_index_is_refused_by_name(tmp_path, text):
    (tmp_path / "a.idx").write_text(text)
    with pytest.raises(InputError, match="a.idx: not an index"):
        read_index(str(tmp_path / "a.idx"))


def test_an_index_larger_than_it_can_be_is_not_read(tmp_path):
    (tmp_path / "a.idx").write_text("0 16\n" * 100)
    assert len(read_index(str(tmp_path / "a.idx"), index_limit(100))) == 100
    with pytest.raises(InputError, match="a.idx: more than 40 bytes"):
        read_index(str(tmp_path / "a.idx"), index_limit(1))


def test_the_index_of_an_empty_shard_is_empty(tmp_path):
    (tmp_path / "a.idx").write_text("")
    assert read_index(str(tmp_path / "a.idx")).shape == (0, 2)
