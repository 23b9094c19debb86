"""What OpenAI's image service accepts, as of 2026-11-23, and how it says no.

Sizes, ranges and lifecycle follow the parameter documentation of the SDK 3.54; the bodies of the
errors for models, sizes, backgrounds, prompts, keys and unknown parameters follow recorded ones.
The other messages are worded here, in the same shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from .wire import Reply

__all__ = ["CHAT_MODELS", "IMAGE_MODELS", "ImageModel", "Refused", "check", "refuse", "size_of"]


@dataclass(frozen=True)
class ImageModel:
    """What one image model accepts; `fidelity` are the allowed values of `input_fidelity`."""

    shutdown: date | None = None
    free_sizes: bool = True
    extremes: bool = False
    """Has the qualities xhigh and max and the parameter `markup` (2.5 and later)."""
    fidelity: tuple[str, ...] = ()


DECEMBER = date(2026, 12, 1)
IMAGE_MODELS: dict[str, ImageModel] = {
    "dall-e-2": ImageModel(date(2026, 5, 12)),
    "dall-e-3": ImageModel(date(2026, 5, 12)),
    "gpt-image-1": ImageModel(date(2026, 10, 23), False, fidelity=("low", "high")),
    "gpt-image-1-mini": ImageModel(DECEMBER, False, fidelity=("low",)),
    "gpt-image-1.5": ImageModel(DECEMBER, False, fidelity=("low", "high")),
    "gpt-image-1.5-2025-12-16": ImageModel(DECEMBER, False, fidelity=("low", "high")),
    "chatgpt-image-latest": ImageModel(DECEMBER, False, fidelity=("low", "high")),
    "gpt-image-2": ImageModel(),
    "gpt-image-2-2026-04-21": ImageModel(),
    "gpt-image-2.5-sunburst": ImageModel(extremes=True),
    "gpt-image-2.5-sunburst-2026-09-08": ImageModel(extremes=True),
    "gpt-image-2.5-flare": ImageModel(extremes=True),
    "gpt-image-2.5-flare-2026-09-08": ImageModel(extremes=True),
    "gpt-image-2.6-sunburst": ImageModel(extremes=True),
    "gpt-image-2.6-flare": ImageModel(extremes=True),
}
DEFAULT_MODEL = "gpt-image-2.6-sunburst"

JANUARY = date(2027, 1, 14)
CHAT_MODELS: dict[str, date | None] = {
    **dict.fromkeys(("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini"), JANUARY),
    **dict.fromkeys(("gpt-4o-2024-08-06", "gpt-4o-2024-11-20"), JANUARY),
    **dict.fromkeys(("gpt-5", "gpt-5-mini", "gpt-5-nano", "o3"), date(2026, 12, 11)),
    **dict.fromkeys(("gpt-4o-2024-05-13", "gpt-4.1-nano", "o4-mini", "o1"), date(2026, 10, 23)),
    **dict.fromkeys(("gpt-6-astra", "gpt-6.2-astra", "gpt-6.1-sol", "gpt-6.2-sol"), None),
    **dict.fromkeys(("gpt-6.1-terra", "gpt-6-sol", "gpt-6-luna", "gpt-5.6-sol"), None),
    **dict.fromkeys(("gpt-5.6-terra", "gpt-5.6-luna", "gpt-5.5", "gpt-5.4", "gpt-5.4-mini"), None),
}

CHOICES: dict[str, tuple[str, ...]] = {
    "background": ("transparent", "opaque", "auto"),
    "output_format": ("png", "webp", "jpeg", "gif", "svg"),
    "quality": ("auto", "low", "medium", "high", "xhigh", "max"),
    "moderation": ("auto", "low"),
    "complexity": ("low", "medium", "high"),
    "input_fidelity": ("high", "low"),
    "action": ("generate", "edit", "auto"),
}
RANGES = {
    "n": (1, 10),
    "output_compression": (0, 100),
    "partial_images": (0, 3),
    "frame_count": (2, 16),
    "frame_duration_ms": (0, 655_350),
}
FIXED_SIZES = ("1024x1024", "1024x1536", "1536x1024", "auto")
PIXELS = (655_360, 8_294_400)
LONGEST = 3840

COMMON = frozenset(
    [
        "model",
        "n",
        "size",
        "quality",
        "background",
        "output_format",
        "output_compression",
        "complexity",
        "frame_count",
        "frame_duration_ms",
        "svg",
        "partial_images",
        "stream",
        "safety_identifier",
        "user",
        "prompt",
    ]
)
PARAMETERS: dict[str, frozenset[str]] = {
    "generate": COMMON | {"moderation"},
    "edit": COMMON | {"image", "mask", "markup", "input_fidelity"},
    "edit json": COMMON | {"images", "mask", "input_fidelity", "moderation"},
    "tool": (COMMON - {"n", "stream", "safety_identifier", "user", "prompt"})
    | {"type", "action", "moderation", "input_fidelity", "input_image_mask"},
}


class Refused(Exception):
    """The service says no; `reply` is its answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.data)
        self.reply = reply


def refuse(
    message: str,
    param: str | None = None,
    *,
    code: str | None = "invalid_value",
    kind: str = "invalid_request_error",
    status: int = 400,
    headers: Mapping[str, str] | None = None,
) -> Refused:
    """The service's error document as an exception to raise."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return Refused(Reply(status, headers or {}, data={"error": error}))


USER_ERROR = "image_generation_user_error"


def check(given: Mapping[str, Any], form: str, *, today: date, prefix: str = "") -> None:
    """Raise `Refused` unless `given` are parameters that `form` (a key of PARAMETERS) takes."""
    for name in given:
        if name not in PARAMETERS[form]:
            raise refuse(
                f"Unknown parameter: '{prefix}{name}'.", prefix + name, code="unknown_parameter"
            )
    values = {name: value for name, value in given.items() if value is not None}
    model = _model(values, today, prefix)
    for name, allowed in CHOICES.items():
        if name in values and values[name] not in allowed:
            listed = ", ".join(f"'{value}'" for value in allowed[:-1])
            raise refuse(
                f"Invalid value: '{values[name]}'. Supported values are: {listed}, and "
                f"'{allowed[-1]}'.",
                prefix + name,
            )
    for name, (low, high) in RANGES.items():
        _check_range(values.get(name), name, low, high, prefix)
    _check_size(values.get("size", "auto"), model, prefix)
    _check_combination(values, model, prefix)


def _model(values: Mapping[str, Any], today: date, prefix: str) -> ImageModel:
    name = values.get("model", DEFAULT_MODEL)
    model = IMAGE_MODELS.get(name)
    if model is None or (model.shutdown is not None and model.shutdown <= today):
        raise refuse(f"The model '{name}' does not exist.", prefix + "model", kind=USER_ERROR)
    return model


def _check_range(value: Any, name: str, low: int, high: int, prefix: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        got = {str: "a string", float: "a decimal number"}.get(type(value), "another type")
        raise refuse(
            f"Invalid type for '{prefix}{name}': expected an integer, but got {got} instead.",
            prefix + name,
            code="invalid_type",
        )
    if not low <= value <= high:
        below = value < low
        raise refuse(
            f"Invalid '{prefix}{name}': integer {'below minimum' if below else 'above maximum'} "
            f"value. Expected a value {'>= ' + str(low) if below else '<= ' + str(high)}, but got "
            f"{value} instead.",
            prefix + name,
            code=f"integer_{'below_min' if below else 'above_max'}_value",
        )


def _check_size(size: Any, model: ImageModel, prefix: str) -> None:
    if size in FIXED_SIZES:
        return
    param = prefix + "size"
    if not model.free_sizes:
        listed = ", ".join(FIXED_SIZES[:-1])
        raise refuse(
            f"Invalid size '{size}'. Supported sizes are {listed}, and auto.",
            param,
            kind=USER_ERROR,
        )
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", str(size))
    if match is None:
        raise refuse(f"Invalid size '{size}'. Expected WIDTHxHEIGHT.", param, kind=USER_ERROR)
    width, height = int(match[1]), int(match[2])
    if width % 16 or height % 16:
        wrong = "Width and height must both be divisible by 16."
    elif max(width, height) > 3 * min(width, height):
        wrong = "The aspect ratio must be between 1:3 and 3:1."
    elif max(width, height) > LONGEST:
        wrong = f"The longest edge must not exceed {LONGEST} pixels."
    elif not PIXELS[0] <= width * height <= PIXELS[1]:
        wrong = f"The number of pixels must be between {PIXELS[0]} and {PIXELS[1]}."
    else:
        return
    raise refuse(f"Invalid size '{size}'. {wrong}", param, kind=USER_ERROR)


def _check_combination(values: Mapping[str, Any], model: ImageModel, prefix: str) -> None:
    form = values.get("output_format", "png")
    partial = values.get("partial_images") or 0
    stream = bool(values.get("stream"))
    masked = "mask" in values or "input_image_mask" in values
    fidelity = values.get("input_fidelity")
    rules = (
        (
            values.get("background") == "transparent" and form not in ("png", "webp"),
            "background",
            f"Transparent background is not supported for output_format '{form}'.",
        ),
        (
            values.get("output_compression", 100) < 100 and form not in ("jpeg", "webp"),
            "output_compression",
            f"Compression less than 100 is not supported for output_format '{form}'.",
        ),
        (
            values.get("quality") in ("xhigh", "max") and not model.extremes,
            "quality",
            f"The model does not support quality '{values.get('quality')}'.",
        ),
        (
            fidelity is not None and fidelity not in model.fidelity,
            "input_fidelity",
            f"The model does not support input_fidelity '{fidelity}'.",
        ),
        (form in ("gif", "svg") and not model.free_sizes, "output_format",
         f"The model does not support output_format '{form}'."),
        (form != "gif" and ("frame_count" in values or "frame_duration_ms" in values),
         "frame_count", "Frames require output_format 'gif'."),
        (form == "gif" and (partial or masked or (stream and not prefix)), "output_format",
         "GIF output does not support streaming, partial images or masks."),
        (form == "svg" and (values.get("n", 1) != 1 or partial or (stream and not prefix)),
         "output_format", "SVG output requires n=1 and does not support streaming."),
        (form != "svg" and "svg" in values, "svg", "svg requires output_format 'svg'."),
        ("markup" in values and (masked or not model.extremes), "markup",
         "markup requires GPT Image 2.5 or later and cannot be combined with mask."),
        (partial and not stream and not prefix, "partial_images",
         "partial_images requires stream to be true."),
    )  # fmt: skip
    for broken, param, message in rules:
        if broken:
            raise refuse(message, prefix + param, kind=USER_ERROR)


def check_prompt(prompt: Any) -> str:
    """The prompt, or `Refused` when it is missing, empty or too long."""
    if prompt is None:
        raise refuse(
            "Missing required parameter: 'prompt'.", "prompt", code="missing_required_parameter"
        )
    if not isinstance(prompt, str):
        raise refuse("Invalid type for 'prompt': expected a string.", "prompt", code="invalid_type")
    if not prompt:
        raise refuse(
            "Invalid 'prompt': empty string. Expected a string with minimum length 1, but got an "
            "empty string instead.",
            "prompt",
            code="empty_string",
        )
    if len(prompt) > 32_000:
        raise refuse(
            "Invalid 'prompt': string too long. Expected a string with maximum length 32000.",
            "prompt",
            code="string_above_max_length",
        )
    return prompt


def size_of(size: str | None, fallback: tuple[int, int] = (1024, 1024)) -> tuple[int, int]:
    """(width, height) of a checked size; `fallback` for "auto" and None."""
    if size in (None, "auto"):
        return fallback
    assert size is not None
    width, _, height = size.partition("x")
    return int(width), int(height)
