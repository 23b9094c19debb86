"""What steers a picture besides its prompt: references, adapters and controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .image import ImageSource

__all__ = ["Control", "Expand", "LoRA", "Reference"]

ControlKind = Literal["canny", "depth", "pose", "tile", "blur", "gray", "low_quality"]


@dataclass(frozen=True, slots=True)
class Reference:
    """A picture to draw from. `weight` in 0..1 says how strongly; None leaves it to the model."""

    image: ImageSource
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class LoRA:
    """A low-rank adapter: a file, a Hub repository id or an https URL, and its scale."""

    path: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Control:
    """Structure taken from `image`, a control image of `kind` (an edge map, a depth map, ...).

    `strength` is the conditioning scale (0 ignores it); `start` and `end` in 0..1 bound the part of
    the denoising in which it acts. `path` names the ControlNet where a model needs to be told.
    """

    kind: ControlKind
    image: ImageSource
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Expand:
    """Pixels to add at each border."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0
