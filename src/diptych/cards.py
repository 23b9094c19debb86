"""Model cards: what a model can do, as data that is read before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any, Literal

from .pricing import Pricing
from .sizes import Sizes

__all__ = ["EditMode", "Lifecycle", "ModelCard", "Option", "Paradigm"]


class Paradigm(StrEnum):
    """How a model paints. A fact about the model; what it can edit is declared apart."""

    AUTOREGRESSIVE = "autoregressive"
    DIFFUSION = "diffusion"
    HYBRID = "hybrid"
    UNKNOWN = "unknown"


class EditMode(StrEnum):
    """The ways in which a picture can be edited."""

    CONTINUE = "continue"  # carry on the conversation that made it
    INSTRUCT = "instruct"  # an instruction beside the picture
    IMG2IMG = "img2img"  # noise the whole picture in part, denoise to a description
    INPAINT = "inpaint"  # paint inside a mask
    OUTPAINT = "outpaint"  # paint beyond the borders
    INVERT = "invert"  # inversion or FlowEdit between two descriptions
    CONTROL = "control"  # structure taken from the picture


@dataclass(frozen=True, slots=True)
class Option:
    """How a model takes one option.

    `low` and `high` bound a number, `choices` lists the allowed values, `default` is the
    provider's documented default (information only: a default is never sent). `note` says how a
    translated option is translated, or why a refused one is refused and what to use instead.
    """

    support: Literal["supported", "translated", "refused"] = "supported"
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()
    default: Any = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        facts = {
            "support": self.support,
            "low": self.low,
            "high": self.high,
            "choices": list(self.choices) or None,
            "default": self.default,
            "note": self.note or None,
        }
        return {name: fact for name, fact in facts.items() if fact is not None}


SUPPORTED = Option()


def refused(note: str) -> Option:
    """An option that the model does not have, with the reason and the way out."""
    return Option("refused", note=note)


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Dates in a model's life. `successor` is a reference within the same provider."""

    released: date | None = None
    deprecated: date | None = None
    shutdown: date | None = None
    successor: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "released": self.released and self.released.isoformat(),
            "deprecated": self.deprecated and self.deprecated.isoformat(),
            "shutdown": self.shutdown and self.shutdown.isoformat(),
            "successor": self.successor,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What is known of a model.

    `generates` says whether a text alone makes a picture; with `needs_control`, a text and a control
    image do. `options` names every option of `Request` that the model takes or translates, and may name
    refused ones to say why; an option that a known card does not name is refused. `known=False`
    marks the permissive card of a model nobody has described: what it does not name is passed
    through with a notice. `max_n` is how many pictures one paid call returns (more are split into
    several calls); None means that the model decides. `source` says where the facts were read
    and when.
    """

    ref: str
    paradigm: Paradigm
    generates: bool = True
    needs_control: bool = False
    edits: frozenset[EditMode] = frozenset()
    options: Mapping[str, Option] = field(default_factory=dict)
    sizes: Sizes = field(default_factory=Sizes)
    max_references: int = 0
    max_n: int | None = 1
    streams: bool = False
    resumable: bool = False
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    pricing: Pricing | None = None
    source: str = ""
    known: bool = True
    note: str = ""

    def option(self, name: str) -> Option:
        """How the model takes option `name`."""
        found = self.options.get(name)
        if found is not None:
            return found
        if self.known:
            return refused("")
        return SUPPORTED

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, stable across releases."""
        return {
            "ref": self.ref,
            "paradigm": str(self.paradigm),
            "generates": self.generates,
            "needs_control": self.needs_control,
            "edits": sorted(str(mode) for mode in self.edits),
            "options": {name: option.to_dict() for name, option in sorted(self.options.items())},
            "sizes": self.sizes.to_dict(),
            "max_references": self.max_references,
            "max_n": self.max_n,
            "streams": self.streams,
            "resumable": self.resumable,
            "lifecycle": self.lifecycle.to_dict(),
            "pricing": self.pricing and self.pricing.to_dict(),
            "source": self.source,
            "known": self.known,
            "note": self.note,
        }
