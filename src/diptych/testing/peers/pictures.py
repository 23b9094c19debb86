"""The pictures that the peers paint: deterministic, of the size and format asked for, and honest.

An edit changes the whole picture a little, also outside the mask, as the real soft-mask models do:
a client that promises to keep the rest has to composite it itself.
"""

from __future__ import annotations

import base64
import hashlib
import io
import struct
import zlib
from functools import lru_cache

from PIL import Image, ImageChops

__all__ = [
    "MIME",
    "alpha_mask",
    "bomb",
    "box",
    "decode",
    "draw",
    "edit",
    "encode",
    "from_data_url",
    "paint",
    "share",
]

MIME = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "svg": "image/svg+xml",
}
TILES = 8
SHIFT = 12
"""How far every channel of every pixel outside the mask is off after an edit (of 255)."""

Box = tuple[int, int, int, int]


def _bytes(prompt: str, index: int, count: int) -> bytes:
    return hashlib.shake_256(f"{index}|{prompt}".encode()).digest(count)


def draw(
    prompt: str, size: tuple[int, int], *, index: int = 0, transparent: bool = False
) -> Image.Image:
    """A picture of `size` (width, height) whose colours depend on the prompt and `index` alone."""
    mode, channels = ("RGBA", 4) if transparent else ("RGB", 3)
    data = bytearray(_bytes(prompt, index, TILES * TILES * channels))
    if transparent:
        for tile in range(TILES * TILES):
            edge = tile % TILES in (0, TILES - 1) or tile // TILES in (0, TILES - 1)
            data[tile * 4 + 3] = 0 if edge else 255
    tiles = Image.frombytes(mode, (TILES, TILES), bytes(data))
    return tiles.resize(size, Image.Resampling.NEAREST)


def edit(
    source: Image.Image,
    prompt: str,
    size: tuple[int, int],
    *,
    mask: Image.Image | None = None,
    index: int = 0,
    transparent: bool = False,
) -> Image.Image:
    """`source` at `size`, repainted where `mask` (mode L, white = change) says so.

    Without a mask the whole picture becomes half old, half new. Every pixel that is not repainted
    differs from the source by `SHIFT` in each channel.
    """
    old = source.convert("RGB").resize(size)
    new = draw(prompt, size, index=index)
    shifted = old.point([v + SHIFT if v < 128 else v - SHIFT for v in range(256)] * 3)
    if mask is None:
        result = Image.blend(shifted, new, 0.5)
    else:
        result = Image.composite(new, shifted, mask.resize(size))
    if transparent:
        result.putalpha(draw(prompt, size, index=index, transparent=True).getchannel("A"))
    return result


def encode(
    picture: Image.Image, form: str, *, compression: int = 100, frames: int = 1, duration: int = 200
) -> bytes:
    """The picture as `form` ("png", "jpeg", "webp", "gif", "svg")."""
    file = io.BytesIO()
    if form == "svg":
        return _svg(picture)
    if form == "gif":
        steps = [picture.convert("RGB")]
        steps += [ImageChops.offset(steps[0], 16 * k, 0) for k in range(1, frames)]
        steps[0].save(file, "GIF", save_all=True, append_images=steps[1:], duration=duration)
    elif form == "jpeg":
        picture.convert("RGB").save(file, "JPEG", quality=max(1, min(compression, 95)))
    elif form == "webp":
        picture.save(file, "WEBP", quality=compression, method=0)
    else:
        picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _svg(picture: Image.Image) -> bytes:
    width, height = picture.size
    colour = "#" + picture.convert("RGB").resize((1, 1)).tobytes().hex()
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
        f'<rect width="{width}" height="{height}" fill="{colour}"/></svg>'
    ).encode()


@lru_cache(maxsize=64)
def paint(
    prompt: str,
    size: tuple[int, int],
    form: str,
    *,
    index: int = 0,
    transparent: bool = False,
    compression: int = 100,
    frames: int = 1,
    duration: int = 200,
) -> bytes:
    """`draw` and `encode` in one; the same call gives the same bytes without painting again."""
    picture = draw(prompt, size, index=index, transparent=transparent)
    return encode(picture, form, compression=compression, frames=frames, duration=duration)


def decode(data: bytes) -> Image.Image:
    """The picture in `data`, loaded; ValueError when it is none."""
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except (OSError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise ValueError(f"not a picture: {error}") from error
    return picture


def from_data_url(url: str) -> bytes:
    """The bytes of a base64 data URL; ValueError when it is malformed."""
    head, comma, text = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise ValueError("not a base64 data URL")
    return base64.b64decode(text, validate=True)


def alpha_mask(picture: Image.Image) -> Image.Image:
    """White = change from a mask whose transparent areas are to be edited (mode L)."""
    return ImageChops.invert(picture.getchannel("A"))


def share(mask: Image.Image) -> float:
    """How much of a mask (mode L) is white, 0..1; grey counts in part."""
    counts = mask.histogram()
    return sum(value * count for value, count in enumerate(counts)) / (255 * sum(counts))


def box(mask: Image.Image) -> Box | None:
    """The bounding box (left, top, right, bottom) of all that is not black, or None."""
    return mask.getbbox()


def bomb(side: int = 60_000) -> bytes:
    """A PNG of a few hundred bytes that claims side x side pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 65536, 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
