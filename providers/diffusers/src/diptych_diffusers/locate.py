"""Where an edit took place: a mask from how far each latent was moved.

The mask costs nothing, since the edit measures it on its way. What lies outside it can be put back,
so that an edit of one thing leaves the rest of the picture as it was.
"""

from __future__ import annotations

import numpy as np
from PIL import Image as pillow
from PIL import ImageDraw
from torch import Tensor
from torch.nn import functional

from diptych.mask import Mask

from .geometry import Canvas

__all__ = ["located"]

CONTRAST = 3.3
"""An edit has a place when what moved most moved this many times as far as what moved least. On the
pocket model: 4.3 to 18 for one thing changed, 1.5 to 2.7 for a new background or style."""

EDGE = 0.2
"""Where the edit ends, between what moved least (0) and most (1)."""

STILL = 1e-4
"""Latents are about 1 in size: what moved less than this did not move."""


def located(moved: Tensor, drawn: Canvas) -> Mask | None:
    """The mask of an edit at the size asked for, white where it took place; None if it did everywhere.

    `moved` is (C, h, w), absolute distances in latent space. The mask is empty if nothing moved.
    """
    heat = moved.mean(0)[None, None].float().cpu()
    smooth = functional.avg_pool2d(
        functional.pad(heat, (1, 1, 1, 1), mode="replicate"), 3, stride=1
    )
    least, most = (float(smooth.quantile(each)) for each in (0.2, 0.995))
    if most > max(STILL, CONTRAST * least):
        limit = least + EDGE * (most - least)
    elif most > STILL:
        return None
    else:
        limit = STILL
    width, height = drawn.drawn
    fine = functional.interpolate(smooth, (height, width), mode="bilinear")[0, 0]
    left, top, right, bottom = drawn.box
    plane = pillow.fromarray(255 * (fine > limit).numpy()[top:bottom, left:right].astype(np.uint8))
    cell = max(1, width // heat.shape[-1])
    mask = Mask.from_array(np.asarray(_whole(plane))).grow(cell // 2)
    if plane.size != drawn.asked:
        mask = mask.fitted(drawn.asked, "resize")
    return mask.feather(cell / 2)


def _whole(plane: pillow.Image) -> pillow.Image:
    """A black and white picture with its holes filled: what the border's black does not reach."""
    reached = pillow.new("L", (plane.width + 2, plane.height + 2))
    reached.paste(plane, (1, 1))
    ImageDraw.floodfill(reached, (0, 0), 128)
    return reached.crop((1, 1, plane.width + 1, plane.height + 1)).point(
        lambda level: 0 if level == 128 else 255
    )
