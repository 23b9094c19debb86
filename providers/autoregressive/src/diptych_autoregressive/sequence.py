"""A conversation as JSON: texts and the codes of pictures, in the order in which they were said.

A segment is {"text", "rows", "columns", "codes"}: what was asked and what was drawn for it, codes as
base64 of 16-bit or, where codebooks are larger, 32-bit little-endian numbers. A picture that is yet
to be encoded has "image" in place of "codes".
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from diptych.errors import InvalidInput

__all__ = ["Segment", "codes_of", "mark", "packed", "segment"]

Segment = Mapping[str, Any]


def packed(codes: npt.NDArray[Any]) -> str:
    """Codes as text: 16 bits each where they fit, else 32."""
    small = codes.size == 0 or int(codes.max()) < 2**16
    kind, letter = ("<u2", "h") if small else ("<u4", "w")
    return letter + base64.b64encode(codes.astype(kind).tobytes()).decode("ascii")


def segment(text: str, rows: int, columns: int, codes: npt.NDArray[Any]) -> dict[str, Any]:
    """A picture of rows x columns codes, drawn for `text`."""
    return {"text": text, "rows": rows, "columns": columns, "codes": packed(codes)}


def codes_of(value: Segment, size: int) -> npt.NDArray[np.int64]:
    """The codes of a segment, checked: a state may come from anywhere. Raises `InvalidInput`."""
    try:
        text, rows, columns = value["codes"], value["rows"], value["columns"]
        kind = {"h": "<u2", "w": "<u4"}[text[:1]]
        codes = np.frombuffer(base64.b64decode(text[1:], validate=True), kind).astype(np.int64)
        good = len(codes) == rows * columns and rows > 0 and (not len(codes) or codes.max() < size)
    except (KeyError, TypeError, ValueError):
        good = False
    if not good:
        raise InvalidInput("the conversation's state was not written by this model")
    return codes


def mark(segments: Sequence[Segment]) -> str:
    """A short name of a sequence, by which the picture at its end is recognised."""
    text = json.dumps([dict(each) for each in segments], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
