"""The reader of shards."""

import os
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InputError, UsageError
from schemas.feature import KEY_FEATURES, Feature
from schemas.manifest import read_manifest
from schemas.record import CorruptRecord, from_example, read_framed, to_example
from tests.trainer.synthetic import scales, write_dataset
from trainer.data import Prefetch, Reader
from trainer.order import order
from trainer.spans import find, join, make_fields

NAMES = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=12)
KINDS = {"raw": ("uint8", "uint16", "int16", "int32", "int64", "float32"), "list": ("int32", "int64", "float32")}


@st.composite
def features_and_records(draw):
    """Any features, and a few records of them; of some the first axis varies."""
    features = {}
    for name in draw(st.lists(NAMES.filter(lambda name: name not in KEY_FEATURES), unique=True, max_size=4)):
        storage = draw(st.sampled_from(sorted(KINDS)))
        shape = tuple(draw(st.lists(st.integers(1, 40), max_size=2)))
        if shape and storage == "raw" and draw(st.booleans()):
            shape = (None, *shape[1:])
        dims = tuple(f"axis {number}" for number in range(len(shape)))
        features[name] = Feature(draw(st.sampled_from(KINDS[storage])), dims, shape, storage=storage)
    everything = {**features, **KEY_FEATURES}
    records = [
        {name: draw(value_of(feature)) for name, feature in everything.items()} for _ in range(draw(st.integers(1, 4)))
    ]
    return features, records


def value_of(feature):
    """Any value; the bits of arrays come from a seed, because drawing each number would take most of the time."""
    if feature.dtype == "bytes":
        return st.binary(max_size=200)
    if feature.shape == () and feature.dtype != "float32":
        limits = np.iinfo(feature.dtype)
        return st.integers(int(limits.min), int(limits.max)).map(np.dtype(feature.dtype).type)
    return st.integers(0, 2**32).map(lambda seed: any_bits(seed, feature))


def any_bits(seed, feature):
    draw, kind = np.random.default_rng(seed), np.dtype(feature.dtype)
    shape = [int(draw.integers(30)) if length is None else length for length in feature.shape]
    values = np.frombuffer(draw.bytes(kind.itemsize * int(np.prod(shape))), kind).reshape(shape)
    return np.nan_to_num(values) if kind.kind == "f" else values


@given(features_and_records())
def test_what_is_found_without_parsing_equals_what_the_parser_reads(drawn):
    features, records = drawn
    everything = {**KEY_FEATURES, **features}
    payloads = [to_example(record, everything) for record in records]
    fields = make_fields(everything)
    lists = any(item.storage == "list" and item.dtype != "float32" and item.shape for item in features.values())
    assert bool(fields) != lists, "only lists of several integers need the parser"
    data = join(payloads)
    fits, spans = find(data, fields)
    if fields:
        assert fits.all()
    for field in fields:
        values = field.values(data, spans[field.name])
        for row, payload in enumerate(payloads):
            want = from_example(payload, everything)[field.name]
            assert np.array_equal(values[row], want)
            assert isinstance(want, bytes) or values[row].dtype == want.dtype


@given(features_and_records(), st.data())
def test_a_payload_with_a_changed_byte_is_never_read_differently_than_the_parser_reads_it(drawn, data):
    features, records = drawn
    everything = {**KEY_FEATURES, **features}
    fields = make_fields(everything)
    if not fields:
        return
    payload = bytearray(to_example(records[0], everything))
    place = data.draw(st.integers(0, len(payload) - 1))
    payload[place] ^= data.draw(st.integers(1, 255))
    joined = join([bytes(payload)])
    fits, spans = find(joined, fields)
    if fits[0]:
        want = from_example(bytes(payload), everything)  # what raises here must not fit
        for field in fields:
            assert (
                np.asarray(field.values(joined, spans[field.name])[0]).tobytes()
                == np.asarray(want[field.name]).tobytes()
            )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("scales"))
    scales(path)
    return path


def reader(folder, split="train", **options):
    return Reader(folder, read_manifest(folder), split, **options)


def test_batches_hold_the_records_that_the_order_names(folder):
    source = reader(folder)
    batches = source.shuffled(seed=3, position=5, batch=6)
    got = [next(batches) for _ in range(20)]
    tokens = np.concatenate([batch["tokens"] for batch in got])
    want = [source.record(int(number))["tokens"] for number in order(3, 5, 120, len(source))]
    assert np.array_equal(tokens, want)
    assert all(batch["example_weight"].tolist() == [1] * 6 for batch in got)


def test_every_record_is_scored_once_in_order_and_the_remainder_is_masked(folder):
    source = reader(folder, "validation")
    batches = list(source.in_order(3))
    weights = np.concatenate([batch["example_weight"] for batch in batches])
    assert weights.tolist() == [1] * 7 + [0] * 2
    tokens = np.concatenate([batch["tokens"] for batch in batches])[weights > 0]
    assert np.array_equal(tokens, [source.record(number)["tokens"] for number in range(7)])


def test_scoring_can_stop_after_some_examples(folder):
    weights = np.concatenate([batch["example_weight"] for batch in reader(folder, "validation").in_order(2, limit=3)])
    assert weights.tolist() == [1, 1, 1, 0]


def test_keys_are_read_where_they_are_asked_for(folder):
    batch = next(reader(folder, "validation", names=("key", "tokens")).in_order(3))
    assert sorted(batch) == ["example_weight", "key", "tokens"]
    assert batch["key"] == [reader(folder, "validation").record(number)["key"] for number in range(3)]


def test_lists_of_integers_are_read_through_the_parser(tmp_path):
    features = {"pitches": Feature("int32", ("note",), (5,)), "step": Feature("int64")}
    records = [
        {"pitches": np.arange(5, dtype=np.int32) * n, "step": np.int64(-n), "key": b"k%d" % n, "group": b""}
        for n in range(9)
    ]
    manifest = write_dataset(str(tmp_path), features, {"train": records})
    source = Reader(str(tmp_path), manifest, "train")
    batch = next(source.in_order(9))
    assert {tuple(row) for row in batch["pitches"].tolist()} == {
        tuple(record["pitches"].tolist()) for record in records
    }
    assert batch["step"].dtype == np.int64 and sorted(batch["step"].tolist()) == list(range(-8, 1))


def shard_of(folder, split):
    return os.path.join(folder, read_manifest(folder).shards_of(split)[0].name)


@pytest.mark.parametrize("where", ["length", "checksum of the length", "payload", "checksum of the payload"])
def test_a_flipped_bit_is_refused_with_shard_record_and_offset(tmp_path, where):
    folder = str(tmp_path)
    scales(folder)
    shard = shard_of(folder, "train")
    offset, payload = list(read_framed(shard))[2]
    places = {"length": 1, "checksum of the length": 9, "payload": 40, "checksum of the payload": 12 + len(payload) + 1}
    data = bytearray(open(shard, "rb").read())
    data[offset + places[where]] ^= 4
    open(shard, "wb").write(data)
    with pytest.raises(CorruptRecord) as caught:
        list(reader(folder).in_order(4))
    assert (caught.value.shard, caught.value.record, caught.value.offset) == (shard, 2, offset)
    assert f"{shard}: record 2 at byte {offset}" in str(caught.value)


def test_an_index_that_reaches_past_its_shard_is_refused(tmp_path):
    folder = str(tmp_path)
    scales(folder)
    shard = shard_of(folder, "train")
    os.truncate(shard, os.path.getsize(shard) - 1)
    with pytest.raises(CorruptRecord, match="its index says"):
        reader(folder)


def test_a_missing_shard_is_named(tmp_path):
    folder = str(tmp_path)
    scales(folder)
    os.remove(shard_of(folder, "train"))
    with pytest.raises(InputError, match=r"train\.tfrecord-00000-of-00002: this shard is missing"):
        reader(folder)


def test_an_index_of_another_length_is_refused(tmp_path):
    folder = str(tmp_path)
    scales(folder)
    manifest = read_manifest(folder)
    index = os.path.join(folder, "index", manifest.shards_of("train")[0].name + ".idx")
    text = open(index).read().splitlines()
    open(index, "w").write("\n".join(text[:-1]) + "\n")
    with pytest.raises(InputError, match="19 records, the manifest says 20"):
        reader(folder)


def test_a_split_without_records_is_refused_with_those_there_are(folder):
    with pytest.raises(UsageError, match="'test' holds no records; it has train, validation"):
        reader(folder, "test")


def test_pieces_of_any_length_come_as_a_list_where_they_are_asked_for(tmp_path):
    features = {"tokens": Feature("uint16", ("token",), (None,), storage="raw")}
    records = [{"tokens": np.arange(n, dtype=np.uint16), "key": b"k%d" % n, "group": b"g"} for n in (3, 0, 5)]
    manifest = write_dataset(str(tmp_path), features, {"train": records}, shards=1)
    source = Reader(str(tmp_path), manifest, "train", names=("tokens",))
    assert [tokens.tolist() for tokens in next(source.in_order(3))["tokens"]] == [[0, 1, 2], [], [0, 1, 2, 3, 4]]
    assert Reader(str(tmp_path), manifest, "train").names == ()


def test_an_error_in_the_thread_that_reads_ahead_is_raised_at_its_place():
    def items():
        yield 1
        raise InputError("the second item is broken")

    with Prefetch(items()) as ahead:
        assert next(ahead) == 1
        with pytest.raises(InputError, match="second item"):
            next(ahead)


def test_the_thread_that_reads_ahead_ends_with_its_block():
    with Prefetch(iter(range(10**9))) as ahead:
        assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
