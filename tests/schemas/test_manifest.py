"""The manifest: one text for one dataset; refused when it is damaged, unfinished or of another version."""

import dataclasses
import json

import pytest

from schemas.errors import InputError
from schemas.feature import Feature
from schemas.manifest import COMPLETED, MANIFEST, Manifest, Shard, manifest_from_json, manifest_to_json, read_manifest

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
)


def test_a_manifest_comes_back_as_it_was():
    assert manifest_from_json(manifest_to_json(DATASET), "here") == DATASET


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


@pytest.mark.parametrize("change", [{"corpus": "other"}, {"items": {}}, {"dropped": {}}, {"crossing_groups": ()}])
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


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        changed(shards=[{}]),
        changed(shards=7),
        changed(features=[]),
        changed(corpus="midi"),
    ]
    + [
        changed(shards=[{**vars(SHARDS[0]), **damage}])
        for damage in ({"name": "../a"}, {"split": "dev"}, {"records": -1})
    ]
    + [
        changed(shards=[{**vars(SHARDS[0]), **damage}])
        for damage in ({"records": "many"}, {"bytes": 1.5}, {"sha256": None})
    ],
)
def test_what_is_no_manifest_is_refused_by_name(text):
    with pytest.raises(InputError, match="here: not a manifest"):
        manifest_from_json(text, "here")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / MANIFEST).write_text(manifest_to_json(DATASET), encoding="utf-8")
    (tmp_path / COMPLETED).write_text("")
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
    with pytest.raises(InputError, match="manifest.json: not UTF-8"):
        read_manifest(str(folder))
