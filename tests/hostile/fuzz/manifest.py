"""Attacks the manifest: what is accepted must be written back the same and lead to features and settings that work."""

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from schemas.errors import InputError, UsageError
from schemas.feature import features_to_json
from schemas.hashing import fingerprint
from schemas.manifest import Manifest, Shard, manifest_from_json, manifest_to_json
from schemas.naming import shard_name
from schemas.representations import from_settings
from schemas.representations.events import Events
from schemas.settings import to_json
from tests.hostile.fuzz.json_damage import change
from trainer.spans import make_fields

LONGEST = 1 << 14
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1 << 31, 1 << 63, 10**99, 10**101, 0.5, -0.0, 1e308, "", "..", "../../etc/passwd", "/",
    "a\x00b", "\x1b[2J", "a" * 5000, "\ud800", "train", "events", [], {}, [None], [[]], {"": 0}, [0, 127], [127, 0],
    "fuzz-train.tfrecord-00000-of-00001", "fuzz-train.tfrecord-00000-of-00000", "0" * 64, "F" * 64, {"window": 10**9},
)  # fmt: skip


def attack(data: bytes) -> None:
    """The bytes are refused, or they are a manifest; and so with the right fingerprint in its place."""
    _attack(data)
    forged = _with_right_fingerprint(data)
    if forged is not None:
        _attack(forged)


def _attack(data: bytes) -> None:
    try:
        manifest = manifest_from_json(data, "fuzz")
    except InputError as error:
        assert str(error).startswith("fuzz")
        return
    assert manifest_from_json(manifest_to_json(manifest), "fuzz") == manifest
    assert sum(manifest.records(split) for split in manifest.splits) == sum(shard.records for shard in manifest.shards)
    make_fields(manifest.all_features)
    try:
        representation = from_settings(manifest.representation, manifest.settings)
    except UsageError:
        return
    assert from_settings(manifest.representation, to_json(representation)) == representation
    make_fields(representation.features())


def _with_right_fingerprint(data: bytes) -> bytes | None:
    """The same document as a forger would leave it, or None where it is too broken to have a fingerprint."""
    try:
        values = json.loads(data)
        parts = {
            "representation": values["representation"]["name"],
            "settings": values["representation"]["settings"],
            "features": values["features"],
            "shards": [shard["sha256"] for shard in values["shards"]],
        }
        return json.dumps({**values, "fingerprint": fingerprint(parts)}).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _valid() -> dict[str, Any]:
    events = Events(window=64)
    shards = [
        Shard(shard_name("fuzz", split, place, 2), split, 3 - place, 300, "a" * 64, "b" * 64)
        for split in ("train", "validation")
        for place in range(2)
    ]
    settings = to_json(events)
    manifest = Manifest(
        "fuzz", "1", "events", settings, events.features(), tuple(shards), {"train": 3}, {"duplicate": 1}, ("Bach",)
    )
    assert features_to_json(manifest.features)
    return dict(json.loads(manifest_to_json(manifest)))


def seeds() -> Iterator[bytes]:
    """A whole manifest, one without shards, and things that are none."""
    values = _valid()
    yield from (json.dumps(item).encode() for item in (values, {**values, "shards": []}, {}, [], None))


def mutated(data: bytes, draw: Random, plain: Callable[[bytes], bytes]) -> bytes:
    """The next input to try: bytes damaged, or the document with values changed, gone or there twice."""
    chance = draw.random()
    if chance < 0.3 and data:
        return plain(data)
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        values = _valid()
    if not isinstance(values, dict) or chance < 0.35:
        values = _valid()
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        change(values, draw, HOSTILE)
    return json.dumps(values).encode()
