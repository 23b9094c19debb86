"""From a resolved request to an endpoint's arguments, and to as many submits as it takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from diptych.cards import EditMode
from diptych.cost import Estimate
from diptych.errors import InvalidInput, UnsupportedOption
from diptych.image import Image
from diptych.notices import Notice
from diptych.plan import Call, Plan
from diptych.request import Request

from .cards import pricing_of
from .conditioning import adapters, controls, references
from .endpoints import Endpoint

__all__ = ["plan_of"]

_PLAIN = ("negative_prompt", "guidance", "steps", "quality", "background", "format")


def plan_of(row: Endpoint, request: Request, queue: str) -> Plan:
    """The plan: one call per submit to `queue`. Raises `UnsupportedOption` and `InvalidInput`.

    The core has checked the options against the card, except those that it leaves to the plug-in:
    n, size, mask, expand and extra, and for an endpoint that is not listed the references.
    """
    notices: list[Notice] = []
    shared = _arguments(row, request, notices)
    calls = tuple(
        Call(
            operation=row.id,
            method="POST",
            target=f"{queue}/{row.id}",
            payload={**shared, **own},
            images=images,
            seeds=seeds,
        )
        for own, images, seeds in _submits(row, request, shared)
    )
    return Plan(
        model=row.ref,
        mode=str(request.mode or "generate"),
        calls=calls,
        request=request,
        notices=tuple(notices),
        estimate=_estimate(row, request, calls),
    )


def _submits(
    row: Endpoint, request: Request, shared: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], int, tuple[int, ...]]]:
    """What each submit has of its own: arguments, number of pictures, seeds.

    fal seeds a batch as a whole, so image k gets seed + k by a submit of its own. `num_images` is
    sent for several pictures only, because one is what every endpoint makes unasked.
    """
    if request.seed is not None:
        for seed in range(request.seed, request.seed + request.n):
            yield {row.fields["seed"]: seed}, 1, (seed,)
        return
    if request.n == 1:
        asked = shared.get("num_images")
        yield {}, asked if isinstance(asked, int) and asked > 0 else 1, ()
        return
    left = request.n
    while left:
        images = min(left, row.per_submit)
        left -= images
        yield {row.fields["n"]: images} if images > 1 else {}, images, ()


def _arguments(row: Endpoint, request: Request, notices: list[Notice]) -> dict[str, Any]:
    """The arguments that every submit shares."""
    payload: dict[str, Any] = {}
    if row.prompt:
        payload["prompt"] = request.prompt
    else:
        told = f"{row.ref} works without words: the prompt is not sent"
        notices.append(Notice("translated", told, "prompt"))
    for name in _PLAIN:
        value = getattr(request, name)
        if value is not None:
            payload[row.fields[name]] = row.values.get(name, {}).get(value, value)
    payload |= _pictures(row, request)
    payload |= _size(row, request)
    if request.change is not None:
        payload |= _strength(row, request.change)
    if request.adapters:
        payload |= adapters(row, request.adapters)
    if request.controls:
        payload |= controls(row, request.controls)
    return _with_extra(row, request, payload, notices)


def _size(row: Endpoint, request: Request) -> dict[str, Any]:
    size, asked = row.size, request.geometry
    if asked.auto:
        return {size.field: size.auto or "auto"}
    if size.write == "aspect":
        named = {} if asked.aspect is None else {size.field: asked.aspect}
        return named if asked.tier is None else {**named, size.tier_field: size.tiers[asked.tier]}
    if asked.size is None:
        if size.required and size.field not in request.extra:
            raise InvalidInput(f"{row.ref} needs the new size of the picture: give size=")
        return {}
    width, height = asked.size
    if min(asked.size) < size.min_edge:
        raise UnsupportedOption(
            f"{row.ref} cannot make size {width}x{height}; both sides must be at least "
            f"{size.min_edge} pixels",
            option="size",
        )
    text = size.write == "text"
    return {size.field: f"{width}x{height}" if text else {"width": width, "height": height}}


def _pictures(row: Endpoint, request: Request) -> dict[str, Any]:
    """The picture to edit, its mask and borders, and the references."""
    payload: dict[str, Any] = {}
    pictures = [] if request.image is None else [request.image]
    if row.images and request.references:
        weighted = next((each for each in request.references if each.weight is not None), None)
        if weighted is not None:
            raise UnsupportedOption(
                f"{row.ref} takes references without a weight; say in the prompt what to take from "
                "each picture",
                option="references",
            )
        pictures += [Image.of(each.image) for each in request.references]
    elif request.references:
        payload |= references(row, request.references, request.extra)
    pictures = [_upright(picture) for picture in pictures]
    if len(pictures) > row.max_images:
        raise UnsupportedOption(
            f"{row.ref} takes at most {row.max_images} pictures, the one to edit included, not "
            f"{len(pictures)}",
            option="references",
        )
    if len(pictures) == 1 and row.image:
        payload[row.image] = pictures[0]
    elif pictures:
        payload[row.images] = pictures
    if request.mask is not None and request.mode is EditMode.INPAINT:
        payload |= _mask(row, request)
    if request.expand is not None:
        if not row.expand:
            why = row.refuse.get("expand", "it takes no pixels per side")
            raise UnsupportedOption(f"{row.ref} has no expand: {why}", option="expand")
        sides = {side: getattr(request.expand, side) for side in row.expand}
        payload |= {row.expand[side]: pixels for side, pixels in sides.items() if pixels}
    elif row.expand and not set(row.expand.values()) & set(request.extra):
        raise InvalidInput(
            f"{row.ref} needs to know by how much to extend the picture: give expand="
        )
    return payload


def _upright(image: Image) -> Image:
    """fal does not say whether its models heed EXIF, so the pixels are turned before they go."""
    return image.upright() if image.is_fetched else image


def _mask(row: Endpoint, request: Request) -> dict[str, Any]:
    assert request.mask is not None
    if not row.mask.white:
        why = row.refuse.get("mask") or "the polarity of its mask is not documented"
        raise UnsupportedOption(f"{row.ref} cannot be given a mask: {why}", option="mask")
    drawn = request.mask.png(invert=row.mask.white == "keep")
    return {row.mask.field: Image.of(drawn, name="mask")}


def _strength(row: Endpoint, change: float) -> dict[str, float]:
    # Rounded, because 1 - 0.7 is 0.30000000000000004.
    return {row.strength.field: change if row.strength.one == "change" else round(1 - change, 6)}


def _with_extra(
    row: Endpoint, request: Request, payload: dict[str, Any], notices: list[Notice]
) -> dict[str, Any]:
    """Add the caller's own arguments; none may contradict an option that was set."""
    taken = set(payload)
    if request.n > 1 or request.seed is not None:
        taken |= {"num_images"}
    if request.seed is not None:
        taken |= {row.fields["seed"]}
    for name, value in request.extra.items():
        if name == "ip_adapters" and name in payload:
            continue  # its entries were filled with the references
        if name in taken:
            raise InvalidInput(
                f"extra[{name!r}] says again what an option of the same call says; give it only once"
            )
        payload[name] = _jsonable(name, value)
    unknown = sorted(set(request.extra) - row.extra - _inputs(row))
    if unknown:
        told = f"nobody has checked that {row.ref} takes {', '.join(unknown)}"
        notices.append(Notice("unverified", told, "extra"))
    return payload


def _inputs(row: Endpoint) -> set[str]:
    """The inputs of the endpoint that options stand for."""
    named = {row.size.field, row.size.tier_field, row.image, row.images, row.loras, "prompt"}
    named |= {row.strength.field, row.mask.field, row.references.field, row.references.weight}
    return named | set(row.fields.values()) | set(row.expand.values())


def _jsonable(name: str, value: Any) -> Any:
    """`value` if JSON can say it; pictures may stand in it and are sent as pictures."""
    if value is None or isinstance(value, str | bool | int | Image):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _jsonable(name, each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(name, each) for each in value]
    raise InvalidInput(
        f"extra[{name!r}] holds {value!r:.100}, which is neither a JSON value nor a diptych Image"
    )


def _estimate(row: Endpoint, request: Request, calls: tuple[Call, ...]) -> Estimate:
    pricing = pricing_of(row, calls[0].payload)
    if pricing is None:
        return Estimate(source="fal publishes no price that diptych knows for these settings")
    size = request.geometry.size or (None if request.is_edit else row.pixels)
    pixels = None if size is None else (size[0] * size[1],) * 2
    return pricing.estimate(images=sum(call.images for call in calls), pixels=pixels)
