"""What a dataset says of itself: statistics, card, report with pictures, licence and citation; and `inspect`, which reads them back.

All of it depends on the records and the corpus alone, never on time, host or paths, so that equal builds give equal bytes.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipelines.corpora.corpus import Corpus
from beam_pipelines.statistics import STEPS_PER_SECOND, Statistics, statistics_to_json
from media.storage import write_atomic
from schemas.hashing import canonical_json
from schemas.manifest import Manifest
from schemas.naming import SPLITS

STATS, CARD, REPORT, LICENCE, CITATION = "stats.json", "card.md", "report.html", "LICENSE-DATA", "CITATION.bib"


def write_documents(
    folder: str,
    corpus: Corpus,
    manifest: Manifest,
    statistics: Mapping[str, Statistics],
    ignored: Mapping[str, int],
    reports: Sequence[str],
) -> None:
    """Writes stats.json, card.md, report.html, LICENSE-DATA and CITATION.bib.

    Args:
        folder: the dataset being built; its shards, items.jsonl and quarantine/quarantine.jsonl must be there already.
        corpus: what was read.
        manifest: as it is or will be written.
        statistics: by split, the sums over its shards.
        ignored: `corpus.ignored(root)`.
        reports: `corpus.reports(root)`.
    """
    stats = stats_json(statistics, ignored, reports)
    write_atomic(os.path.join(folder, STATS), _text(stats).encode())


def stats_json(statistics: Mapping[str, Statistics], ignored: Mapping[str, int], reports: Sequence[str]) -> dict[str, Any]:
    """The content of stats.json."""
    splits = {split: statistics_to_json(statistics.get(split, Statistics())) for split in SPLITS}
    return {"splits": splits, "steps_per_second": STEPS_PER_SECOND, "ignored_files": dict(ignored), "reports": list(reports)}


def _text(value: Any) -> str:
    return json.dumps(json.loads(canonical_json(value)), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
