"""Strict base64, in one place, because pictures travel in it.

Line breaks, the URL-safe alphabet, missing padding and stray bits are all refused: what a decoder
tolerates in silence is a picture that was damaged on the way.
"""

from __future__ import annotations

import binascii
import re

__all__ = ["decode", "encode"]

_STRAY = re.compile(r"[^A-Za-z0-9+/]")
# The bits that the last character before the padding may use: canonical encoders leave the rest 0.
_LAST = {1: "AEIMQUYcgkosw048", 2: "AQgw"}


def decode(text: str, *, limit: int) -> bytes:
    """The bytes that `text` stands for, at most `limit` of them.

    Raises `ValueError` with a plain reason for everything that is not canonical base64 (RFC 4648,
    section 4). Uses pybase64 (the `fast` extra) when it is installed, with the same outcome.
    """
    padding = len(text) - len(text[-2:].rstrip("=")) - len(text[:-2])
    size = len(text) // 4 * 3 - padding
    if size > limit:
        raise ValueError(f"it holds {size:,} bytes; the limit is {limit:,}")
    if len(text) % 4:
        raise ValueError(f"its length, {len(text):,}, is not a multiple of 4: padding is missing")
    if padding and text[-padding - 1] not in _LAST[padding]:
        raise ValueError("its last character has bits that stand for nothing")
    try:
        return _decoded(text)
    except ValueError:
        stray = _STRAY.search(text)
    # No text of the input is repeated beyond one character: it may be anything, a key included.
    where = f"{stray[0]!r} at position {stray.start():,}" if stray else "padding"
    raise ValueError(f"it is not base64: {where} is not allowed there")


def encode(data: bytes) -> str:
    """`data` in base64 with padding and without line breaks."""
    try:
        import pybase64
    except ImportError:
        return binascii.b2a_base64(data, newline=False).decode("ascii")
    return pybase64.b64encode_as_string(data)


def _decoded(text: str) -> bytes:
    try:
        import pybase64
    except ImportError:
        return binascii.a2b_base64(text, strict_mode=True)
    return pybase64.b64decode(text, validate=True)
