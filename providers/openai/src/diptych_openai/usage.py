"""Tokens that an answer reports, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diptych.cost import Cost
from diptych.pricing import Pricing
from diptych.result import Usage

__all__ = ["cost_of", "image_usage", "turn_usage"]


def image_usage(value: Any, price: Pricing | None, *, pictures_in: bool = True) -> Usage | None:
    """Tokens of the image model; None where the answer does not say.

    A total that is not split is taken for text where no picture went in, and for pictures where the
    model has no price for text, and so writes none. Else the split stays unknown.
    """
    if not isinstance(value, Mapping):
        return None
    into = _mapping(value.get("input_tokens_details"))
    out = _mapping(value.get("output_tokens_details"))
    text_in, image_out = into.get("text_tokens"), out.get("image_tokens")
    if text_in is None and not pictures_in:
        text_in = value.get("input_tokens")
    if image_out is None and price is not None and price.text_out is None:
        image_out = value.get("output_tokens")
    cached_text, cached_image = _cached(value, into)
    return Usage(
        input_text_tokens=_count(text_in),
        input_image_tokens=_count(into.get("image_tokens")),
        cached_text_tokens=cached_text,
        cached_image_tokens=cached_image,
        output_text_tokens=_count(out.get("text_tokens")),
        output_image_tokens=_count(image_out),
        total_tokens=_count(value.get("total_tokens")),
    )


def _cached(value: Mapping[str, Any], into: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Cached text and image tokens. A total that is not split counts as text, which is cheaper: the
    saving is then not overstated."""
    split = _mapping(value.get("cached_tokens_details") or into.get("cached_tokens_details"))
    text = split.get("cached_text_tokens", split.get("text_tokens"))
    image = split.get("cached_image_tokens", split.get("image_tokens"))
    if text is None and image is None:
        text = value.get("cached_tokens", into.get("cached_tokens"))
    return _count(text), _count(image)


def turn_usage(body: Mapping[str, Any], price: Pricing | None) -> Usage | None:
    """The image tool's tokens, with those of the chat model as `chat`."""
    tool = image_usage(_mapping(body.get("tool_usage")).get("image_gen"), price)
    value = body.get("usage")
    if not isinstance(value, Mapping):
        return tool
    into = _mapping(value.get("input_tokens_details"))
    chat = Usage(
        input_text_tokens=_count(value.get("input_tokens")),
        cached_text_tokens=_count(into.get("cached_tokens")),
        output_text_tokens=_count(value.get("output_tokens")),
        total_tokens=_count(value.get("total_tokens")),
    )
    return replace(tool or Usage(), chat=chat)


def cost_of(usage: Usage | None, price: Pricing | None) -> Cost:
    """What the image model's tokens cost; unknown unless what went in and came out is known."""
    if price is None or usage is None:
        return Cost()
    if usage.input_text_tokens is None or usage.output_image_tokens is None:
        return Cost()
    if (usage.cached_text_tokens or 0) > usage.input_text_tokens:
        return Cost()
    return price.cost(sizes=(), usage=usage)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if whole else None
