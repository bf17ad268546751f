"""What `prepare` tells: what it begins with, how it ended, and, with --dry-run, what it would make."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from beam_pipelines.accounting import account, account_to_json, table
from beam_pipelines.config import LOCAL_RUNNERS, Build
from beam_pipelines.decide import copies_of
from beam_pipelines.describe import LEDGER
from beam_pipelines.folder import Folder, read_lines, read_value
from beam_pipelines.launch import Engine
from beam_pipelines.listing import Listing, checked_items, no_input
from beam_pipelines.outlook import Outlook
from beam_pipelines.quarantine import QUARANTINE
from schemas.manifest import Manifest, read_manifest
from schemas.naming import readable

_SHOWN = 5


def say(line: str) -> None:
    """One line for people, on standard error."""
    print(f"stretto: {line}", file=sys.stderr, flush=True)


def say_start(build: Build, folder: Folder, listing: Listing, surveyed: int, where: Engine) -> None:
    """Says what is done before the graph runs: engine, what is kept of an earlier run."""
    if build.runner in LOCAL_RUNNERS:
        processes = "this process" if where.workers == 1 else f"{where.workers} worker processes"
        meaning = " (DirectRunner means this machine: Beam's FnApiRunner)" if build.runner == "DirectRunner" else ""
        say(f"{listing.items} inputs; {processes}{meaning}")
    else:
        say(f"{listing.items} inputs; runner {build.runner}")
    finished = _count(folder.path("progress", "shards"))
    if surveyed:
        say(f"continuing: {surveyed} of {listing.items} inputs are surveyed and are not surveyed again")
    if finished:
        say(f"continuing: {finished} shards are finished and are kept where their inputs are unchanged")


def say_outlook(outlook: Outlook) -> None:
    """Says what a retry will do, before it begins."""
    for line in outlook.lines():
        say(readable(f"--retry-quarantined: {line}"))


def _count(path: str) -> int:
    return len([name for name in os.listdir(path) if name.endswith(".json")]) if os.path.isdir(path) else 0


def tell_end(build: Build, kept: int, as_json: bool) -> None:
    """Prints how the build ended: the account, where bad inputs are named, where the dataset lies."""
    result = ending(build, kept)
    if as_json:
        print(json.dumps(result, indent=1, sort_keys=True))
        return
    lines = list(read_lines(os.path.join(build.output, LEDGER)))
    print(table(account(lines)))
    for line in _twins(lines):
        print(line)
    if kept:
        print(f"kept {kept} of {result['shards']} shards of an earlier run")
    print(f"{result['records']} records, {result['bytes']} bytes in {result['shards']} shards: {build.output}")
    bad = "1 input was bad" if result["bad"] == 1 else f"{result['bad']} inputs were bad"
    print(bad + (f"; named in {result['quarantine']}; --retry-quarantined reads again" if result["bad"] else ""))
    stats = read_value(os.path.join(build.output, "stats.json"))
    for reason, count in stats["dropped_copies"].items():
        print(readable(f"note: {count} copies were not made, because a note leaves the range: {reason}"))
    for line in stats["reports"]:
        print(readable(f"note: {line}"))


def _twins(lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Which inputs were left out for their music, and which input has it; not all where they are many."""
    twins = [line for line in lines if "of" in line]
    for line in twins[:_SHOWN]:
        yield readable(f"  {line['name']}: {line['reason']} of {line['of']}")
    if len(twins) > _SHOWN:
        yield f'  and {len(twins) - _SHOWN} more: the field "of" in {LEDGER}'


def ending(build: Build, kept: int) -> dict[str, Any]:
    """How the build ended, as plain JSON values."""
    manifest: Manifest = read_manifest(build.output)
    found = account(read_lines(os.path.join(build.output, LEDGER)))
    return {
        "output": build.output,
        "fingerprint": manifest.fingerprint,
        "account": account_to_json(found),
        "bad": found.total(status="quarantined"),
        "quarantine": os.path.join(build.output, QUARANTINE),
        "shards": len(manifest.shards),
        "kept_shards": kept,
        "records": sum(shard.records for shard in manifest.shards),
        "bytes": sum(shard.bytes for shard in manifest.shards),
    }


def dry_run(build: Build, as_json: bool, outlook: Outlook | None = None) -> int:
    """Lists the inputs, says what would be made and writes nothing; of a retry, what that would do (`outlook`).

    Raises:
        InputError: there is no input.
    """
    splits = Counter(item.split or "own" for item in checked_items(build))
    if not splits:
        raise no_input(build)
    plan = {
        "output": build.output,
        "inputs": sum(splits.values()),
        "splits": dict(sorted(splits.items())) if build.splits == "official" else {"own": sum(splits.values())},
        "copies_of_a_training_piece": copies_of(build, "train"),
        "shards_of_a_split": build.shards or "as the size asks",
        "ignored_files": build.corpus.ignored(build.input),
        "reports": build.corpus.reports(build.input),
        "choices": build.choices,
        "retry": outlook and outlook.to_json(),
    }
    print(json.dumps(plan, indent=1, sort_keys=True) if as_json else _plan_text(plan, outlook))
    return 0


def _copies_told(count: int) -> str:
    return f"{count}" if count == 1 else f"{count} at most; those with a note that leaves the range are not made"


def _plan_text(plan: dict[str, Any], outlook: Outlook | None) -> str:
    splits = ", ".join(
        f"{count} dealt out by group" if split == "own" else f"{split} {count}"
        for split, count in plan["splits"].items()
    )
    ignored = ", ".join(f"{extension or 'no extension'} {count}" for extension, count in plan["ignored_files"].items())
    lines = [
        f"would make {plan['output']} {'again ' if outlook else ''}from {plan['inputs']} inputs ({splits})",
        *(outlook.lines() if outlook else ()),
        f"copies of each training piece: {_copies_told(plan['copies_of_a_training_piece'])}",
        f"shards of each split: {plan['shards_of_a_split']}",
        f"files that are not read: {ignored or 'none'}",
        *(f"note: {line}" for line in plan["reports"]),
        "nothing was written",
    ]
    return "\n".join(map(readable, lines))
