"""Pictures and masks on a model's grid, and back to the size that was asked for."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image as pillow

from diptych import pixels
from diptych.image import Image
from diptych.mask import Mask

from .geometry import Canvas

__all__ = ["blank", "crop", "grown", "place", "place_mask"]


def blank(image: Image, *, alpha: bool = False) -> pillow.Image:
    """The upright picture in RGB, transparent parts over white, or with `alpha` as they are."""
    picture = image._rgb()
    if alpha and picture.mode == "RGBA":
        return picture
    if picture.mode == "RGBA":
        picture = pillow.alpha_composite(pillow.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def grown(picture: pillow.Image, side: int = 64) -> pillow.Image:
    """The picture, enlarged if its shorter side has fewer than `side` pixels, which some refuse."""
    shorter = min(picture.size)
    if shorter >= side:
        return picture
    width, height = (math.ceil(each * side / shorter) for each in picture.size)
    return picture.resize((width, height), pillow.Resampling.LANCZOS)


def place(image: Image, canvas: Canvas, *, alpha: bool = False) -> pillow.Image:
    """The picture, as `blank` makes it, at the size that is drawn: resized as a whole, its border repeated."""
    picture = blank(image, alpha=alpha)
    if picture.size != canvas.inner:
        picture = picture.resize(canvas.inner, pillow.Resampling.LANCZOS)
    return pillow.fromarray(np.pad(np.asarray(picture), (*_borders(canvas), (0, 0)), mode="edge"))


def place_mask(mask: Mask, canvas: Canvas) -> pillow.Image:
    """The mask at the size that is drawn; what is to change a little is painted altogether.

    A soft edge is blended when the original is put back, and would be cut at one half by a pipeline.
    """
    touched = pillow.fromarray(np.where(np.asarray(mask.pil()) > 0, 255, 0).astype(np.uint8))
    if touched.size != canvas.inner:
        touched = touched.resize(canvas.inner, pillow.Resampling.BOX)
    plane = np.where(np.asarray(touched) > 0, 255, 0).astype(np.uint8)
    return pillow.fromarray(np.pad(plane, _borders(canvas), mode="edge"))


def crop(picture: pillow.Image, canvas: Canvas) -> Image:
    """The part of a drawn picture that was asked for, as a PNG of the size asked for.

    A pipeline that chose another size than the one it was given is resized to that first.
    """
    if picture.size != canvas.drawn:
        picture = picture.resize(canvas.drawn, pillow.Resampling.LANCZOS)
    picture = picture.crop(canvas.box)
    if picture.size != canvas.asked:
        picture = picture.resize(canvas.asked, pillow.Resampling.LANCZOS)
    return Image.of(pixels.encode(picture, "png"))


def _borders(canvas: Canvas) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows above and below, columns left and right of the inner picture."""
    left, top = canvas.offset
    return (
        (top, canvas.drawn[1] - canvas.inner[1] - top),
        (left, canvas.drawn[0] - canvas.inner[0] - left),
    )
