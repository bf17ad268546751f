"""Small pictures for a page that needs nothing else: bar charts as SVG, images as PNG data URIs."""

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

COLOURS = {"train": "#2d54c4", "validation": "#ba760e", "test": "#168a68"}
_WIDTH, _HEIGHT = 520, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 10, 26


def share_chart(title: str, series: Mapping[str, Sequence[int]], ticks: Mapping[int, str], unit: str) -> str:
    """An SVG of histograms with the same bins: train as bars, other splits as stepped lines, each a share of its sum.

    Args:
        title: read aloud instead of the picture.
        series: split -> counts [bin]; a split without any is left out.
        ticks: bin -> label below it.
        unit: what a share is a share of ("notes").
    """
    shares = {split: np.asarray(counts) / sum(counts) for split, counts in series.items() if sum(counts)}
    if not shares:
        return f'<p class="none">{escape(title)}: nothing to show.</p>'
    bins = len(next(iter(shares.values())))
    top = max(float(share.max()) for share in shares.values())
    first, *rest = shares
    body = [_axis(top, bins, ticks), _bars(shares[first], top, COLOURS[first])]
    body += [_line(shares[split], top, COLOURS[split]) for split in rest]
    legend = " ".join(f'<span class="key" style="--c:{COLOURS[split]}">{escape(split)}</span>' for split in shares)
    return (
        f"<figure><figcaption>{escape(title)} <small>share of {escape(unit)}</small> {legend}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(body)}</svg></figure>'
    )


def _x(place: float, bins: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * place / bins


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * value / top


def _axis(top: float, bins: int, ticks: Mapping[int, str]) -> str:
    lines = []
    for value in (0.0, top / 2, top):
        y = _y(value, top)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{100 * value:.3g}%</text>')
    for place, label in ticks.items():
        x = _x(place + 0.5, bins)
        lines.append(f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(label)}</text>')
    return "".join(lines)


def _bars(share: npt.NDArray[Any], top: float, colour: str) -> str:
    bars, width = [], _x(1, len(share)) - _x(0, len(share))
    for place, value in enumerate(share.tolist()):
        if value:
            x, y = _x(place, len(share)), _y(value, top)
            height = _HEIGHT - _BOTTOM - y
            bars.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width - 0.6, 0.6):.1f}" height="{height:.1f}"/>')
    return f'<g fill="{colour}" opacity="0.75">{"".join(bars)}</g>'


def _line(share: npt.NDArray[Any], top: float, colour: str) -> str:
    points = []
    for place, value in enumerate(share.tolist()):
        y = f"{_y(value, top):.1f}"
        points += [f"{_x(place, len(share)):.1f},{y}", f"{_x(place + 1, len(share)):.1f},{y}"]
    return f'<polyline fill="none" stroke="{colour}" stroke-width="1.6" points="{" ".join(points)}"/>'


def png(image: npt.NDArray[np.uint8]) -> bytes:
    """A picture [row, column, red green blue] as PNG, the same bytes wherever zlib is the same."""
    height, width, _ = image.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, width * 3)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def data_uri(image: npt.NDArray[np.uint8]) -> str:
    """A picture as the address of an <img>."""
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()
