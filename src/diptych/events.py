"""What happens while a picture is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .image import Image
from .result import Result

__all__ = ["Completed", "Event", "Preview", "Progress", "Queued", "TextDelta"]


@dataclass(frozen=True, slots=True)
class Queued:
    """The provider has taken the job. `position` counts from 0, None when it does not say."""

    handle: str | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` units of the whole run; both None for a provider that only sends log lines.

    A model that works in two ways (GLM-Image writes tokens, then takes steps) counts each by itself.
    """

    done: int | None = None
    total: int | None = None
    unit: Literal["steps", "tokens", "scales", "passes", "log"] = "steps"
    message: str = ""


@dataclass(frozen=True, slots=True)
class Preview:
    """An unfinished picture. `picture` is which one of the result, `index` which preview of it."""

    image: Image
    index: int = 0
    picture: int = 0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of what the model says beside the pictures."""

    text: str


@dataclass(frozen=True, slots=True)
class Completed:
    """The last event of every stream that did not raise."""

    result: Result


Event = Queued | Progress | Preview | TextDelta | Completed
