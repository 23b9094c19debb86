"""From the size that was asked for to the size that is drawn, and back. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .recipe import Recipe

__all__ = ["Canvas", "canvas"]

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Canvas:
    """How a picture of `asked` size is drawn.

    The picture is drawn at `inner` size, padded to `drawn`, which is on the model's grid; `inner`
    differs from `asked` when the model does not draw so small or so large. All are (width, height)
    in pixels; `offset` is where the inner picture lies.
    """

    asked: Size
    inner: Size
    drawn: Size

    @property
    def offset(self) -> tuple[int, int]:
        """Left and top border of the inner picture."""
        return (self.drawn[0] - self.inner[0]) // 2, (self.drawn[1] - self.inner[1]) // 2

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The inner picture as left, top, right, bottom."""
        left, top = self.offset
        return left, top, left + self.inner[0], top + self.inner[1]


def canvas(asked: Size, recipe: Recipe) -> Canvas:
    """The canvas for a picture of `asked` size.

    A picture of fewer or more pixels than the model draws well is drawn at the nearest number, in
    the same proportion, and resized.
    """
    pixels = asked[0] * asked[1]
    scale = math.sqrt(min(max(pixels, recipe.least), recipe.most) / pixels)
    inner = asked if scale == 1 else tuple(max(1, round(side * scale)) for side in asked)
    drawn = tuple(math.ceil(side / recipe.multiple) * recipe.multiple for side in inner)
    return Canvas(asked, (inner[0], inner[1]), (drawn[0], drawn[1]))
