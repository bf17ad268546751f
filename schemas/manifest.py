"""The manifest: what a dataset is, which shards it has and what they hold."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from schemas.documents import parse_json, read_document
from schemas.errors import InputError
from schemas.feature import KEY_FEATURES, Feature, RecordError, features_from_json, features_to_json
from schemas.hashing import canonical_json, fingerprint
from schemas.naming import SPLITS, parse_shard_name

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
COMPLETED = "COMPLETED"
MAX_MANIFEST_BYTES = 64 << 20
_DEEPEST = 16
_LARGEST_COUNT = 1 << 50
_SMALLEST_RECORD = 16
"""Bytes of a record without a payload."""


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
        shards: all, each once.
        items: how many items were written, by split.
        dropped: how many items or copies each reason dropped.
        crossing_groups: groups that the corpus itself lets cross its splits.
        crossing_copies: pairs of items of two groups, of which the corpus itself puts the first into one split and what
            is the same music in these records into another.
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
    crossing_copies: tuple[tuple[str, str], ...] = ()
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
    if manifest.crossing_copies:  # where there are none, older programs read the manifest too
        values["crossing_copies"] = [list(pair) for pair in manifest.crossing_copies]
    return json.dumps(json.loads(canonical_json(values)), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def manifest_from_json(text: str | bytes, where: str) -> Manifest:
    """The inverse of `manifest_to_json`: every field is looked at before it is believed.

    Raises:
        InputError: not a manifest, or one of another version; names file, key and value, and says what to do.
    """
    values = parse_json(text, where, MAX_MANIFEST_BYTES, _DEEPEST, unique_keys=True)
    version = values.get("schema_version") if isinstance(values, dict) else None
    if type(version) is int and version != SCHEMA_VERSION:
        raise InputError(
            f"{where}: schema version {version}, this program reads {SCHEMA_VERSION}. "
            "Prepare the dataset again, or install the version of Stretto that made it."
        )
    try:
        manifest, stated = _manifest(values)
    except (InvalidManifest, RecordError) as error:
        raise InputError(f"{where}: not a manifest: {error}. {_REMEDY}") from error
    if manifest.fingerprint != stated:
        raise InputError(f"{where}: its fingerprint does not match its content: {stated!r:.70} is stated. {_REMEDY}")
    return manifest


_REMEDY = "Run `stretto verify` on its folder, or its `stretto prepare` again."


class InvalidManifest(ValueError):
    """A value that no manifest of ours holds."""


def _manifest(values: Any) -> tuple[Manifest, str]:
    """The manifest that JSON values are, and the fingerprint they state."""
    _check_keys("the whole", values, _KEYS, _OPTIONAL_KEYS)
    corpus, representation = values["corpus"], values["representation"]
    _check_keys("corpus", corpus, ("name", "version"))
    _check_keys("representation", representation, ("name", "settings"))
    _check_features(values["features"])
    found = Manifest(
        corpus=_matching("corpus.name", corpus["name"], _NAME),
        corpus_version=_matching("corpus.version", corpus["version"], _LINE),
        representation=_matching("representation.name", representation["name"], _NAME),
        settings=_of_type("representation.settings", representation["settings"], dict),
        features=features_from_json(values["features"]),
        shards=_shards(values["shards"], corpus["name"]),
        items=_counts("items", values["items"], re.compile("|".join(SPLITS))),
        dropped=_counts("dropped", values["dropped"], _NAME),
        crossing_groups=tuple(_list("crossing_groups", values["crossing_groups"], str)),
        crossing_copies=_pairs("crossing_copies", values.get("crossing_copies", [])),
        schema_version=_of_type("schema_version", values["schema_version"], int),
    )
    return found, _matching("fingerprint", values["fingerprint"], _SHA256)


_KEYS = (
    "schema_version", "corpus", "representation", "features", "shards", "items", "dropped", "crossing_groups",
    "fingerprint",
)  # fmt: skip
_OPTIONAL_KEYS = frozenset({"crossing_copies"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_LINE = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _check_keys(where: str, values: Any, keys: Iterable[str], optional: frozenset[str] = frozenset()) -> None:
    if set(_of_type(where, values, dict)) - optional != set(keys):
        raise InvalidManifest(f"{where} holds the keys {sorted(values)!s:.200}, expected {sorted(keys)}")


def _check_features(values: Any) -> None:
    for name in _of_type("features", values, dict):
        if name in KEY_FEATURES or not _NAME.fullmatch(name):
            raise InvalidManifest(f"features names {name!r:.120}: not the name of a feature")


def _of_type(where: str, value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise InvalidManifest(f"{where} is {value!r:.120}, expected {kind.__name__}")
    return value


def _matching(where: str, value: Any, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InvalidManifest(f"{where} is {value!r:.120}, expected text like {pattern.pattern}")
    return value


def _count(where: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST_COUNT:
        raise InvalidManifest(f"{where} is {value!r:.120}, expected a whole number of 0 to {_LARGEST_COUNT}")
    return value


def _counts(where: str, values: Any, names: re.Pattern[str]) -> dict[str, int]:
    table = _of_type(where, values, dict)
    return {
        _matching(f"a key of {where}", name, names): _count(f"{where}.{name}", value) for name, value in table.items()
    }


def _list(where: str, values: Any, kind: type) -> list[Any]:
    return [_of_type(f"{where}[{place}]", value, kind) for place, value in enumerate(_of_type(where, values, list))]


def _pairs(where: str, values: Any) -> tuple[tuple[str, str], ...]:
    pairs = [_list(f"{where}[{place}]", value, str) for place, value in enumerate(_of_type(where, values, list))]
    if any(len(pair) != 2 for pair in pairs):
        raise InvalidManifest(f"{where} is {values!r:.120}, expected pairs of items")
    return tuple((name, other) for name, other in pairs)


def _shards(values: Any, corpus: str) -> tuple[Shard, ...]:
    shards = [_shard(f"shards[{place}]", value, corpus) for place, value in enumerate(_list("shards", values, dict))]
    twice = [name for name, count in Counter(shard.name for shard in shards).items() if count > 1]
    if twice:
        raise InvalidManifest(f"shards names {twice[0]!r} more than once")
    return tuple(shards)


def _shard(where: str, values: Any, corpus: str) -> Shard:
    _check_keys(where, values, [item.name for item in fields(Shard)])
    name = _matching(f"{where}.name", values["name"], _LINE)
    try:
        owner, split, index, total = parse_shard_name(name)
    except ValueError as error:
        raise InvalidManifest(f"{where}.name: {error}") from error
    if (owner, split) != (corpus, values["split"]) or not index < total:
        raise InvalidManifest(f"{where}.name is {name!r}, in corpus {corpus!r} and split {values['split']!r:.40}")
    records, size = _count(f"{where}.records", values["records"]), _count(f"{where}.bytes", values["bytes"])
    if not records * _SMALLEST_RECORD <= size or (size and not records):
        raise InvalidManifest(f"{where}: {records} records cannot have {size} bytes")
    sums = (_matching(f"{where}.{key}", values[key], _SHA256) for key in ("sha256", "index_sha256"))
    return Shard(name, split, records, size, *sums)


def read_manifest(folder: str, sealed: bool = True) -> Manifest:
    """The manifest of a finished dataset.

    Args:
        folder: the dataset.
        sealed: refuse a manifest that is not the one COMPLETED lists; who compares the two anyway says False.

    Raises:
        InputError: the folder is no finished dataset, or its manifest is not what was written; with what to do.
    """
    path = os.path.join(folder, MANIFEST)
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder. `stretto prepare … --output {folder}` makes a dataset there.")
    if not os.path.exists(os.path.join(folder, COMPLETED)) or not os.path.exists(path):
        raise InputError(
            f"{folder}: not a finished dataset ({COMPLETED} or {MANIFEST} is missing). Run its `stretto prepare` again."
        )
    data = read_document(path, MAX_MANIFEST_BYTES)
    if sealed:
        _check_sealed(folder, data)
    return manifest_from_json(data, path)


def sealed_files(seal: str) -> tuple[dict[str, str], list[int]]:
    """Path -> sha256 of every file, by the text of COMPLETED; and the numbers of lines that do not say such a pair."""
    listed, wrong = {}, []
    for number, line in enumerate(seal.removesuffix("\n").split("\n") if seal else [], 1):
        sha256, _, path = line.partition("  ")
        if len(sha256) == 64 and path:
            listed[path] = sha256
        else:
            wrong.append(number)
    return listed, wrong


def _check_sealed(folder: str, data: bytes) -> None:
    """Raises InputError unless COMPLETED lists the sha256 of these bytes as that of manifest.json."""
    seal = read_document(os.path.join(folder, COMPLETED), MAX_MANIFEST_BYTES).decode(errors="replace")
    sha256 = hashlib.sha256(data).hexdigest()
    if sealed_files(seal)[0].get(MANIFEST) != sha256:
        raise InputError(
            f"{os.path.join(folder, MANIFEST)}: its sha256 is {sha256}, which is not what {COMPLETED} lists: "
            f"one of the two was changed. {_REMEDY}"
        )
