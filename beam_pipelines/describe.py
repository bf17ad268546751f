"""What a dataset says of itself: statistics, card, report, licence and citation; `inspect` reads them back.

All of it depends on the records and the corpus alone, never on time, host or paths, so that equal builds give equal
bytes.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from beam_pipelines.card import card, crossing_counts, hours
from beam_pipelines.corpora.corpus import Corpus
from beam_pipelines.examples import example_pieces
from beam_pipelines.quarantine import QUARANTINE
from beam_pipelines.report import report
from beam_pipelines.statistics import Statistics, add
from media.storage import read_bytes, write_atomic
from schemas.documents import parse_json
from schemas.errors import InputError
from schemas.feature import features_to_json
from schemas.hashing import canonical_json
from schemas.manifest import Manifest, read_manifest
from schemas.naming import SPLITS, readable
from schemas.representations import from_settings
from schemas.window import unit_of

STATS, CARD, REPORT, LICENCE, CITATION, LEDGER = (
    "stats.json",
    "card.md",
    "report.html",
    "LICENSE-DATA",
    "CITATION.bib",
    "items.jsonl",
)
_LARGEST_DOCUMENT = 1 << 30
_STATUSES = ("written", "skipped", "quarantined")


def write_documents(
    folder: str,
    corpus: Corpus,
    manifest: Manifest,
    statistics: Mapping[str, Statistics],
    dropped_copies: Mapping[str, int],
    ignored: Mapping[str, int],
    reports: Sequence[str],
) -> None:
    """Writes stats.json, card.md, report.html, LICENSE-DATA and CITATION.bib.

    Args:
        folder: the dataset being built; its shards, items.jsonl and quarantine/quarantine.jsonl must be there already.
        corpus: what was read.
        manifest: as it is or will be written.
        statistics: by split, the sums over its shards.
        dropped_copies: by reason, copies that left the range.
        ignored: `corpus.ignored(root)`.
        reports: `corpus.reports(root)`.
    """
    stats = stats_json(corpus, statistics, dropped_copies, ignored, reports)
    found = description(folder, manifest, stats)
    texts = {
        STATS: _json_text(stats),
        CARD: card(found),
        REPORT: _page(folder, manifest, found),
        LICENCE: _licence(found["corpus"]),
        CITATION: corpus.citation or f"% The corpus {corpus.name} names nobody to cite.\n",
    }
    for name, text in texts.items():
        write_atomic(os.path.join(folder, name), text.encode())


def stats_json(
    corpus: Corpus,
    statistics: Mapping[str, Statistics],
    dropped_copies: Mapping[str, int],
    ignored: Mapping[str, int],
    reports: Sequence[str],
) -> dict[str, Any]:
    """The content of stats.json: sums by split, and what else is known of the corpus as it was read."""
    return {
        "splits": {split: add([statistics.get(split, {})]) for split in SPLITS},
        "dropped_copies": dict(sorted(dropped_copies.items())),
        "ignored_files": {readable(extension): count for extension, count in sorted(ignored.items())},
        "reports": [readable(line) for line in reports],
        "corpus": {name: getattr(corpus, name) for name in ("licence", "citation", "where")},
    }


def inspect(folder: str) -> dict[str, Any]:
    """What is in a finished dataset, as plain JSON values. Raises InputError where there is none."""
    return description(folder, read_manifest(folder), _read_json(folder, STATS))


def description(folder: str, manifest: Manifest, stats: Mapping[str, Any]) -> dict[str, Any]:
    """What card, report and `inspect` say, gathered from manifest, statistics and ledger."""
    splits = {split: add([stats["splits"][split]]) for split in SPLITS}
    ledger: dict[str, Counter[str]] = {status: Counter() for status in _STATUSES}
    for line in _ledger(folder):
        ledger[line["status"]][line["reason"]] += 1
    return {
        "corpus": {"name": manifest.corpus, "version": manifest.corpus_version, **stats["corpus"]},
        "representation": {"name": manifest.representation, "settings": dict(manifest.settings)},
        "features": features_to_json(manifest.all_features),
        "fingerprint": manifest.fingerprint,
        "shards": len(manifest.shards),
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "items": dict(manifest.items),
        "splits": splits,
        "ledger": {status: dict(sorted(reasons.items())) for status, reasons in ledger.items()},
        "dropped_copies": dict(stats["dropped_copies"]),
        "ignored_files": dict(stats["ignored_files"]),
        "reports": list(stats["reports"]),
        "crossing_groups": list(manifest.crossing_groups),
        "crossing_copies": [list(pair) for pair in manifest.crossing_copies],
    }


def as_text(found: Mapping[str, Any]) -> str:
    """What `inspect` found, in lines for a terminal."""
    corpus, representation = found["corpus"], found["representation"]
    settings = ", ".join(f"{name} {value}" for name, value in representation["settings"].items())
    lines = [
        f"{corpus['name']} {corpus['version']} as {representation['name']} ({settings})",
        f"licence      {corpus['licence']}",
        f"shards       {found['shards']}, {found['bytes']:,} bytes, fingerprint {found['fingerprint'][:16]}",
    ]
    unit = unit_of(found["features"])
    for split in SPLITS:
        value, items = found["splits"][split], found["items"].get(split, 0)
        held = f"{items:,} items, {hours(value['centiseconds'])}, {value['notes']:,} notes"
        stored = f"{value['copies']:,} copies, {value['records']:,} records, {value['tokens']:,} {unit}"
        lines.append(f"{split:<12} {held}; {stored}")
    for name, counts in (
        *list(found["ledger"].items())[1:],
        ("dropped", found["dropped_copies"]),
        ("not read", found["ignored_files"]),
    ):
        if counts:
            lines.append(
                f"{name:<12} " + ", ".join(f"{reason or 'no extension'} {count:,}" for reason, count in counts.items())
            )
    known = crossing_counts(found)
    if known:
        lines.append(f"known leaks  {known} that the corpus itself lets cross its splits")
    return "\n".join(map(readable, (*lines, *(f"note         {line}" for line in found["reports"]))))


def write_report(folder: str, file: str) -> None:
    """Writes the page of a finished dataset to a file. Raises InputError where there is no dataset."""
    write_atomic(file, _page(folder, read_manifest(folder), inspect(folder)).encode())


def _page(folder: str, manifest: Manifest, found: Mapping[str, Any]) -> str:
    representation = from_settings(manifest.representation, dict(manifest.settings))
    return report(found, example_pieces(folder, manifest, representation), list(_bad_inputs(folder)))


def _bad_inputs(folder: str) -> Iterator[dict[str, Any]]:
    """What is known of each input that was not written, quarantined ones first."""
    known = (
        {line["name"]: line for line in _json_lines(folder, QUARANTINE)}
        if os.path.exists(os.path.join(folder, QUARANTINE))
        else {}
    )
    for status in ("quarantined", "skipped"):
        for line in _ledger(folder):
            if line["status"] == status:
                said = {key: line[key] for key in ("name", "status", "reason")}
                yield {**known.get(line["name"], {}), **_named_twin(line), **said}


def _named_twin(line: Mapping[str, Any]) -> dict[str, str]:
    return {"message": f"its music is that of {line['of']}"} if isinstance(line.get("of"), str) else {}


def _ledger(folder: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_json_lines(folder, LEDGER), 1):
        if not isinstance(line, dict) or line.get("status") not in _STATUSES or not isinstance(line.get("name"), str):
            raise InputError(
                f"{os.path.join(folder, LEDGER)}, line {number}: is no line of a ledger. Run `stretto verify {folder}`."
            )
        yield line


def _json_lines(folder: str, name: str) -> Iterator[Any]:
    path = os.path.join(folder, name)
    for number, line in enumerate(read_bytes(path, _LARGEST_DOCUMENT).splitlines(), 1):
        yield _parsed(line, f"{path}, line {number}", folder)


def _read_json(folder: str, name: str) -> Any:
    path = os.path.join(folder, name)
    values = _parsed(read_bytes(path, _LARGEST_DOCUMENT), path, folder)
    try:
        return (
            values
            if all(key in values for key in ("splits", "corpus", "reports", "ignored_files", "dropped_copies"))
            else {}["splits"]
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read: {error!r}. Run `stretto verify {folder}`.") from error


def _parsed(data: bytes, where: str, folder: str) -> Any:
    try:
        return parse_json(data, where)
    except InputError as error:
        raise InputError(f"{error} Run `stretto verify {folder}`.") from error


def _licence(corpus: Mapping[str, str]) -> str:
    return (
        f"The records here were made from the corpus {readable(corpus['name'])} {readable(corpus['version'])}.\n"
        "They are data derived from it, and the terms of the corpus go with them:\n\n"
        f"{corpus['licence']}\n\n"
        f"Where the corpus comes from: {corpus['where']}\n"
        "Whom to cite: CITATION.bib\n\n"
        "The licence of the program that made them does not extend to these records.\n"
    )


def _json_text(value: Any) -> str:
    return json.dumps(json.loads(canonical_json(value)), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
