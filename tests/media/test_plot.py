"""Figures as pictures: curves lie where their values are, a matrix is darker where it is greater."""

import io

import numpy as np
import PIL.Image
import pytest

from media.plot import HEIGHT, WIDTH, Axis, curve_png, matrix_png

BLUE, RED = np.array((45, 84, 196)), np.array((206, 72, 62))


def pixels(png):
    return np.asarray(PIL.Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def near(image, colour):
    """Rows and columns of the pixels that are nearly of a colour."""
    return np.nonzero(np.abs(image - colour).sum(axis=2) < 60)


def test_a_curve_rises_where_its_values_rise():
    image = pixels(curve_png({"nats": [0, 1, 2, 3]}, "Rising", "step", "nats"))
    assert image.shape == (HEIGHT, WIDTH, 3)
    rows, columns = near(image, BLUE)
    assert rows[columns.argmin()] > HEIGHT / 2 > rows[columns.argmax()]
    assert columns.max() - columns.min() > 600


def test_a_value_that_is_no_number_leaves_a_gap_and_a_lonely_value_is_a_dot():
    values = [1.0] * 40 + [float("nan")] * 40 + [float("inf")] + [1.0]
    _, columns = near(pixels(curve_png({"a": values}, "Gap", "step", "nats")), BLUE)
    gap = np.diff(np.unique(columns))
    assert (gap > 1).sum() == 1
    assert gap.max() > 200


def test_several_curves_have_colours_and_names_at_the_right_of_them():
    image = pixels(curve_png({"falling": [3, 2, 1], "rising": [1, 2, 3]}, "Two", "step", "nats"))
    assert len(near(image, BLUE)[0]) and len(near(image, RED)[0])
    alone = pixels(curve_png({"falling": [3, 2, 1]}, "Two", "step", "nats"))
    names = slice(60, 110), slice(WIDTH - 90, WIDTH)
    assert (image[names].sum(axis=2) < 300).sum() > (alone[names].sum(axis=2) < 300).sum()


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [float("nan")]}, {"a": [7.0]}, {"a": [1e-30, 2e30]}])
def test_little_or_odd_values_still_make_a_picture(series):
    assert pixels(curve_png(series, "Odd", "step", "nats")).shape == (HEIGHT, WIDTH, 3)


def test_axes_have_round_ticks_inside():
    assert Axis(0.03, 1.02, 0, 1).ticks() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert Axis(-3, 3, 0, 1).ticks() == [-3, -2, -1, 0, 1, 2, 3]


def test_a_matrix_is_darker_where_it_is_greater_and_begins_at_the_top():
    image = pixels(matrix_png(np.array([[1.0, 0.5], [0.0, 1.0]]), "Matrix", "bar", "cosine"))
    top, left, side = 64, 72, 560
    quarter, three = side // 4, 3 * side // 4
    corner = {
        (row, column): image[top + row, left + column].sum() for row in (quarter, three) for column in (quarter, three)
    }
    assert corner[quarter, quarter] == corner[three, three] < corner[quarter, three] < corner[three, quarter]


@pytest.mark.parametrize("size", [0, 1, 3, 561, 1300])
def test_a_matrix_of_any_size_makes_a_picture(size):
    matrix = np.full((size, size), np.nan)
    assert max(pixels(matrix_png(matrix, "Size", "bar", "cosine")).shape) < 720
