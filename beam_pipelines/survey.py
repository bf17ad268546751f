"""The survey: every input is read, parsed and judged once, and leaves a small report; nothing of its bulk is kept."""

import hashlib
import os
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from beam_pipelines.clean import Limits, Refusal, clean
from beam_pipelines.config import Build
from beam_pipelines.corpora.corpus import Item, Skip
from beam_pipelines.fingerprints import exact_fingerprint, music_fingerprint
from beam_pipelines.folder import Folder, read_lines, write_lines
from beam_pipelines.listing import read_part
from beam_pipelines.suspects import Reading, read_suspects, survives
from media.midi import Unreadable
from schemas.errors import StrettoError
from schemas.music import Piece


@dataclass(frozen=True, slots=True)
class Report:
    """What the survey knows of one input.

    Attributes:
        item: the input.
        refusal: why it is not fit, or None.
        sha256: of the file's bytes, "" where it could not be read.
        bytes: size of the file.
        seconds: end of the last note.
        notes: how many there are.
        exact: fingerprint of content, "" where there is no piece.
        music: fingerprint that key and tempo do not change.
    """

    item: Item
    refusal: Refusal | None = None
    sha256: str = ""
    bytes: int = 0
    seconds: float = 0.0
    notes: int = 0
    exact: str = ""
    music: str = ""


def limits_of(build: Build) -> Limits:
    """What a piece of this build may be."""
    return Limits(build.max_seconds, build.max_notes, build.corpus.pitch_range, build.representation)


def read_piece(build: Build, item: Item) -> tuple[bytes, Piece | Refusal]:
    """The bytes of an item's file and its piece, or why there is none."""
    data = b""
    try:
        data = build.corpus.read(item, build.input)
        piece = build.corpus.parse(item, build.input, data)
    except Unreadable as error:
        return data, Refusal("quarantined", error.reason, str(error), error.offset)
    except Skip as error:
        return data, Refusal("skipped", error.reason, error.message)
    except StrettoError:
        raise
    except Exception:  # noqa: BLE001  a parser's own mistake must cost one input, its traceback kept, not the build
        return data, Refusal("quarantined", "unexpected", traceback.format_exc(limit=-6))
    return data, clean(piece, limits_of(build)) or piece


def survey(build: Build, item: Item) -> Report:
    """The report on one input."""
    data, piece = read_piece(build, item)
    sha256 = hashlib.sha256(data).hexdigest() if data else ""
    if isinstance(piece, Refusal):
        return Report(item, piece, sha256, len(data))
    return Report(
        item,
        None,
        sha256,
        len(data),
        piece.seconds,
        len(piece.notes),
        exact_fingerprint(piece),
        music_fingerprint(piece),
    )


def carefully(build: Build, item: Item) -> Report:
    """The report on an input that a process died of, or seemed to: read in another process first."""
    death = survives("beam_pipelines.survey:survey", build, item)
    if not death:
        return survey(build, item)
    message = f"{item.name}: the process that read it alone {death}; what it holds crashes the reader or never ends"
    return Report(item, Refusal("quarantined", "crash", message))


def survey_part(build: Build, folder: Folder, part: int, done: Callable[[], None]) -> int:
    """Writes the reports on one part, unless they are there; returns how many were made. `done` hears of each."""
    items = read_part(folder, part)[1]
    if is_surveyed(build, folder, part):
        return 0
    header = _header(build, folder, part)
    reports, suspects, reading = [], read_suspects(folder), Reading(folder)
    for item in items:
        reading.begin(item.name)
        report = carefully(build, item) if item.name in suspects else survey(build, item)
        reports.append(report_to_json(report))
        done()
    reading.end()
    write_lines(folder.survey(part), [header, *reports])
    return len(items)


def _header(build: Build, folder: Folder, part: int) -> dict[str, Any]:
    """What reports are about: the items of a part, and when each of their files was last changed (0: not known)."""
    listed, items = read_part(folder, part)
    return {"listed": listed, "modified": [_modified(os.path.join(build.input, item.path)) for item in items]}


def _modified(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except (OSError, ValueError):
        return 0


def is_surveyed(build: Build, folder: Folder, part: int) -> bool:
    """Whether whole reports on exactly these items, as they now are, are there."""
    try:
        header, *reports = read_lines(folder.survey(part))
    except (FileNotFoundError, ValueError):
        return False
    if header != _header(build, folder, part) or len(reports) != len(header["modified"]):
        return False
    return not (build.retry_quarantined and any(is_bad(report_from_json(report)) for report in reports))


def surveyed_items(build: Build, folder: Folder, parts: int) -> int:
    """How many items need no second look."""
    return sum(len(read_part(folder, part)[1]) for part in range(parts) if is_surveyed(build, folder, part))


def is_bad(report: Report) -> bool:
    """Whether the input counts against `--max-bad`."""
    return report.refusal is not None and report.refusal.status == "quarantined"


def read_reports(folder: Folder) -> list[Report]:
    """Every report, in order of the listing."""
    parts = len([name for name in os.listdir(folder.path("items")) if name.endswith(".jsonl")])
    return [report_from_json(value) for part in range(parts) for value in list(read_lines(folder.survey(part)))[1:]]


def report_to_json(report: Report) -> dict[str, Any]:
    """A report as JSON values."""
    return asdict(report)


def report_from_json(values: dict[str, Any]) -> Report:
    """The inverse of `report_to_json`."""
    refusal = values["refusal"]
    return Report(**{**values, "item": Item(**values["item"]), "refusal": Refusal(**refusal) if refusal else None})
