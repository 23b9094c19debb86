"""Contact sheets: every picture is where it belongs, and no caption is lost or overlaps another."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from diptych import Image
from diptych.errors import InvalidInput
from diptych.sheet import Panel, contact_sheet

RED, BLUE = (255, 0, 0), (0, 0, 255)


def flat(colour, size=(64, 64)):
    return PIL.Image.new("RGB", size, colour)


def pixels(sheet, colour):
    """The bounding box (left, top, right, bottom) of the pixels of one colour."""
    rows, columns = np.nonzero((np.array(sheet) == colour).all(axis=2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_columns_stand_beside_each_other_and_rows_below():
    sheet = contact_sheet(
        [[Panel(flat(RED)), Panel(flat(BLUE))], [Panel(), Panel(flat((0, 255, 0)))]], edge=100
    )
    red, blue, green = (pixels(sheet, each) for each in (RED, BLUE, (0, 255, 0)))
    assert red[2] - red[0] == red[3] - red[1] == 100
    assert red[2] < blue[0]
    assert red[1] == blue[1]
    assert green[0] == blue[0]
    assert green[1] > blue[3]


@pytest.mark.parametrize("size", [(640, 320), (32, 16), (3, 300)])
def test_pictures_of_any_size_fit_and_keep_their_aspect(size):
    left, top, right, bottom = pixels(contact_sheet([[Panel(flat(RED, size))]], edge=128), RED)
    assert max(right - left, bottom - top) == 128
    assert (right - left) / (bottom - top) == pytest.approx(size[0] / size[1], rel=0.35)


def test_long_captions_make_the_sheet_taller_and_stay_in_their_column():
    short = contact_sheet([[Panel(flat(RED), ("a fox",)), Panel(flat(BLUE))]], edge=100)
    long = contact_sheet(
        [[Panel(flat(RED), ("a fox that reads " * 8, "w" * 60)), Panel(flat(BLUE))]], edge=100
    )
    assert long.width == short.width
    assert long.height > short.height
    below = np.array(long.convert("L"))[pixels(long, BLUE)[3] :, pixels(long, BLUE)[0] :]
    assert below.min() == 255


def test_titles_stand_above_their_row():
    plain = contact_sheet([[Panel(flat(RED))]])
    titled = contact_sheet([[Panel(flat(RED))]], titles=["a watercolor of a fox"])
    assert pixels(titled, RED)[1] > pixels(plain, RED)[1]


def test_what_is_transparent_is_white():
    clear = PIL.Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert np.array(contact_sheet([[Panel(Image.of(clear))]])).min() == 255


@pytest.mark.parametrize(("rows", "edge"), [([], 384), ([[]], 384), ([[Panel()]], 10)])
def test_a_sheet_of_nothing_is_refused(rows, edge):
    with pytest.raises(InvalidInput, match="a sheet needs"):
        contact_sheet(rows, edge=edge)
