"""The encoded bytes behind whatever a caller hands in as a picture."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import base64s, pixels
from .sniff import MAX_BYTES

if TYPE_CHECKING:
    from typing import IO

__all__ = ["encoded"]

_ACCEPTED = (
    "an Image, a path, bytes, a binary file object, a PIL image, a numpy array (H, W[, C]; uint8 or "
    "floats in 0..1), an http(s) URL or a data URL"
)


def encoded(source: Any) -> bytes:
    """The encoded bytes that `source` holds. Raises `ValueError` with a plain reason.

    Pillow images and numpy arrays are encoded as PNG. What comes out is not yet known to be a
    picture, and of a path or a file object no more than one byte beyond the limit is read.
    """
    if isinstance(source, str) and source[:5].lower() == "data:":
        return _from_data_url(source)
    if isinstance(source, str | os.PathLike):
        return _from_path(Path(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if pixels.is_pil(source):
        return pixels.encode(pixels.upright(source), "png")
    if pixels.is_array(source):
        return pixels.encode(pixels.from_array(source), "png")
    if hasattr(source, "read"):
        return _from_file(source)
    raise ValueError(f"it is of type {type(source).__name__}; accepted are {_ACCEPTED}")


def _from_data_url(url: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma:
        raise ValueError("a data URL has a comma before its data")
    # What the head announces as the type is not trusted: the bytes tell.
    if head.lower().endswith(";base64"):
        return base64s.decode(body, limit=MAX_BYTES)
    if len(body) > 3 * MAX_BYTES:
        raise ValueError(f"its data URL has {len(body):,} characters")
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(body)


def _from_path(path: Path) -> bytes:
    try:
        with path.expanduser().open("rb") as file:
            return _from_file(file)
    except (OSError, RuntimeError) as error:  # the latter for an unknown ~user
        reason = getattr(error, "strerror", None) or error
        text = str(path)
        text = text if len(text) <= 200 else f"{text[:60]}...{text[-60:]}"
        raise ValueError(f"{text!r} cannot be read ({reason})") from error


def _from_file(file: IO[bytes]) -> bytes:
    data = io.BytesIO()
    while data.tell() <= MAX_BYTES and (part := file.read(MAX_BYTES + 1 - data.tell())):
        if not isinstance(part, bytes):
            raise ValueError('the file object gives text; open the file in binary mode, "rb"')
        data.write(part)
    if not data.tell():
        raise ValueError("it is empty (0 bytes); a file object that was written needs seek(0)")
    return data.getvalue()
