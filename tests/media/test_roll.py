"""The piano roll: every note where it belongs, louder ones stronger, the pedal's tails pale, any size, any piece."""

import io

import numpy as np
import pytest

from media.roll import BACKGROUND, layout, png_bytes, roll, write_png
from schemas.music import BAR_TICKS, Controls, Notes, Piece, TempoMap

TEMPO = TempoMap.constant(1000, 1_000_000)  # one tick is a millisecond


def piece(notes, pedal=(), **more):
    """A piece of (start, end, pitch, velocity, track) with pedal (tick, value)."""
    columns = zip(*notes, strict=True) if notes else ((),) * 5
    start, end, pitch, velocity, track = columns
    ticks, values = zip(*pedal, strict=True) if pedal else ((), ())
    controls = Controls.of(ticks, [64] * len(ticks), values)
    return Piece("test", Notes.of(start, end, pitch, velocity, track=track), controls, TEMPO, **more)


def colour_at(music, image, seconds, pitch):
    """Colour in the middle of a pitch's row."""
    plot = layout(music, image.shape[1], image.shape[0])
    top, below = plot.rows(pitch)
    return image[(top + below) // 2, plot.columns(np.array([seconds]))[0]].astype(int)


def ink(colour):
    return int((np.array(BACKGROUND) - colour).clip(0).sum())


def is_grey(colour):
    return int(colour.max() - colour.min()) < 30


def test_a_note_is_coloured_from_its_onset_to_its_end_and_nowhere_else():
    music = piece([(1000, 2000, 60, 100, 0), (3000, 4000, 64, 100, 0)])
    image = roll(music)
    inside = [colour_at(music, image, second, 60) for second in (1.02, 1.5, 1.98)]
    outside = [colour_at(music, image, second, 60) for second in (0.9, 2.05, 3.5)]
    assert not any(is_grey(colour) for colour in inside)
    assert all(is_grey(colour) for colour in outside)
    assert is_grey(colour_at(music, image, 1.5, 61)) and is_grey(colour_at(music, image, 1.5, 59))


def test_higher_pitches_stand_higher():
    music = piece([(0, 1000, 60, 100, 0), (0, 1000, 72, 100, 0)])
    plot = layout(music, 400, 300)
    assert plot.rows(72)[1] <= plot.rows(60)[0]


def test_a_louder_note_is_stronger():
    music = piece([(0, 1000, 60, 20, 0), (0, 1000, 64, 70, 0), (0, 1000, 67, 127, 0)])
    image = roll(music)
    soft, medium, loud = (ink(colour_at(music, image, 0.5, pitch)) for pitch in (60, 64, 67))
    assert soft < medium < loud


def test_what_only_the_pedal_holds_is_paler_than_the_held_key():
    music = piece([(0, 1000, 60, 100, 0)], pedal=[(500, 127), (3000, 0)])
    held = roll(music)
    plot = layout(piece([(0, 3000, 60, 100, 0)]), held.shape[1], held.shape[0])
    top, below = plot.rows(60)
    tail = held[(top + below) // 2, plot.columns(np.array([2.0]))[0]].astype(int)
    key = held[(top + below) // 2, plot.columns(np.array([0.5]))[0]].astype(int)
    assert 0 < ink(tail) < ink(key)
    assert not is_grey(tail)


def test_the_pedal_is_drawn_below_the_notes_while_it_is_down():
    music = piece([(0, 4000, 60, 100, 0)], pedal=[(1000, 127), (2000, 0)])
    image, plot = roll(music), layout(music, 1600, 480)
    strip = image[plot.bottom + 4]
    columns = plot.columns(np.array([0.5, 1.5, 2.5]))
    shown = [bool((strip[column] != BACKGROUND).any()) for column in columns]
    assert shown == [False, True, False]


def test_a_repeated_note_shows_where_it_is_struck_again():
    music = piece([(0, 1000, 60, 100, 0), (1000, 2000, 60, 100, 0)])
    image = roll(music)
    assert ink(colour_at(music, image, 1.0, 60)) > ink(colour_at(music, image, 1.2, 60))


def test_each_track_has_a_colour_of_its_own():
    music = piece([(0, 1000, 60 + 4 * track, 100, track) for track in range(4)])
    image = roll(music)
    colours = {tuple(colour_at(music, image, 0.5, 60 + 4 * track)) for track in range(4)}
    assert len(colours) == 4


def test_there_is_a_line_at_every_bar():
    music = piece([(0, 8000, 60, 100, 0)], time_signatures=((0, 4, 4),))
    image, plot = roll(music), layout(music, 1600, 480)
    row = plot.rows(50)[0]
    at_bar, between = plot.columns(np.array([4.0, 2.0]))
    assert ink(image[row, at_bar].astype(int)) > ink(image[row, between].astype(int))


def test_after_an_upbeat_the_lines_are_at_the_bars():
    upbeat = {BAR_TICKS: (0, 1000)}
    music = piece([(0, 9000, 60, 100, 0)], time_signatures=((0, 4, 4),), labels=upbeat)
    image, plot = roll(music), layout(music, 1600, 480)
    row = plot.rows(50)[0]
    at_bar, between = plot.columns(np.array([5.0, 4.0]))
    assert ink(image[row, at_bar].astype(int)) > ink(image[row, between].astype(int))


@pytest.mark.parametrize("size", [(1600, 480), (320, 120), (64, 32), (7, 5), (1, 1)])
def test_the_picture_has_the_size_that_was_asked_for(size):
    width, height = size
    music = piece([(0, 500, 60, 100, 0), (0, 90_000, 21, 1, 1), (10, 20, 108, 127, 2)], time_signatures=((0, 3, 8),))
    image = roll(music, width, height)
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8


def test_a_piece_without_notes_is_an_empty_roll():
    assert roll(piece([]), 400, 200).shape == (200, 400, 3)


def test_a_note_of_no_length_is_still_seen():
    music = piece([(500, 500, 60, 100, 0), (0, 1000, 72, 100, 0)])
    assert not is_grey(colour_at(music, roll(music), 0.5, 60))


def test_bars_of_absurd_length_do_not_hang_or_fail():
    music = piece([(0, 500_000_000, 60, 100, 0)], time_signatures=((0, 1, 1 << 30), (7, 1 << 30, 1)))
    assert roll(music, 400, 200).shape == (200, 400, 3)


def test_two_pictures_of_one_piece_are_equal():
    rng = np.random.default_rng(0)
    start = rng.integers(0, 60_000, 500)
    music = Piece(
        "test", Notes.of(start, start + 300, rng.integers(21, 109, 500), rng.integers(1, 128, 500)), tempo=TEMPO
    )
    assert png_bytes(roll(music)) == png_bytes(roll(music))


def test_a_png_decodes_to_the_picture(tmp_path):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow writes PNG: pip install 'stretto[trainer]'")
    image = roll(piece([(0, 1000, 60, 100, 0)]), 300, 200)
    write_png(tmp_path / "roll.png", image)
    decoded = np.asarray(image_module.open(io.BytesIO((tmp_path / "roll.png").read_bytes())))
    assert np.array_equal(decoded, image)
