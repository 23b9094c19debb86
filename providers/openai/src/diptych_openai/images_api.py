"""Requests to the Images API: `/images/generations` and `/images/edits`."""

from __future__ import annotations

from typing import Any

from diptych.errors import InvalidInput, UnsupportedOption
from diptych.image import Image
from diptych.notices import Notice
from diptych.plan import Call
from diptych.request import Request

from .cards import MAX_PICTURES_IN, MAX_PICTURES_OUT, Family
from .extras import extras
from .pictures import alpha, presentable

__all__ = ["EDIT", "GENERATE", "calls", "checked_prompt", "options", "references"]

GENERATE, EDIT = "images.generate", "images.edit"
MAX_PROMPT = 32_000
_EXPERIMENTAL = 2560 * 1440


def calls(
    request: Request, model: str, facts: Family | None, target: dict[str, str]
) -> tuple[tuple[Call, ...], tuple[Notice, ...]]:
    """The calls that `request` becomes, at most ten pictures in each.

    With previews each picture has its own call, since the service does not say of which picture an
    unfinished one is; so has an svg, which the service makes one at a time, and a picture with a
    seed, where a server takes one.
    """
    notices: list[Notice] = []
    sources = [] if request.image is None else [presentable(request.image, notices)]
    sources += references(request, notices, room=MAX_PICTURES_IN - len(sources))
    operation = EDIT if sources else GENERATE
    payload: dict[str, Any] = {"model": model, "prompt": checked_prompt(request.prompt)}
    payload |= options(request, notices)
    more, noticed = extras(request, facts, "edit" if sources else "generate")
    notices += noticed
    if sources and request.image is None:
        told = "references go to the edit endpoint, which is where OpenAI takes pictures"
        notices.append(Notice("translated", told, "references"))
    if sources:
        payload |= _pictures(request, sources, as_json="moderation" in more)
    if (overlay := more.pop("markup", None)) is not None:
        payload["markup"] = Image.of(overlay)
    payload |= more
    if request.previews is not None:
        payload |= {"stream": True, "partial_images": request.previews}
    alone = request.previews is not None or request.format == "svg" or request.seed is not None
    made = []
    for first in range(0, request.n, 1 if alone else MAX_PICTURES_OUT):
        count = min(1 if alone else MAX_PICTURES_OUT, request.n - first)
        own: dict[str, Any] = {} if count == 1 else {"n": count}
        seeds: tuple[int, ...] = ()
        if request.seed is not None:
            seeds = (request.seed + first,)
            own["seed"] = request.seed + first
        made.append(
            Call(
                operation=operation,
                method="POST",
                target=target[operation],
                payload=payload | own,
                images=count,
                seeds=seeds,
            )
        )
    return tuple(made), tuple(notices)


def checked_prompt(prompt: str) -> str:
    """Raises `InvalidInput` when it is too long."""
    if len(prompt) > MAX_PROMPT:
        raise InvalidInput(
            f"the prompt has {len(prompt):,} characters; OpenAI takes {MAX_PROMPT:,} at most"
        )
    return prompt


def references(request: Request, notices: list[Notice], *, room: int) -> list[Image]:
    """The reference pictures, ready to be sent."""
    if any(each.weight is not None for each in request.references):
        raise UnsupportedOption(
            "OpenAI's models take references without a weight; say in the prompt how each is to be used",
            option="references",
        )
    if len(request.references) > room:
        raise UnsupportedOption(
            f"OpenAI takes at most {MAX_PICTURES_IN} pictures in all, so {room} references here, not "
            f"{len(request.references)}",
            option="references",
        )
    return [
        presentable(Image.of(each.image), notices, option="references")
        for each in request.references
    ]


def options(request: Request, notices: list[Notice]) -> dict[str, Any]:
    """The options that both APIs call alike, as far as the caller gave them."""
    sent: dict[str, Any] = {}
    size = request.geometry.size
    if request.geometry.auto:
        sent["size"] = "auto"
    elif size is not None:
        sent["size"] = f"{size[0]}x{size[1]}"
        if size[0] * size[1] > _EXPERIMENTAL:
            told = "OpenAI calls sizes above 2560x1440 experimental"
            notices.append(Notice("unverified", told, "size"))
    given = {
        "quality": request.quality,
        "background": request.background,
        "output_format": request.format,
        # Names that other servers use; OpenAI's own models refuse these options.
        "negative_prompt": request.negative_prompt,
        "num_inference_steps": request.steps,
        "guidance_scale": request.guidance,
    }
    sent |= {name: value for name, value in given.items() if value is not None}
    _check_format(request)
    if request.format in ("gif", "svg"):
        told = f"{request.format} output is open to some models and projects only"
        notices.append(Notice("unverified", told, "format"))
    return sent


def _check_format(request: Request) -> None:
    kind = request.format or "png"
    if request.background == "transparent" and kind not in ("png", "webp"):
        raise InvalidInput(
            f"background='transparent' needs format 'png' or 'webp'; {kind} pictures have none from OpenAI"
        )
    if kind in ("gif", "svg"):
        if request.previews is not None:
            raise InvalidInput(f"format={kind!r} excludes previews=; leave one of them out")
        if kind == "gif" and request.mask is not None:
            raise InvalidInput("format='gif' excludes mask=; leave one of them out")


def _pictures(request: Request, sources: list[Image], *, as_json: bool) -> dict[str, Any]:
    """The pictures of an edit: as form fields, or as JSON where a parameter exists only there."""
    sent: dict[str, Any] = {}
    if as_json:
        sent["images"] = [{"image_url": source} for source in sources]
    else:
        sent["image"] = sources if len(sources) > 1 else sources[0]
    if request.mask is not None:
        mask = alpha(request.mask, sources[0])
        sent["mask"] = {"image_url": mask} if as_json else mask
    return sent
