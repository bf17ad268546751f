"""`prepare --retry-quarantined`: a finished dataset made again with other limits or other code, for little work.

Only what was quarantined is read again; of every other input only the bytes are compared. Shards whose inputs are what
they were are taken over by a link, the others are written, and the result takes the old dataset's place as with
`--overwrite`. It equals a full new build because it is one: survey, decisions and shards are those of any build, some
of them already there. Where that could not be promised it is refused with the reason.

A dataset carries what this needs in `rebuild/`: the reports of the survey, and what each shard was made from.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, zip_longest
from typing import Any

from beam_pipelines.config import FREE, LIMITS, Build, code_version, differences
from beam_pipelines.corpora.corpus import Item, item_line
from beam_pipelines.folder import Folder, write_lines, write_value
from beam_pipelines.limits import MEASURED
from beam_pipelines.listing import checked_items, read_part
from beam_pipelines.outlook import Outlook
from beam_pipelines.quarantine import QUARANTINE
from beam_pipelines.seal import read_seal
from beam_pipelines.survey import report_from_json
from schemas.documents import parse_json, read_json
from schemas.errors import UsageError
from schemas.hashing import file_sha256
from schemas.manifest import MANIFEST, read_manifest
from schemas.naming import index_name, readable

LEDGER, SURVEY, SHARDS = "items.jsonl", "rebuild/survey.jsonl", "rebuild/shards.jsonl"
_LONGEST_LINE = 64 << 20
_OVERWRITE = "the same command with --overwrite in place of --retry-quarantined"
_ANEW = f"Make the dataset anew: {_OVERWRITE}."


def check_retry(build: Build) -> None:
    """Raises UsageError unless the finished dataset at the output may be made again from what it carries."""
    _check_sealed(build.output)
    there = _object(build.output, "config.json")
    now = build.choices
    fixed = {*there, *now} - FREE - LIMITS
    sides = differences(*({name: side.get(name) for name in fixed} for side in (there, now)))
    if sides:
        raise UsageError(
            f"{build.output}: --retry-quarantined may change limits only, and this differs: {'; '.join(sides)}. "
            f"Repeat the dataset's settings (--config {os.path.join(build.output, 'config.json')}). {_ANEW}"
        )
    for name in ("item_seconds", "item_megabytes"):
        if not there.get(name, 0) <= getattr(build, name):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{build.output}: {flag} was {there.get(name)} there: what it let in is not read again. {_ANEW}"
            )
    if _object(build.output, "provenance.json").get("written_fingerprint") != build.written_fingerprint:
        raise UsageError(f"{build.output}: the code that writes records has changed since it was made. {_ANEW}")


def _check_sealed(output: str) -> None:
    """Raises UsageError unless everything that is believed of the dataset is there as it was sealed."""
    sealed = read_seal(output)
    for name in (SURVEY, SHARDS, LEDGER, MANIFEST, QUARANTINE, "config.json", "provenance.json"):
        path = os.path.join(output, name)
        if not os.path.exists(path):
            raise UsageError(f"{output}: {name} is not there, so nothing can be taken over. {_ANEW}")
        if file_sha256(path) != sealed.get(name):
            raise UsageError(f"{output}: {name} is not what COMPLETED says, so nothing can be taken over. {_ANEW}")


def _object(output: str, name: str) -> dict[str, Any]:
    value = read_json(os.path.join(output, name))
    if not isinstance(value, dict):
        raise UsageError(f"{output}: {name} is not what a build writes, so nothing can be taken over. {_ANEW}")
    return value


def take_over(build: Build, folder: Folder, parts: int) -> Outlook:
    """Puts into the folder of a build what its finished dataset carries: reports to be kept, and shards.

    Raises:
        UsageError: there are inputs that the dataset does not know, or some are gone.
    """
    with _as_a_build_writes(build):
        return _take_over(build, folder, parts)


def foreseen(build: Build) -> Outlook:
    """What `take_over` would find. Nothing is written; raises UsageError as that does."""
    outlook = Outlook(not _of_this_code(build))
    with _as_a_build_writes(build):
        for pair in _matched(build, checked_items(build)):
            _kept(build, *pair, outlook)
    return outlook


@contextlib.contextmanager
def _as_a_build_writes(build: Build) -> Iterator[None]:
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{build.output}: {SURVEY} or {SHARDS} is not what a build writes ({error!r}). {_ANEW}"
        ) from error


def _of_this_code(build: Build) -> bool:
    return bool(_object(build.output, "provenance.json").get("code_version") == code_version())


def _take_over(build: Build, folder: Folder, parts: int) -> Outlook:
    outlook = Outlook(not _of_this_code(build))
    pairs = _matched(build, chain.from_iterable(read_part(folder, part)[1] for part in range(parts)))
    for part in range(parts):
        of_part = islice(pairs, len(read_part(folder, part)[1]))
        write_lines(folder.kept(part), [_kept(build, *pair, outlook) for pair in of_part])
    next(pairs, None)  # hears of what is left over, which is gone
    names = {shard.name for shard in read_manifest(build.output).shards}
    for report in _lines(os.path.join(build.output, SHARDS)):
        if report["shard"]["name"] in names:  # a name from elsewhere might lead out of the folder
            _link_shard(build, folder, report)
    return outlook


def _lines(path: str) -> Iterator[Any]:
    """The values in a file of the dataset, which may be a stranger's: each line read with bounds."""
    with open(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
            yield parse_json(line, f"{path}, line {number}", limit_bytes=_LONGEST_LINE)


def _known(build: Build) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Report and line of the ledger of every input of the dataset."""
    survey, ledger = (_lines(os.path.join(build.output, name)) for name in (SURVEY, LEDGER))
    for report, line in zip_longest(survey, ledger):
        if report is None or line is None or report["item"]["name"] != line["name"]:
            raise UsageError(f"{build.output}: {SURVEY} and items.jsonl are not about the same inputs. {_ANEW}")
        yield report, line


def _matched(build: Build, items: Iterable[Item]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Report and line of the ledger of every item. Raises UsageError where those are not the dataset's inputs."""
    for item, pair in zip_longest(items, _known(build)):
        if item is None or pair is None or pair[0]["item"] != _plain(item):
            raise _other_inputs(build)
        yield pair


def _plain(item: Item) -> dict[str, Any]:
    return dict(json.loads(item_line(item)))


def _other_inputs(build: Build) -> UsageError:
    there = {report["item"]["name"]: report["item"] for report, _ in _known(build)}
    now = {item.name: _plain(item) for item in checked_items(build)}
    otherwise = [name for name in there if name in now and there[name] != now[name]]
    kinds = (("gone", sorted(there.keys() - now.keys())), ("new", sorted(now.keys() - there.keys())))
    said = [_counted(names, what) for what, names in (*kinds, ("listed otherwise", otherwise)) if names]
    said += differences(there[otherwise[0]], now[otherwise[0]]) if otherwise else []
    return UsageError(
        f"{build.output}: --retry-quarantined reads the inputs of the dataset and no others, and "
        f"{readable(build.input or build.corpus.name)} holds others by now: {'; '.join(said)}. "
        f"Put back what is gone and take out what is new; or make the dataset anew from what is there: {_OVERWRITE}."
    )


def _counted(names: Sequence[str], what: str) -> str:
    if len(names) == 1:
        return f"1 input is {what}, {readable(names[0])}"
    return f"{len(names)} inputs are {what}, for example {readable(names[0])}"


def _kept(build: Build, report: dict[str, Any], line: dict[str, Any], outlook: Outlook) -> dict[str, Any]:
    """What the survey may do with a report: believe it where the bytes are the same, or only compare them."""
    refusal = report["refusal"]
    bad = bool(refusal and refusal["status"] == "quarantined")
    failed_later = line["status"] == "quarantined" and line["reason"] not in MEASURED
    outlook.add(build, report_from_json(report), line, bad or failed_later)
    return {"report": report, "again": bad or failed_later, "believed": not outlook.other_code}


def _link_shard(build: Build, folder: Folder, report: dict[str, Any]) -> None:
    """Gives a shard a second name in the new folder, unless an input failed while it was written."""
    if any(isinstance(outcome, dict) and outcome["status"] == "quarantined" for outcome in report["items"].values()):
        return
    name = report["shard"]["name"]
    if os.path.exists(folder.shard_report(name)):  # of this build, before it was killed
        return
    for path in (name, index_name(name)):
        os.makedirs(os.path.dirname(folder.path(path)), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder.path(path))
        try:
            os.link(os.path.join(build.output, path), folder.path(path))
        except FileNotFoundError:  # it is written anew
            return
        except OSError:  # another file system, or one without links
            shutil.copyfile(os.path.join(build.output, path), folder.path(path))
    write_value(folder.shard_report(name), report)
