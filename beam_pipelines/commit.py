"""Commit: the account is checked, the dataset described, and it appears under its name, whole or not at all.

It runs in the graph, so that a job sent away and forgotten still finishes, and may run twice: each step looks at what
is there. The order makes every kill harmless: all final files; the seal under a pending name; then the last steps
(`finish`).
"""

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipelines.accounting import check_account
from beam_pipelines.config import Build, build_to_json, code_version
from beam_pipelines.decide import Decision, read_decisions
from beam_pipelines.describe import LEDGER, write_documents
from beam_pipelines.finish import finish, is_dataset, is_pending
from beam_pipelines.folder import WORKING, Folder, read_lines, read_value, write_lines
from beam_pipelines.listing import listed_items
from beam_pipelines.quarantine import QUARANTINE, check_allowance, quarantine_lines
from beam_pipelines.retry import SHARDS, SURVEY
from beam_pipelines.seal import PENDING, files, seal_text
from beam_pipelines.statistics import Statistics, add
from beam_pipelines.survey import Report, read_reports, report_to_json
from media.storage import write_atomic
from schemas.errors import InputError
from schemas.feature import features_to_json
from schemas.hashing import file_sha256
from schemas.manifest import MANIFEST, Manifest, Shard, manifest_to_json
from schemas.naming import SPLITS, index_name, readable


@dataclass(frozen=True)
class Ending:
    """What became of one input in the end."""

    report: Report
    decision: Decision
    records: int = 0

    @property
    def ledger_line(self) -> dict[str, Any]:
        """Its line in items.jsonl."""
        item, decision = self.report.item, self.decision
        return {
            "name": item.name,
            "group": item.group,
            "split": decision.split,
            "status": decision.status,
            "reason": decision.reason,
            "sha256": self.report.sha256,
            "bytes": self.report.bytes,
            "records": self.records,
            **({"of": decision.of} if decision.of else {}),
        }

    @property
    def quarantine_entry(self) -> dict[str, Any]:
        """Its line in quarantine.jsonl."""
        item, decision = self.report.item, self.decision
        return {
            "name": item.name,
            "path": item.path,
            "part": item.part,
            "split": decision.split,
            "sha256": self.report.sha256,
            "bytes": self.report.bytes,
            "reason": decision.reason,
            "message": decision.message,
            "offset": decision.offset,
            "track": decision.track,
        }


def commit(build: Build, how: Mapping[str, Any]) -> None:
    """Finishes the dataset in `<output>.building/`; `how` (runner, workers) goes to provenance.json.

    Raises:
        InputError: too many inputs are bad, or nothing was written.
        UsageError: a dataset appeared at the output meanwhile.
    """
    folder = Folder(build.building)
    if is_pending(folder.root) or is_dataset(build.output) and not os.path.isdir(folder.root):
        return finish(build.output, build.replaces)
    shard_reports = read_shard_reports(folder)
    endings = list(ended(read_reports(folder), read_decisions(folder), shard_reports))
    write_quarantine(build, folder, endings)
    shards = tuple(Shard(**report["shard"]) for report in shard_reports)
    manifest = manifest_of(build, endings, shards, read_value(folder.plan))
    ledger = [ending.ledger_line for ending in endings]
    held = {split: manifest.records(split) for split in SPLITS}
    check_account(ledger, listed_items(folder), held, sum(1 for _ in read_lines(folder.path(QUARANTINE))))
    _remove_strays(folder, shards)
    _write_description(build, folder, manifest, endings, shard_reports, how)
    _write_rebuild(folder, shard_reports)
    _seal(folder, shards)
    finish(build.output, build.replaces)


def read_shard_reports(folder: Folder) -> list[dict[str, Any]]:
    """The reports on all planned shards, in order of split and name."""
    names = sorted(read_value(folder.plan)["shards"])
    reports = [read_value(folder.shard_report(name)) for name in names]
    return sorted(reports, key=lambda report: SPLITS.index(report["shard"]["split"]))


def ended(
    reports: Iterable[Report], decisions: Iterable[Decision], shard_reports: Sequence[Mapping[str, Any]]
) -> Iterator[Ending]:
    """What became of every input: as decided, unless writing it found out better."""
    outcomes = {name: outcome for report in shard_reports for name, outcome in report["items"].items()}
    for report, decision in zip(reports, decisions, strict=True):
        outcome = outcomes[report.item.name] if decision.status == "written" else None
        if isinstance(outcome, dict):
            yield Ending(report, Decision(**outcome, split=decision.split))
        else:
            yield Ending(report, decision, outcome or 0)


def write_quarantine(build: Build, folder: Folder, endings: Iterable[Ending]) -> None:
    """Names the bad inputs in a file; raises InputError where they are too many, or nothing is left to write."""
    endings = list(endings)
    bad = [ending.quarantine_entry for ending in endings if ending.decision.status == "quarantined"]
    write_atomic(folder.path(QUARANTINE), quarantine_lines(bad).encode())
    source = readable(build.input or build.corpus.name)
    check_allowance(bad, len(endings), build.max_bad, source, folder.path(QUARANTINE))
    if not any(ending.decision.status == "written" for ending in endings):
        why = Counter(f"{ending.decision.status}: {ending.decision.reason}" for ending in endings)
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(why.items()))
        named = f" The bad ones are named in {folder.path(QUARANTINE)}, with what is wrong." if bad else ""
        raise InputError(
            f"{source}: nothing can be written: all {len(endings)} inputs were "
            f"refused ({reasons}).{named} Check the input."
        )


def manifest_of(
    build: Build, endings: Sequence[Ending], shards: tuple[Shard, ...], plan: Mapping[str, Any]
) -> Manifest:
    """The manifest of the finished dataset; the plan says what crosses the splits."""
    items = Counter(ending.decision.split for ending in endings if ending.decision.status == "written")
    dropped = Counter(ending.decision.reason for ending in endings if ending.decision.status != "written")
    values = build_to_json(build)["representation"]
    return Manifest(
        corpus=build.corpus.name,
        corpus_version=build.corpus.version_at(build.input),
        representation=values["name"],
        settings=values["settings"],
        features=build.representation.features(),
        shards=shards,
        items={split: items[split] for split in SPLITS if items[split]},
        dropped=dict(sorted(dropped.items())),
        crossing_groups=tuple(plan["crossing_groups"]),
        crossing_copies=tuple((name, keeper) for name, keeper in plan["crossing_copies"]),
    )


def _write_description(
    build: Build,
    folder: Folder,
    manifest: Manifest,
    endings: Sequence[Ending],
    shard_reports: Sequence[Mapping[str, Any]],
    how: Mapping[str, Any],
) -> None:
    texts = {
        LEDGER: "".join(json.dumps(ending.ledger_line, separators=(",", ":")) + "\n" for ending in endings),
        "features.json": _pretty(features_to_json(manifest.all_features)),
        MANIFEST: manifest_to_json(manifest),
        "config.json": _pretty(build_to_json(build)),
        "provenance.json": _pretty(provenance(build, how)),
    }
    for name, text in texts.items():
        write_atomic(folder.path(name), text.encode("utf-8", "backslashreplace"))
    statistics, dropped_copies = sums(shard_reports)
    ignored, reports = (
        build.corpus.ignored(build.input),
        [*build.corpus.reports(build.input), *_hanging(endings), *_unsaid(endings)],
    )
    write_documents(folder.root, build.corpus, manifest, statistics, dropped_copies, ignored, reports)


def _hanging(endings: Sequence[Ending]) -> list[str]:
    """What is to be said of notes that were dropped, where there are any."""
    counts = [ending.report.measures.hanging_notes for ending in endings if ending.decision.status == "written"]
    if not any(counts):
        return []
    return [f"{sum(counts)} of the notes of {sum(map(bool, counts))} inputs are never released, so they were dropped"]


def _unsaid(endings: Sequence[Ending]) -> list[str]:
    """How many notes the representation does not say as they are, where there are any."""
    counts: Counter[str] = Counter()
    for ending in endings:
        if ending.decision.status == "written":
            counts.update(ending.report.unsaid)
    told = "; ".join(f"{count:,} {what}" for what, count in sorted(counts.items()) if count)
    return [f"notes that the representation does not say as they are: {told}"] if told else []


def _write_rebuild(folder: Folder, shard_reports: Sequence[Mapping[str, Any]]) -> None:
    """What `--retry-quarantined` needs of a finished dataset."""
    write_lines(folder.path(SURVEY), map(report_to_json, read_reports(folder)))
    write_lines(folder.path(SHARDS), shard_reports)


def sums(shard_reports: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Statistics], dict[str, int]]:
    """The statistics of each split, and the copies that left the range by reason."""
    dropped: Counter[str] = Counter()
    splits: dict[str, list[Statistics]] = {}
    for report in shard_reports:
        splits.setdefault(report["shard"]["split"], []).append(report["statistics"])
        dropped.update(report["dropped_copies"])
    return {split: add(parts) for split, parts in splits.items()}, dict(sorted(dropped.items()))


def provenance(build: Build, how: Mapping[str, Any]) -> dict[str, Any]:
    """Where and how the dataset was made: everything that may differ between two builds of equal shards."""
    return {
        "build_fingerprint": build.fingerprint,
        "code_version": code_version(),
        "written_fingerprint": build.written_fingerprint,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **how,
    }


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def _remove_strays(folder: Folder, shards: Sequence[Shard]) -> None:
    """Removes what an earlier, different plan or a killed worker left beside the shards."""
    wanted = {path for shard in shards for path in (shard.name, index_name(shard.name))}
    for path in list(files(folder.root)):
        if path not in wanted and path.split("/")[0] not in WORKING and path != QUARANTINE:
            os.unlink(folder.path(path))


def _seal(folder: Folder, shards: Sequence[Shard]) -> None:
    known = {shard.name: shard.sha256 for shard in shards}
    known |= {index_name(shard.name): shard.index_sha256 for shard in shards}
    final = {
        path: known.get(path) or file_sha256(folder.path(path))
        for path in files(folder.root)
        if path.split("/")[0] not in WORKING
    }
    write_atomic(folder.path(PENDING), seal_text(final).encode())
