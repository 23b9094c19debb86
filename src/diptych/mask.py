"""`Mask`: which pixels may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from . import base64s
from . import pixels as codec
from .errors import InvalidInput
from .image import Image, ImageSource
from .sniff import MAX_BYTES, MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt
    import PIL.Image

__all__ = ["Mask", "MaskSource"]

MaskSource: TypeAlias = "Mask | ImageSource"
"""What is accepted wherever a mask goes in; see `Mask.of`."""

Fit = Literal["refuse", "resize", "crop"]
Size = tuple[int, int]

# Lossy WebP and JPEG store grey with channels that differ by a few levels.
_GREY = 8
_MAX_REACH = 4096


@dataclass(frozen=True, slots=True, repr=False)
class Mask:
    """One 8-bit value per pixel: 255 (white) may change, 0 (black) stays, between is a soft edge.

    Immutable. `size` is (width, height). `fit_note` says how the mask was fitted to another size,
    None when it was not; it does not count in comparisons.
    """

    size: Size
    _plane: bytes = field(repr=False)
    fit_note: str | None = field(default=None, compare=False)

    # Making one

    @classmethod
    def of(cls, source: MaskSource, size: Size | None = None) -> Mask:
        """The mask that `source` shows in black and white: white = change.

        `source` is a `Mask`, a numpy array (as in `from_array`) or anything that `Image.of` takes:
        a grey picture, which must be opaque, because with transparency it could mean two things.
        `size`, if given, is what the mask must have. Raises `InvalidInput`.
        """
        if isinstance(source, Mask):
            mask = source
        elif codec.is_array(source) and (source.ndim == 2 or source.dtype.kind == "b"):
            mask = cls.from_array(source)
        else:
            picture = Image.of(source, name="mask")
            mask = cls._of(_refusing(_grey, picture.pil(), picture))
        return mask if size is None else mask.fitted(size)

    @classmethod
    def from_alpha(cls, image: ImageSource) -> Mask:
        """What is transparent in `image` may change, as OpenAI has it: 255 - alpha.

        Raises `InvalidInput` for a picture without an alpha channel.
        """
        picture = Image.of(image, name="mask")
        decoded = picture._rgb()
        if decoded.mode != "RGBA":
            raise InvalidInput(
                f"{picture!r} has no transparency; for a black and white mask use Mask.of(...)"
            )
        return cls._of(_inverted(decoded.getchannel("A")))

    @classmethod
    def box(cls, box: tuple[int, int, int, int], *, size: Size, feather: float = 0) -> Mask:
        """A white rectangle in a black mask of `size`; `feather` as in the method.

        `box` is (left, top, right, bottom) in pixels from the upper left corner, right and bottom
        exclusive. Raises `InvalidInput` for an empty box and for one that leaves the picture.
        """
        from PIL import Image as pillow

        width, height = _size(size)
        whole = isinstance(box, tuple) and len(box) == 4 and all(isinstance(x, int) for x in box)
        if not whole or not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
            raise InvalidInput(
                f"box={box!r} must be (left, top, right, bottom) in whole pixels, not empty and inside "
                f"{width}x{height}"
            )
        plane = pillow.new("L", (width, height))
        plane.paste(255, box)
        return cls._of(plane).feather(feather)

    @classmethod
    def from_array(cls, array: npt.NDArray[Any]) -> Mask:
        """A mask from an (H, W) or (H, W, 1) array: booleans, uint8, or floats in 0..1.

        True, 255 and 1.0 mean change. Raises `InvalidInput`.
        """
        if not codec.is_array(array):
            raise InvalidInput(f"{type(array).__name__} is not a numpy array; Mask.of takes more")
        if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 1) or not array.size:
            raise InvalidInput(f"an array of shape {array.shape} is no mask; (H, W) is")
        height, width = array.shape[:2]
        _size((width, height))
        scaled = array.astype("uint8") * 255 if array.dtype.kind == "b" else array
        plane = _refusing(codec.in_bytes, scaled, "mask")
        return cls((width, height), plane.tobytes())

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Mask:
        """The inverse of `to_json`. Raises `InvalidInput`."""
        try:
            data, note = base64s.decode(value["png"], limit=MAX_BYTES), value.get("fit_note")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidInput(
                f"this is not the JSON of a mask, a mapping with png: {error}"
            ) from error
        mask = cls.of(data)
        return cls(mask.size, mask._plane, None if note is None else str(note))

    def to_json(self) -> dict[str, Any]:
        """A mapping of plain values: the PNG in base64, and the note if there is one."""
        note = {} if self.fit_note is None else {"fit_note": self.fit_note}
        return {"png": base64s.encode(self.png()), **note}

    @classmethod
    def _of(cls, plane: PIL.Image.Image, note: str | None = None) -> Mask:
        return cls(plane.size, plane.tobytes(), note)

    # Facts

    @property
    def coverage(self) -> float:
        """The mean value, 0 (nothing may change) to 1 (everything may)."""
        histogram = self.pil().histogram()
        total = sum(value * count for value, count in enumerate(histogram))
        return total / (255 * len(self._plane))

    @property
    def is_empty(self) -> bool:
        """Whether no pixel may change at all."""
        return self._plane.count(0) == len(self._plane)

    def check(self, image_size: Size) -> None:
        """Raise `InvalidInput` unless the mask can be used on a picture of `image_size`."""
        if self.size != image_size:
            ours, theirs = _text(self.size), _text(image_size)
            raise InvalidInput(
                f"the mask is {ours} and the picture {theirs}; fit it with mask.fitted({image_size}, "
                'how="resize") or how="crop"'
            )
        if self.is_empty:
            raise InvalidInput(
                "the mask is black everywhere, so nothing may change; white marks what may "
                "(mask.inverted() swaps them, Mask.from_alpha reads transparency)"
            )

    # Changing it: every method returns a new mask

    def inverted(self) -> Mask:
        """What might change stays, and the reverse."""
        return self._with(_inverted)

    def grow(self, pixels: int) -> Mask:
        """Spread the white by `pixels` in every direction, in squares; negative shrinks it."""
        reach = _reach("grow", pixels, low=-_MAX_REACH)
        if reach < 0:
            return self.inverted().grow(-pixels).inverted()
        return self._with(lambda plane: _dilated(plane, int(reach))) if reach else self

    def feather(self, pixels: float) -> Mask:
        """Soften the edges by a Gaussian blur whose standard deviation is `pixels`.

        The edge fades to both sides, so the white reaches about 3 * `pixels` further than before.
        """
        from PIL import ImageFilter

        reach = _reach("feather", pixels, low=0, whole=False)
        return (
            self._with(lambda plane: plane.filter(ImageFilter.GaussianBlur(reach)))
            if reach
            else self
        )

    def binary(self, threshold: int = 128) -> Mask:
        """Hard edges: what is `threshold` (1..255) or more becomes 255, the rest 0."""
        if not isinstance(threshold, int) or not 1 <= threshold <= 255:
            raise InvalidInput(f"threshold={threshold!r} must be a whole number from 1 to 255")
        table = [255 if value >= threshold else 0 for value in range(256)]
        return self._with(lambda plane: plane.point(table))

    def fitted(self, size: Size, how: Fit = "refuse") -> Mask:
        """The mask at `size`; the mask itself when it has that size.

        "refuse" raises `InvalidInput` for another size. "resize" stretches. "crop" keeps the
        proportions: the mask is scaled until it covers `size`, and its middle is cut out.
        `fit_note` of the result says what was done.
        """
        from PIL import ImageOps
        from PIL.Image import Resampling

        if how not in get_args(Fit):
            raise InvalidInput(f"how={how!r} must be one of {', '.join(map(repr, get_args(Fit)))}")
        size = _size(size)
        if size == self.size:
            return self
        ours, theirs = _text(self.size), _text(size)
        if how == "refuse":
            raise InvalidInput(
                f'the mask is {ours} and must be {theirs}; use mask.fitted({size}, how="resize") or '
                'how="crop", or draw it at that size'
            )
        if how == "resize":
            plane = self.pil().resize(size, Resampling.BILINEAR)
            return self._of(plane, f"the mask was stretched from {ours} to {theirs}")
        plane = ImageOps.fit(self.pil(), size, Resampling.BILINEAR)
        return self._of(plane, f"the mask was scaled and cropped from {ours} to {theirs}")

    def _with(self, step: Callable[[PIL.Image.Image], PIL.Image.Image]) -> Mask:
        return self._of(step(self.pil()), self.fit_note)

    # Out

    def pil(self) -> PIL.Image.Image:
        """A new Pillow image of mode L, white = change."""
        from PIL import Image as pillow

        return pillow.frombytes("L", self.size, self._plane)

    def numpy(self) -> npt.NDArray[np.uint8]:
        """A new array (H, W) of uint8, 255 = change; numpy must be installed."""
        import numpy as np

        return np.frombuffer(self._plane, np.uint8).reshape(self.size[::-1]).copy()

    def png(self, *, invert: bool = False) -> bytes:
        """A grey PNG, white = change; with `invert`, black = change."""
        return codec.encode((self.inverted() if invert else self).pil(), "png")

    def alpha_png(self, image: Image | None = None) -> bytes:
        """An RGBA PNG that is transparent where the picture may change: alpha = 255 - value.

        The colours are those of `image`, which must have the mask's size, or black.
        """
        from PIL import Image as pillow

        if image is None:
            colours = pillow.new("RGB", self.size)
        else:
            self.check(image.size)
            colours = image._rgb().convert("RGB")
        colours.putalpha(_inverted(self.pil()))
        return codec.encode(colours, "png")

    def __repr__(self) -> str:
        note = "" if self.fit_note is None else f", {self.fit_note}"
        return f"<Mask {_text(self.size)}, {self.coverage:.1%} may change{note}>"

    def _repr_png_(self) -> bytes:
        return self.png()


def _grey(picture: PIL.Image.Image) -> PIL.Image.Image:
    from PIL import ImageChops

    flat = codec.rgb(picture)
    if flat.mode == "RGBA":
        if flat.getchannel("A").getextrema()[0] != 255:
            raise ValueError(
                "it has transparent parts, so it could mean two things; use Mask.from_alpha(...) if "
                "they are what may change, or drop the alpha channel if white is"
            )
        flat = flat.convert("RGB")
    red, green, blue = flat.split()
    for other in (green, blue):
        apart = ImageChops.difference(red, other).getextrema()[1]
        if apart > _GREY:  # type: ignore[operator]  # one channel: two numbers
            raise ValueError(
                "it is a colour picture; a mask is grey, white where the picture may change"
            )
    return flat.convert("L")


def _inverted(plane: PIL.Image.Image) -> PIL.Image.Image:
    from PIL import ImageChops

    return ImageChops.invert(plane)


def _dilated(plane: PIL.Image.Image, reach: int) -> PIL.Image.Image:
    """Each pixel's maximum over the square of side 2 * reach + 1 around it.

    The window is doubled step by step, so the time grows with the logarithm of `reach`.
    """
    from PIL import ImageChops

    width, height = plane.size
    for down in (0, 1):
        edge = (-reach, 0, width, height) if down == 0 else (0, -reach, width, height)
        widest, covered = plane.crop(edge), 1
        while covered < 2 * reach + 1:
            step = min(covered, 2 * reach + 1 - covered)
            across, along = (0, step) if down else (step, 0)
            box = (across, along, across + widest.width, along + widest.height)
            widest = ImageChops.lighter(widest, widest.crop(box))
            covered += step
        plane = widest.crop((0, 0, width, height))
    return plane


def _refusing(step: Any, value: Any, name: object) -> Any:
    try:
        return step(value)
    except ValueError as error:
        raise InvalidInput(f"{name} cannot be used as a mask: {error}") from error


def _reach(name: str, pixels: Any, *, low: float, whole: bool = True) -> float:
    kinds: Any = int if whole else (int, float)
    if isinstance(pixels, bool) or not isinstance(pixels, kinds) or not low <= pixels <= _MAX_REACH:
        what = "whole pixels" if whole else "pixels"
        raise InvalidInput(f"{name}={pixels!r} must be in {what}, from {low:g} to {_MAX_REACH}")
    return float(pixels)


def _size(size: Any) -> Size:
    good = (
        isinstance(size, tuple) and len(size) == 2 and all(isinstance(side, int) for side in size)
    )
    if not good or size[0] < 1 or size[1] < 1 or size[0] * size[1] > MAX_PIXELS:
        raise InvalidInput(
            f"size={size!r} must be (width, height), from 1 to {MAX_PIXELS:,} pixels in all"
        )
    return size[0], size[1]


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
