"""The manifest: one text for one dataset; refused when it is damaged, unfinished or of another version."""

import dataclasses
import hashlib
import json
import os

import pytest

from schemas.errors import InputError
from schemas.feature import Feature
from schemas.manifest import (
    COMPLETED,
    MANIFEST,
    Manifest,
    Shard,
    manifest_from_json,
    manifest_to_json,
    read_manifest,
    sealed_files,
)

SHARDS = (
    Shard("midi-test.tfrecord-00000-of-00001", "test", 1, 30, "a" * 64, "b" * 64),
    Shard("midi-train.tfrecord-00000-of-00002", "train", 5, 150, "c" * 64, "d" * 64),
    Shard("midi-train.tfrecord-00001-of-00002", "train", 4, 120, "e" * 64, "f" * 64),
    Shard("midi-validation.tfrecord-00000-of-00001", "validation", 0, 0, "0" * 64, "1" * 64),
)
DATASET = Manifest(
    corpus="midi",
    corpus_version="1",
    representation="events",
    settings={"window": 2048, "hop": 0, "pitch_range": [0, 127]},
    features={"tokens": Feature("uint16", ("token",), (2048,), "id", "Event ids.", "raw", 0, 389)},
    shards=SHARDS,
    items={"train": 3, "test": 1},
    dropped={"duplicate": 1},
    crossing_groups=("Bach / Präludium",),
    crossing_copies=(("midi/a.mid", "midi/b.mid"),),
)


def test_a_manifest_comes_back_as_it_was():
    assert manifest_from_json(manifest_to_json(DATASET), "here") == DATASET


def test_without_known_copies_the_text_is_that_of_older_programs():
    plain = dataclasses.replace(DATASET, crossing_copies=())
    assert "crossing_copies" not in manifest_to_json(plain)
    assert manifest_from_json(manifest_to_json(plain), "here") == plain


def test_equal_datasets_have_equal_text_whatever_the_order_of_their_keys():
    other = dataclasses.replace(DATASET, settings=dict(reversed(DATASET.settings.items())))
    assert manifest_to_json(other) == manifest_to_json(DATASET)


def test_records_are_counted_by_split():
    assert [DATASET.records(split) for split in ("train", "validation", "test")] == [9, 0, 1]
    assert [shard.name[-14:] for shard in DATASET.shards_of("train")] == ["00000-of-00002", "00001-of-00002"]
    assert DATASET.splits == ("train", "test")


def test_every_record_has_a_key_and_a_group():
    assert list(DATASET.all_features) == ["key", "group", "tokens"]


@pytest.mark.parametrize(
    "change",
    [
        {"representation": "raster"},
        {"settings": {"window": 1024}},
        {"features": {}},
        {"shards": SHARDS[:-1]},
        {"shards": (dataclasses.replace(SHARDS[0], sha256="9" * 64), *SHARDS[1:])},
    ],
)
def test_another_content_has_another_fingerprint(change):
    assert dataclasses.replace(DATASET, **change).fingerprint != DATASET.fingerprint


@pytest.mark.parametrize(
    "change",
    [{"corpus": "other"}, {"items": {}}, {"dropped": {}}, {"crossing_groups": ()}, {"crossing_copies": ()}],
)
def test_what_is_only_told_about_the_data_does_not_change_its_fingerprint(change):
    assert dataclasses.replace(DATASET, **change).fingerprint == DATASET.fingerprint


def test_a_changed_checksum_is_noticed():
    text = manifest_to_json(DATASET).replace("a" * 64, "8" * 64)
    with pytest.raises(InputError, match="here: its fingerprint does not match"):
        manifest_from_json(text, "here")


def test_another_schema_version_is_named():
    text = manifest_to_json(dataclasses.replace(DATASET, schema_version=2))
    with pytest.raises(InputError, match="here: schema version 2, this program reads 1"):
        manifest_from_json(text, "here")


def changed(**values):
    return json.dumps({**json.loads(manifest_to_json(DATASET)), **values})


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"corpus": NaN}', b"\xff", '{"items": 1, "items": 1}'])
def test_what_is_no_json_is_refused_by_name(text):
    with pytest.raises(InputError, match="^here"):
        manifest_from_json(text, "here")


@pytest.mark.parametrize("text", ["null", "[]", "{}", changed(surplus=1), changed(corpus="midi")])
def test_what_has_not_the_keys_of_a_manifest_is_refused_by_name(text):
    with pytest.raises(InputError, match="here: not a manifest: .* Run `stretto verify`"):
        manifest_from_json(text, "here")


FIELDS = [
    ("corpus", {"name": "../midi", "version": "1"}, r"corpus.name is '../midi'"),
    ("corpus", {"name": "midi", "version": "1\x1b[2J"}, "corpus.version is"),
    ("corpus", {"name": "midi"}, "corpus holds the keys"),
    ("representation", {"name": ["events"], "settings": {}}, "representation.name is"),
    ("representation", {"name": "events", "settings": 3}, "representation.settings is 3"),
    ("features", [], r"features is \[\]"),
    ("features", {"key": {"dtype": "int64", "dims": [], "shape": []}}, "features names 'key'"),
    ("features", {"a b": {"dtype": "int64", "dims": [], "shape": []}}, "features names 'a b'"),
    ("features", {"x": {"dtype": "int64", "dims": ["n"], "shape": [-1]}}, "'x': shape is '.-1.'"),
    ("features", {"x": {"dtype": "int64", "dims": ["n"], "shape": [2**40]}}, "'x': shape is"),
    ("features", {"x": {"dtype": "int64", "dims": ["n"], "shape": [True]}}, "'x': shape is"),
    ("features", {"x": {"dtype": "int64", "dims": ["a", "b"], "shape": [2**20, 2**20]}}, "has more than"),
    ("features", {"x": {"dtype": "int64", "dims": [], "shape": [], "minimum": "0"}}, "'x': minimum is '0'"),
    ("shards", 7, "shards is 7"),
    ("shards", [{}], r"shards\[0\] holds the keys"),
    ("shards", [7], r"shards\[0\] is 7"),
    ("items", {"dev": 1}, "a key of items is 'dev'"),
    ("items", {"train": -1}, "items.train is -1"),
    ("items", {"train": True}, "items.train is True"),
    ("dropped", {"bad\nreason": 1}, "a key of dropped is"),
    ("dropped", {"duplicate": 2**60}, "dropped.duplicate is"),
    ("crossing_groups", "Bach", "crossing_groups is 'Bach'"),
    ("crossing_groups", ["Bach", 1], r"crossing_groups\[1\] is 1"),
    ("crossing_copies", 7, "crossing_copies is 7"),
    ("crossing_copies", [7], r"crossing_copies\[0\] is 7"),
    ("crossing_copies", [["a"]], r"crossing_copies is \[\['a'\]\], expected pairs"),
    ("crossing_copies", [["a", None]], r"crossing_copies\[0\]\[1\] is None"),
    ("fingerprint", 7, "fingerprint is 7"),
    ("schema_version", True, "schema_version is True"),
]


@pytest.mark.parametrize(("key", "value", "message"), FIELDS)
def test_a_field_that_no_manifest_of_ours_holds_is_refused_with_its_key_and_value(key, value, message):
    with pytest.raises(InputError, match=f"here: not a manifest: .*{message}.* Run `stretto verify`"):
        manifest_from_json(changed(**{key: value}), "here")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"name": "../a"}, "'../a' is no shard name"),
        ({"name": "../../midi-test.tfrecord-00000-of-00001"}, "in corpus 'midi'"),
        ({"name": "midi-test.tfrecord-00000-of-00001\x00"}, "name is"),
        ({"name": "midi-test.tfrecord-00001-of-00001"}, "name is"),
        ({"name": "other-test.tfrecord-00000-of-00001"}, "in corpus 'midi'"),
        ({"split": "dev"}, "in corpus 'midi' and split 'dev'"),
        ({"split": "train"}, "and split 'train'"),
        ({"records": -1}, "records is -1"),
        ({"records": "many"}, "records is 'many'"),
        ({"records": 2}, "2 records cannot have 30 bytes"),
        ({"records": 0}, "0 records cannot have 30 bytes"),
        ({"records": 10**99}, "records is 1000"),
        ({"bytes": 1.5}, "bytes is 1.5"),
        ({"sha256": None}, "sha256 is None"),
        ({"sha256": "A" * 64}, "sha256 is 'AAA"),
        ({"index_sha256": "a" * 63}, "index_sha256 is"),
    ],
)
def test_a_shard_that_cannot_be_is_refused_with_its_key_and_value(damage, message):
    with pytest.raises(InputError, match=rf"here: not a manifest: shards\[0\].*{message}"):
        manifest_from_json(changed(shards=[{**vars(SHARDS[0]), **damage}]), "here")


def test_a_shard_that_is_named_twice_is_refused():
    with pytest.raises(InputError, match=r"shards names 'midi-test\.tfrecord-00000-of-00001' more than once"):
        manifest_from_json(changed(shards=[vars(SHARDS[0])] * 2), "here")


@pytest.fixture
def folder(tmp_path):
    text = manifest_to_json(DATASET).encode()
    (tmp_path / MANIFEST).write_bytes(text)
    (tmp_path / COMPLETED).write_text(f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n")
    return tmp_path


def test_a_finished_folder_is_read(folder):
    assert read_manifest(str(folder)) == DATASET


@pytest.mark.parametrize("missing", [COMPLETED, MANIFEST])
def test_an_unfinished_folder_is_no_dataset(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(InputError, match="not a finished dataset"):
        read_manifest(str(folder))


def test_a_missing_folder_says_how_to_make_a_dataset(tmp_path):
    with pytest.raises(InputError, match="no such folder. `stretto prepare"):
        read_manifest(str(tmp_path / "gone"))


def test_a_manifest_that_is_not_utf_8_is_named(folder):
    (folder / MANIFEST).write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="manifest.json.*not UTF-8"):
        read_manifest(str(folder), sealed=False)


def test_a_manifest_that_is_not_the_one_that_was_sealed_is_refused(folder):
    told = manifest_to_json(dataclasses.replace(DATASET, items={"train": 4, "test": 1}))
    (folder / MANIFEST).write_text(told, encoding="utf-8")
    with pytest.raises(
        InputError, match=r"manifest\.json: its sha256 is [0-9a-f]{64}, which is not what COMPLETED lists"
    ):
        read_manifest(str(folder))
    assert read_manifest(str(folder), sealed=False).items == {"train": 4, "test": 1}


def test_a_manifest_that_is_a_pipe_is_refused_and_not_waited_for(folder):
    (folder / MANIFEST).unlink()
    os.mkfifo(folder / MANIFEST)
    with pytest.raises(InputError, match="manifest.json: is not a regular file"):
        read_manifest(str(folder))


def test_the_seal_names_files_and_its_damaged_lines_are_numbered():
    one, two = "0" * 64, "f" * 64
    assert sealed_files(f"{one}  a b.json\n{two}  index/x\n") == ({"a b.json": one, "index/x": two}, [])
    # Only a line feed ends a line: a file name may hold what else ends one for Python.
    assert sealed_files(f"{one}  a\x0cb\n\n{two}  \n{one} c\n{two}  d") == ({"a\x0cb": one, "d": two}, [2, 3, 4])
    assert sealed_files("") == ({}, [])
