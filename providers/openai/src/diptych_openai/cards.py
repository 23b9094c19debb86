"""What OpenAI's image models can do: facts as data, with the day on which they were read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date

from diptych.cards import SUPPORTED, EditMode, Lifecycle, ModelCard, Option, Paradigm, refused
from diptych.sizes import Sizes

from .prices import PRICES

__all__ = [
    "FAMILIES",
    "MAX_PICTURES_IN",
    "MAX_PICTURES_OUT",
    "Family",
    "card",
    "cards",
    "family",
    "undated",
]

SOURCE = (
    "openai 3.54.0, types and documentation strings; "
    "developers.openai.com/api/docs/deprecations; read 2026-11-23"
)
MAX_PICTURES_IN = 16
MAX_PICTURES_OUT = 10

_FIXED = Sizes(kind="fixed", fixed=((1024, 1024), (1536, 1024), (1024, 1536)), auto=True)
_FREE = Sizes(
    kind="free",
    multiple=16,
    min_pixels=655_360,
    max_pixels=8_294_400,
    max_edge=3840,
    ratio=3,
    auto=True,
)
_RASTER = ("png", "jpeg", "webp")
_ORDINARY = ("auto", "low", "medium", "high")
_SNAPSHOT = re.compile(r"(.+)-(\d{4}-\d{2}-\d{2})")
_EDITS = frozenset({EditMode.CONTINUE, EditMode.INSTRUCT, EditMode.INPAINT})
_MAY, _OCTOBER, _DECEMBER = date(2026, 5, 12), date(2026, 10, 23), date(2026, 12, 1)
_NEWEST = "openai/gpt-image-2.6-sunburst"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Models that share every fact; dated snapshots belong to the family of their name.

    `fidelity` are the allowed values of `input_fidelity`. `planner` tells that the model is of the
    2.5 generation or later, which brought `xhigh`, `max`, gif, svg, `complexity` and `markup`.
    """

    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    sizes: Sizes = _FREE
    fidelity: tuple[str, ...] = ()
    planner: bool = False
    note: str = ""

    @property
    def qualities(self) -> tuple[str, ...]:
        return (*_ORDINARY, "xhigh", "max") if self.planner else _ORDINARY

    @property
    def formats(self) -> tuple[str, ...]:
        return (*_RASTER, "gif", "svg") if self.planner else _RASTER


def _gone(shutdown: date, successor: str = _NEWEST, note: str = "") -> Family:
    return Family(
        lifecycle=Lifecycle(shutdown=shutdown, successor=successor), sizes=_FIXED, note=note
    )


_NEVER = _gone(
    _OCTOBER,
    note="never the name of an API model: the pictures of GPT-4o were sold as gpt-image-1, and the "
    "date is that of its shutdown",
)

FAMILIES: dict[str, Family] = {
    "gpt-image-2.6-sunburst": Family(lifecycle=Lifecycle(date(2026, 11, 4)), planner=True),
    "gpt-image-2.6-flare": Family(lifecycle=Lifecycle(date(2026, 11, 4)), planner=True),
    "gpt-image-2.5-sunburst": Family(lifecycle=Lifecycle(date(2026, 9, 8)), planner=True),
    "gpt-image-2.5-flare": Family(lifecycle=Lifecycle(date(2026, 9, 8)), planner=True),
    "gpt-image-2": Family(
        lifecycle=Lifecycle(date(2026, 4, 21)), note="transparent backgrounds are in preview"
    ),
    "gpt-image-1.5": Family(
        lifecycle=Lifecycle(date(2025, 12, 16), shutdown=_DECEMBER, successor=_NEWEST),
        sizes=_FIXED,
        fidelity=("high", "low"),
    ),
    "gpt-image-1-mini": Family(
        lifecycle=Lifecycle(shutdown=_DECEMBER, successor="openai/gpt-image-2.6-flare"),
        sizes=_FIXED,
        fidelity=("low",),
    ),
    "chatgpt-image-latest": Family(
        lifecycle=Lifecycle(shutdown=_DECEMBER, successor=_NEWEST),
        sizes=_FIXED,
        fidelity=("high", "low"),
    ),
    "gpt-image-1": _gone(_OCTOBER, "openai/gpt-image-2.5-sunburst"),
    "dall-e-3": _gone(_MAY),
    "dall-e-2": _gone(_MAY),
    "gpt-4o-image": _NEVER,
    "gpt-4o image": _NEVER,
}

_REFUSED = {
    "seed": refused("the service has no seed; ask for several with n= and keep the one you like"),
    "negative_prompt": refused("say in the prompt itself what to keep out"),
    "guidance": refused("it has no guidance scale; quality= is what trades time for detail"),
    "steps": refused("it does not denoise in steps; quality= is what trades time for detail"),
    "change": refused(
        "it has no strength; say in the instruction how much to change, or give a mask"
    ),
    "adapters": refused("it takes no LoRA; give pictures of the style as references="),
    "controls": refused(
        "it takes no control images; give them as references= and say what they are"
    ),
}
_COMMON = {
    "n": Option(low=1, note=f"up to {MAX_PICTURES_OUT} in one call, more in several"),
    "size": SUPPORTED,
    "aspect": SUPPORTED,
    "mask": Option(note="sent as a PNG whose alpha is 0 where the mask is white"),
    "expand": Option("translated", note="the picture is padded and its border painted by mask"),
    "references": Option(note=f"up to {MAX_PICTURES_IN} pictures in all, without weights"),
    "previews": Option(low=0, high=3, note="each is billed, at about 100 output tokens"),
    "extra": Option(note="see the README for the names that are checked"),
}


def undated(model: str) -> str:
    """The name of the model that `model` is a dated snapshot of, or `model` itself."""
    dated = _SNAPSHOT.fullmatch(model)
    return dated[1] if dated is not None and dated[1] in FAMILIES else model


def family(model: str) -> Family | None:
    """The facts of `model`, or of the model that it is a dated snapshot of; else None."""
    return FAMILIES.get(undated(model))


def card(model: str, *, compatible: bool = False) -> ModelCard:
    """The card of `model`, without "openai/".

    `compatible` tells that the server is somebody else's: what OpenAI's service has no field for is
    then passed to models that nobody has described, under the names that such servers use.
    """
    known = family(model)
    return _permissive(model, compatible) if known is None else _known(model, known)


def cards() -> tuple[ModelCard, ...]:
    """Every model that is known, retired ones included."""
    return tuple(_known(name, each) for name, each in FAMILIES.items())


def _known(model: str, facts: Family) -> ModelCard:
    return ModelCard(
        ref=f"openai/{model}",
        paradigm=Paradigm.AUTOREGRESSIVE,
        edits=_EDITS,
        options={
            **_COMMON,
            **_REFUSED,
            "quality": Option(choices=facts.qualities, default="auto"),
            "background": Option(
                choices=("transparent", "opaque", "auto"),
                default="auto",
                note="transparent needs png or webp",
            ),
            "format": Option(choices=facts.formats, default="png"),
        },
        sizes=facts.sizes,
        max_references=MAX_PICTURES_IN,
        max_n=MAX_PICTURES_OUT,
        streams=True,
        lifecycle=facts.lifecycle,
        pricing=PRICES.get(undated(model)),
        source=SOURCE,
        note=facts.note,
    )


def _permissive(model: str, compatible: bool) -> ModelCard:
    never = ("adapters", "controls", "change") if compatible else tuple(_REFUSED)
    return ModelCard(
        ref=f"openai/{model}",
        paradigm=Paradigm.UNKNOWN if compatible else Paradigm.AUTOREGRESSIVE,
        edits=_EDITS - {EditMode.CONTINUE} if compatible else _EDITS,
        options={name: _REFUSED[name] for name in never},
        sizes=Sizes(kind="any"),
        max_references=MAX_PICTURES_IN,
        max_n=MAX_PICTURES_OUT,
        streams=True,
        source="nobody has described this model",
        known=False,
    )
