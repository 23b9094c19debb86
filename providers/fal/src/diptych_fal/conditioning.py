"""LoRAs, control images and references, as fal's FLUX and Stable Diffusion endpoints take them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from diptych.conditioning import Control, LoRA, Reference
from diptych.errors import InvalidInput, UnsupportedOption
from diptych.image import Image

from .endpoints import Endpoint

__all__ = ["adapters", "controls", "references"]

_HUB = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_EASY = frozenset({"canny", "depth", "pose"})
"""Kinds for which fal has a control method by name."""


def adapters(row: Endpoint, loras: Sequence[LoRA]) -> dict[str, Any]:
    """`loras`: [{path, scale}]. A path is an https URL or a Hub repository, never a local file."""
    return {row.loras: [{"path": _remote(lora.path), "scale": lora.scale} for lora in loras]}


def _remote(path: str) -> str:
    if path.startswith("https://") or _HUB.fullmatch(path):
        return path
    raise InvalidInput(
        f"LoRA path {path!r} cannot be read by fal; give an https URL of a safetensors file or a Hub "
        'repository such as "owner/name"'
    )


def controls(row: Endpoint, given: Sequence[Control]) -> dict[str, Any]:
    """The control images in the lists that the endpoint has for their kinds."""
    if row.controls == "single":
        if len(given) > 1:
            raise UnsupportedOption(f"{row.ref} takes one control", option="controls")
        return {"controlnet": _controlnet(row, given[0])}
    lists: dict[str, list[dict[str, Any]]] = {}
    for control in given:
        if control.kind in _EASY and control.path is None:
            lists.setdefault("easycontrols", []).append(_easy(row, control))
        elif control.kind in _EASY:
            lists.setdefault("controlnets", []).append(_controlnet(row, control))
        else:
            lists.setdefault("controlnet_unions", []).append(_union(row, control))
    return lists


def _easy(row: Endpoint, control: Control) -> dict[str, Any]:
    if (control.start, control.end) != (0, 1):
        raise UnsupportedOption(
            f"{row.ref} applies {control.kind} over the whole denoising unless Control.path names a "
            "ControlNet",
            option="controls",
        )
    return {
        "control_method_url": control.kind,
        "image_control_type": "spatial",
        "image_url": Image.of(control.image),
        "scale": control.strength,
    }


def _controlnet(row: Endpoint, control: Control) -> dict[str, Any]:
    return {"path": _path(row, control), **_acting(control)}


def _union(row: Endpoint, control: Control) -> dict[str, Any]:
    mode = control.kind.replace("_", "-")
    return {"path": _path(row, control), "controls": [{"control_mode": mode, **_acting(control)}]}


def _acting(control: Control) -> dict[str, Any]:
    return {
        "control_image_url": Image.of(control.image),
        "conditioning_scale": control.strength,
        "start_percentage": control.start,
        "end_percentage": control.end,
    }


def _path(row: Endpoint, control: Control) -> str:
    if control.path is None:
        raise UnsupportedOption(
            f"{row.ref} needs to be told which ControlNet to use for {control.kind}: give "
            "Control(..., path=) with a URL or a Hub repository",
            option="controls",
        )
    return control.path


def references(
    row: Endpoint, given: Sequence[Reference], extra: Mapping[str, Any]
) -> dict[str, Any]:
    """References for an endpoint that has an input of its own for them, or IP-Adapters.

    An IP-Adapter needs weights that only the caller can choose, so its paths come from
    `extra={"ip_adapters": [{"path": ..., "image_encoder_path": ...}]}` and the picture from
    `references`.
    """
    if "ip_adapters" in extra and "ip_adapters" in row.extra:
        return {"ip_adapters": [_ip_adapter(given[0], extra["ip_adapters"])]}
    field, weight = row.references.field, row.references.weight
    if not field:
        raise UnsupportedOption(f"{row.ref} takes no references", option="references")
    pictures = [Image.of(each.image) for each in given]
    if row.references.most > 1:
        if any(each.weight is not None for each in given):
            raise UnsupportedOption(
                f"{row.ref} takes references without a weight", option="references"
            )
        return {field: pictures}
    strength = given[0].weight
    return {field: pictures[0]} | ({} if strength is None else {weight: strength})


def _ip_adapter(reference: Reference, entries: Any) -> dict[str, Any]:
    entry = entries[0] if isinstance(entries, list | tuple) and len(entries) == 1 else entries
    complete = isinstance(entry, Mapping) and {"path", "image_encoder_path"} <= set(entry)
    scale = reference.weight
    if scale is None and isinstance(entry, Mapping):
        scale = entry.get("scale")
    if not complete or scale is None:
        raise InvalidInput(
            "an IP-Adapter needs extra={'ip_adapters': [{'path': ..., 'image_encoder_path': ...}]} and "
            "a scale: Reference(image, weight=...)"
        )
    return {**entry, "image_url": Image.of(reference.image), "scale": scale}
