"""OpenAI's own parameters, given through `extra`: checked where their rules are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from diptych.errors import InvalidInput, UnsupportedOption
from diptych.image import Image
from diptych.notices import Notice
from diptych.request import Request

from .cards import Family

__all__ = ["Wire", "extras"]

Wire = Literal["generate", "edit", "turn"]
"""A call without pictures, one with pictures, or a turn of a conversation."""

_CANONICAL = {
    "size": ("size", "aspect"),
    "quality": ("quality",),
    "background": ("background",),
    "output_format": ("format",),
    "negative_prompt": ("negative_prompt",),
    "seed": ("seed",),
    "num_inference_steps": ("steps",),
    "guidance_scale": ("guidance",),
}
_OURS = {
    "prompt": "the prompt itself",
    "input": "the prompt itself",
    "model": "the client's model",
    "n": "n=",
    "image": "edit(image, ...) and references=",
    "images": "edit(image, ...) and references=",
    "mask": "mask=",
    "input_image_mask": "mask=",
    "stream": "previews=",
    "partial_images": "previews=",
    "tools": "the options of diptych",
    "store": "the setting store=",
    "previous_response_id": "the conversation itself",
    "conversation": "the conversation itself",
}
_LEGACY = {
    "response_format": "GPT image models always answer with base64, and reject this parameter",
    "style": "describe the style in the prompt",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """How one parameter may be used.

    `check` raises `InvalidInput` or `UnsupportedOption`; `wires` are where it exists.
    """

    check: Callable[[str, Any, Request, Family], None]
    wires: tuple[Wire, ...] = ("generate", "edit", "turn")


def extras(
    request: Request, facts: Family | None, wire: Wire
) -> tuple[dict[str, Any], tuple[Notice, ...]]:
    """The parameters in `request.extra`, checked, and notices for those that nobody can check.

    Without `facts` (a model that nobody has described) everything passes that does not collide.
    """
    notices = []
    for name, value in request.extra.items():
        if name in _OURS:
            raise InvalidInput(f"extra[{name!r}] is diptych's to set; use {_OURS[name]}")
        for option in _CANONICAL.get(name, ()):
            if option in request.given():
                raise InvalidInput(
                    f"{option}= and extra[{name!r}] say the same thing; give one of them"
                )
        rule = None if facts is None else _RULES.get(name)
        if facts is not None and name in _LEGACY:
            raise UnsupportedOption(f"extra[{name!r}]: {_LEGACY[name]}", option="extra")
        if rule is None:
            told = f"extra[{name!r}] is sent as it is; nobody has checked that the model takes it"
            notices.append(Notice("unverified", told, "extra"))
            continue
        if wire not in rule.wires:
            places = {"generate": "generating", "edit": "editing", "turn": "a conversation"}
            raise UnsupportedOption(
                f"OpenAI has no {name} for {places[wire]}, only for "
                f"{' and '.join(places[each] for each in rule.wires)}",
                option="extra",
            )
        assert facts is not None
        rule.check(name, value, request, facts)
        if name == "complexity" and not facts.planner:
            told = "complexity came with gpt-image-2.5; nobody has checked that this model takes it"
            notices.append(Notice("unverified", told, "extra"))
    return dict(request.extra), tuple(notices)


def _format(request: Request) -> str:
    return str(request.format or request.extra.get("output_format") or "png")


def _whole(low: int, high: int) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InvalidInput(f"extra[{name!r}]={value!r} must be a whole number, {low} to {high}")

    return check


def _one_of(*choices: str) -> Callable[[str, Any, Request, Family], None]:
    def check(name: str, value: Any, request: Request, facts: Family) -> None:
        if value not in choices:
            allowed = ", ".join(map(repr, choices))
            raise InvalidInput(f"extra[{name!r}]={value!r} must be one of {allowed}")

    return check


def _identifier(longest: int) -> Callable[[str, Any, Request, Family], None]:
    def check(name: str, value: Any, request: Request, facts: Family) -> None:
        if not isinstance(value, str) or not 0 < len(value) <= longest:
            raise InvalidInput(f"extra[{name!r}] must be a text of 1 to {longest} characters")

    return check


def _compression(name: str, value: Any, request: Request, facts: Family) -> None:
    _whole(0, 100)(name, value)
    if _format(request) not in ("jpeg", "webp"):
        raise InvalidInput(
            f"extra[{name!r}] is for jpeg and webp, not {_format(request)}; give format='jpeg' or 'webp'"
        )


def _fidelity(name: str, value: Any, request: Request, facts: Family) -> None:
    if not facts.fidelity:
        raise UnsupportedOption(
            f"this model takes no {name}: OpenAI documents that it is to be left out",
            option="extra",
        )
    _one_of(*facts.fidelity)(name, value, request, facts)


def _markup(name: str, value: Any, request: Request, facts: Family) -> None:
    if not facts.planner:
        raise UnsupportedOption(f"{name} came with gpt-image-2.5; use mask=", option="extra")
    if request.image is None:
        raise InvalidInput(
            f"extra[{name!r}] is drawn over the picture to edit; use edit(image, ...)"
        )
    if request.mask is not None or "moderation" in request.extra:
        raise InvalidInput(f"extra[{name!r}] excludes mask= and extra['moderation']")
    overlay = Image.of(value, name=f"extra[{name!r}]")
    if not overlay.is_fetched or overlay.format != "png":
        raise InvalidInput(f"extra[{name!r}] must be a PNG with transparent pixels, not a URL")
    if request.image.is_fetched and overlay.size != request.image.size:
        raise InvalidInput(
            f"extra[{name!r}] is {overlay.size[0]}x{overlay.size[1]}; it must have the size of the "
            f"picture, {request.image.size[0]}x{request.image.size[1]}"
        )


def _frames(low: int, high: int) -> Callable[[str, Any, Request, Family], None]:
    def check(name: str, value: Any, request: Request, facts: Family) -> None:
        _whole(low, high)(name, value)
        if _format(request) != "gif":
            raise InvalidInput(f"extra[{name!r}] is for animations; give format='gif' with it")

    return check


def _svg(name: str, value: Any, request: Request, facts: Family) -> None:
    if not isinstance(value, Mapping) or not set(value) <= {"model", "reasoning"}:
        raise InvalidInput(
            f"extra[{name!r}] must be a mapping with model and, if you like, reasoning={{'effort': ...}}"
        )
    if _format(request) != "svg":
        raise InvalidInput(f"extra[{name!r}] is for vector graphics; give format='svg' with it")


def _anything(name: str, value: Any, request: Request, facts: Family) -> None:
    """The chat model's own parameters: the service checks them."""


_RULES = {
    "output_compression": Rule(_compression),
    "moderation": Rule(_one_of("auto", "low")),
    "complexity": Rule(_one_of("low", "medium", "high")),
    "input_fidelity": Rule(_fidelity, ("edit", "turn")),
    "markup": Rule(_markup, ("edit",)),
    "frame_count": Rule(_frames(2, 16)),
    "frame_duration_ms": Rule(_frames(10, 655_350)),
    "svg": Rule(_svg),
    "action": Rule(_one_of("generate", "edit", "auto"), ("turn",)),
    "safety_identifier": Rule(_identifier(128)),
    "user": Rule(_identifier(512)),
    "instructions": Rule(_identifier(100_000), ("turn",)),
    **dict.fromkeys(
        (
            "include",
            "max_output_tokens",
            "metadata",
            "prompt_cache_key",
            "reasoning",
            "service_tier",
            "temperature",
            "text",
            "tool_choice",
            "top_p",
            "truncation",
        ),
        Rule(_anything, ("turn",)),
    ),
}
