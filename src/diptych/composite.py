"""Putting an edit and its original together, exactly: what was protected stays bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import pixels
from .errors import InvalidInput
from .image import Image
from .mask import Mask
from .sniff import MAX_PIXELS

if TYPE_CHECKING:
    import PIL.Image

__all__ = ["Composite", "composite", "pad"]

_LOSSLESS: dict[str, dict[str, Any]] = {"png": {}, "webp": {"lossless": True, "exact": True}}
_WEBP_EDGE = 16_383


@dataclass(frozen=True, slots=True)
class Composite:
    """An edit that was put into its original.

    `outside_mean` and `outside_max` (0..255) say how much the model itself had changed where the
    mask is 0: absolute differences of the 8-bit channels, weighted by alpha where there is one; 0
    when the mask is 0 nowhere. `resized_from` is the size of the edit, when it had to be resized.
    """

    image: Image
    outside_mean: float
    outside_max: int
    resized_from: tuple[int, int] | None


def composite(original: Image, edited: Image, mask: Mask, *, format: str = "png") -> Composite:
    """`edited` where `mask` is 255, `original` where it is 0, their linear blend in between.

    Where the mask is 0 every pixel is the original's: its decoded, upright value in 8 bits per
    channel, alpha included. An edit of another size is resized to the original's (Lanczos). The
    result is RGBA if either picture has transparency, else RGB; it keeps the original's colour
    profile, and the seed and the provenance of the edit. `format` is "png" or "webp" (lossless).

    Raises `InvalidInput` for other formats, for a mask that is empty or of another size, and for
    pictures that cannot be decoded.
    """
    if format not in _LOSSLESS:
        raise InvalidInput(
            f"format={format!r} would alter the pixels that the mask protects; use 'png' or 'webp' "
            "(lossless), or convert the result yourself"
        )
    mask.check(original.size)
    if format == "webp" and max(original.size) > _WEBP_EDGE:
        raise InvalidInput(
            f"a WebP has sides of {_WEBP_EDGE} pixels at most and the picture is {original.width}x"
            f"{original.height}; use 'png'"
        )
    below = original._rgb()
    above = _in_profile_of(below, edited._rgb())
    resized_from = None
    if above.size != below.size:
        from PIL.Image import Resampling

        resized_from = above.size
        above = above.resize(below.size, Resampling.LANCZOS)
    mode = "RGBA" if "RGBA" in (below.mode, above.mode) else "RGB"
    above, merged = above.convert(mode), below.convert(mode)
    mean, largest = _difference(merged, above, mask)
    merged.paste(above, (0, 0), mask.pil())
    data = pixels.encode(merged, format, **_LOSSLESS[format])
    image = Image.of(data).with_(seed=edited.seed, provenance=edited.provenance)
    return Composite(image, mean, largest, resized_from)


def _in_profile_of(below: PIL.Image.Image, above: PIL.Image.Image) -> PIL.Image.Image:
    """`above` in the colour space of `below`, when it says that it is in another one.

    An edit without a profile is taken as it is: most models read the numbers of a picture, ignore
    its profile, and answer in the same numbers.
    """
    theirs, ours = above.info.get("icc_profile"), below.info.get("icc_profile")
    if not theirs or theirs == ours:
        return above
    import io

    from PIL import ImageCms

    alpha = above.getchannel("A") if above.mode == "RGBA" else None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(theirs))
        target = ImageCms.ImageCmsProfile(
            io.BytesIO(ours) if ours else ImageCms.createProfile("sRGB")
        )
        shifted = ImageCms.profileToProfile(above.convert("RGB"), source, target)
    except (ImageCms.PyCMSError, OSError):  # a broken profile says nothing about the numbers
        return above
    assert shifted is not None
    if alpha is not None:
        shifted.putalpha(alpha)
    return shifted


def _difference(before: PIL.Image.Image, after: PIL.Image.Image, mask: Mask) -> tuple[float, int]:
    """Mean and largest difference where `mask` is 0."""
    from PIL import ImageChops

    outside = mask.inverted().binary(255)
    if outside.is_empty:
        return 0.0, 0
    if (
        before.mode == "RGBA"
    ):  # what is fully transparent in both does not differ, whatever its colour
        before, after = before.convert("RGBa"), after.convert("RGBa")
    histogram = ImageChops.difference(before, after).histogram(outside.pil())
    levels = [sum(histogram[level::256]) for level in range(256)]
    total = sum(level * count for level, count in enumerate(levels))
    return total / sum(levels), max(level for level, count in enumerate(levels) if count)


def pad(image: Image, left: int, top: int, right: int, bottom: int) -> tuple[Image, Mask]:
    """`image` with pixels added at its borders, for outpainting, and the mask that is white there.

    The new area repeats the pixels of the edge, which is what models continue best; the old one is
    unchanged, in 8 bits per channel. The edge of the mask is hard. Raises `InvalidInput`.
    """
    sides = (left, top, right, bottom)
    if not all(isinstance(side, int) and side >= 0 for side in sides) or not any(sides):
        raise InvalidInput(
            f"left, top, right, bottom = {sides} must be whole pixels, not negative and not all 0"
        )
    from PIL import Image as pillow

    width, height = image.size
    wide, high = left + width + right, top + height + bottom
    if wide * high > MAX_PIXELS:
        raise InvalidInput(f"{wide}x{high} is too large; {MAX_PIXELS:,} pixels is the limit")
    inner = image._rgb()
    canvas = pillow.new(inner.mode, (wide, high))
    canvas.info = dict(inner.info)
    canvas.paste(inner, (left, top))
    # First to the sides, then up and down over the whole width, which fills the corners too.
    for edge, strip in (
        ((left, top, left + 1, top + height), (0, top, left, top + height)),
        (
            (left + width - 1, top, left + width, top + height),
            (left + width, top, wide, top + height),
        ),
        ((0, top, wide, top + 1), (0, 0, wide, top)),
        ((0, top + height - 1, wide, top + height), (0, top + height, wide, high)),
    ):
        span = (strip[2] - strip[0], strip[3] - strip[1])
        if all(span):
            canvas.paste(canvas.crop(edge).resize(span, pillow.Resampling.NEAREST), strip)
    old = Mask.box((left, top, left + width, top + height), size=(wide, high))
    padded = Image.of(pixels.encode(canvas, "png")).with_(
        seed=image.seed, provenance=image.provenance
    )
    return padded, old.inverted()
