"""Values: what a caller could write for each option of a model, as hypothesis strategies."""

from __future__ import annotations

import math
from typing import Any, get_args

from hypothesis import strategies as st

from ..cards import Option
from ..conditioning import Control, ControlKind, Expand, LoRA, Reference
from ..planner import DEFAULT_CHANGE
from ..request import MAX_SEED, Background, Format
from ..sizes import Sizes
from .cases import OPTIONS, SOURCE, Case, box, picture

__all__ = ["seeds", "strategies"]

Values = st.SearchStrategy[Any]

PROBE = "diptych_probe"
"""A parameter that no model has, for `extra`."""

_ASPECTS = ("1:1", "16:9", "2:3", "3:4")
_MARGIN = 64
"""Seeds are drawn this far below their limit, so that seed + k fits as well."""


def strategies(case: Case) -> dict[str, Values]:
    """For every option of `Request`, values that are valid where the card says what is valid."""
    card = case.in_force
    found = {name: _values(case, name, card.option(name), card.sizes) for name in OPTIONS}
    if case.mode is None:
        for name in ("mask", "expand", "change"):
            del found[name]  # the core refuses them without a picture
    return {name: values for name, values in found.items() if not values.is_empty}


def _values(case: Case, name: str, option: Option, sizes: Sizes) -> Values:
    if option.choices and option.support != "refused":
        return st.sampled_from(option.choices)
    match name:
        case "n":
            return st.integers(2, 5)
        case "seed":
            return seeds(case)
        case "guidance":
            return _decimals(option, 0, 20)
        case "change":
            return _decimals(option, 0.05, 0.95).filter(lambda value: value != DEFAULT_CHANGE)
        case "steps":
            return _whole(option, 1, 100)
        case "previews":
            return _whole(option, 1, 3)
        case "size":
            return _exact(sizes) | (st.just("auto") if sizes.auto else st.nothing())
        case "aspect":
            return st.sampled_from(_aspects(sizes))
        case _:
            return _pictured(case, name)


def _pictured(case: Case, name: str) -> Values:
    """Options that are texts, pictures or made of pictures."""
    size = case.size
    match name:
        case "negative_prompt":
            return st.sampled_from(("fog and rain", "a crowd of people", "snow"))
        case "source_prompt":
            return st.sampled_from((SOURCE, "a castle by the sea"))
        case "quality":
            return st.sampled_from(("low", "high"))
        case "background":
            return st.sampled_from(get_args(Background))
        case "format":
            return st.sampled_from(get_args(Format))
        case "mask":
            return st.sampled_from((0, 1, 2)).map(lambda kind: box(size, kind))
        case "expand":
            return st.sampled_from((64, 128)).map(lambda side: Expand(right=side, bottom=side))
        case "references":
            most = max(1, min(3, case.in_force.max_references))
            return st.integers(1, most).flatmap(
                lambda count: st.integers(1, 3).map(
                    lambda first: tuple(
                        Reference(picture(size, first + each)) for each in range(count)
                    )
                )
            )
        case "adapters":
            path, scale = st.sampled_from("abc"), st.sampled_from((0.5, 0.75, 1.0))
            return st.builds(
                lambda name, by: (LoRA(f"https://example.com/{name}.safetensors", by),), path, scale
            )
        case "controls":
            kind, first = st.sampled_from(get_args(ControlKind)), st.integers(1, 3)
            return st.builds(
                lambda kind, first: (Control(kind, picture(size, first)),), kind, first
            )
        case "extra":
            return st.integers(1, 9).map(lambda value: {PROBE: value})
        case _:
            raise NotImplementedError(f"the suite has no values for option {name!r} of Request")


def seeds(case: Case) -> Values:
    """Seeds that the model takes, each with room for seed + k."""
    option = case.in_force.option("seed")
    high = MAX_SEED if option.high is None else int(option.high)
    return st.integers(int(option.low or 0), max(0, high - _MARGIN))


def _exact(sizes: Sizes) -> Values:
    """(width, height) that the model says it makes; of a model that takes none, one to refuse."""
    match sizes.kind:
        case "fixed":
            return st.sampled_from(sizes.fixed)
        case "aspects":
            return st.sampled_from(sizes.tiers) if sizes.tiers else st.nothing()
        case "free":
            return _free(sizes)
        case _:
            return st.sampled_from(((512, 768), (1024, 768), (768, 768)))


def _free(sizes: Sizes) -> Values:
    step = sizes.multiple
    longest = min(sizes.max_edge, math.isqrt(int(min(sizes.max_pixels * sizes.ratio, 2**60))))
    shortest = math.sqrt(sizes.min_pixels / sizes.ratio) if math.isfinite(sizes.ratio) else 1
    widths = st.integers(math.ceil(shortest / step) or 1, longest // step)

    def heights(across: int) -> Values:
        width = across * step
        low = max(sizes.min_pixels / width, width / sizes.ratio, 1)
        high = min(sizes.max_pixels / width, width * sizes.ratio, sizes.max_edge)
        bounds = math.ceil(low / step), math.floor(high / step)
        if bounds[0] > bounds[1]:
            return st.nothing()
        return st.integers(*bounds).map(lambda down: (width, down * step))

    return widths.flatmap(heights)


def _aspects(sizes: Sizes) -> tuple[str, ...]:
    if sizes.kind == "aspects":
        return tuple(name for name in sizes.aspects if ":" in name)
    if sizes.kind == "fixed":
        return tuple({f"{width}:{height}": None for width, height in sizes.fixed})
    return _ASPECTS


def _decimals(option: Option, low: float, high: float) -> Values:
    """Two decimals, within the card's limits."""
    low = low if option.low is None else max(option.low, low)
    high = high if option.high is None else min(option.high, max(high, low))
    return st.integers(math.ceil(low * 100), math.floor(high * 100)).map(lambda value: value / 100)


def _whole(option: Option, low: int, high: int) -> Values:
    low = low if option.low is None else max(int(option.low), low)
    high = high if option.high is None else int(option.high)
    return st.integers(low, max(low, high))
