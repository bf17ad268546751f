"""Piece -> picture: a piano roll with time from left to right and pitch from low to high.

What is seen: a hue for each track, stronger for louder notes; a dark edge where a key is struck; a pale tail where only
the pedal holds the note; the pedal itself in the strip below; lines at every bar (or at round seconds, where the piece
has no bars) and at every C. Rasterised with NumPy alone; Pillow is needed only to write a PNG.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from media.bars import bars_of
from media.storage import write_atomic
from schemas.errors import MissingExtra
from schemas.music import InvalidMusic, Piece, apply_sustain

Image = NDArray[np.uint8]
"""Picture [row, column, red green blue]."""

BACKGROUND = (252, 252, 253)
_BLACK_KEYS = (243, 244, 247)
_LINE = (222, 225, 231)
_OCTAVE = (204, 208, 217)
_TEXT = (104, 112, 128)
_PEDAL = (176, 184, 200)
_HUES = (
    (45, 84, 196),
    (206, 72, 62),
    (22, 138, 104),
    (186, 118, 14),
    (124, 70, 178),
    (14, 128, 160),
    (190, 60, 130),
    (96, 108, 36),
)

_LEFT, _BOTTOM, _STRIP = 34, 26, 5
_SMALLEST = (160, 96)
_LABEL_PIXELS = 90
_BAR_PIXELS = 14
_EDGED = 6
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)

# Digits and the few signs of the axes, three columns by five rows, a row being an octal digit.
_GLYPHS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717", "6": "74757", "7": "71222",
    "8": "75757", "9": "75717", "C": "74447", "-": "00700", ":": "02020", ".": "00002", "s": "03626",
}  # fmt: skip
_SCALE = 2


@dataclass(frozen=True)
class Plot:
    """Where things lie in the picture: the field of notes, in pixels, and what it spans."""

    left: int
    top: int
    right: int
    bottom: int
    low: int
    high: int
    seconds: float

    def columns(self, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Pixel column of each time."""
        return self.left + np.floor(seconds * ((self.right - self.left) / self.seconds)).astype(np.int64)

    def edges(self) -> NDArray[np.int64]:
        """First pixel row of each pitch from `high` down to `low`, then the row below the last."""
        return np.linspace(self.top, self.bottom, self.high - self.low + 2).round().astype(np.int64)

    def rows(self, pitch: int) -> tuple[int, int]:
        """First pixel row of a pitch and the row below its last."""
        edges = self.edges()
        return int(edges[self.high - pitch]), int(edges[self.high - pitch + 1])


def roll(piece: Piece, width: int = 1600, height: int = 480, pitch_range: tuple[int, int] | None = None) -> Image:
    """Returns the piano roll of a piece, uint8 [height, width, 3].

    Args:
        piece: what is shown.
        width: pixels; the whole piece always fits.
        height: pixels. Below 160 x 96 the axes are left out.
        pitch_range: lowest and highest pitch shown; None shows what is played, two octaves at least.
    """
    held = apply_sustain(piece)
    plot = layout(held, width, height, pitch_range)
    image = np.full((height, width, 3), BACKGROUND, np.uint8)
    _draw_keys(image, plot)
    _draw_grid(image, plot, _grid(held, plot))
    _draw_notes(image, plot, held, piece)
    if plot.left:
        _draw_pedal(image, plot, piece)
        _draw_axes(image, plot)
    return image


def layout(piece: Piece, width: int, height: int, pitch_range: tuple[int, int] | None = None) -> Plot:
    """Returns where the notes of a piece lie in a picture of this size."""
    low, high = pitch_range or _played_range(piece)
    seconds = max(piece.seconds, 1e-3)
    if width < _SMALLEST[0] or height < _SMALLEST[1]:
        return Plot(0, 0, width, height, low, high, seconds)
    return Plot(_LEFT, 0, width, height - _BOTTOM, low, high, seconds)


def png_bytes(image: Image) -> bytes:
    """Returns a picture as PNG. Raises MissingExtra without Pillow."""
    try:
        import PIL.Image
    except ImportError as error:
        raise MissingExtra("pillow", "trainer") from error
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def write_png(path: str | os.PathLike[str], image: Image) -> None:
    """Writes a picture as a PNG file."""
    write_atomic(path, png_bytes(image))


def _played_range(piece: Piece) -> tuple[int, int]:
    """What is played with a little air above and below, two octaves at least."""
    pitches = piece.notes.pitch
    low, high = (int(pitches.min()) - 2, int(pitches.max()) + 2) if len(pitches) else (60, 60)
    missing = max(0, 24 - (high - low))
    low = min(max(low - (missing + 1) // 2, 0), 127 - 24)
    return low, min(max(high + missing // 2, low + 24), 127)


def _draw_keys(image: Image, plot: Plot) -> None:
    for pitch in range(plot.low, plot.high + 1):
        top, below = plot.rows(pitch)
        if pitch % 12 in (1, 3, 6, 8, 10):
            image[top:below, plot.left : plot.right] = _BLACK_KEYS
        if pitch % 12 == 0 and below < plot.bottom:
            image[below - 1, plot.left : plot.right] = _OCTAVE


def _grid(piece: Piece, plot: Plot) -> NDArray[np.float64]:
    """Seconds of the vertical lines: bars where there are any and they are not too close, else round seconds."""
    bars = _bar_seconds(piece)
    nearest = (plot.right - plot.left) / plot.seconds * np.diff(bars).min(initial=np.inf)
    return bars if len(bars) > 1 and nearest >= _BAR_PIXELS else np.arange(0, plot.seconds, _step(plot))


def _bar_seconds(piece: Piece) -> NDArray[np.float64]:
    try:
        bars = [bar.start for bar in bars_of(piece)] if piece.time_signatures else []
    except InvalidMusic:  # a hostile file may claim bars of one tick: more lines than pixels show nothing
        bars = []
    return piece.tempo.seconds(np.array(bars, np.int64))


def _step(plot: Plot) -> float:
    """The smallest round number of seconds whose labels do not touch."""
    wanted = plot.seconds * _LABEL_PIXELS / max(plot.right - plot.left, 1)
    return next((step for step in _STEPS if step >= wanted), wanted)


def _draw_grid(image: Image, plot: Plot, seconds: NDArray[np.float64]) -> None:
    columns = plot.columns(seconds)
    image[plot.top : plot.bottom, columns[columns < plot.right]] = _LINE


def _draw_notes(image: Image, plot: Plot, held: Piece, piece: Piece) -> None:
    """Paints tails, then bodies, then the edges of the keys: later paint covers earlier, louder covers softer."""
    field = np.full((plot.high - plot.low + 1, plot.right - plot.left, 3), -1, np.int16)
    released = _released(held, piece)
    strong, edge, pale = _note_colours(held)
    starts, ends = held.start_seconds(), held.end_seconds()
    order = np.argsort(held.notes.velocity, kind="stable")
    order = order[(held.notes.pitch[order] >= plot.low) & (held.notes.pitch[order] <= plot.high)]
    rows = plot.high - held.notes.pitch.astype(np.int64)
    first, last = plot.columns(starts) - plot.left, plot.columns(ends) - plot.left
    let_go = np.clip(plot.columns(released) - plot.left, first + 1, None)
    _paint(field, rows[order], first[order], last[order], pale[order])
    _paint(field, rows[order], first[order], let_go[order], strong[order])
    # The edge tells a repeated note from a held one; on notes of a pixel or two it would hide how loud they are.
    order = order[last[order] - first[order] >= _EDGED]
    _paint(field, rows[order], first[order], first[order], edge[order])
    _blow_up(image, plot, field)


def _released(held: Piece, piece: Piece) -> NDArray[np.float64]:
    """When the key of each held note is let go, in seconds; matched by onset, because the pedal may remove notes."""
    ends = held.end_seconds()
    keys = dict(zip(_identities(piece), piece.end_seconds().tolist(), strict=True))
    own = np.array([keys.get(key, end) for key, end in zip(_identities(held), ends.tolist(), strict=True)], np.float64)
    return np.minimum(own, ends)


def _identities(piece: Piece) -> Iterator[tuple[int, int, int]]:
    notes = piece.notes
    return zip(notes.start.tolist(), notes.pitch.tolist(), notes.track.tolist(), strict=True)


def _note_colours(piece: Piece) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.int16]]:
    """Colour of the body, the struck edge and the pedal's tail of each note, [note, 3]."""
    _, track = np.unique(piece.notes.track, return_inverse=True)
    hue = np.array(_HUES, np.float64)[track.reshape(-1) % len(_HUES)]
    loud = (0.28 + 0.72 * piece.notes.velocity.astype(np.float64) / 127)[:, None]
    paper = np.array(BACKGROUND, np.float64)
    body = paper + (hue - paper) * loud
    tail = paper + (hue - paper) * loud * 0.3
    return body.astype(np.int16), (hue * 0.55).astype(np.int16), tail.astype(np.int16)


def _paint(
    field: NDArray[np.int16],
    rows: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    colours: NDArray[np.int16],
) -> None:
    """Colours the columns first..last-1 (one at least) of each row; where notes overlap the later of them wins."""
    width = field.shape[1]
    first = np.clip(first, 0, width - 1)
    lengths = np.clip(last, first + 1, width) - first
    note = np.repeat(np.arange(len(rows)), lengths)
    within = np.arange(len(note)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    field[rows[note], first[note] + within] = colours[note]


def _blow_up(image: Image, plot: Plot, field: NDArray[np.int16]) -> None:
    """Copies the field, one row a pitch, to the rows of the picture, with a gap between pitches where there is room."""
    edges = plot.edges()
    pitch = np.repeat(np.arange(len(field)), np.diff(edges))
    pixels = field[pitch]
    gap = np.isin(np.arange(plot.top, plot.bottom), edges[1:] - 1) & (np.diff(edges)[pitch] >= 4)
    area = image[plot.top : plot.bottom, plot.left : plot.right]
    shown = (pixels[:, :, 0] >= 0) & ~gap[:, None]
    area[shown] = pixels[shown]


def _draw_pedal(image: Image, plot: Plot, piece: Piece) -> None:
    top = plot.bottom + 2
    for first, last in _pedal_seconds(piece, plot.seconds):
        left, right = plot.columns(np.array([first, last]))
        image[top : top + _STRIP, left : max(min(int(right), plot.right), int(left) + 1)] = _PEDAL


def _pedal_seconds(piece: Piece, end: float) -> Iterator[tuple[float, float]]:
    """Stretches of time in which a pedal is down, track by track."""
    controls = piece.controls
    for track in np.unique(controls.track[controls.number == 64]).tolist():
        own = (controls.number == 64) & (controls.track == track)
        times, down = piece.tempo.seconds(controls.tick[own]), controls.value[own] >= 64
        for time, later, pressed in zip(times, np.append(times[1:], end), down, strict=True):
            if pressed and later > time:
                yield float(time), float(later)


def _draw_axes(image: Image, plot: Plot) -> None:
    image[plot.top : plot.bottom, plot.left - 1] = _OCTAVE
    image[plot.bottom, plot.left - 1 : plot.right] = _OCTAVE
    for pitch in range(-(-plot.low // 12) * 12, plot.high + 1, 12):
        top, below = plot.rows(pitch)
        _write(image, f"C{pitch // 12 - 1}", (top + below) // 2 - 5, 4)
    step = _step(plot)
    for second in np.arange(0, plot.seconds, step).tolist():
        _write(image, _clock(second, step), plot.bottom + 12, int(plot.columns(np.array([second]))[0]))


def _clock(second: float, step: float) -> str:
    if step < 1:
        return f"{second:.1f}s"
    minutes, rest = divmod(round(second), 60)
    return f"{minutes}:{rest:02d}"


def _write(image: Image, text: str, top: int, left: int) -> None:
    """Draws text of the axes' alphabet; what would pass an edge of the picture is left out."""
    rows = np.array([[int(row) for row in _GLYPHS[character]] for character in text])
    dots = np.pad((rows[:, :, None] >> np.array([2, 1, 0])) & 1, ((0, 0), (0, 0), (0, 1)))
    mask = np.kron(dots.transpose(1, 0, 2).reshape(5, -1), np.ones((_SCALE, _SCALE), np.int64)).astype(bool)
    top = min(max(top, 0), image.shape[0] - mask.shape[0])
    if 0 <= left <= image.shape[1] - mask.shape[1]:
        image[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = _TEXT
