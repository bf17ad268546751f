"""The report on a dataset: one HTML page with pictures, no script and no network; every text in it is escaped."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from beam_pipelines.card import crossing_counts, crossing_lines, hours
from beam_pipelines.charts import data_uri, share_chart
from beam_pipelines.examples import SHOWN_SECONDS, Example
from beam_pipelines.statistics import LENGTH_EDGES, MOST_VOICES, VELOCITY_BIN
from media.roll import roll
from schemas.naming import SPLITS, readable
from schemas.window import unit_of

_MOST_ROWS = 200
_ROLL_SIZE = (1040, 260)
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light; --ink: #1d2330; --soft: #5b6475; --line: #e1e4ea; --tint: #f5f6f9; }
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 1120px; padding: 32px 28px 64px;
  font: 15px/1.55 system-ui, sans-serif; color: var(--ink);
}
h1 { font-size: 28px; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 19px; margin: 40px 0 12px; padding-bottom: 6px; border-bottom: 1px solid var(--line); }
.under { color: var(--soft); margin: 4px 0 24px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; }
.tile { background: var(--tint); border-radius: 10px; padding: 14px 16px; }
.tile b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; }
table { border-collapse: collapse; width: 100%; margin: 8px 0; font-size: 14px; }
th { text-align: left; color: var(--soft); font-weight: 500; }
th, td { padding: 6px 10px; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: break-word; }
td.w { overflow-wrap: anywhere; min-width: 12em; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 20px 28px; }
figure { margin: 0 0 18px; }
figcaption { font-weight: 500; margin-bottom: 6px; overflow-wrap: anywhere; }
figcaption small { color: var(--soft); font-weight: 400; margin: 0 8px; }
figcaption small.under { display: block; margin: 0; }
svg { width: 100%; height: auto; display: block; }
svg text { font-size: 11px; fill: #5b6475; }
.grid { stroke: #e1e4ea; }
.key { font-weight: 400; font-size: 13px; margin-right: 8px; }
.key::before {
  content: ""; display: inline-block; width: 10px; height: 10px; margin-right: 5px;
  border-radius: 2px; background: var(--c);
}
img { width: 100%; height: auto; display: block; border: 1px solid var(--line); border-radius: 8px; }
summary { cursor: pointer; margin-top: 14px; font-weight: 500; }
pre { background: var(--tint); border-radius: 8px; padding: 14px 16px; overflow-x: auto; font-size: 13px; }
.none { color: var(--soft); }
"""


def report(found: Mapping[str, Any], examples: Iterable[Example], bad: Sequence[Mapping[str, Any]]) -> str:
    """The page of a dataset.

    Args:
        found: what `describe.inspect` finds.
        examples: pieces to show.
        bad: inputs that were not written, with name, status, reason, message and offset.
    """
    corpus = found["corpus"]
    title = f"{corpus['name']} {corpus['version']} as {found['representation']['name']}"
    body = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="under">{_text(corpus["licence"])}</p>',
        _tiles(found),
        "<h2>Splits</h2>",
        _splits(found),
        _notes(found),
        "<h2>A look at the music</h2>",
        "".join(map(_example, examples)) or '<p class="none">No piece can be shown.</p>',
        "<h2>What is in it</h2>",
        _charts(found),
        "<h2>What was left out</h2>",
        _left_out(found),
        _bad(bad),
        "<h2>How it was made</h2>",
        _making(found),
        "<h2>Citation</h2>",
        f"<pre>{_lines(corpus['citation'])}</pre>"
        if corpus["citation"]
        else '<p class="none">The corpus names nobody to cite.</p>',
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{chr(10).join(body)}\n</body></html>\n'


def _text(value: Any) -> str:
    return escape(readable(str(value)))


def _lines(text: str) -> str:
    return "\n".join(_text(line) for line in text.splitlines())


def _tiles(found: Mapping[str, Any]) -> str:
    def total(name: str) -> int:
        return sum(found["splits"][split][name] for split in SPLITS)

    tiles = [
        (f"{total('pieces'):,}", "pieces"),
        (hours(total("centiseconds")), "of music"),
        (f"{total('notes'):,}", "notes"),
        (f"{total('copies'):,}", "copies, variants included"),
        (f"{total('records'):,}", f"records in {found['shards']} shards"),
        (_size(found["bytes"]), "on disk"),
    ]
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{_text(a)}</b><span>{_text(b)}</span></div>' for a, b in tiles)
        + "</div>"
    )


def _size(count: int) -> str:
    if count >= 1 << 30:
        return f"{count / (1 << 30):,.2f} GiB"
    return f"{count / (1 << 20):,.1f} MiB" if count >= 1 << 20 else f"{count / 1024:,.1f} KiB"


def _table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Iterable[int] = (), wide: Iterable[int] = ()
) -> str:
    """A table; the columns `numbers` stand to the right, the columns `wide` may break inside a word."""
    classes = {**dict.fromkeys(numbers, " class=n"), **dict.fromkeys(wide, " class=w")}

    def cell(tag: str, place: int, value: Any) -> str:
        return f"<{tag}{classes.get(place, '')}>{_text(value)}</{tag}>"

    lines = ["<tr>" + "".join(cell("th", place, name) for place, name in enumerate(head)) + "</tr>"]
    lines += ["<tr>" + "".join(cell("td", place, value) for place, value in enumerate(row)) + "</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>" if len(lines) > 1 else '<p class="none">Nothing.</p>'


def _splits(found: Mapping[str, Any]) -> str:
    head = ("split", "items", "pieces", "length", "notes", "copies", "records", unit_of(found["features"]))
    rows = []
    for split in SPLITS:
        value = found["splits"][split]
        counts = [f"{value[name]:,}" for name in ("notes", "copies", "records", "tokens")]
        rows.append(
            [split, f"{found['items'].get(split, 0):,}", f"{value['pieces']:,}", hours(value["centiseconds"]), *counts]
        )
    return _table(head, rows, range(1, len(head)))


def _notes(found: Mapping[str, Any]) -> str:
    crossing = crossing_lines(found)
    lines = [_text(report) for report in found["reports"]]
    if crossing:
        shown = "; ".join(map(_text, crossing[:_MOST_ROWS]))
        lines.append(f"The corpus itself lets {crossing_counts(found)} cross its splits: {shown}.")
    return "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>" if lines else ""


def _example(example: Example) -> str:
    width, height = _ROLL_SIZE
    picture = data_uri(roll(example.piece, width, height))
    shown = (
        f"the first {SHOWN_SECONDS:.0f} s of {example.seconds:.0f} s"
        if example.seconds > SHOWN_SECONDS
        else f"{example.seconds:.0f} s"
    )
    caption = (
        f"{_text(example.item)} <small class=under>{_text(example.split)}, {shown}, decoded from the shard</small>"
    )
    image = f'<img alt="Piano roll of {_text(example.item)}" src="{picture}">'
    return f"<figure><figcaption>{caption}</figcaption>{image}</figure>"


def _charts(found: Mapping[str, Any]) -> str:
    def series(name: str) -> dict[str, list[int]]:
        return {split: found["splits"][split][name] for split in SPLITS}

    low, high = _octaves(series("pitch"))
    octaves = {pitch - low: f"C{pitch // 12 - 1}" for pitch in range(low, high, 12)}
    pitches = {split: counts[low:high] for split, counts in series("pitch").items()}
    velocities = {place: str(place * VELOCITY_BIN + 1) for place in range(0, 128 // VELOCITY_BIN, 8)}
    voices = {count: f"{count}{'+' if count == MOST_VOICES else ''}" for count in range(0, MOST_VOICES + 1, 2)}
    names = [_clock(edge) for edge in LENGTH_EDGES]
    lengths = {place: f"<{name}" for place, name in enumerate(names)} | {len(names): "longer"}
    return (
        '<div class="charts">'
        + share_chart("Pitch", pitches, octaves, "notes")
        + share_chart("Velocity", series("velocity"), velocities, "notes")
        + share_chart("Notes sounding at once", series("polyphony"), voices, "time")
        + share_chart("Length of a piece", series("lengths"), lengths, "pieces")
        + "</div>"
    )


def _octaves(counts: Mapping[str, Sequence[int]]) -> tuple[int, int]:
    """First pitch and the pitch after the last of the whole octaves that hold notes."""
    played = [pitch for values in counts.values() for pitch, count in enumerate(values) if count] or [60]
    return min(played) // 12 * 12, min(128, (max(played) // 12 + 1) * 12)


def _clock(seconds: int) -> str:
    return f"{seconds} s" if seconds < 60 else f"{seconds // 60} min"


def _left_out(found: Mapping[str, Any]) -> str:
    rows = [
        (f"inputs {status}", reason, f"{count:,}")
        for status in ("skipped", "quarantined")
        for reason, count in found["ledger"][status].items()
    ]
    rows += [("copies dropped", reason, f"{count:,}") for reason, count in found["dropped_copies"].items()]
    rows += [
        ("files not read", extension or "no extension", f"{count:,}")
        for extension, count in found["ignored_files"].items()
    ]
    return _table(("what", "reason", "how many"), rows, (2,))


def _bad(bad: Sequence[Mapping[str, Any]]) -> str:
    """Quarantined inputs in full view, skipped ones folded away."""
    parts = []
    for status, shown in (("quarantined", " open"), ("skipped", "")):
        lines = [line for line in bad if line["status"] == status]
        if lines:
            table = _table(
                ("input", "reason", "what is known", "byte"), map(_bad_row, lines[:_MOST_ROWS]), (3,), (0, 2)
            )
            more = (
                f"<p class=none>And {len(lines) - _MOST_ROWS:,} more in items.jsonl.</p>"
                if len(lines) > _MOST_ROWS
                else ""
            )
            parts.append(f"<details{shown}><summary>{len(lines):,} inputs {status}</summary>{table}{more}</details>")
    return "".join(parts)


def _bad_row(line: Mapping[str, Any]) -> tuple[Any, ...]:
    offset = line.get("offset")
    return line["name"], line["reason"], line.get("message") or "", "" if offset is None else offset


def _making(found: Mapping[str, Any]) -> str:
    representation = found["representation"]
    rows: Iterator[tuple[str, Any]] = iter(
        [
            ("representation", representation["name"]),
            *((f"{representation['name']}: {name}", value) for name, value in representation["settings"].items()),
            ("fingerprint", found["fingerprint"]),
        ]
    )
    features = [
        (name, spec["dtype"], spec["shape"], spec["unit"], spec["doc"]) for name, spec in found["features"].items()
    ]
    return _table(("setting", "value"), rows, wide=(1,)) + _table(
        ("feature", "type", "shape", "unit", "what it is"), features
    )
