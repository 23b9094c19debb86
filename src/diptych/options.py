"""The keyword options of `ImageClient`'s methods, in one place for both clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypedDict

from .conditioning import Control, Expand, LoRA, Reference
from .image import ImageSource
from .mask import MaskSource
from .request import Background, Format
from .sizes import AspectLike, SizeLike

__all__ = ["EditOptions", "GenerateOptions"]


class GenerateOptions(TypedDict, total=False):
    """Options of `generate`. One that is left out, or None, is not sent."""

    n: int
    """Pictures to make, 1 to 64; split into several calls where one call makes fewer."""
    size: SizeLike | None
    """Exact pixels "1024x768" or (1024, 768), a budget "1MP", "1K", "2K", "4K", or "auto"."""
    aspect: AspectLike | None
    """Width over height: "16:9", (16, 9) or 1.78; spends the budget of `size`."""
    seed: int | None
    """Picture k is made with seed + k, whatever the batch. 0 to 2**63 - 1."""
    negative_prompt: str | None
    """What to keep out."""
    guidance: float | None
    """Guidance scale, in the model's own units."""
    steps: int | None
    """Denoising steps."""
    quality: str | None
    """The model's own quality level, such as "low" or "high"."""
    background: Background | None
    """"transparent", "opaque" or "auto"."""
    format: Format | None
    """Encoding of the result: "png", "jpeg", "webp", "gif" or "svg"."""
    references: Iterable[ImageSource | Reference]
    """Pictures to draw from."""
    adapters: Iterable[LoRA | str]
    """Low-rank adapters."""
    controls: Iterable[Control]
    """Control images: edges, depth, pose."""
    extra: Mapping[str, Any] | None
    """The provider's own parameters under their own names."""
    previews: int | None
    """Unfinished pictures to stream (streaming methods only). Hosted providers may bill each."""


class EditOptions(GenerateOptions, total=False):
    """Options of `edit`, beside those of `generate`."""

    mask: MaskSource | None
    """Where to change the picture: white = change, soft values allowed, size of the picture."""
    change: float | None
    """How far to depart from the picture: 0 keeps it, 1 ignores it."""
    mode: str | None
    """"auto", or an `EditMode` that the model has."""
    preserve: Literal["exact", "model"]
    """"exact" puts the original back outside the mask, and outside the part of the picture that an
    inverted edit without one was found to change; "model" takes the model's picture."""
    expand: Expand | int | tuple[int, int, int, int] | None
    """Pixels to add at the borders: all, or (left, top, right, bottom)."""
    source_prompt: str | None
    """What the picture shows now, where an instruction has to be applied to a description."""
