"""A request: everything that the caller asks for, checked before anything is planned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any, Literal, get_args

from .cards import EditMode
from .conditioning import Control, ControlKind, Expand, LoRA, Reference
from .errors import InvalidInput
from .image import Image, ImageSource
from .mask import Mask, MaskSource
from .sizes import UNASKED, AspectLike, Geometry, SizeLike, shape

__all__ = ["Request"]

Format = Literal["png", "jpeg", "webp", "gif", "svg"]
Background = Literal["transparent", "opaque", "auto"]

MAX_N = 64
MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, for text to image when `image` is None and for an edit otherwise.

    None (or an empty tuple) means that the caller did not set the option; a default is never sent.
    `mode` is the caller's wish until the planner has resolved it; `geometry` is set by the planner,
    as is `is_global`: whether the edit concerns the whole picture (a style, a background) or has a
    place in it, None when that is not known. `preserve` is the core's business where there is a
    mask; an inverted edit that puts the original back by itself leaves that out for "model".
    `previews` is how many unfinished pictures to stream. `extra` goes to the model under its own
    names.
    """

    prompt: str
    image: Image | None = None
    mask: Mask | None = None
    change: float | None = None
    mode: EditMode | None = None
    preserve: Literal["exact", "model"] = "exact"
    expand: Expand | None = None
    source_prompt: str | None = None
    n: int = 1
    size: SizeLike | None = None
    aspect: AspectLike | None = None
    seed: int | None = None
    negative_prompt: str | None = None
    guidance: float | None = None
    steps: int | None = None
    quality: str | None = None
    background: Background | None = None
    format: Format | None = None
    previews: int | None = None
    references: tuple[Reference, ...] = ()
    adapters: tuple[LoRA, ...] = ()
    controls: tuple[Control, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    geometry: Geometry = UNASKED
    is_global: bool | None = None

    @property
    def is_edit(self) -> bool:
        return self.image is not None

    def given(self) -> dict[str, Any]:
        """The options that the caller set, by name, without the prompt and the picture itself."""
        return {
            name: getattr(self, name)
            for name, unset in _UNSET.items()
            if getattr(self, name) != unset
        }

    def but(self, **changes: Any) -> Request:
        """A copy with some options changed; the request itself when none is."""
        if all(getattr(self, name) is value for name, value in changes.items()):
            return self
        return replace(self, **changes)

    @classmethod
    def build(
        cls,
        prompt: str,
        *,
        image: ImageSource | None = None,
        mask: MaskSource | None = None,
        mode: str | None = "auto",
        expand: Expand | int | tuple[int, int, int, int] | None = None,
        references: Iterable[ImageSource | Reference] = (),
        adapters: Iterable[LoRA | str] = (),
        controls: Iterable[Control] = (),
        extra: Mapping[str, Any] | None = None,
        n: int = 1,
        preserve: str = "exact",
        **options: Any,
    ) -> Request:
        """Check and normalise what a caller wrote. Raises `InvalidInput`; loads no remote picture."""
        _known(options)
        _text("prompt", prompt)
        for name in ("negative_prompt", "source_prompt", "quality"):
            if options.get(name) is not None:
                _text(name, options[name])
        for name, bounds in _NUMBERS.items():
            if options.get(name) is not None:
                options[name] = _number(name, options[name], *bounds)
        for name, allowed in _CHOICES.items():
            if options.get(name) is not None:
                _choice(name, options[name], allowed)
        _choice("preserve", preserve, ("exact", "model"))
        shape(options.get("size"), options.get("aspect"))
        picture = None if image is None else Image.of(image)
        if picture is None:
            given = {
                "mask": mask,
                "expand": expand,
                "change": options.get("change"),
                "source_prompt": options.get("source_prompt"),
                "preserve": None if preserve == "exact" else preserve,
            }
            for name, value in given.items():
                if value is not None:
                    raise InvalidInput(
                        f"{name} needs a picture to edit; use edit(image, prompt, ...)"
                    )
        return cls(
            prompt=prompt,
            image=picture,
            mask=None if mask is None else Mask.of(mask),
            mode=_mode(mode),
            expand=_expand(expand),
            references=tuple(_reference(each) for each in _several("references", references)),
            adapters=tuple(_adapter(each) for each in _several("adapters", adapters)),
            controls=tuple(_control(each) for each in _several("controls", controls)),
            extra=dict(extra or {}),
            n=_number("n", n, int, 1, MAX_N),
            preserve=preserve,  # type: ignore[arg-type]  # checked above
            **options,
        )


_NUMBERS: dict[str, tuple[type, float, float]] = {
    "change": (float, 0, 1),
    "seed": (int, 0, MAX_SEED),
    "guidance": (float, 0, 1000),
    "steps": (int, 1, 1000),
    "previews": (int, 0, 100),
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "background": get_args(Background),
    "format": get_args(Format),
}
_UNSET = {
    each.name: () if each.name in ("references", "adapters", "controls") else each.default
    for each in fields(Request)
    if each.name not in ("prompt", "image", "mode", "preserve", "geometry", "is_global", "extra")
} | {"extra": {}}


def _known(options: Iterable[str]) -> None:
    """Refuse names that are no options; the wording of other libraries is translated in the hint."""
    for name in options:
        if name not in _UNSET:
            near = _ELSEWHERE.get(name) or next(iter(get_close_matches(name, _UNSET, n=1)), None)
            hint = f"; did you mean {near}?" if near else ""
            raise InvalidInput(
                f"there is no option {name!r}{hint} (the provider's own parameters go in extra={{...}})"
            )


_ELSEWHERE = {
    "strength": "change",
    "denoise": "change",
    "guidance_scale": "guidance",
    "cfg": "guidance",
    "num_inference_steps": "steps",
    "num_images": "n",
    "image_size": "size",
    "aspect_ratio": "aspect",
    "negative": "negative_prompt",
    "output_format": "format",
    "loras": "adapters",
}


def _text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{name} must be a text that is not empty, not {value!r}")


def _number(name: str, value: Any, kind: type, low: float, high: float) -> Any:
    whole = kind is int
    accepted = (int,) if whole else (int, float)
    if hasattr(value, "item"):  # numpy scalars
        value = value.item()
    good = isinstance(value, accepted) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not low <= value <= high:
        what = "a whole number" if whole else "a number"
        raise InvalidInput(f"{name}={value!r} must be {what} from {low:g} to {high:g}")
    return kind(value)


def _choice(name: str, value: Any, allowed: Iterable[str]) -> None:
    if value not in allowed:
        raise InvalidInput(f"{name}={value!r} must be one of {', '.join(map(repr, allowed))}")


def _mode(mode: str | None) -> EditMode | None:
    if mode is None or mode == "auto":
        return None
    _choice("mode", mode, ("auto", *EditMode))
    return EditMode(mode)


def _several(name: str, values: Any) -> Iterable[Any]:
    """Guards against a single value where a sequence is expected, which iterates by accident."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise InvalidInput(f"{name} must be a list, also for one; write {name}=[...]")
    return values


def _reference(value: ImageSource | Reference) -> Reference:
    if isinstance(value, Reference):
        weight = value.weight
        if weight is not None:
            weight = _number("Reference.weight", weight, float, 0, 1)
        return Reference(Image.of(value.image), weight)
    return Reference(Image.of(value))


def _adapter(value: LoRA | str) -> LoRA:
    lora = LoRA(value) if isinstance(value, str) else value
    if not isinstance(lora, LoRA) or not isinstance(lora.path, str) or not lora.path.strip():
        raise InvalidInput(f"adapters takes LoRA(path, scale=...) or a path, not {value!r}")
    return LoRA(lora.path, _number("LoRA.scale", lora.scale, float, -10, 10))


def _control(value: Control) -> Control:
    if not isinstance(value, Control):
        raise InvalidInput(f"controls takes Control(kind, image, ...), not {value!r}")
    _choice("Control.kind", value.kind, get_args(ControlKind))
    start = _number("Control.start", value.start, float, 0, 1)
    end = _number("Control.end", value.end, float, 0, 1)
    if start >= end:
        raise InvalidInput(f"Control.start={start} must be before Control.end={end}")
    strength = _number("Control.strength", value.strength, float, 0, 10)
    return replace(value, image=Image.of(value.image), strength=strength, start=start, end=end)


def _expand(value: Expand | int | tuple[int, int, int, int] | None) -> Expand | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = Expand(value, value, value, value)
    elif isinstance(value, tuple) and len(value) == 4:
        value = Expand(*value)
    if not isinstance(value, Expand):
        raise InvalidInput(
            f"expand={value!r} must be pixels for all borders, (left, top, right, bottom) or Expand(...)"
        )
    sides = [_number("expand", getattr(value, side.name), int, 0, 8192) for side in fields(value)]
    if not any(sides):
        raise InvalidInput("expand adds no pixel at any border; give at least one side")
    return value
