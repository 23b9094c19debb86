"""What a family with a denoising loop of our own provides: its latents, its text, its velocity.

Convention of all flow-matching models here: x = (1 - sigma) picture + sigma noise, the velocity is
noise - picture, and sigma falls from 1 to 0. Latents have the layout that the family's transformer
reads (tokens for FLUX and Qwen-Image, planes for SD 3 and Z-Image), without a batch dimension, in
float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Ask",
    "Native",
    "Planes",
    "Text",
    "decoded",
    "encoded",
    "even",
    "falling",
    "room",
    "shift_of",
    "tokens",
]


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """A prompt as the transformer reads it.

    `tokens` is (length, width), `pooled` (width,) or None. `cut` is the end of the prompt that did
    not fit into the encoder.
    """

    tokens: Tensor
    pooled: Tensor | None = None
    cut: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """One velocity that a sampler wants: of `latents` at noise level `sigma`, given `text`.

    `grid` is (rows, columns) of the picture in the transformer's patches, `guidance` the scale that
    a guidance-distilled model is told.
    """

    latents: Tensor
    sigma: float
    text: Text
    grid: tuple[int, int]
    guidance: float | None = None


class Native(ABC):
    """One loaded model of a family. `multiple` divides the sides of the pictures that it draws."""

    multiple: int
    channels: int

    def __init__(self, parts: dict[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        self.transformer = parts["transformer"]
        self.vae = parts["vae"]
        self.scheduler = parts["scheduler"]
        self.parts = parts
        self.device = device
        self.dtype = dtype

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches of a picture of `size` (width, height)."""
        return size[1] // self.multiple, size[0] // self.multiple

    @abstractmethod
    def noise(self, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Normal noise in the layout of the latents, drawn on the CPU in the stock pipeline's order."""

    @abstractmethod
    def schedule(self, steps: int, size: tuple[int, int], start: float = 1.0) -> list[float]:
        """`steps` + 1 noise levels from `start` to 0, spaced as the checkpoint's scheduler does."""

    @abstractmethod
    def encode(self, prompt: str, length: int) -> Text:
        """Run the text encoders on one prompt; `length` is the most tokens that are kept."""

    @abstractmethod
    def latents(self, picture: Tensor) -> Tensor:
        """The latents of a picture (3, H, W) in -1..1; the mode of the posterior, nothing drawn."""

    @abstractmethod
    def picture(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        """The picture (3, H, W), about -1..1, of latents."""

    @abstractmethod
    def laid_out(self, planes: Tensor) -> Tensor:
        """Latent planes (C, h, w) in the layout of the latents."""

    @abstractmethod
    def planes(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        """The inverse of `laid_out`."""

    @abstractmethod
    def group(self, ask: Ask) -> Hashable:
        """Asks of one group can share a forward pass."""

    @abstractmethod
    def velocities(self, asks: Sequence[Ask]) -> list[Tensor]:
        """The velocity for every ask, in one forward pass of the transformer."""

    def guided(self, positive: Tensor, negative: Tensor, scale: float) -> Tensor:
        """Classifier-free guidance, as the family's stock pipeline does it."""
        return negative + scale * (positive - negative)

    def has_guidance(self, scale: float) -> bool:
        """Whether `scale` asks for a prediction with the negative prompt at all."""
        return scale > 1

    def mask(self, mask: Tensor, size: tuple[int, int]) -> Tensor:
        """A mask (1, H, W) in 0..1 in the layout of the latents: a cell is as free as its freest pixel."""
        rows, columns = self.grid(size)
        cells = self.multiple // self.cell
        low = torch.nn.functional.adaptive_max_pool2d(mask, (rows * cells, columns * cells))
        return self.laid_out(low.expand(self.channels, -1, -1)).to(self.device)

    @property
    def cell(self) -> int:
        """Pixels along the side of one latent cell."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))


class Planes(Native):
    """A family whose transformer reads the planes (C, h, w) of the autoencoder."""

    def __init__(self, parts: dict[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(parts, device, dtype)
        self.channels = self.transformer.config.in_channels

    def noise(self, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        width, height = size
        shape = (self.channels, height // self.cell, width // self.cell)
        return torch.randn(shape, generator=generator).to(self.device)

    def latents(self, picture: Tensor) -> Tensor:
        return encoded(self.vae, picture.to(self.device, self.dtype))

    def picture(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        return decoded(self.vae, latents.to(self.dtype))

    def laid_out(self, planes: Tensor) -> Tensor:
        return planes

    def planes(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        return latents


def falling(
    scheduler: Any, spaced: Callable[[float], Sequence[float]], mu: float, start: float
) -> list[float]:
    """Noise levels of a `FlowMatchEulerDiscreteScheduler`, the first of them `start`, the last 0.

    `spaced(u)` gives the unshifted levels that begin at u, as the stock pipeline spaces them. The u
    whose shifted level is `start` is found by bisection, whatever the scheduler's settings are.
    """

    def levels(first: float) -> list[float]:
        dynamic = {"mu": mu} if scheduler.config.get("use_dynamic_shifting") else {}
        scheduler.set_timesteps(sigmas=spaced(first), **dynamic)
        sigmas: list[float] = scheduler.sigmas.tolist()
        return sigmas

    if start >= 1:
        return levels(1.0)
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if levels(middle)[0] < start else (low, middle)
    return levels(high)


def shift_of(scheduler: Any, tokens: int) -> float:
    """The `mu` of resolution-dependent shifting: linear in the number of image tokens."""
    config = scheduler.config
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    least, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (most - least) / (high - low)
    return float(tokens * slope + (least - slope * low))


def even(first: float, steps: int) -> list[float]:
    """`steps` levels from `first` down to `first` / `steps`."""
    return [float(each) for each in np.linspace(first, first / steps, steps)]


def tokens(tokenizer: Any, prompt: str, length: int) -> tuple[Tensor, str]:
    """Token ids (1, length), padded, and the part of the prompt that did not fit."""
    ids = tokenizer(
        prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    whole = tokenizer(prompt, verbose=False).input_ids
    if len(whole) <= length:
        return ids, ""
    return ids, str(tokenizer.decode(whole[length - 1 :], skip_special_tokens=True)).strip()


def room(tokenizer: Any, encoder: Any) -> int:
    """The most tokens that a CLIP text encoder takes."""
    return int(min(tokenizer.model_max_length, encoder.config.max_position_embeddings))


def encoded(vae: Any, picture: Tensor) -> Tensor:
    """Latent planes (C, h, w), float32, of a picture (3, H, W); the mode of the posterior."""
    found = vae.encode(picture[None])
    planes = found.latents if hasattr(found, "latents") else found.latent_dist.mode()
    shift = vae.config.get("shift_factor") or 0.0
    return (planes[0].float() - shift) * vae.config.scaling_factor  # type: ignore[no-any-return]


def decoded(vae: Any, planes: Tensor) -> Tensor:
    """The picture (3, H, W) of latent planes (C, h, w)."""
    shift = vae.config.get("shift_factor") or 0.0
    unscaled = planes / vae.config.scaling_factor + shift
    return vae.decode(unscaled[None], return_dict=False)[0][0]  # type: ignore[no-any-return]
