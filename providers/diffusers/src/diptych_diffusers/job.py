"""A job: what a call asks of a loaded model. No torch."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from diptych.image import Image
from diptych.mask import Mask
from diptych.plan import Call

__all__ = ["Job"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A call, read. `task` is "generate" or the name of an edit mode.

    What the caller did not set is None. Pictures are loaded, there is a seed for every picture.
    """

    task: str
    prompt: str
    seeds: tuple[int, ...]
    negative_prompt: str | None = None
    guidance: float | None = None
    steps: int | None = None
    size: tuple[int, int] | None = None
    image: Image | None = None
    mask: Mask | None = None
    change: float | None = None
    source_prompt: str | None = None
    whole: bool | None = None
    preserve: str | None = None
    previews: int | None = None
    adapters: tuple[Mapping[str, Any], ...] = ()
    controls: tuple[Mapping[str, Any], ...] = ()
    references: tuple[Mapping[str, Any], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    async def of(cls, call: Call, load: Callable[[Image], Awaitable[Image]]) -> Job:
        """Read the payload of a call that `planning` made; fetch the pictures it names by URL."""
        values = dict(call.payload)
        for told in ("n", "seed", "format"):  # by the call itself; pictures are PNG
            values.pop(told, None)
        if (mask := values.pop("mask", None)) is not None:
            values["mask"] = Mask.of(mask)
        for name in ("adapters", "controls", "references"):
            if name in values:
                values[name] = tuple([await _loaded(each, load) for each in values[name]])
        if "size" in values:
            values["size"] = tuple(values["size"])
        if "image" in values:
            values["image"] = await load(values["image"])
        return cls(task=call.operation, seeds=call.seeds or drawn(call.images), **values)

    def but(self, **changes: Any) -> Job:
        """A copy with some fields changed."""
        return replace(self, **changes)


async def _loaded(
    each: Mapping[str, Any], load: Callable[[Image], Awaitable[Image]]
) -> Mapping[str, Any]:
    return dict(each) | ({"image": await load(each["image"])} if "image" in each else {})


def drawn(count: int) -> tuple[int, ...]:
    """Seeds for a caller who gave none: consecutive, so that one number repeats the whole call."""
    first = random.SystemRandom().randrange(2**32)
    return tuple(first + each for each in range(count))
