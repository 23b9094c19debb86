"""What comes back: pictures, text, usage, cost, and everything that was noticed."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, overload

from .cost import Cost
from .errors import MalformedResponse
from .image import Image
from .notices import Notice

if TYPE_CHECKING:
    from .plan import Plan

__all__ = ["Result", "Timings", "Usage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a provider says it used. None means that it did not say, which is not 0.

    Token counts are those of the image model; `chat` holds those of a chat model that called it.
    `units` are the provider's own billing units, `steps` and `tokens` what a local engine ran.
    """

    input_text_tokens: int | None = None
    input_image_tokens: int | None = None
    cached_text_tokens: int | None = None
    cached_image_tokens: int | None = None
    output_text_tokens: int | None = None
    output_image_tokens: int | None = None
    total_tokens: int | None = None
    units: float | None = None
    steps: int | None = None
    tokens: int | None = None
    chat: Usage | None = None

    def __add__(self, other: Usage) -> Usage:
        summed = {}
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            summed[each.name] = (
                mine if theirs is None else theirs if mine is None else mine + theirs
            )
        return Usage(**summed)

    def to_dict(self) -> dict[str, Any]:
        """Only what is known."""
        known = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: value.to_dict() if isinstance(value, Usage) else value
            for name, value in known.items()
            if value is not None
        }


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of wall time: `total`, and `provider` (from the first byte sent to the last read)."""

    total: float = 0.0
    provider: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Sequence[Image]):
    """The outcome of one request. Behaves as the sequence of its images.

    `model` is the one that really answered. `received` holds the pictures as the provider sent
    them when `images` are composites or conversions of them, else it is `images` itself. `raw` is
    the provider's answer as plain data, without picture bytes and without secrets.
    """

    images: tuple[Image, ...]
    text: str = ""
    usage: Usage | None = None
    cost: Cost = field(default_factory=Cost)
    notices: tuple[Notice, ...] = ()
    plan: Plan | None = field(default=None, repr=False)
    model: str = ""
    request_id: str | None = None
    timings: Timings = field(default_factory=Timings)
    outside_change: OutsideChange | None = None
    received: tuple[Image, ...] = field(default=(), repr=False)
    state: Mapping[str, Any] | None = field(default=None, repr=False)
    raw: Any = field(default=None, repr=False)

    @property
    def image(self) -> Image:
        """The first image. Raises `MalformedResponse` when the model answered with text only."""
        if not self.images:
            said = f": {self.text[:200]!r}" if self.text else ""
            raise MalformedResponse(
                f"{self.model} answered without a picture{said}; look at .text and .notices",
                provider=self.model.partition("/")[0],
            )
        return self.images[0]

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Image, ...]: ...
    def __getitem__(self, index: int | slice) -> Image | tuple[Image, ...]:
        return self.images[index]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Image]:
        return iter(self.images)

    def _repr_html_(self) -> str:
        pictures = "".join(
            f'<img src="{image.data_url()}" style="max-height:256px;margin:2px">'
            for image in self.images
        )
        lines = "".join(f"<li>{html.escape(str(notice))}</li>" for notice in self.notices)
        about = html.escape(f"{self.model}, cost {self.cost}")
        return f"<div>{pictures}<div><small>{about}</small><ul>{lines}</ul></div></div>"


@dataclass(frozen=True, slots=True)
class OutsideChange:
    """How much the model itself had changed outside the mask, before the original was put back.

    Differences of 8-bit channel values: `mean` and `max` in 0..255 over the pixels whose mask
    value is 0.
    """

    mean: float
    max: int
