"""From a resolved request to a call: what will be run, under the names of `Job`. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from diptych.cards import EditMode
from diptych.cost import Estimate
from diptych.errors import InvalidInput
from diptych.image import Image
from diptych.notices import Notice
from diptych.plan import Call, Plan
from diptych.request import Request

from .cards import Described, is_native, task_of
from .control_lora import BECOMES, following
from .files import here
from .geometry import canvas
from .recipe import EXTRA, Recipe
from .refusals import check

__all__ = ["TRADES", "plan_of"]

FREE = Estimate(Decimal(0), Decimal(0), source="runs on this machine")

TRADES = {
    "exact": "the stock pipeline's picture, up to rounding in another order",
    "fast": "products of matrices in eight bits where the device has them: details differ",
    "turbo": "as fast, and steps skipped: details and textures differ",
}
"""What every preset of speed gives up for time."""

_PLAIN = (
    "negative_prompt",
    "guidance",
    "steps",
    "change",
    "source_prompt",
    "previews",
    "format",
)


def plan_of(request: Request, model: Described, speed: str = "exact") -> Plan:
    """The plan for a request that the core has checked against the model's card.

    The payload holds what the caller asked for and nothing else: defaults are the checkpoint's.
    """
    mode, ref = "generate" if request.mode is None else str(request.mode), model.card.ref
    if mode == "invert" and request.source_prompt is None:
        raise InvalidInput(
            "mode='invert' needs to know what the picture shows now; give source_prompt=, or edit in a "
            "conversation that began with a prompt"
        )
    image = request.image
    check(
        model,
        mode,
        image=image.size if image is not None and image.is_fetched else None,
        size=request.geometry.size,
        negative_prompt=request.negative_prompt,
        guidance=request.guidance,
        change=request.change,
        controls=[_fields(each) for each in request.controls],
        references=[each.weight for each in request.references],
        adapters=[each.path for each in request.adapters],
        read=[
            each.image.size
            for each in request.references
            if isinstance(each.image, Image) and each.image.is_fetched
        ],
        extra=request.extra,
    )
    call = Call(
        operation=mode,
        method=loop(model, request),
        target=ref,
        payload=payload(request),
        images=request.n,
        seeds=() if request.seed is None else tuple(request.seed + k for k in range(request.n)),
    )
    return Plan(
        model=ref,
        mode=mode,
        calls=(call,),
        request=request,
        notices=(
            *_resized(request, model),
            *_unknown_words(request, model),
            *_traded(speed, call, model),
            *_followed(request, model),
        ),
        estimate=FREE,
    )


def loop(model: Described, request: Request) -> str:
    """What runs: "<family> loop" for ours, else the class of the stock pipeline."""
    kind = (following(model, [_fields(each) for each in request.controls]) or model).family
    mode = "generate" if request.mode is None else str(request.mode)
    beside = {"controls": bool(request.controls), "references": bool(request.references)}
    if is_native(kind, mode, **beside) and set(request.extra) <= EXTRA:
        return f"{kind.native} loop"
    return kind.tasks[task_of(kind, mode, bool(request.controls))] or "stock pipeline"


def _traded(speed: str, call: Call, model: Described) -> tuple[Notice, ...]:
    """Tell what the client's preset trades in this call."""
    if speed == "exact":
        return ()
    if not model.family.native:
        said = f"changes nothing for {model.family.title}: it has no loop of our own"
    elif speed == "turbo" and (call.operation == "invert" or not call.method.endswith(" loop")):
        said = f"trades: {TRADES['fast']}; no step is skipped in this call"
    else:
        said = f"trades: {TRADES[speed]}"
    return (Notice("assumed", f"speed={speed!r} {said}", "speed"),)


def _followed(request: Request, model: Described) -> tuple[Notice, ...]:
    """Tell the defaults that a control LoRA brings, or that what a path names cannot be known yet."""
    controls = [_fields(each) for each in request.controls]
    if (lora := following(model, controls)) is not None:
        missing = {
            name: lora.defaults[name]
            for name in ("steps", "guidance")
            if getattr(request, name) is None and lora.defaults[name] != model.defaults[name]
        }
        if not missing:
            return ()
        own = " and ".join(f"{name}={value}" for name, value in missing.items())
        return (Notice("assumed", f"a control LoRA is drawn with {own} unless told", "controls"),)
    if model.family.name not in BECOMES:
        return ()
    unknown = [each["path"] for each in controls if here(each["path"]) is None]
    return tuple(
        Notice(
            "unverified",
            f"{path} is not on this machine: whether it is a ControlNet or a control LoRA, which can do "
            "less, is known once it is downloaded",
            "controls",
        )
        for path in unknown
    )


def _resized(request: Request, model: Described) -> tuple[Notice, ...]:
    """Tell that the picture is drawn smaller or larger than it was asked for."""
    size = request.geometry.size
    if size is None and request.image is not None and request.image.is_fetched:
        size = request.image.size
    if size is None:
        return ()
    drawn = canvas(size, Recipe.of(model, request.extra))
    if drawn.inner == drawn.asked:
        return ()
    told = f"drawn at {drawn.inner[0]}x{drawn.inner[1]} and resized to {size[0]}x{size[1]}"
    return (Notice("translated", told, "size"),)


def payload(request: Request) -> dict[str, Any]:
    """What was asked for, as JSON values and pictures."""
    values: dict[str, Any] = {"prompt": request.prompt}
    values |= {
        name: getattr(request, name) for name in _PLAIN if getattr(request, name) is not None
    }
    if request.n > 1:
        values["n"] = request.n
    if request.seed is not None:
        values["seed"] = request.seed
    if request.geometry.size is not None:
        values["size"] = list(request.geometry.size)
    if request.image is not None:
        values["image"] = request.image
    if request.mask is not None:
        values["mask"] = Image.of(request.mask.png())
    if request.is_global is not None:
        values["whole"] = request.is_global
    if request.mode is EditMode.INVERT and request.preserve == "model":
        values["preserve"] = "model"
    if request.adapters:
        values["adapters"] = [asdict(each) for each in request.adapters]
    if request.controls:
        values["controls"] = [_fields(each) for each in request.controls]
    if request.references:
        values["references"] = [_fields(each) for each in request.references]
    if request.extra:
        values["extra"] = dict(request.extra)
    return values


def _fields(value: Any) -> Mapping[str, Any]:
    return {
        name: getattr(value, name) for name in value.__slots__ if getattr(value, name) is not None
    }


def _unknown_words(request: Request, model: Described) -> tuple[Notice, ...]:
    words = model.own.unknown_words(request.prompt)
    if not words:
        return ()
    named = ", ".join(repr(word) for word in words)
    noun = "the word" if len(words) == 1 else "the words"
    told = f"{model.card.ref} does not know {noun} {named}"
    return (Notice("unverified", told, "prompt"),)
