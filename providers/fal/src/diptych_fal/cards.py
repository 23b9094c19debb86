"""From a row of endpoints.toml to what the core reads: the model card and the prices."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from diptych.cards import Lifecycle, ModelCard, Option, Paradigm, refused
from diptych.pricing import Pricing
from diptych.sizes import Sizes

from .endpoints import Endpoint, endpoint

__all__ = ["card_of", "pricing_of"]

SOURCE = "fal's published endpoint types, 2026-08-02"
RECORDED = "recorded exchanges with fal, 2026-04 to 2026-10, and the price list of litellm 1.109.1"
NOBODY = "nobody has described this endpoint; its options go under the names that most of fal uses"
PRICES = "litellm 1.109.1 price list"

_PLAIN = ("seed", "negative_prompt", "guidance", "steps", "quality", "background", "format")
_UNKNOWN_STRENGTH = (
    "it is not documented whether strength=1 keeps or ignores the picture; "
    "pass extra={'strength': ...} in the direction that you have tested"
)
_UNKNOWN_MASK = (
    "it is not documented which colour of its mask is repainted; "
    "pass extra={'mask_url': ...} in the polarity that you have tested"
)


def card_of(row: Endpoint) -> ModelCard:
    """The model card of an endpoint."""
    successor = row.retired.get("successor")
    return ModelCard(
        ref=row.ref,
        paradigm=Paradigm(row.paradigm),
        generates=row.generates,
        edits=row.takes | frozenset(row.edits),
        options=_options(row),
        sizes=_sizes(row),
        max_references=_most_references(row),
        max_n=row.per_submit,
        resumable=True,
        lifecycle=Lifecycle(
            shutdown=row.retired.get("on"),
            successor=None if successor is None else endpoint(successor).ref,
        ),
        pricing=_overall(row),
        source=RECORDED if row.unlisted else NOBODY if row.partial else SOURCE,
        known=not row.partial,
        note=row.note,
    )


def _options(row: Endpoint) -> dict[str, Option]:
    options = (
        {} if row.partial else {name: _plain(row, name) for name in _PLAIN if name in row.fields}
    )
    options["n"] = Option(note=f"up to {row.per_submit} per submit; with a seed, one submit each")
    options["extra"] = Option(note=f"also {', '.join(sorted(row.extra))}" if row.extra else "")
    if row.size.field:
        options["size"] = options["aspect"] = Option(note=f"sent as {row.size.field}")
    else:
        options["size"] = options["aspect"] = refused(row.size.note)
    if row.strength.field:
        options["change"] = {
            "change": Option(note=f"sent as {row.strength.field}"),
            "keep": Option("translated", note=f"sent as {row.strength.field} = 1 - change"),
            "": refused(_UNKNOWN_STRENGTH),
        }[row.strength.one]
    if row.mask.field:
        options["mask"] = {
            "change": Option(note=f"sent as {row.mask.field}, white = change"),
            "keep": Option("translated", note=f"inverted: {row.mask.field} repaints black"),
            "": refused(_UNKNOWN_MASK),
        }[row.mask.white]
    if row.images:
        options["references"] = Option(note=f"sent in {row.images}, after the picture to edit")
    elif row.references.field:
        options["references"] = Option(note=f"sent as {row.references.field}")
    if row.loras and not row.partial:
        options["adapters"] = Option(note=f"sent as {row.loras}: https URLs or Hub repositories")
    if row.controls:
        options["controls"] = Option(note=_CONTROLS[row.controls])
    elif row.partial:
        options["controls"] = refused("it is not documented how this endpoint takes control images")
    if row.expand:
        options["expand"] = Option(note="sent as pixels per side")
    options["previews"] = refused("fal's queue shows no unfinished pictures")
    return options | {name: refused(why) for name, why in row.refuse.items()}


_CONTROLS = {
    "flux": "canny, depth and pose without a path as easycontrols, with a path as controlnets; "
    "the other kinds with a path as controlnet_unions",
    "single": "one control, with a path, as controlnet",
}


def _plain(row: Endpoint, name: str) -> Option:
    low, high = row.ranges.get(name, (None, None))
    values, field = row.values.get(name, {}), row.fields[name]
    if values:
        each = ", ".join(f"{ours} as {theirs}" for ours, theirs in values.items())
        return Option("translated", choices=tuple(values), note=f"sent as {field}: {each}")
    return Option(
        low=low,
        high=high,
        choices=row.formats if name == "format" else row.choices.get(name, ()),
        default=row.defaults.get(name),
    )


def _sizes(row: Endpoint) -> Sizes:
    size = row.size
    auto = bool(size.auto)
    if not size.field:
        return Sizes(kind="model")
    if size.write == "aspect":
        return Sizes(kind="aspects", aspects=size.aspects, tiers=tuple(size.tiers), auto=auto)
    if size.write == "text":
        return Sizes(kind="fixed", fixed=size.fixed, auto=auto)
    if not size.limited:
        return Sizes(kind="any", auto=auto)
    limits = {
        "max_edge": size.max_edge,
        "min_pixels": size.min_pixels,
        "max_pixels": size.max_pixels,
        "ratio": size.ratio,
    }
    given: Any = {name: value for name, value in limits.items() if value}
    return Sizes(kind="free", multiple=size.multiple, auto=auto, **given)


def _most_references(row: Endpoint) -> int:
    if row.images:
        return row.max_images - 1
    return row.references.most if row.references.field else 0


def pricing_of(row: Endpoint, payload: Mapping[str, Any] | None) -> Pricing | None:
    """The price under the settings of `payload`; None when nobody knows it.

    `payload=None` stands for settings that are not known any more: then only a price that does
    not depend on them is known.
    """
    price = row.price
    if "at" not in price:
        return _pricing(price) if price else None
    if payload is None:
        return None
    figures = price["at"].get(str(payload.get(price["by"], "")))
    return None if figures is None else _interval(figures)


def _overall(row: Endpoint) -> Pricing | None:
    """The price over all settings, for the card."""
    if "at" not in row.price:
        return _pricing(row.price) if row.price else None
    each = [_interval(figures) for figures in row.price["at"].values()]
    low = min(price.per_image for price in each if price.per_image is not None)
    high = max(price.per_image_high or low for price in each)
    return Pricing(source=PRICES, per_image=low, per_image_high=high)


def _interval(figures: str | tuple[str, str]) -> Pricing:
    low, high = (figures, figures) if isinstance(figures, str) else figures
    return Pricing(source=PRICES, per_image=Decimal(low), per_image_high=Decimal(high))


def _pricing(price: Mapping[str, str]) -> Pricing:
    amounts: Any = {name: Decimal(amount) for name, amount in price.items()}
    return Pricing(source=PRICES, **amounts)
