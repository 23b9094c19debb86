"""Sizes: what the caller asks for, what a model can make, and the exact fit between the two.

A size is pixels ("1024x768" or (1024, 768)), or a pixel budget ("1MP", "1K", "2K", "4K") that an
aspect ("16:9") spends. An exact size is honoured or refused; only a budget may be rounded.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from .errors import InvalidInput, UnsupportedOption
from .notices import Notice

__all__ = ["UNASKED", "Geometry", "Shape", "Sizes", "fit", "shape"]

SizeLike = str | tuple[int, int]
AspectLike = str | tuple[int, int] | float

MAX_EDGE = 16_384
MEGAPIXEL = 1024 * 1024
_TIERS = {"0.5K": 512, "1K": 1024, "2K": 2048, "4K": 4096}
_PIXELS = re.compile(r"(\d{1,5})\s*[x×*]\s*(\d{1,5})", re.IGNORECASE)
_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*MP", re.IGNORECASE)
_RATIO = re.compile(r"(\d+(?:\.\d+)?)\s*[:/]\s*(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Shape:
    """What the caller asked for: exact `pixels`, or an `aspect` and a `budget` of pixels."""

    pixels: tuple[int, int] | None = None
    aspect: Fraction | None = None
    budget: int | None = None
    tier: str | None = None
    auto: bool = False


@dataclass(frozen=True, slots=True)
class Geometry:
    """What is sent: `size` in pixels, or the name of an `aspect` and of a resolution `tier`.

    All None: nothing is sent and the model decides.
    """

    size: tuple[int, int] | None = None
    aspect: str | None = None
    tier: str | None = None
    auto: bool = False


UNASKED = Geometry()
"""The caller asked for no size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Which sizes a model makes.

    `kind`: "free" (any width and height within the limits), "fixed" (the list `fixed`), "aspects"
    (named ratios and tiers, the model chooses the pixels), "model" (size cannot be asked for) or
    "any" (nobody knows; whatever is asked is sent). `multiple` divides both sides; limits are in
    pixels; `ratio` is the largest long:short side. `budget` is what an aspect alone is given.
    """

    kind: Literal["free", "fixed", "aspects", "model", "any"] = "any"
    fixed: tuple[tuple[int, int], ...] = ()
    aspects: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    multiple: int = 1
    min_pixels: int = 1
    max_pixels: int = MAX_EDGE * MAX_EDGE
    max_edge: int = MAX_EDGE
    ratio: float = math.inf
    budget: int = MEGAPIXEL
    auto: bool = False

    def __str__(self) -> str:
        match self.kind:
            case "fixed":
                return ", ".join(f"{width}x{height}" for width, height in self.fixed)
            case "aspects":
                tiers = f", each at {'/'.join(self.tiers)}" if self.tiers else ""
                return f"the aspects {', '.join(self.aspects)}{tiers}"
            case "free":
                bounds = f"{self.min_pixels:,} to {self.max_pixels:,} pixels"
                edges = f"sides up to {self.max_edge} that are multiples of {self.multiple}"
                ratio = "" if math.isinf(self.ratio) else f", ratio up to {self.ratio:g}:1"
                return f"{edges}, {bounds}{ratio}"
            case "model":
                return "a size of its own choice"
            case _:
                return "any size"

    def to_dict(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"kind": self.kind, "auto": self.auto, "text": str(self)}
        if self.kind == "fixed":
            facts["fixed"] = [list(size) for size in self.fixed]
        elif self.kind == "aspects":
            facts |= {"aspects": list(self.aspects), "tiers": list(self.tiers)}
        elif self.kind == "free":
            facts |= {
                "multiple": self.multiple,
                "min_pixels": self.min_pixels,
                "max_pixels": self.max_pixels,
                "max_edge": self.max_edge,
                "ratio": None if math.isinf(self.ratio) else self.ratio,
            }
        return facts


def shape(size: SizeLike | None, aspect: AspectLike | None) -> Shape:
    """Read `size` and `aspect`. Raises `InvalidInput` for what is neither, or for both exact."""
    asked = _size(size)
    if aspect is None:
        return asked
    if asked.pixels is not None or asked.auto:
        raise InvalidInput(
            f"size={size!r} already decides the aspect; give size, or aspect with a budget such as "
            'size="2MP"'
        )
    return Shape(aspect=_aspect(aspect), budget=asked.budget, tier=asked.tier)


def _size(size: SizeLike | None) -> Shape:
    if size is None:
        return Shape()
    if isinstance(size, str):
        text = size.strip()
        if text.lower() == "auto":
            return Shape(auto=True)
        if (edge := _TIERS.get(text.upper())) is not None:
            return Shape(budget=edge * edge, tier=text.upper())
        if budget := _BUDGET.fullmatch(text):
            return Shape(budget=max(1, round(float(budget[1]) * MEGAPIXEL)))
        if pixels := _PIXELS.fullmatch(text):
            size = (int(pixels[1]), int(pixels[2]))
    if (
        isinstance(size, tuple)
        and len(size) == 2
        and all(isinstance(side, int) and 1 <= side <= MAX_EDGE for side in size)
    ):
        return Shape(pixels=size)
    raise InvalidInput(
        f'size={size!r} is not a size; write "1024x768", (1024, 768), a budget such as "1MP" or '
        f'"2K", or "auto" (sides from 1 to {MAX_EDGE} pixels)'
    )


def _aspect(aspect: AspectLike) -> Fraction:
    ratio: Fraction | None = None
    if isinstance(aspect, str) and (text := _RATIO.fullmatch(aspect.strip())):
        sides = Fraction(text[1]), Fraction(text[2])
        ratio = sides[0] / sides[1] if sides[1] else None
    elif isinstance(aspect, tuple) and len(aspect) == 2 and aspect[1]:
        ratio = Fraction(aspect[0]) / Fraction(aspect[1])
    elif isinstance(aspect, int | float) and not isinstance(aspect, bool) and math.isfinite(aspect):
        ratio = Fraction(aspect).limit_denominator(1000)
    if ratio is None or not Fraction(1, 50) <= ratio <= 50:
        raise InvalidInput(
            f'aspect={aspect!r} is not an aspect; write "16:9", (16, 9) or 1.78 '
            "(width over height, between 1:50 and 50:1)"
        )
    return ratio


def fit(asked: Shape, rule: Sizes, ref: str) -> tuple[Geometry, tuple[Notice, ...]]:
    """The geometry to send to model `ref`, which makes the sizes of `rule`.

    Raises `UnsupportedOption` when an exact size or a named aspect cannot be honoured.
    """
    if asked == Shape():
        return UNASKED, ()
    if asked.auto:
        if rule.auto or rule.kind == "any":
            return Geometry(auto=True), ()
        raise _refusal(ref, 'size="auto"', rule)
    match rule.kind:
        case "any":
            return _any(asked)
        case "model":
            raise _refusal(ref, _text(asked), rule)
        case "aspects":
            return _named(asked, rule, ref)
        case "fixed":
            return _listed(asked, rule, ref)
        case "free":
            return _free(asked, rule, ref)


def _any(asked: Shape) -> tuple[Geometry, tuple[Notice, ...]]:
    size = asked.pixels or _spend(asked.aspect or Fraction(1), asked.budget or MEGAPIXEL, 16)
    return Geometry(size=size), ()


def _named(asked: Shape, rule: Sizes, ref: str) -> tuple[Geometry, tuple[Notice, ...]]:
    if asked.pixels is not None:
        raise _refusal(ref, _text(asked), rule, hint="ask for an aspect instead of pixels")
    if asked.budget is not None and asked.tier not in rule.tiers:
        raise _refusal(ref, _text(asked), rule)
    if asked.aspect is None:
        return Geometry(tier=asked.tier), ()
    for name in rule.aspects:
        if ":" in name and _aspect(name) == asked.aspect:
            return Geometry(aspect=name, tier=asked.tier), ()
    raise _refusal(ref, _text(asked), rule)


def _listed(asked: Shape, rule: Sizes, ref: str) -> tuple[Geometry, tuple[Notice, ...]]:
    if asked.pixels is not None:
        if asked.pixels not in rule.fixed:
            raise _refusal(ref, _text(asked), rule, option="size")
        return Geometry(size=asked.pixels), ()
    ratio = asked.aspect or Fraction(1)
    same = [size for size in rule.fixed if abs(Fraction(*size) / ratio - 1) <= Fraction(1, 100)]
    if not same:
        raise _refusal(ref, _text(asked), rule)
    budget = asked.budget or rule.budget
    size = min(same, key=lambda each: abs(math.log(each[0] * each[1] / budget)))
    return Geometry(size=size), _rounded(asked, size)


def _free(asked: Shape, rule: Sizes, ref: str) -> tuple[Geometry, tuple[Notice, ...]]:
    if asked.pixels is not None:
        if not _allowed(asked.pixels, rule):
            near = _near(asked.pixels, rule)
            hint = f"the nearest is {near[0]}x{near[1]}" if near else ""
            raise _refusal(ref, _text(asked), rule, hint=hint, option="size")
        return Geometry(size=asked.pixels), ()
    ratio = asked.aspect or Fraction(1)
    budget = min(max(asked.budget or rule.budget, rule.min_pixels), rule.max_pixels)
    size = _spend(ratio, budget, rule.multiple)
    if not _allowed(size, rule):
        size = _near(size, rule) or size
    off = abs(Fraction(*size) / ratio - 1)
    if not _allowed(size, rule) or off > Fraction(1, 20):
        raise _refusal(ref, _text(asked), rule)
    return Geometry(size=size), _rounded(asked, size)


def _spend(ratio: Fraction, budget: int, multiple: int) -> tuple[int, int]:
    """Width and height of about `budget` pixels whose sides are multiples of `multiple`."""
    width = math.sqrt(budget * float(ratio))
    sides = (width, width / float(ratio))
    across, down = (max(multiple, round(side / multiple) * multiple) for side in sides)
    return across, down


def _allowed(size: tuple[int, int], rule: Sizes) -> bool:
    width, height = size
    return (
        width % rule.multiple == 0
        and height % rule.multiple == 0
        and max(size) <= rule.max_edge
        and rule.min_pixels <= width * height <= rule.max_pixels
        and max(size) <= rule.ratio * min(size)
    )


def _near(size: tuple[int, int], rule: Sizes) -> tuple[int, int] | None:
    """The allowed size closest to `size`, by moving both sides onto the grid and into the limits."""
    width, height = size
    pixels = width * height
    scale = math.sqrt(min(max(pixels, rule.min_pixels), rule.max_pixels) / pixels)
    scale *= min(1.0, rule.max_edge / (max(size) * scale))
    for nudge in (0, -1, 1, -2, 2):
        across, down = (
            max(1, round(side * scale / rule.multiple) + nudge) * rule.multiple for side in size
        )
        if _allowed((across, down), rule):
            return across, down
    return None


def _rounded(asked: Shape, size: tuple[int, int]) -> tuple[Notice, ...]:
    wanted = asked.aspect or Fraction(1)
    text = f"{_text(asked)} is sent as {size[0]}x{size[1]}"
    exact = Fraction(*size) == wanted
    detail = "" if exact else f", which is {size[0] / size[1]:.4g}:1 and not {float(wanted):.4g}:1"
    option = "aspect" if asked.aspect is not None else "size"
    return (Notice("translated", text + detail, option),)


def _text(asked: Shape) -> str:
    if asked.pixels is not None:
        return f"size {asked.pixels[0]}x{asked.pixels[1]}"
    parts = []
    if asked.aspect is not None:
        parts.append(f"aspect {asked.aspect.numerator}:{asked.aspect.denominator}")
    if asked.budget is not None:
        parts.append(f"size {asked.tier or f'{asked.budget / MEGAPIXEL:g}MP'}")
    return " at ".join(parts)


def _refusal(
    ref: str, what: str, rule: Sizes, *, hint: str = "", option: str = ""
) -> UnsupportedOption:
    option = option or ("aspect" if what.startswith("aspect") else "size")
    advice = f"; {hint}" if hint else ""
    return UnsupportedOption(f"{ref} cannot make {what}; it makes {rule}{advice}", option=option)
