"""What a picture is, read from its first bytes and never from its name or its announced type.

PNG, JPEG, WebP, GIF and SVG are read here without decoding a pixel; Pillow reads the headers of
AVIF, BMP and TIFF. Every reader raises `ValueError` with a plain reason, which completes the
sentence "this is not a usable picture: ...".
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

__all__ = ["MAX_BYTES", "MAX_PIXELS", "MEDIA_TYPES", "SUFFIXES", "Header", "format_of", "inspect"]

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 2**26
MAX_CHUNKS = 2**17

MEDIA_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "svg": "image/svg+xml",
    "avif": "image/avif",
    "bmp": "image/bmp",
    "tiff": "image/tiff",
}
SUFFIXES = {f".{name}": name for name in MEDIA_TYPES} | {
    ".jpg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".tif": "tiff",
}

_ORIENTATION = 0x0112
_C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")  # C2PA 2.1, "BMFF-based assets"
_UNITS = {"px": 1.0, "": 1.0, "pt": 4 / 3, "pc": 16.0, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4}
_LENGTH = re.compile(r"\+?((?:\d+\.?|\d*\.\d)\d*(?:e[-+]?\d+)?)(px|pt|pc|in|cm|mm|)", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"\s*([\w:.-]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_SPACE = re.compile(r"\s*")
_SVG_ROOT = re.compile(r"<(?:[A-Za-z_][\w.-]*:)?svg(?=[\s>/])")
# Compiled when needed, which is when something went wrong.
_OTHERS = {
    "an HTML page": rb"(?i)\s*<(!doctype html|html|head|body)",
    "JSON text": rb"\s*[\[{]\s*[\"{\[\]}\d]",
    "XML text": rb"\s*<\?xml",
    "a PDF": rb"%PDF-",
    "a HEIC picture": rb"(?s)....ftyp(heic|heix|mif1|msf1)",
    "a JPEG 2000 picture": rb"\0\0\0\x0cjP  ",
    "a JPEG XL picture": rb"\xff\x0a|\0\0\0\x0cJXL ",
}


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a picture says.

    `width` and `height` are in pixels as displayed, with the EXIF `orientation` (1..8) applied.
    `signed` tells that a C2PA manifest is embedded; it does not tell that the signature is valid.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    signed: bool = False

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height


def format_of(data: bytes) -> str | None:
    """One of the names in `MEDIA_TYPES`, or None."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "tiff"
    if data.startswith(b"BM") and data[14:18] in _BMP_HEADERS:
        return "bmp"
    if data[4:8] == b"ftyp" and _is_avif(data):
        return "avif"
    return "svg" if _svg_root(data) is not None else None


_BMP_HEADERS = {struct.pack("<I", size) for size in (12, 40, 52, 56, 64, 108, 124)}


def inspect(data: bytes) -> Header:
    """Read the header of an encoded picture without decoding it.

    Raises `ValueError` when it is empty, larger than `MAX_BYTES`, no picture of a known format,
    visibly cut short, or of more than `MAX_PIXELS` pixels (a decompression bomb).
    """
    if not data:
        raise ValueError("it is empty (0 bytes)")
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has {len(data):,} bytes; the limit is {MAX_BYTES:,}")
    kind = format_of(data)
    if kind is None:
        found = (f"it is {what}" for what, looks in _OTHERS.items() if re.match(looks, data))
        reason = next(found, "its first bytes are those of no known format")
        raise ValueError(f"{reason}; known are {', '.join(MEDIA_TYPES)}")
    try:
        header = _READERS[kind](data)
    except (struct.error, IndexError):
        raise ValueError(f"its {kind} header is cut short") from None
    if header.width < 1 or header.height < 1:
        raise ValueError(f"its {kind} header says {header.width}x{header.height} pixels")
    if kind != "svg" and header.width * header.height > MAX_PIXELS:
        raise ValueError(
            f"it has {header.width}x{header.height} pixels; the limit is {MAX_PIXELS:,} pixels"
        )
    return header


def opened(data: bytes, kind: str) -> ImageFile:
    """`data` opened by Pillow's reader for `kind` and by no other. Raises `ValueError`."""
    import io

    from PIL import Image

    try:
        return Image.open(io.BytesIO(data), formats=[kind.upper()])
    except Exception as error:  # Pillow lets through whatever its readers run into
        raise ValueError(f"its {kind} header cannot be read ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """The text of Pillow's error; its 'cannot identify' one has a memory address instead of facts."""
    text = str(error) or type(error).__name__
    return "broken or not supported here" if "identify image" in text else text


def exif_orientation(exif: bytes) -> int:
    """The orientation, 1..8, in an EXIF block; 1 when there is none or the block is broken."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for entry in range(count):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, start + 2 + 12 * entry)
            if tag == _ORIENTATION and kind == 3:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def _upright(
    kind: str, width: int, height: int, orientation: int = 1, signed: bool = False
) -> Header:
    if orientation >= 5:
        width, height = height, width
    return Header(kind, width, height, orientation, signed)


def _png(data: bytes) -> Header:
    width, height = struct.unpack_from(">4x4s2I", data, 8)[1:]
    if data[12:16] != b"IHDR":
        raise ValueError("its first PNG chunk is not the header")
    orientation, signed = 1, False
    for name, start, size in _chunks(data, 8, ">I4s", 4):
        if name == b"eXIf":
            orientation = exif_orientation(data[start : start + size])
        elif name == b"caBX":
            signed = True
        elif name == b"IEND":
            return _upright("png", width, height, orientation, signed)
    raise ValueError("it is cut short: the PNG has no end")


def _chunks(
    data: bytes, position: int, layout: str, check: int
) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and size of each chunk of a PNG or a RIFF file."""
    for _ in range(MAX_CHUNKS):
        if position == len(data):
            return
        first, second = struct.unpack_from(layout, data, position)
        name, size = (second, first) if isinstance(second, bytes) else (first, second)
        start = position + 8
        position = start + size + check
        if not check:  # RIFF pads to an even length instead of a checksum
            position += size % 2
        if start + size + check > len(data):
            raise ValueError(
                f"it is cut short: {name!r} has {len(data) - start:,} of {size:,} bytes"
            )
        yield name, start, size
        position = min(position, len(data))
    raise ValueError(f"it has more than {MAX_CHUNKS:,} chunks")


def _jpeg(data: bytes) -> Header:
    size: tuple[int, int] | None = None
    orientation, signed = 0, False
    position = 2
    while (position := data.find(b"\xff", position)) >= 0:
        marker = data[position + 1]
        if (
            marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8
        ):  # fill bytes, stand-alone markers
            position += 1 if marker == 0xFF else 2
            continue
        if marker in (0xD9, 0xDA):  # end of image, start of scan: the headers are over
            break
        (length,) = struct.unpack_from(">H", data, position + 2)
        segment = data[position + 4 : position + 2 + length]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">x2H", segment)
            size = width, height
        elif marker == 0xE1 and segment.startswith(b"Exif\0\0") and not orientation:
            orientation = exif_orientation(segment)
        elif marker == 0xEB and segment.startswith(b"JP") and b"jumb" in segment[:32]:
            signed = signed or b"c2pa" in segment[:128]
        position += 2 + max(length, 2)
    if size is None or position < 0:
        raise ValueError("it is cut short: the JPEG ends before its first scan")
    return _upright("jpeg", *size, orientation or 1, signed)


def _webp(data: bytes) -> Header:
    (length,) = struct.unpack_from("<I", data, 4)
    if length + 8 > len(data):
        raise ValueError(f"it is cut short: {len(data):,} of {length + 8:,} bytes")
    size: tuple[int, int] | None = None
    orientation, signed = 1, False
    for name, start, _ in _chunks(data[: length + 8], 12, "<4sI", 0):
        if size is None:
            size = _webp_size(name, data, start)
        if name == b"EXIF":
            orientation = exif_orientation(data[start:])
        elif name == b"C2PA":
            signed = True
    if size is None:
        raise ValueError("the WebP has no picture in it")
    return _upright("webp", *size, orientation, signed)


def _webp_size(name: bytes, data: bytes, start: int) -> tuple[int, int]:
    if name == b"VP8X":  # extended: the canvas, less one, in 24 bits each
        low, high, low2, high2 = struct.unpack_from("<HBHB", data, start + 4)
        return (low | high << 16) + 1, (low2 | high2 << 16) + 1
    if name == b"VP8L" and data[start] == 0x2F:  # lossless: 14 bits each, less one
        (bits,) = struct.unpack_from("<I", data, start + 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if name == b"VP8 " and data[start + 3 : start + 6] == b"\x9d\x01\x2a":  # lossy: 14 bits each
        width, height = struct.unpack_from("<2H", data, start + 6)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError(f"the WebP begins with {name!r}, which is no picture")


def _gif(data: bytes) -> Header:
    width, height = struct.unpack_from("<2H", data, 6)
    return Header("gif", width, height)


def _bmp(data: bytes) -> Header:
    with opened(data, "bmp") as picture:
        return Header("bmp", *picture.size)


def _tiff(data: bytes) -> Header:
    with opened(data, "tiff") as picture:
        turned = getattr(picture, "tag_v2", {}).get(_ORIENTATION, 1)
        # Pillow gives the size of a TIFF, and later its pixels, upright.
        return Header("tiff", *picture.size, turned if turned in range(1, 9) else 1)


def _avif(data: bytes) -> Header:
    with opened(data, "avif") as picture:
        # Pillow reports the container's own rotation and mirroring as EXIF.
        orientation = exif_orientation(picture.info.get("exif", b""))
        return _upright("avif", *picture.size, orientation, _signed_avif(data))


def _is_avif(data: bytes) -> bool:
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = [data[8:12], *(data[start : start + 4] for start in range(16, end, 4))]
    return b"avif" in brands or b"avis" in brands


def _signed_avif(data: bytes) -> bool:
    position = 0
    while 0 <= position <= len(data) - 24:
        size = int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] == b"uuid" and data[position + 8 :][:16] == _C2PA_BOX:
            return True
        if size < 8:  # to the end of the file, or 64 bits long: no box that matters here follows
            return False
        position += size
    return False


def _svg_root(data: bytes) -> tuple[str, int] | None:
    """The head of an SVG document as text, and where the attributes of its root begin."""
    text = data[:65_536].decode("utf-8-sig", errors="replace")
    position = 0
    while True:
        position += len(_SPACE.match(text, position)[0])  # type: ignore[index]  # always matches
        for opening, closing in (("<?", "?>"), ("<!--", "-->"), ("<!DOCTYPE", ">")):
            if text.startswith(opening, position):
                if opening == "<!DOCTYPE" and "[" in text[position : text.find(">", position)]:
                    closing = "]>"
                end = text.find(closing, position)
                if end < 0:
                    return None
                position = end + len(closing)
                break
        else:
            root = _SVG_ROOT.match(text, position)
            return None if root is None else (text, root.end())


def _svg(data: bytes) -> Header:
    root = _svg_root(data)
    assert root is not None
    text, position = root
    attributes: dict[str, str] = {}
    while (found := _ATTRIBUTE.match(text, position)) is not None:
        attributes[found[1]] = found[2][1:-1].strip()
        position = found.end()
    width, height = _length(attributes.get("width", "")), _length(attributes.get("height", ""))
    box = [_length(side) for side in re.split(r"[\s,]+", attributes.get("viewBox", ""))[2:4]]
    across, down = box if len(box) == 2 else (None, None)
    if across and down:
        if width is None:
            width = across if height is None else height * across / down
        if height is None:
            height = width * down / across
    # 300x150 is what CSS gives a replaced element that has no size of its own.
    return Header("svg", max(1, round(width or 300)), max(1, round(height or 150)))


def _length(text: str) -> float | None:
    """A CSS length in pixels at 96 dpi; None for percentages, for em and for nonsense."""
    found = _LENGTH.fullmatch(text[:32])
    if found is None:
        return None
    length = float(found[1]) * _UNITS[found[2].lower()]
    return length if 0 < length < 1e9 else None


_READERS = {
    "png": _png,
    "jpeg": _jpeg,
    "webp": _webp,
    "gif": _gif,
    "svg": _svg,
    "avif": _avif,
    "bmp": _bmp,
    "tiff": _tiff,
}


def is_whole_png(data: bytes) -> bool:
    """Whether every chunk of a PNG agrees with its checksum, up to the end; decodes nothing."""
    position, view = 8, memoryview(data)
    while position + 12 <= len(data):
        length = int.from_bytes(view[position : position + 4], "big")
        body, end = position + 4, position + 8 + length
        if end + 4 > len(data) or zlib.crc32(view[body:end]) != int.from_bytes(
            view[end : end + 4], "big"
        ):
            return False
        if data[body : body + 4] == b"IEND":
            return True
        position = end + 4
    return False
