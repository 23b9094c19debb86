"""From the text of flags to the values that the library takes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..conditioning import Control, Expand, LoRA, Reference
from ..cost import Budget
from ..errors import InvalidInput
from ..image import Image
from ..sniff import MAX_BYTES
from .flags import EDIT, GENERATE

__all__ = ["KEY", "client_settings", "edit_options", "generate_options", "picture"]

KEY = "DIPTYCH_API_KEY"
"""The variable that holds the key for the server that --base-url names."""

_OWN = frozenset({"api_key", "model", "timeout", "max_retries", "budget", "base_url", "rewriter"})
"""What `ImageClient` takes besides settings of the provider."""


def client_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `ImageClient`, without the model. Raises `InvalidInput`."""
    settings = _pairs("--setting", given.get("setting"))
    if "api_key" in settings:
        raise InvalidInput(
            "a key on a command line can be read by everybody on the machine; put it into the "
            f"provider's variable, or into {KEY} for the server that --base-url names"
        )
    if own := sorted(_OWN & set(settings)):
        raise InvalidInput(f"--setting {own[0]}: this has a flag of its own, see --help")
    for name in ("timeout", "max_retries", "base_url"):
        if given.get(name) is not None:
            settings[name] = given[name]
    if given.get("budget") is not None:
        settings["budget"] = Budget(given["budget"])
    key = os.environ.get(KEY, "").strip()
    if key and given.get("base_url") is not None:
        settings["api_key"] = key
    return settings


def generate_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `generate` that were given. Raises `InvalidInput`."""
    return _options(given, [flag.name for flag in GENERATE] + ["previews"])


def edit_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that only `edit` has. Raises `InvalidInput`."""
    return _options(given, [flag.name for flag in EDIT])


def _options(given: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    options = {}
    for name in names:
        text = given.get(name)
        if text is None:
            continue
        option, read = _READERS.get(name, (name, _as_it_is))
        options[option] = read(text)
    return options


def _as_it_is(value: Any) -> Any:
    return value


def _references(texts: Iterable[str]) -> list[Reference]:
    return [Reference(path, weight) for path, weight in map(_weighted, texts)]


def _loras(texts: Iterable[str]) -> list[LoRA]:
    pairs = map(_weighted, texts)
    return [LoRA(path) if scale is None else LoRA(path, scale) for path, scale in pairs]


def _controls(texts: Iterable[str]) -> list[Control]:
    controls = []
    for text in texts:
        kind, equals, rest = text.partition("=")
        if not equals or not rest:
            raise InvalidInput(f"--control {text!r}: write KIND=IMAGE, such as canny=edges.png")
        path, strength = _weighted(rest)
        named: Any = kind.strip()  # the library checks it
        controls.append(
            Control(named, path) if strength is None else Control(named, path, strength)
        )
    return controls


def _weighted(text: str) -> tuple[str, float | None]:
    """ "path:0.5" in its two parts; a path that holds a colon by itself stays whole."""
    path, colon, tail = text.rpartition(":")
    if not colon or not path or Path(text).exists():
        return text, None
    try:
        return path, float(tail)
    except ValueError:
        return text, None


def _pairs(flag: str, texts: Iterable[str] | None) -> dict[str, Any]:
    """NAME=VALUE each; a value that is JSON is read as JSON, anything else is a text."""
    pairs: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InvalidInput(f"{flag} {text!r}: write NAME=VALUE")
        if name in pairs:
            raise InvalidInput(f"{flag} {name} is given twice; a list is written as JSON, [1, 2]")
        try:
            pairs[name] = json.loads(value)
        except ValueError:
            pairs[name] = value
    return pairs


def _extra(texts: Iterable[str]) -> dict[str, Any]:
    return _pairs("--extra", texts)


def _expand(text: str) -> Expand:
    try:
        sides = [int(side) for side in text.split(",")]
    except ValueError:
        sides = []
    if len(sides) == 1:
        sides *= 4
    if len(sides) != 4:
        raise InvalidInput(
            f"--expand {text!r}: write pixels for all borders (64), or left,top,right,bottom (0,0,64,0)"
        )
    return Expand(*sides)


_READERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "reference": ("references", _references),
    "lora": ("adapters", _loras),
    "control": ("controls", _controls),
    "extra": ("extra", _extra),
    "expand": ("expand", _expand),
}


def picture(text: str) -> Image:
    """The picture to edit: a path, a URL, or "-" for stdin. Raises `InvalidInput`."""
    if text != "-":
        return Image.of(text)
    return Image.of(sys.stdin.buffer.read(MAX_BYTES + 1), name="stdin")
