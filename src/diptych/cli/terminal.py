"""What may reach a terminal, and through which stream."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

__all__ = ["clean", "emit", "mute", "say", "watched"]

_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movements
    r"|\x1b[\]P_^X].*?(?:\x07|\x1b\\|\Z)"  # OSC, DCS, APC, PM, SOS: titles, links, clipboards
    r"|\x1b.?",
    re.DOTALL,
)
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # marks that reorder the text around them
)


def clean(text: object, *, line: bool = False) -> str:
    """`text` without escape sequences and control characters; with `line`, in one line.

    What a model says, a provider logs or a person pasted must not be able to steer the terminal.
    """
    kept = _CONTROL.sub("", _SEQUENCE.sub("", str(text).replace("\r\n", "\n")))
    return " ".join(kept.split()) if line else kept


def say(text: object) -> None:
    """A message for a person, on stderr."""
    print(clean(text), file=sys.stderr, flush=True)


def emit(document: Any, *, indent: int | None = 2) -> None:
    """A JSON document on stdout. ASCII: it reads the same in every locale, and steers nothing."""
    import json

    print(json.dumps(document, indent=indent, default=str), flush=True)


def watched() -> bool:
    """Whether a person is looking at stderr."""
    return sys.stderr.isatty()


def mute() -> None:
    """Give up on stdout, whose reader is gone or full, so that nothing fails on it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
