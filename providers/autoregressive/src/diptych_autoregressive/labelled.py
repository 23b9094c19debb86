"""What the class-conditional families share in planning: labels, own settings, masks as tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from diptych.cards import Option
from diptych.errors import InvalidInput, UnsupportedOption
from diptych.mask import Mask
from diptych.notices import Notice
from diptych.request import Request

from . import imagenet

__all__ = [
    "NO_CLASS",
    "Setting",
    "asked_size",
    "cells",
    "described",
    "label_of",
    "own",
    "scaled",
    "settings",
]

NO_CLASS = "unconditional"
"""The label, or prompt, that asks for no class at all: for an edit, whatever suits the picture."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One name in `extra`: its default, whose type it must have, and its bounds."""

    default: Any
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def check(self, name: str, value: Any) -> Any:
        """The value in the type of the default. Raises `InvalidInput`."""
        if self.choices:
            if value not in self.choices:
                allowed = ", ".join(map(repr, self.choices))
                raise InvalidInput(f"extra {name}={value!r} must be one of {allowed}")
            return value
        kind = type(self.default)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        good = isinstance(value, bool) if kind is bool else number
        if good and kind is int:
            good = value == int(value)
        low = -float("inf") if self.low is None else self.low
        high = float("inf") if self.high is None else self.high
        if not good or not low <= value <= high:
            what = {bool: "True or False", int: "a whole number"}.get(kind, "a number")
            bounds = "" if kind is bool else f" from {low:g} to {high:g}"
            raise InvalidInput(f"extra {name}={value!r} must be {what}{bounds}")
        return kind(value)


def described(allowed: Mapping[str, Setting], *more: str) -> Option:
    """How a card names what `extra` may hold."""
    each = [f"{name} ({setting.default})" for name, setting in allowed.items()]
    return Option(note=", ".join([*more, *each]))


def own(allowed: Mapping[str, Setting], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What every setting is where the caller says nothing: the checkpoint's default, else ours."""
    return {
        name: each.check(name, defaults[name]) if name in defaults else each.default
        for name, each in allowed.items()
    }


def settings(
    extra: Mapping[str, Any], allowed: Mapping[str, Setting], *also: str
) -> dict[str, Any]:
    """The settings that the caller gives.

    `also` are names that `extra` may hold and that are read elsewhere. Raises `UnsupportedOption`.
    """
    for name in extra:
        if name not in allowed and name not in also:
            names = [*also, *allowed]
            near = get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UnsupportedOption(
                f"there is no {name!r} in extra: this model takes {', '.join(names)}{hint}",
                option="extra",
            )
    return {
        name: allowed[name].check(name, value) for name, value in extra.items() if name in allowed
    }


def label_of(request: Request, classes: int, ref: str) -> tuple[int | None, tuple[Notice, ...]]:
    """The class that is asked for, None for none, from extra={"label": ...} or the prompt itself.

    Raises `InvalidInput` for a prompt that is no class name where there is no label, and for a label
    and a prompt that name different classes.
    """
    if "label" not in request.extra:
        try:
            return _read(request.prompt, classes, "prompt"), ()
        except InvalidInput as error:
            raise InvalidInput(
                f"{ref} draws classes and reads no other words: {error}; write a class as the prompt, "
                f'or give extra={{"label": ...}} ("{NO_CLASS}" is no class)'
            ) from None
    label = _read(request.extra["label"], classes, "label")
    try:
        prompted = _read(request.prompt, classes, "prompt")
    except InvalidInput:
        told = f"{ref} reads no words: the label decides, and the prompt is not used"
        return label, (Notice("translated", told, "prompt"),)
    if prompted != label:
        raise InvalidInput(
            f"the prompt {request.prompt!r} and label={request.extra['label']!r} name different "
            "classes; give the class once"
        )
    return label, ()


def _read(label: object, classes: int, name: str) -> int | None:
    if isinstance(label, str) and label.strip().casefold() == NO_CLASS:
        return None
    return imagenet.find(label, classes, name=name)


def cells(mask: Mask, side: int) -> list[str]:
    """The mask on a grid of side x side tokens: "#" is made anew, for it touches the mask."""
    plane = mask.pil()
    width, height = plane.size

    def touched(row: int, column: int) -> bool:
        left, top = column * width // side, row * height // side
        right = max(-(-(column + 1) * width // side), left + 1)
        bottom = max(-(-(row + 1) * height // side), top + 1)
        highest = plane.crop((left, top, right, bottom)).getextrema()[1]
        return isinstance(highest, int) and highest > 0

    return [
        "".join("#" if touched(row, column) else "." for column in range(side))
        for row in range(side)
    ]


def asked_size(request: Request) -> dict[str, Any]:
    """The size in the payload, where the caller asked for it; the card allows the model's own alone."""
    size = request.geometry.size
    return {} if size is None else {"size": list(size)}


def scaled(size: tuple[int, int], side: int) -> tuple[Notice, ...]:
    """That the model sees a picture at its own size, where that is another one."""
    if size == (side, side):
        return ()
    told = f"the model works at {side}x{side}: the picture is scaled from {size[0]}x{size[1]}"
    return (Notice("translated", told, "image"),)
