"""Curves and matrices -> PNG, for figures that a run leaves beside its music. Pillow alone, no plotting library."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from schemas.errors import MissingExtra

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

WIDTH, HEIGHT = 800, 480
"""Pixels of a picture of curves."""
SIDE = 560
"""Pixels of the field of a matrix, at most."""
_FINER = 2  # drawn so many times larger and made smaller: Pillow draws lines with steps
_LEFT, _TOP, _RIGHT, _BOTTOM = 72, 64, 24, 52
_BAR, _BAR_GAP, _BAR_LABELS = 16, 20, 48
_TITLE, _LABEL = 17, 13
_PAPER, _INK, _GREY, _LINE = (252, 252, 253), (40, 46, 58), (104, 112, 128), (222, 225, 231)
_HUES = ((45, 84, 196), (206, 72, 62), (22, 138, 104), (186, 118, 14), (124, 70, 178), (14, 128, 160), (190, 60, 130))
_DARKEST = (18, 38, 110)
_TICKS = 6

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on pixels from `first` to `last`; a vertical one goes up, so that last < first."""

    low: float
    high: float
    first: float
    last: float

    def pixel(self, value: float) -> float:
        """Where a value lies."""
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)

    def ticks(self) -> list[float]:
        """About six round values inside."""
        step = _round_step((self.high - self.low) / _TICKS)
        first = -floor(-self.low / step + 1e-9)
        return [number * step for number in range(first, floor(self.high / step + 1e-9) + 1)]


def curve_png(series: Mapping[str, Sequence[float]], title: str, x: str, y: str) -> bytes:
    """Lines over 0, 1, 2..., one a name, with a legend at their right where there are several, as PNG.

    Values that are not finite leave a gap; the vertical axis spans what is there, 0 not always included.

    Args:
        series: name -> values [point].
        title: above the picture.
        x: what is counted, below the horizontal axis.
        y: what the values are and their unit, above the vertical axis.

    Raises:
        MissingExtra: Pillow is not installed.
    """
    picture, draw = _canvas(WIDTH, HEIGHT)
    _write(draw, (_LEFT, 14), title, _TITLE, _INK)
    _write(draw, (_LEFT, 42), y, _LABEL, _GREY)
    longest = max((len(values) for values in series.values()), default=0)
    low, high = _span(value for values in series.values() for value in values)
    right = WIDTH - _RIGHT - (_legend(draw, list(series)) if len(series) > 1 else 0)
    across = Axis(0, max(longest - 1, 1), _LEFT, right)
    up = Axis(low, high, HEIGHT - _BOTTOM, _TOP)
    _grid(draw, across, up)
    _write(draw, (right, HEIGHT - 10), x, _LABEL, _GREY, "rs")
    for hue, values in zip(_cycle(len(series)), series.values(), strict=True):
        _curve(draw, values, across, up, hue)
    return _png(picture)


def matrix_png(matrix: npt.NDArray[Any], title: str, axis: str, value: str) -> bytes:
    """A square matrix with values in 0..1, darker where greater, as PNG; its first row is at the top.

    Args:
        matrix: float [unit, unit]; what lies outside 0..1 is shown as 0 or 1, what is not finite as 0.
        title: above the picture.
        axis: what both axes count.
        value: what the values are, above the scale.

    Raises:
        MissingExtra: Pillow is not installed.
    """
    units = max(len(matrix), 1)
    side = max(SIDE // units, 1) * units
    # A matrix larger than the picture is made smaller; then a point is a mean of several.
    side = side if side <= SIDE else SIDE
    right = _LEFT + side
    picture, draw = _canvas(right + _BAR_GAP + _BAR + _BAR_LABELS, _TOP + side + _BOTTOM)
    _write(draw, (_LEFT, 14), title, _TITLE, _INK)
    if len(matrix):
        _paste(picture, matrix, (_LEFT, _TOP, right, _TOP + side))
    scale = np.linspace(1, 0, 256)[:, None]
    _paste(picture, scale, (right + _BAR_GAP, _TOP, right + _BAR_GAP + _BAR, _TOP + side))
    _write(draw, (right + _BAR_GAP + _BAR, 42), value, _LABEL, _GREY, "ra")
    for level in (0, 0.25, 0.5, 0.75, 1):
        at = (right + _BAR_GAP + _BAR + 5, _TOP + side * (1 - level))
        _write(draw, at, f"{level:g}", _LABEL, _GREY, "lm")
    _unit_ticks(draw, units, side)
    _write(draw, (right, _TOP + side + _BOTTOM - 10), axis, _LABEL, _GREY, "rs")
    return _png(picture)


def _canvas(width: int, height: int) -> tuple[Image, ImageDraw]:
    try:
        import PIL.Image
        import PIL.ImageDraw
    except ImportError as error:
        raise MissingExtra("pillow", "trainer") from error
    picture = PIL.Image.new("RGB", (width * _FINER, height * _FINER), _PAPER)
    return picture, PIL.ImageDraw.Draw(picture)


def _png(picture: Image) -> bytes:
    buffer = io.BytesIO()
    picture.reduce(_FINER).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _write(draw: ImageDraw, at: tuple[float, float], text: str, size: int, colour: Colour, anchor: str = "la") -> None:
    """Text at a point in pixels; `anchor` says which point of the text lies there, as Pillow has it."""
    import PIL.ImageFont

    font = PIL.ImageFont.load_default(size * _FINER)
    draw.text((at[0] * _FINER, at[1] * _FINER), text, colour, font, anchor)


def _line(draw: ImageDraw, points: Sequence[tuple[float, float]], colour: Colour, width: float = 1) -> None:
    fine = [(column * _FINER, row * _FINER) for column, row in points]
    draw.line(fine, colour, round(width * _FINER), "curve")


def _span(values: Iterable[float]) -> tuple[float, float]:
    """From the least to the greatest finite value with a little air, never nothing."""
    finite = [value for value in values if isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    air = (high - low) * 0.05 or max(abs(high), 1.0) * 0.05
    return low - air, high + air


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is no smaller."""
    power = 10.0 ** floor(log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * (1 - 1e-9))


def _grid(draw: ImageDraw, across: Axis, up: Axis) -> None:
    step = _round_step((up.high - up.low) / _TICKS)
    places = max(0, -floor(log10(step) + 1e-9))
    plain = places <= 5 and max(abs(up.low), abs(up.high)) < 1e6
    for value in up.ticks():
        row = up.pixel(value)
        _line(draw, [(across.first, row), (across.last, row)], _LINE)
        _write(draw, (across.first - 8, row), f"{value:.{places}f}" if plain else f"{value:.4g}", _LABEL, _GREY, "rm")
    for value in across.ticks():
        if value == round(value):
            column = across.pixel(value)
            _line(draw, [(column, up.first), (column, up.first + 4)], _GREY)
            _write(draw, (column, up.first + 8), f"{value:g}", _LABEL, _GREY, "ma")
    _line(draw, [(across.first, up.first), (across.last, up.first)], _GREY)


def _curve(draw: ImageDraw, values: Sequence[float], across: Axis, up: Axis, hue: Colour) -> None:
    stretch: list[tuple[float, float]] = []
    for place, value in enumerate([*values, float("nan")]):
        if isfinite(value):
            stretch.append((across.pixel(place), up.pixel(value)))
            continue
        if len(stretch) == 1:
            _dot(draw, stretch[0], hue)
        elif stretch:
            _line(draw, stretch, hue, 2)
        stretch = []


def _dot(draw: ImageDraw, at: tuple[float, float], hue: Colour) -> None:
    column, row = at[0] * _FINER, at[1] * _FINER
    draw.ellipse((column - 3 * _FINER, row - 3 * _FINER, column + 3 * _FINER, row + 3 * _FINER), hue)


def _legend(draw: ImageDraw, names: Sequence[str]) -> float:
    """Names and colours at the right edge, where no curve comes; how many pixels they take from the field."""
    import PIL.ImageFont

    font = PIL.ImageFont.load_default(_LABEL * _FINER)
    width = min(max(font.getlength(name) for name in names) / _FINER + 36, WIDTH / 2)
    left = WIDTH - _RIGHT - width
    for place, (hue, name) in enumerate(zip(_cycle(len(names)), names, strict=True)):
        row = _TOP + 8 + 20 * place
        _line(draw, [(left, row), (left + 20, row)], hue, 2)
        _write(draw, (left + 28, row), name, _LABEL, _INK, "lm")
    return width + 16


def _cycle(count: int) -> list[Colour]:
    return [_HUES[place % len(_HUES)] for place in range(count)]


def _paste(picture: Image, values: npt.NDArray[Any], box: Box) -> None:
    """Fills a box with values in 0..1, paper at 0 and darkest at 1."""
    import PIL.Image

    strength = np.clip(np.nan_to_num(np.asarray(values, np.float64), posinf=1, neginf=0), 0, 1)[:, :, None]
    pixels = (np.array(_PAPER) + (np.array(_DARKEST) - np.array(_PAPER)) * strength).round().astype(np.uint8)
    left, top, right, bottom = (round(edge * _FINER) for edge in box)
    size = (right - left, bottom - top)
    grows = size[0] >= pixels.shape[1] and size[1] >= pixels.shape[0]
    how = PIL.Image.Resampling.NEAREST if grows else PIL.Image.Resampling.BOX
    picture.paste(PIL.Image.fromarray(pixels).resize(size, how), (left, top))


def _unit_ticks(draw: ImageDraw, units: int, side: int) -> None:
    """Labels in the middle of the units that they number from 1."""
    step = max(1, round(_round_step(units / 10)))
    for unit in [0, *range(step - 1, units, step)]:
        if unit == 0 and step == 1:
            continue
        middle = (unit + 0.5) * side / units
        _write(draw, (_LEFT + middle, _TOP + side + 8), str(unit + 1), _LABEL, _GREY, "ma")
        _write(draw, (_LEFT - 8, _TOP + middle), str(unit + 1), _LABEL, _GREY, "rm")
