"""`stretto verify`: is a dataset what it says? Answered from decoded shards; the ledger is checked, never believed.

Looked at: the sha256 of every file in COMPLETED, files too many or too few, every shard byte by byte (`check_shard`),
keys and where they must lie, what crosses from one split into another (record, group, the same piece or a near copy of
it: `check_copies`), counts and statistics against manifest.json and stats.json, and the ledger against all of it.
Damage of any kind is a finding, never a crash; what may not be read is the machine's fault and no finding.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from beam_pipelines.check_copies import Excused, check_copies
from beam_pipelines.check_files import check_completed, check_is_dataset, is_shard, json_of, names_in, text_of
from beam_pipelines.check_shard import Contents, check_shard, key_at
from beam_pipelines.config import FREE
from beam_pipelines.findings import Findings, Report, refuse_forbidden
from beam_pipelines.statistics import add
from schemas.documents import parse_json
from schemas.errors import InputError, StrettoError
from schemas.feature import features_to_json
from schemas.hashing import canonical_json, stable_hash
from schemas.manifest import COMPLETED, MANIFEST, Manifest, read_manifest
from schemas.naming import SPLITS, index_name, parse_shard_name
from schemas.representation import Representation
from schemas.representations import from_settings


def verify(folder: str, against: str | None = None, strict: bool = False) -> Report:
    """Looks at a finished dataset; `report.exit_code` is 5 where anything is wrong.

    Args:
        folder: the dataset.
        against: another dataset: a change of schema, features, settings or split of an item is a finding.
        strict: groups and copies that the corpus itself lets cross its splits are findings too.

    Raises:
        UsageError: the folder is a training run, or nothing in it is of a dataset.
        InputError: the folder is not there or holds no finished dataset.
        MachineError: a file may not be read.
    """
    for path in (folder, against):
        if path is not None:
            check_is_dataset(path)
    findings = Findings()
    listed = check_completed(folder, findings)
    manifest = _manifest(folder, findings)
    if manifest is None:
        return _report(folder, findings, [], {"shards": 0})
    representation = _representation(manifest, findings)
    found = [check_shard(folder, shard, manifest, representation, findings) for shard in manifest.shards]
    contents = [shard for shard in found if shard is not None]
    known = _check_crossing(contents, manifest, strict, findings)
    _check_duplicate_keys(folder, contents, manifest, findings)
    excused = Excused(known, frozenset(() if strict else manifest.crossing_copies))
    check_copies(folder, contents, manifest, representation, findings, excused)
    _check_shards_of_items(folder, contents, manifest, findings)
    _check_counts(folder, contents, manifest, findings)
    _check_ledger(folder, contents, manifest, findings)
    _check_documents(folder, manifest, findings)
    _check_listed_shards(listed, manifest, findings)
    if against is not None:
        _check_against(folder, against, manifest, findings)
    return _report(folder, findings, known, _checked(contents))


def _report(folder: str, findings: Findings, known: Iterable[str], checked: dict[str, int]) -> Report:
    counts, following = (dict(sorted((+kinds).items())) for kinds in (findings.counts, findings.following))
    known_copies = tuple(findings.known)
    return Report(folder, findings.causes_first(), counts, following, tuple(known), checked, known_copies)


def _checked(contents: list[Contents]) -> dict[str, int]:
    return {
        "shards": len(contents),
        "records": sum(len(shard.key_hashes) for shard in contents),
        "items": sum(len(shard.items) for shard in contents),
        "originals": sum(shard.statistics["pieces"] for shard in contents),
        "bytes": sum(shard.shard.bytes for shard in contents),
    }


def _manifest(folder: str, findings: Findings) -> Manifest | None:
    try:
        return read_manifest(folder, sealed=False)  # compared with COMPLETED already
    except InputError as error:
        refuse_forbidden(os.path.join(folder, MANIFEST), error.__cause__)
        findings.add("manifest", str(error), MANIFEST)
        return None


def _representation(manifest: Manifest, findings: Findings) -> Representation | None:
    try:
        return from_settings(manifest.representation, dict(manifest.settings))
    except (StrettoError, TypeError, ValueError) as error:
        findings.add("representation", f"{manifest.representation}: {error}", MANIFEST)
        return None


def _check_crossing(contents: list[Contents], manifest: Manifest, strict: bool, findings: Findings) -> list[str]:
    """Groups in several splits: returns those that the manifest names, the others (all, if strict) are findings."""
    splits: dict[str, set[str]] = defaultdict(set)
    for shard in contents:
        for item in shard.items.values():
            splits[item.group].add(shard.shard.split)
    known = []
    for group, found in sorted(splits.items()):
        if len(found) > 1 and group in manifest.crossing_groups and not strict:
            known.append(group)
        elif len(found) > 1:
            findings.add("leak", f"group {group!r} is in {_listed(found)}")
    return known


def _shards_of(manifest: Manifest, split: str) -> list[str]:
    return [shard.name for shard in manifest.shards_of(split)]


def _listed(splits: Iterable[str]) -> str:
    return " and ".join(split for split in SPLITS if split in set(splits))


def _check_duplicate_keys(folder: str, contents: list[Contents], manifest: Manifest, findings: Findings) -> None:
    """One key twice: in one shard the order shows it, here it is looked for across shards and splits."""
    if not contents:
        return
    hashes = np.concatenate([np.array(shard.key_hashes, np.uint64) for shard in contents])
    owner = np.repeat(np.arange(len(contents)), [len(shard.key_hashes) for shard in contents])
    number = np.concatenate([np.arange(len(shard.key_hashes)) for shard in contents])
    order = np.lexsort((number, owner, hashes))
    hashes, owner, number = hashes[order], owner[order], number[order]
    for place in np.flatnonzero((hashes[1:] == hashes[:-1]) & (hashes[1:] != 0) & (owner[1:] != owner[:-1])):
        first, second = contents[owner[place]], contents[owner[place + 1]]
        record = int(number[place + 1])
        leak = (
            ""
            if first.shard.split == second.shard.split
            else f": a leak from {first.shard.split} to {second.shard.split}"
        )
        findings.add(
            "duplicate",
            f"the same record as {first.shard.name}, record {number[place]}{leak}",
            second.shard.name,
            record=record,
            offset=second.offsets[record],
            key=key_at(folder, second, record, manifest),
        )


def _check_shards_of_items(folder: str, contents: list[Contents], manifest: Manifest, findings: Findings) -> None:
    """An item lies in one shard of one split, the one that dealing out the items of its split gives it."""
    homes: dict[str, list[Contents]] = defaultdict(list)
    for shard in contents:
        for name in shard.items:
            homes[name].append(shard)
    for name, shards in homes.items():
        if len(shards) > 1:
            places = ", ".join(shard.shard.name for shard in shards)
            splits = {shard.shard.split for shard in shards}
            findings.add("leak" if len(splits) > 1 else "placement", f"one item in several shards: {places}", key=name)
    failed = _failed_items(folder)
    for split in SPLITS:
        told_from = ["items.jsonl", *_shards_of(manifest, split)]
        _check_dealing([shard for shard in contents if shard.shard.split == split], failed[split], told_from, findings)


def _failed_items(folder: str) -> dict[str, set[str]]:
    """By split, items that were not written: one that failed while its shard was written still had its turn."""
    failed: dict[str, set[str]] = defaultdict(set)
    for _, line in _ledger(folder, Findings()):
        if line["status"] != "written":
            failed[line["split"]].add(line["name"])
    return failed


def _check_dealing(contents: list[Contents], failed: set[str], told_from: list[str], findings: Findings) -> None:
    actual = {name: _index_and_total(shard) for shard in contents for name in shard.items}
    misplaced = _misplaced(actual, set())
    if misplaced and _misplaced(actual, failed):
        message = "lies in another shard than the order of the items gives it"
        for name in misplaced:
            findings.add("placement", message, _home(contents, name), told_from, key=name)


def _index_and_total(shard: Contents) -> tuple[int, int]:
    try:
        return parse_shard_name(shard.shard.name)[2:]
    except ValueError:
        return -1, 1


def _misplaced(actual: Mapping[str, tuple[int, int]], failed: set[str]) -> list[str]:
    """Items that do not lie in the shard whose turn it is; a failed item may or may not have had a turn of its own."""
    turn, spare, misplaced = 0, 0, []
    for name in sorted({*actual, *failed}, key=lambda name: (stable_hash(name), name)):
        if name not in actual:
            spare += 1
            continue
        index, total = actual[name]
        passed = (index - turn) % max(total, 1)
        if passed > spare:
            misplaced.append(name)
            passed = 0
        turn, spare = turn + passed + 1, 0
    return sorted(misplaced)


def _home(contents: list[Contents], name: str) -> str:
    return next(shard.shard.name for shard in contents if name in shard.items)


def _check_counts(folder: str, contents: list[Contents], manifest: Manifest, findings: Findings) -> None:
    stats = json_of(folder, "stats.json", findings)
    for split in SPLITS:
        shards = [shard for shard in contents if shard.shard.split == split]
        items = len({name for shard in shards for name in shard.items})
        if items != manifest.items.get(split, 0):
            message = f"{split} holds {items} items, the manifest says {manifest.items.get(split, 0)}"
            findings.add("count", message, MANIFEST, [MANIFEST, *_shards_of(manifest, split)])
        _check_statistics(split, shards, stats, ["stats.json", *_shards_of(manifest, split)], findings)


def _check_statistics(split: str, shards: list[Contents], stats: Any, told_from: list[str], findings: Findings) -> None:
    total = add(shard.statistics for shard in shards)
    try:
        stated = stats["splits"][split]
        differing = [name for name, value in total.items() if stated[name] != value]
    except (KeyError, TypeError):
        findings.add("statistics", f"says nothing of {split}", "stats.json", ["stats.json"])
        return
    for name in differing:
        message = f"{name} of {split}: counted from the shards {_short(total[name])}, stated {_short(stated[name])}"
        findings.add("statistics", message, "stats.json", told_from)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _ledger(folder: str, findings: Findings) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and content of every line of the ledger that can be read; the others are findings."""
    for number, text in enumerate(text_of(folder, "items.jsonl", findings).splitlines(), 1):
        try:
            line = parse_json(text, "items.jsonl")
            kinds = (("name", str), ("group", str), ("split", str), ("status", str), ("records", int))
            if not all(isinstance(line[name], kind) for name, kind in kinds):
                raise ValueError("name, group, split, status and records are needed")
        except (InputError, ValueError, KeyError, TypeError) as error:
            findings.add("ledger", f"line {number} cannot be read: {error!r}", "items.jsonl")
            continue
        yield number, line


def _check_ledger(folder: str, contents: list[Contents], manifest: Manifest, findings: Findings) -> None:
    """Whether the ledger says what the shards hold."""
    held = {
        name: (shard.shard.split, item.group, item.records) for shard in contents for name, item in shard.items.items()
    }
    homes = {name: [shard.shard.name] for shard in contents for name in shard.items}
    listed, last = set(), ""
    for number, line in _ledger(folder, findings):
        name = line["name"]
        if name <= last:
            findings.add("ledger", f"line {number} is out of order or there twice", "items.jsonl", key=name)
        last = max(last, name)
        listed.add(name)
        stated = (line["split"], line["group"], line["records"]) if line["status"] == "written" else None
        if stated != held.get(name):
            message = f"line {number} says {_stated(stated)}, the shards hold {_stated(held.get(name))}"
            # Where a damaged shard held all of it, it is not known which of the split's that was.
            told_from = ["items.jsonl", *(homes.get(name) or _shards_of(manifest, line["split"]))]
            findings.add("ledger", message, "items.jsonl", told_from, key=name)
    for name in sorted(held.keys() - listed):
        message = "the shards hold this item, the ledger does not name it"
        findings.add("ledger", message, "items.jsonl", ["items.jsonl"], key=name)


def _stated(facts: tuple[str, str, int] | None) -> str:
    return f"{facts[2]} records in {facts[0]}, group {facts[1]!r}" if facts else "nothing of it"


def _check_documents(folder: str, manifest: Manifest, findings: Findings) -> None:
    """features.json says what the manifest says, and no shard lies there that the manifest does not name."""
    features = json_of(folder, "features.json", findings)
    stated = [json.loads(canonical_json(features_to_json(of))) for of in (manifest.features, manifest.all_features)]
    if features is not None and features not in stated:
        findings.add("features", "is not what the manifest says", "features.json")
    named = {shard.name for shard in manifest.shards} | {index_name(shard.name) for shard in manifest.shards}
    for name in sorted(names_in(folder)):
        if is_shard(name) and name not in named:
            findings.add("extra", "a shard or index that the manifest does not name", name, [MANIFEST])


def _check_listed_shards(listed: Mapping[str, str], manifest: Manifest, findings: Findings) -> None:
    """COMPLETED gives shards and indexes the sha256 that the manifest gives them, which they were compared with."""
    for shard in manifest.shards:
        for name, sha256 in ((shard.name, shard.sha256), (index_name(shard.name), shard.index_sha256)):
            if listed.get(name, sha256) != sha256:
                message = f"{COMPLETED} says {listed[name]}, the manifest {sha256}"
                findings.add("sha256", message, name, [MANIFEST, COMPLETED])


def _check_against(folder: str, against: str, manifest: Manifest, findings: Findings) -> None:
    """What changed between two datasets in schema, features, settings, and in the split of an item."""
    other = read_manifest(against)
    for name in ("schema_version", "corpus", "corpus_version", "representation"):
        _check_same(name, getattr(other, name), getattr(manifest, name), against, findings)
    _check_tables("setting", dict(other.settings), dict(manifest.settings), against, findings)
    _check_tables("feature", features_to_json(other.features), features_to_json(manifest.features), against, findings)
    _check_tables("build", _choices(against), _choices(folder), against, findings)
    splits = {line["name"]: line["split"] for _, line in _ledger(against, Findings()) if line["status"] == "written"}
    for _, line in _ledger(folder, Findings()):
        if line["status"] == "written":
            old = splits.get(line["name"], line["split"])
            _check_same("split", old, line["split"], against, findings, key=line["name"])


def _choices(folder: str) -> dict[str, Any]:
    """The settings of config.json that decide what the records are."""
    values = json_of(folder, "config.json", Findings())
    compared_already = {"representation"}
    values = values if isinstance(values, dict) else {}
    return {name: value for name, value in values.items() if name not in FREE | compared_already}


def _check_tables(kind: str, old: Mapping[str, Any], new: Mapping[str, Any], against: str, findings: Findings) -> None:
    for name in sorted({*old, *new}):
        _check_same(f"{kind} {name}", old.get(name), new.get(name), against, findings)


def _check_same(what: str, old: Any, new: Any, against: str, findings: Findings, key: str = "") -> None:
    if canonical_json(old) != canonical_json(new):
        findings.add("drift", f"{what}: {_short(old)} in {against}, {_short(new)} here", key=key)
