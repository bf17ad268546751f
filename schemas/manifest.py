"""The manifest: what a dataset is, which shards it has and what they hold."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.errors import InputError
from schemas.feature import KEY_FEATURES, Feature, RecordError, features_from_json, features_to_json
from schemas.hashing import canonical_json, fingerprint
from schemas.naming import SPLITS

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
COMPLETED = "COMPLETED"
MAX_MANIFEST_BYTES = 64 << 20


@dataclass(frozen=True)
class Shard:
    """One shard: file name, split, how many records and bytes, sha256 of its bytes and of its index."""

    name: str
    split: str
    records: int
    bytes: int
    sha256: str
    index_sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a dataset is.

    Attributes:
        corpus: name of the corpus.
        corpus_version: its version.
        representation: name of the representation.
        settings: the representation's fields.
        features: of the representation, without key and group.
        shards: all, sorted by name.
        items: how many items were written, by split.
        dropped: how many items or copies each reason dropped.
        crossing_groups: groups that the corpus itself lets cross its splits.
        schema_version: version of these formats.
    """

    corpus: str
    corpus_version: str
    representation: str
    settings: Mapping[str, Any]
    features: Mapping[str, Feature]
    shards: tuple[Shard, ...]
    items: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    crossing_groups: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def all_features(self) -> dict[str, Feature]:
        """Every feature of a record, key and group included."""
        return {**KEY_FEATURES, **self.features}

    @property
    def fingerprint(self) -> str:
        """sha256 over representation, features and shards: the same data has the same one."""
        return fingerprint(
            {
                "representation": self.representation,
                "settings": dict(self.settings),
                "features": features_to_json(self.features),
                "shards": [shard.sha256 for shard in self.shards],
            }
        )

    def shards_of(self, split: str) -> tuple[Shard, ...]:
        """The shards of one split, in order."""
        return tuple(shard for shard in self.shards if shard.split == split)

    def records(self, split: str) -> int:
        """How many records a split has."""
        return sum(shard.records for shard in self.shards_of(split))

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that hold records."""
        return tuple(split for split in SPLITS if self.records(split))


def manifest_to_json(manifest: Manifest) -> str:
    """The text of manifest.json: equal manifests give equal text."""
    values = {
        "schema_version": manifest.schema_version,
        "corpus": {"name": manifest.corpus, "version": manifest.corpus_version},
        "representation": {"name": manifest.representation, "settings": dict(manifest.settings)},
        "features": features_to_json(manifest.features),
        "shards": [vars(shard) for shard in manifest.shards],
        "items": dict(manifest.items),
        "dropped": dict(manifest.dropped),
        "crossing_groups": list(manifest.crossing_groups),
        "fingerprint": manifest.fingerprint,
    }
    return json.dumps(json.loads(canonical_json(values)), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def manifest_from_json(text: str, where: str) -> Manifest:
    """The inverse of `manifest_to_json`. Raises InputError, naming the file, for anything that is no manifest."""
    try:
        values = json.loads(text)
        manifest = Manifest(
            corpus=values["corpus"]["name"],
            corpus_version=values["corpus"]["version"],
            representation=values["representation"]["name"],
            settings=values["representation"]["settings"],
            features=features_from_json(values["features"]),
            shards=tuple(_shard(item) for item in values["shards"]),
            items=values["items"],
            dropped=values["dropped"],
            crossing_groups=tuple(values["crossing_groups"]),
            schema_version=values["schema_version"],
        )
        stated = values["fingerprint"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, RecordError) as error:
        raise InputError(f"{where}: not a manifest: {error!r}") from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise InputError(f"{where}: schema version {manifest.schema_version}, this program reads {SCHEMA_VERSION}")
    if manifest.fingerprint != stated:
        raise InputError(f"{where}: its fingerprint does not match its content; run `stretto verify`")
    return manifest


def _shard(values: Mapping[str, Any]) -> Shard:
    shard = Shard(**values)
    kinds = {"name": str, "split": str, "records": int, "bytes": int, "sha256": str, "index_sha256": str}
    for name, kind in kinds.items():
        if not isinstance(getattr(shard, name), kind):
            raise ValueError(f"shard {name} is {getattr(shard, name)!r}")
    if shard.split not in SPLITS or shard.name != os.path.basename(shard.name) or min(shard.records, shard.bytes) < 0:
        raise ValueError(f"shard {shard.name!r} of split {shard.split!r}: {shard.records} records, {shard.bytes} bytes")
    return shard


def read_manifest(folder: str) -> Manifest:
    """The manifest of a finished dataset. Raises InputError where the folder is none, with what to do."""
    path = os.path.join(folder, MANIFEST)
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder. `stretto prepare … --output {folder}` makes a dataset there.")
    if not os.path.exists(os.path.join(folder, COMPLETED)) or not os.path.exists(path):
        raise InputError(
            f"{folder}: not a finished dataset ({COMPLETED} or {MANIFEST} is missing). Run its `stretto prepare` again."
        )
    if os.path.getsize(path) > MAX_MANIFEST_BYTES:
        raise InputError(f"{path}: {os.path.getsize(path)} bytes, a manifest has at most {MAX_MANIFEST_BYTES}")
    with open(path, encoding="utf-8", errors="strict") as file:
        try:
            text = file.read()
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8: {error}") from error
    return manifest_from_json(text, path)
