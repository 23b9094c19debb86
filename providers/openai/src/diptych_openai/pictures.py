"""Pictures on their way out: what the service takes, and what is converted to it first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from diptych.errors import InvalidInput
from diptych.image import Image
from diptych.mask import Mask
from diptych.notices import Notice

__all__ = ["alpha", "loaded", "presentable"]

_TAKEN = ("png", "jpeg", "webp")
_MAX_BYTES = 50_000_000
_MAX_MASK_BYTES = 4_000_000


class Loader(Protocol):
    """The part of a `RunContext` that is needed here."""

    async def load(self, image: Image) -> Image: ...


def presentable(image: Image, notices: list[Notice], *, option: str = "image") -> Image:
    """`image` as the service takes it: upright, png, jpeg or webp, less than 50 MB.

    A picture that was not fetched stays as it is until the call runs. Raises `InvalidInput`.
    """
    if not image.is_fetched:
        return image
    ready = image.upright()
    if ready.format not in _TAKEN:
        ready = ready.convert("png")
    if ready is not image:
        what = "turned upright" if ready.format == image.format else f"converted to {ready.format}"
        notices.append(Notice("translated", f"the {image.format} picture is {what} first", option))
    if len(ready.bytes) >= _MAX_BYTES:
        raise InvalidInput(
            f"the picture has {len(ready.bytes):,} bytes; OpenAI takes less than {_MAX_BYTES:,}. "
            "Scale it down or encode it as jpeg or webp"
        )
    return ready


def alpha(mask: Mask, image: Image) -> Image:
    """`mask` as OpenAI has it: an RGBA PNG of the picture's size, alpha 0 where it is white."""
    if image.is_fetched:
        mask.check(image.size)
    # Black, not the picture's own colours: only alpha counts, and photographs exceed the limit.
    sent = Image.of(mask.alpha_png())
    if len(sent.bytes) >= _MAX_MASK_BYTES:
        raise InvalidInput(
            f"the mask has {len(sent.bytes):,} bytes as PNG; OpenAI takes less than "
            f"{_MAX_MASK_BYTES:,}. Use hard edges in place of soft ones, or a smaller picture"
        )
    return sent


async def loaded(value: Any, context: Loader, notices: list[Notice]) -> Any:
    """`value` with every picture in it fetched and presentable."""
    if isinstance(value, Image):
        if value.is_fetched:
            return value
        return presentable(await context.load(value), notices)
    if isinstance(value, Mapping):
        return {name: await loaded(each, context, notices) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [await loaded(each, context, notices) for each in value]
    return value
