"""The survey: every input is read, parsed and judged once, and leaves a small report; nothing of its bulk is kept."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from beam_pipelines.clean import Refusal, clean
from beam_pipelines.config import Build
from beam_pipelines.corpora.corpus import Item, Skip
from beam_pipelines.fingerprints import exact_fingerprint, music_fingerprint, sketch
from beam_pipelines.folder import Folder, read_lines, write_lines
from beam_pipelines.limits import Measures, measured, over_limit
from beam_pipelines.listing import count_parts, read_part
from beam_pipelines.reading_process import ReadingProcess
from beam_pipelines.unforeseen import too_much_memory, unexpected
from media.storage import modified, size_of
from schemas.errors import StrettoError, Unreadable, UsageError
from schemas.music import Piece

CHANGED = "changed-while-reading"


@dataclass(frozen=True, slots=True)
class Report:
    """What the survey knows of one input; limits are judged later, from the measures.

    Attributes:
        item: the input.
        refusal: why it is not fit, or None.
        sha256: of the file's bytes, "" where it could not be read.
        bytes: size of the file.
        measures: how much music it holds; nothing where there is no piece.
        exact: fingerprint of content, "" where there is no fit piece.
        music: fingerprint that key and tempo do not change.
        sketch: what is left of the music when its details are gone: near copies have much of it in common.
        unsaid: notes that the representation does not say as they are, by what happens to them.
    """

    item: Item
    refusal: Refusal | None = None
    sha256: str = ""
    bytes: int = 0
    measures: Measures = Measures()
    exact: str = ""
    music: str = ""
    sketch: str = ""
    unsaid: dict[str, int] = field(default_factory=dict)


def read_data(build: Build, item: Item) -> bytes | Refusal:
    """The bytes of an item's file, or why there are none."""
    try:
        return build.corpus.read(item, build.input)
    except Unreadable as error:
        return refusal_of(error)


def parse_data(build: Build, item: Item, data: bytes) -> Piece | Refusal:
    """The piece in an item's bytes, or why there is none."""
    try:
        return build.corpus.parse(item, build.input, data)
    except Unreadable as error:
        return refusal_of(error)
    except Skip as error:
        return Refusal("skipped", error.reason, error.message)
    except MemoryError:
        return too_much_memory(item.name, build.item_megabytes)
    except StrettoError:
        raise
    except Exception as error:  # noqa: BLE001  a parser's own mistake must cost one input, not the build
        return unexpected(item.name, error)


def unchanged_data(build: Build, item: Item, sha256: str, when: str = "it was surveyed") -> bytes | Refusal:
    """The bytes of an item's file where they are those that were read `when`; else why they are not."""
    data = read_data(build, item)
    if isinstance(data, Refusal):
        return replace(data, reason=CHANGED, offset=None, track=None)
    if hashlib.sha256(data).hexdigest() != sha256:
        return Refusal("quarantined", CHANGED, f"{item.name}: other bytes than when {when}")
    return data


def refusal_of(error: Unreadable) -> Refusal:
    """An unreadable input's refusal."""
    return Refusal("quarantined", error.reason, str(error), error.offset, getattr(error, "track", None))


def survey(build: Build, item: Item, note: Callable[[dict[str, Any]], None] | None = None) -> Report:
    """The report on one input. `note` hears sha256 and bytes of its file before that is parsed."""
    data = read_data(build, item)
    if isinstance(data, Refusal):
        return Report(item, data)
    report = Report(item, None, hashlib.sha256(data).hexdigest(), len(data))
    if note:
        note({"sha256": report.sha256, "bytes": report.bytes})
    if len(data) > build.max_bytes:
        return replace(report, refusal=over_limit(build, item.name, len(data), Measures()))
    piece = parse_data(build, item, data)
    return replace(report, refusal=piece) if isinstance(piece, Refusal) else _judged(build, report, piece)


def _judged(build: Build, report: Report, piece: Piece) -> Report:
    report = replace(report, measures=measured(piece))
    refusal = clean(piece, build.corpus.pitch_range, build.representation)
    if refusal:
        return replace(report, refusal=refusal)
    unsaid = getattr(build.representation, "unsaid", lambda piece: {})(piece)
    report = replace(report, exact=exact_fingerprint(piece), music=music_fingerprint(piece), unsaid=unsaid)
    return replace(report, sketch=sketch(piece))


def surveyed_piece(build: Build, report: Report) -> Piece | None:
    """The piece that a report is about, read again; None where it is not what it was."""
    data = unchanged_data(build, report.item, report.sha256)
    piece = data if isinstance(data, Refusal) else parse_data(build, report.item, data)
    return None if isinstance(piece, Refusal) else piece


def survey_item(build: Build, item: Item, note: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The report on one input as JSON values: what the process that reads is asked for."""
    return report_to_json(survey(build, item, note))


def safely_surveyed(reading: ReadingProcess, item: Item) -> Report:
    """The report on one input, whatever it does to its reader; nothing of it is read here."""
    answer = reading.ask("survey", item)
    return Report(item, answer.refusal, **answer.noted) if answer.refusal else report_from_json(answer.value)


def survey_part(build: Build, folder: Folder, part: int, reading: ReadingProcess, done: Callable[[], None]) -> int:
    """Writes the reports on one part; returns how many were not there already. `done` hears of each of them."""
    items, ready = read_part(folder, part)[1], ready_reports(build, folder, part)
    if len(ready) == len(items):
        return 0
    header, reports, kept = _header(build, folder, part), [], _kept(build, folder, part)
    for item in items:
        if item.name in ready:
            reports.append(ready[item.name])
            continue
        report = kept_report(build, item, kept[item.name]) if kept else None
        reports.append(report_to_json(report or safely_surveyed(reading, item)))
        done()
    write_lines(folder.survey(part), [header, *reports])
    return len(items) - len(ready)


def _kept(build: Build, folder: Folder, part: int) -> dict[str, dict[str, Any]]:
    """Name -> what the finished dataset knows, where it is made again."""
    if not build.retry_quarantined or not os.path.exists(folder.kept(part)):
        return {}
    return {line["report"]["item"]["name"]: line for line in read_lines(folder.kept(part))}


def kept_report(build: Build, item: Item, kept: dict[str, Any]) -> Report | None:
    """The report that a finished dataset has of an input, where it is to be believed; None where it is made again.

    Raises:
        UsageError: the input is not to be read again, and has other bytes than when the dataset was made.
    """
    report = report_from_json(kept["report"])
    if kept["again"] or report.bytes > build.max_bytes:
        return None
    data = unchanged_data(build, item, report.sha256, "the dataset was made")
    if isinstance(data, Refusal):
        raise UsageError(
            f"--retry-quarantined: {data.message}. Make the dataset anew: the same command with --overwrite instead."
        )
    return report if kept["believed"] else None


def _header(build: Build, folder: Folder, part: int) -> dict[str, Any]:
    """What reports are about: the items of a part, and when each of their files was last changed, with its size."""
    listed, items = read_part(folder, part)
    files = [[modified(build.input, item.path), size_of(build.input, item.path)] for item in items]
    return {"listed": listed, "files": files}


def ready_reports(build: Build, folder: Folder, part: int) -> dict[str, dict[str, Any]]:
    """Name -> report, as JSON values, of the inputs of a part that need no second look.

    An input that was found bad gets one: it may have been repaired, or away for a moment, and look the same outside.
    """
    try:
        header, *reports = read_lines(folder.survey(part))
    except (FileNotFoundError, ValueError):
        return {}
    if header != _header(build, folder, part) or len(reports) != len(header["files"]):
        return {}
    return {
        report["item"]["name"]: report
        for report in reports
        if report["refusal"] is None or report["refusal"]["status"] != "quarantined"
    }


def surveyed_items(build: Build, folder: Folder, parts: int) -> int:
    """How many items need no second look."""
    return sum(len(ready_reports(build, folder, part)) for part in range(parts))


def read_reports(folder: Folder) -> list[Report]:
    """Every report, in order of the listing."""
    return [
        report_from_json(value)
        for part in range(count_parts(folder))
        for value in list(read_lines(folder.survey(part)))[1:]
    ]


def report_to_json(report: Report) -> dict[str, Any]:
    """A report as JSON values."""
    return asdict(report)


def report_from_json(values: dict[str, Any]) -> Report:
    """The inverse of `report_to_json`."""
    refusal = values["refusal"]
    parts = {
        "item": Item(**values["item"]),
        "refusal": Refusal(**refusal) if refusal else None,
        "measures": Measures(**values["measures"]),
    }
    return Report(**{**values, **parts})
