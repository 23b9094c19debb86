"""What a model cannot honour, told before anything runs: each of these diffusers ignores in silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diptych.errors import InvalidInput, UnsupportedOption

from .cards import ADAPTED, Described, extra_of, is_native, task_of
from .control_lora import BECOMES, following, is_control_lora
from .families import family, takes
from .files import check_name
from .recipe import EXTRA

__all__ = ["check"]

Size = tuple[int, int]

SEVERAL = ("ControlNetModel", "FluxControlNetModel", "SD3ControlNetModel")
"""ControlNets of which several can act together."""

RANDOM = ("ddim", "tcd", "DDIMScheduler", "TCDScheduler")
"""Schedulers whose steps take `eta`; every other ignores it."""

PROPORTIONS = 0.02
"""How far the proportions of a size may be from the picture's: what rounding to pixels makes."""


def check(
    model: Described,
    mode: str,
    *,
    image: Size | None,
    size: Size | None,
    negative_prompt: str | None,
    guidance: float | None,
    change: float | None,
    controls: Sequence[Any],
    references: Sequence[float | None],
    adapters: Sequence[str],
    extra: Mapping[str, Any],
    read: Sequence[Size] = (),
) -> None:
    """Refuse what would have no effect or another than the one that is meant.

    `mode` is "generate" or an `EditMode`, `image` the size of the picture to edit, `adapters` the
    paths of LoRAs, `references` the weights of the references and `read` the sizes of those pictures
    that are known; `controls` have the fields of `Control`, as a mapping. Raises `UnsupportedOption`
    or `InvalidInput`.
    """
    for path in adapters:
        check_name(path, "adapters")
        if is_control_lora(model, path):
            raise UnsupportedOption(
                f"adapters: {path} is a control LoRA, which draws after a control image; on "
                f"{_able()} give controls=[Control(kind, image, path={path!r})]",
                option="adapters",
            )
    if (lora := following(model, controls)) is not None and mode != "control":
        _check_control_lora(controls, lora.control, bool(references))
        model = lora
    else:
        _check_controls(model, mode, controls)
    _check_extra(model, extra)
    for name in set(extra) & set(ADAPTED):
        check_name(extra[name], "extra")
    if image is not None and size is not None and mode != "instruct":
        _check_proportions(image, size)
    _check_references(model, references, extra)
    for shape in (*read, *([image] if image is not None and mode == "instruct" else [])):
        _check_shape(model, shape)
    if not model.family.known:
        return
    _check_effects(model, guidance, extra)
    if model.family.guidance == "embedded" and "true_cfg_scale" in extra:
        _check_true_guidance(extra["true_cfg_scale"], negative_prompt)
    beside = {"controls": bool(controls), "references": bool(references)}
    if not (is_native(model.family, mode, **beside) and set(extra) <= EXTRA):
        _check_arguments(model, mode, controls, negative_prompt, guidance, change, extra)
    if model.family.guidance not in ("cfg", "true_cfg"):
        return
    least = 0 if model.family.name.startswith("z-image") else 1
    if guidance is not None and 0 < guidance < least:
        raise InvalidInput(
            f"guidance={guidance:g} would do the same as {least}: {model.card.ref} is guided by more "
            f"than {least}; give that, or {least} to draw without guidance"
        )
    if negative_prompt is not None:
        number = model.defaults.get("guidance") if guidance is None else guidance
        if number is not None and number <= least:
            raise UnsupportedOption(
                f"a negative prompt acts where guidance is above {least}, and it is {number:g}; "
                "give guidance=",
                option="negative_prompt",
            )


def _check_extra(model: Described, extra: Mapping[str, Any]) -> None:
    kind, allowed = model.family, extra_of(model.family)
    for name, value in extra.items():
        if name not in allowed:
            known = ", ".join(allowed) or "nothing"
            raise UnsupportedOption(
                f"extra={{{name!r}: ...}}: {kind.title} takes {known} there", option="extra"
            )
        if name == "scheduler":
            if value not in kind.samplers:
                raise UnsupportedOption(
                    f"extra={{'scheduler': {value!r}}}: {kind.title} takes {', '.join(kind.samplers)}",
                    option="extra",
                )
        elif not isinstance(value, str if name in ADAPTED else (bool, int, float)):
            what = "a file or repository" if name in ADAPTED else "a number, True or False"
            raise UnsupportedOption(f"extra={{{name!r}: {value!r}}} must be {what}", option="extra")


def _check_effects(model: Described, guidance: float | None, extra: Mapping[str, Any]) -> None:
    """Refuse numbers that the pipeline takes and that would change nothing."""
    own = "" if model.facts is None else model.facts.scheduler
    sampler = extra.get("scheduler", own)
    if "eta" in extra and sampler and sampler not in RANDOM:
        way = "; give 'scheduler': 'ddim' beside it" if model.family.samplers else ""
        raise UnsupportedOption(
            f"extra={{'eta': ...}} changes nothing with the scheduler {sampler}{way}",
            option="extra",
        )
    scale = extra.get("image_guidance_scale")
    number = model.defaults.get("guidance", 0) if guidance is None else guidance
    if scale is not None and (scale < 1 or number <= 1):
        raise UnsupportedOption(
            f"image_guidance_scale={scale:g} at guidance={number:g}: there is no guidance at all unless "
            "the first is at least 1 and the second above 1",
            option="extra",
        )


def _check_references(
    model: Described, references: Sequence[float | None], extra: Mapping[str, Any]
) -> None:
    given = [name for name in ("ip_adapter", "redux") if name in extra]
    if given and not references:
        raise UnsupportedOption(
            f"extra={{{given[0]!r}: ...}} reads references, and there are none; give references=",
            option="extra",
        )
    if not references:
        return
    if model.family.native_references:
        if any(weight is not None for weight in references):
            raise UnsupportedOption(
                f"{model.card.ref} reads references without a weight; leave it out",
                option="references",
            )
    elif len(given) != 1:
        raise UnsupportedOption(
            f"{model.card.ref} reads no pictures by itself; name the one thing that makes it, for "
            "example extra={'ip_adapter': 'org/name/file.safetensors'}",
            option="references",
        )
    elif given == ["redux"] and any(weight not in (None, 1) for weight in references):
        raise UnsupportedOption("Redux has no weight; leave it out", option="references")


def _check_controls(model: Described, mode: str, controls: Sequence[Mapping[str, Any]]) -> None:
    kind = model.family
    if mode == "control":
        if controls:
            raise UnsupportedOption(
                "mode='control' takes the structure from the picture itself; leave controls out, or "
                "generate from the control image alone",
                option="controls",
            )
        if model.control != "canny":
            made = model.control or "a kind of control image that is not known"
            raise UnsupportedOption(
                f"mode='control' computes an edge map, and {model.card.ref} was trained on {made}; use "
                "generate(..., controls=[Control(kind, control_image)])",
                option="mode",
            )
    if kind.concat:
        if controls:
            _check_concat(controls, model.control)
        return
    if len(controls) > 1 and kind.controlnet not in SEVERAL:
        raise UnsupportedOption(f"{kind.title} takes one control image", option="controls")
    for each in controls:
        if each.get("path") is None:
            raise UnsupportedOption(
                f"{kind.title} needs a ControlNet for a control image; name it: "
                f"Control({each['kind']!r}, image, path='org/name')",
                option="controls",
            )
        check_name(each["path"], "controls")
        if is_control_lora(model, each["path"]):
            raise UnsupportedOption(
                f"controls: {each['path']} is a control LoRA, which goes on {_able()} alone; {kind.title} "
                "takes ControlNets",
                option="controls",
            )


def _able() -> str:
    return ", ".join(family(name).title for name in BECOMES)


def _check_control_lora(
    controls: Sequence[Mapping[str, Any]], kind: str | None, references: bool
) -> None:
    """What a control LoRA cannot do. Raises `UnsupportedOption`."""
    own = controls[0]
    wrong = None
    if len(controls) != 1:
        wrong = f"a control LoRA reads one control image, not {len(controls)}"
    elif (own["start"], own["end"]) != (0, 1):
        wrong = "a control LoRA acts throughout; leave start and end out"
    elif own["strength"] == 0:
        wrong = "a control LoRA of strength 0 would still change the picture; leave it out"
    elif kind is not None and own["kind"] != kind:
        wrong = f"{own['path']} was trained on {kind} images, not on {own['kind']}"
    elif references:
        wrong = "no pipeline of diffusers reads references beside a control LoRA; leave them out"
    if wrong is not None:
        raise UnsupportedOption(f"controls: {wrong}", option="controls")


def _check_proportions(image: Size, size: Size) -> None:
    ratio = (size[0] * image[1]) / (size[1] * image[0])
    if abs(ratio - 1) > PROPORTIONS:
        raise InvalidInput(
            f"size={size[0]}x{size[1]} has other proportions than the picture, {image[0]}x{image[1]}, "
            "which would be distorted; leave size and aspect out, crop the picture, or use expand="
        )


def _check_shape(model: Described, size: Size) -> None:
    most = model.family.proportions
    if most and max(size) > most * min(size):
        raise InvalidInput(
            f"{model.card.ref} reads pictures of which one side is up to {most} times the other, and one is "
            f"{size[0]}x{size[1]}; crop it"
        )


def _check_true_guidance(scale: float, negative_prompt: str | None) -> None:
    if negative_prompt is None:
        raise UnsupportedOption(
            "true_cfg_scale acts together with a negative prompt alone; give negative_prompt=",
            option="extra",
        )
    if scale <= 1:
        raise UnsupportedOption(
            f"true_cfg_scale={scale:g} leaves the negative prompt without effect; it must be above 1",
            option="extra",
        )


def _check_arguments(
    model: Described,
    mode: str,
    controls: Sequence[Mapping[str, Any]],
    negative_prompt: str | None,
    guidance: float | None,
    change: float | None,
    extra: Mapping[str, Any],
) -> None:
    """Everything given against the arguments of the stock pipeline that will run."""
    kind = model.family
    name = kind.tasks[task_of(kind, mode, bool(controls))]
    needed = {"extra": [each for each in extra if each not in (*ADAPTED, "scheduler")]}
    if negative_prompt is not None:
        embedded = kind.guidance == "embedded"
        needed["negative_prompt"] = ["negative_prompt", *(["true_cfg_scale"] if embedded else [])]
    if guidance is not None:
        needed["guidance"] = [kind.guidance_argument()]
    if change is not None:
        needed["change"] = ["strength"]
    if any((each["start"], each["end"]) != (0, 1) for each in controls) and not kind.concat:
        needed["controls"] = ["control_guidance_start", "control_guidance_end"]
    for option, arguments in needed.items():
        for argument in arguments:
            if argument not in takes(name):
                raise UnsupportedOption(
                    f"{name}, which does {mode} for {model.card.ref}, has no {argument}",
                    option=option,
                )


def _check_concat(controls: Sequence[Mapping[str, Any]], kind: str | None) -> None:
    """What a checkpoint that reads its control image as channels cannot do.

    Raises `UnsupportedOption`.
    """
    wrong = None
    if len(controls) != 1:
        wrong = f"it reads one control image, not {len(controls)}"
    elif (own := controls[0]).get("path") is not None:
        wrong = "it reads its control image itself; leave path out"
    elif (own["strength"], own["start"], own["end"]) != (1, 0, 1):
        wrong = (
            "it follows its control image fully and throughout; leave strength, start and end out"
        )
    elif kind is not None and own["kind"] != kind:
        wrong = f"it was trained on {kind} images, not on {own['kind']}"
    if wrong is not None:
        raise UnsupportedOption(f"controls: {wrong}", option="controls")
