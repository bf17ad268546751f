"""The dataset card: what a person must know before using a dataset, as Markdown."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from schemas.naming import SPLITS, readable
from schemas.window import unit_of

_MARKS = re.compile(r"([\\`*_{}\[\]<>()#|!~])")
_MOST_GROUPS = 20


def card(found: Mapping[str, Any]) -> str:
    """The card of a dataset, from what `describe.inspect` finds."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    corpus = found["corpus"]
    yield f"# {_plain(corpus['name'])} {_plain(corpus['version'])}, as {_plain(found['representation']['name'])}"
    yield ""
    yield _summary(found)
    yield from ("", "## Licence and citation", "", _plain(corpus["licence"]), "")
    yield f"Where the corpus comes from: {_plain(corpus['where'])}"
    if corpus["citation"]:
        yield from ("", "Whoever publishes work made with this dataset cites (CITATION.bib):", "")
        yield from ("    " + line for line in corpus["citation"].splitlines())
    yield from ("", "## How it was made", "")
    yield from _making(found)
    yield from ("", "## Splits", "", *_split_table(found))
    yield from _crossing(found)
    yield from ("", "## What was left out", "", *_left_out(found))
    yield from ("", "## Reading it", "")
    yield "Shards are TFRecords of `tf.train.Example`; `features.json` says what each feature is."
    yield "`stretto inspect` shows this again, `stretto verify` proves from the shards that nothing is damaged and that"
    yield "nothing leaks from one split into another."


def _summary(found: Mapping[str, Any]) -> str:
    values = [found["splits"][split] for split in SPLITS]
    notes, time = sum(value["notes"] for value in values), sum(value["centiseconds"] for value in values)
    pieces, records = sum(value["pieces"] for value in values), sum(value["records"] for value in values)
    return f"{pieces:,} pieces, {hours(time)}, {notes:,} notes; {records:,} records in {found['shards']} shards."


def hours(centiseconds: int) -> str:
    """A length of time in words: hours, or minutes where it is short."""
    if centiseconds >= 360_000:
        return f"{centiseconds / 360_000:,.1f} hours"
    return f"{centiseconds / 6000:,.1f} minutes"


def _making(found: Mapping[str, Any]) -> Iterator[str]:
    representation = found["representation"]
    settings = ", ".join(f"{name} {value}" for name, value in representation["settings"].items())
    yield f"- Representation `{representation['name']}`: {_plain(settings)}"
    copies = sum(found["splits"][split]["copies"] for split in SPLITS)
    pieces = sum(found["splits"][split]["pieces"] for split in SPLITS)
    if copies > pieces:
        yield f"- Transposed and stretched copies in train only: {copies:,} copies of {pieces:,} pieces in all"
    else:
        yield "- No changed copies: each piece is there once"
    yield f"- Fingerprint of the data: `{found['fingerprint']}`"
    for report in found["reports"]:
        yield f"- {_plain(report)}"


def _split_table(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"| split | items | pieces | length | notes | copies | records | {unit_of(found['features'])} |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for split in SPLITS:
        value = found["splits"][split]
        counts = [found["items"].get(split, 0), value["pieces"]]
        stored = [value[name] for name in ("notes", "copies", "records", "tokens")]
        cells = [*(f"{n:,}" for n in counts), hours(value["centiseconds"]), *(f"{n:,}" for n in stored)]
        yield f"| {split} | " + " | ".join(cells) + " |"


def _crossing(found: Mapping[str, Any]) -> Iterator[str]:
    lines = [_plain(line) for line in crossing_lines(found)]
    if not lines:
        return
    yield ""
    yield f"The corpus itself lets {crossing_counts(found)} cross its splits; they are kept as published:"
    yield ""
    yield from (f"- {line}" for line in lines[:_MOST_GROUPS])
    if len(lines) > _MOST_GROUPS:
        yield f"- and {len(lines) - _MOST_GROUPS:,} more, all of them in manifest.json"


def crossing_counts(found: Mapping[str, Any]) -> str:
    """How much the corpus itself lets cross its splits, in words; "" for nothing."""
    counts = (("group", len(found["crossing_groups"])), ("copy", len(found["crossing_copies"])))
    plural = {"group": "groups", "copy": "copies"}
    return " and ".join(f"{count:,} {noun if count == 1 else plural[noun]}" for noun, count in counts if count)


def crossing_lines(found: Mapping[str, Any]) -> list[str]:
    """What the corpus itself lets cross its splits, by name."""
    return [*found["crossing_groups"], *(f"{name}, a copy of {keeper}" for name, keeper in found["crossing_copies"])]


def _left_out(found: Mapping[str, Any]) -> Iterator[str]:
    yield "Every input has a line in `items.jsonl`."
    yield ""
    yield "| what | reason | how many |"
    yield "| --- | --- | ---: |"
    for status in ("skipped", "quarantined"):
        for reason, count in found["ledger"][status].items():
            yield f"| inputs {status} | {_plain(reason)} | {count:,} |"
    for reason, count in found["dropped_copies"].items():
        yield f"| copies dropped | {_plain(reason)} | {count:,} |"
    for extension, count in found["ignored_files"].items():
        yield f"| files not read | {_plain(extension) or 'no extension'} | {count:,} |"


def _plain(text: Any) -> str:
    return _MARKS.sub(r"\\\1", readable(str(text)))
