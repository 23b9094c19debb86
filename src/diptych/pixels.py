"""From encoded bytes to pixels and back, with Pillow, which is loaded here and not before.

Functions raise `ValueError` with a plain reason; the picture values turn it into `InvalidInput`.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any, TypeGuard

from .sniff import MAX_PIXELS, Header, opened

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import PIL.Image

__all__ = ["decode", "encode", "from_array", "in_bytes", "is_array", "is_pil", "rgb", "upright"]

# Level 3 writes a PNG more than three times as fast as the default 6, for about a sixth more bytes.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "png": {"compress_level": 3},
    "jpeg": {"quality": 95, "subsampling": 0},
    "webp": {"quality": 95, "exact": True},
    "gif": {},
    "avif": {"quality": 90},
    "bmp": {},
    "tiff": {"compression": "tiff_adobe_deflate"},
}
# The modes that a format stores as they are; others become RGB or RGBA first.
_STORED = {
    "png": {"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"},
    "jpeg": {"L", "RGB", "CMYK"},
    "webp": {"RGB", "RGBA"},
    "gif": {"1", "L", "P", "RGB", "RGBA"},
    "avif": {"RGB", "RGBA"},
    "bmp": {"1", "L", "P", "RGB"},
    "tiff": {"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B", "I", "F", "CMYK"},
}
_NO_ALPHA = {"jpeg", "bmp"}
_KEPT = {"icc_profile", "transparency", "dpi"}
_PROFILES = {b"RGB ": {"P", "RGB", "RGBA"}, b"CMYK": {"CMYK"}, b"GRAY": {"1", "L", "LA", "I;16"}}


def is_pil(value: object) -> TypeGuard[PIL.Image.Image]:
    """Whether `value` is a Pillow image; False without loading Pillow when nobody did."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def is_array(value: object) -> TypeGuard[npt.NDArray[Any]]:
    """Whether `value` is a numpy array; False without loading numpy when nobody did."""
    module = sys.modules.get("numpy")
    return module is not None and isinstance(value, module.ndarray)


def decode(data: bytes, header: Header) -> PIL.Image.Image:
    """The pixels of `data` (of an animation: of its first frame), upright, in their own mode.

    Only the colour profile, the resolution and the transparent colour are kept beside them.
    """
    if header.format == "svg":
        raise ValueError(
            "an SVG is drawn by shapes and has no pixels; rasterise it first, or ask for png"
        )
    picture = opened(data, header.format)
    turned = header.orientation >= 5 and header.format != "tiff"
    width, height = picture.size
    if ((height, width) if turned else (width, height)) != header.size:
        # What was checked against the limits must be what is decoded.
        raise ValueError(
            f"its header says {header.width}x{header.height}, its data {width}x{height}"
        )
    try:
        picture.load()
    except Exception as error:  # Pillow lets through whatever its readers run into
        raise ValueError(f"its {header.format} data is broken or cut short ({error})") from error
    method = None if header.format == "tiff" else _method(header.orientation)
    return _bare(picture.copy() if method is None else picture.transpose(method))


def _method(orientation: int) -> PIL.Image.Transpose | None:
    from PIL.Image import Transpose

    return {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(orientation)


def upright(picture: PIL.Image.Image) -> PIL.Image.Image:
    """A copy of a caller's Pillow image, loaded and with its EXIF orientation applied."""
    from PIL import ImageOps

    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError(
            f"it has {picture.width}x{picture.height} pixels; the limit is {MAX_PIXELS:,} pixels"
        )
    if not picture.width or not picture.height:
        raise ValueError(f"it has {picture.width}x{picture.height} pixels")
    try:
        return _bare(ImageOps.exif_transpose(picture))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"its data is broken or cut short ({error})") from error


def _bare(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Take off everything that would be applied or written twice, the orientation above all."""
    info: dict[Any, Any] = {name: picture.info[name] for name in _KEPT & picture.info.keys()}
    profile = info.get("icc_profile") or b""
    if picture.mode not in _PROFILES.get(profile[16:20], ()):
        info.pop("icc_profile", None)
    picture.info = info
    return picture


def rgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    """The picture with 8 bits per channel, as RGBA if it has transparency and as RGB if not."""
    if picture.mode in ("RGB", "RGBA") and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I"):
        picture = _eight_bit(picture)
    elif picture.mode == "F":
        raise ValueError(
            "its pixels are floating-point numbers of unknown range; scale them to 0..1 and pass a "
            "numpy array"
        )
    wanted = "RGBA" if picture.has_transparency_data else "RGB"
    return _bare(picture.convert(wanted))


def _eight_bit(picture: PIL.Image.Image) -> PIL.Image.Image:
    """16-bit grey scaled to 8 bits; Pillow's own conversion would clip everything above 255."""
    wide = picture.convert("I")
    low, high = wide.getextrema()
    if low < 0 or high > 65535:  # type: ignore[operator]  # one channel: two numbers
        raise ValueError(f"its grey values run from {low} to {high}; 0 to 65535 can be scaled")
    grey = wide.point([(value * 255 + 32767) // 65535 for value in range(65536)], "L")
    grey.info = {name: value for name, value in picture.info.items() if name == "dpi"}
    return grey


def encode(
    picture: PIL.Image.Image, kind: str, *, background: str | None = None, **options: Any
) -> bytes:
    """Encode as `kind`, with Pillow's encoder options. `background` fills what is transparent."""
    if kind not in _DEFAULTS:
        raise ValueError(f"{kind!r} cannot be written; possible are {', '.join(_DEFAULTS)}")
    if picture.mode == "I" and kind == "png":
        picture = _sixteen_bit(picture)
    if background is not None or (kind in _NO_ALPHA and picture.has_transparency_data):
        picture = _flattened(rgb(picture), kind, background)
    elif picture.mode not in _STORED[kind]:
        picture = rgb(picture)
    settings = _DEFAULTS[kind] | options
    if profile := picture.info.get("icc_profile"):  # not every encoder of Pillow looks there itself
        settings.setdefault("icc_profile", profile)
    target = io.BytesIO()
    try:
        picture.save(target, kind.upper(), **settings)
    except Exception as error:  # an encoder raises what it likes for an option that it dislikes
        raise ValueError(f"it cannot be written as {kind} ({error})") from error
    return target.getvalue()


def _sixteen_bit(picture: PIL.Image.Image) -> PIL.Image.Image:
    low, high = picture.getextrema()
    if low < 0 or high > 65535:  # type: ignore[operator]  # one channel: two numbers
        raise ValueError(f"its grey values run from {low} to {high}; a PNG holds 0 to 65535")
    return picture.convert("I;16")


def _flattened(picture: PIL.Image.Image, kind: str, background: str | None) -> PIL.Image.Image:
    from PIL import Image, ImageColor

    colour = ImageColor.getrgb(background or "black")[:3]
    if picture.mode == "RGB":
        return picture
    alpha = picture.getchannel("A")
    if background is None and alpha.getextrema()[0] != 255:
        raise ValueError(
            f"it has transparent pixels, which {kind} cannot hold; give background=, for instance "
            'background="white", or use png or webp'
        )
    canvas = Image.new("RGB", picture.size, colour)
    canvas.paste(picture.convert("RGB"), mask=alpha)
    canvas.info = dict(picture.info)
    return _bare(canvas)


def from_array(array: npt.NDArray[Any]) -> PIL.Image.Image:
    """An (H, W) or (H, W, C) array with C in 1, 3, 4, of uint8 or of floats in 0..1, as pixels."""
    from PIL import Image

    shape = array.shape
    if array.dtype.kind == "b":
        raise ValueError("an array of booleans is a mask; use Mask.from_array(array)")
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        first = len(shape) == 3 and shape[0] in (1, 3, 4)
        hint = "; channels come last here: array.transpose(1, 2, 0)" if first else ""
        raise ValueError(
            f"an array of shape {shape} is no picture; (H, W) or (H, W, C) with 1, 3 or 4 channels "
            f"is{hint}"
        )
    if array.size == 0 or shape[0] * shape[1] > MAX_PIXELS:
        raise ValueError(
            f"it has {shape[1]}x{shape[0]} pixels; from 1 to {MAX_PIXELS:,} are possible"
        )
    plane = in_bytes(array)
    return Image.fromarray(plane[:, :, 0] if len(shape) == 3 and shape[2] == 1 else plane)


def in_bytes(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The same array in uint8: unchanged, or from floats in 0..1."""
    import numpy as np

    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f":
        raise ValueError(f"an array of {array.dtype} is no picture; uint8 or floats in 0..1 are")
    low, high = float(array.min()), float(array.max())
    if not 0 <= low <= high <= 1:  # also false for NaN, which min() and max() pass on
        raise ValueError(
            f"its floats run from {low:g} to {high:g} and not within 0..1; for 0..255 use "
            "array.round().astype(numpy.uint8)"
        )
    return np.rint(array.astype(np.float32) * 255).astype(np.uint8)
