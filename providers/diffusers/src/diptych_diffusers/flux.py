"""FLUX.1: CLIP and T5, latents packed in 2x2 patches."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from diptych.local import tensors

from .native import Ask, Native, Text, decoded, encoded, even, falling, room, shift_of, tokens

__all__ = ["Flux"]


class Flux(Native):
    """FLUX.1 dev, schnell and what has their shape."""

    def __init__(self, parts: dict[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(parts, device, dtype)
        self.multiple = 2 * self.cell
        self.channels = self.transformer.config.in_channels // 4
        self._ids: dict[tuple[int, int], Tensor] = {}

    def noise(self, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        rows, columns = self.grid(size)
        drawn = torch.randn((self.channels, rows * 2, columns * 2), generator=generator)
        return self.laid_out(drawn).to(self.device)

    def schedule(self, steps: int, size: tuple[int, int], start: float = 1.0) -> list[float]:
        rows, columns = self.grid(size)
        mu = shift_of(self.scheduler, rows * columns)
        return falling(self.scheduler, lambda first: even(first, steps), mu, start)

    def encode(self, prompt: str, length: int) -> Text:
        clip, t5 = self.parts["text_encoder"], self.parts["text_encoder_2"]
        ids, _ = tokens(self.parts["tokenizer"], prompt, room(self.parts["tokenizer"], clip))
        pooled = clip(ids.to(self.device)).pooler_output[0]
        ids, cut = tokens(self.parts["tokenizer_2"], prompt, length)
        return Text(t5(ids.to(self.device))[0][0].to(self.dtype), pooled.to(self.dtype), cut)

    def latents(self, picture: Tensor) -> Tensor:
        return self.laid_out(encoded(self.vae, picture.to(self.device, self.dtype)))

    def picture(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        return decoded(self.vae, self.planes(latents, size).to(self.dtype))

    def laid_out(self, planes: Tensor) -> Tensor:
        channels, height, width = planes.shape
        patches = planes.reshape(channels, height // 2, 2, width // 2, 2).permute(1, 3, 0, 2, 4)
        return patches.reshape(height // 2 * (width // 2), channels * 4)

    def planes(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        rows, columns = self.grid(size)
        patches = latents.reshape(rows, columns, -1, 2, 2).permute(2, 0, 3, 1, 4)
        return patches.reshape(-1, rows * 2, columns * 2)

    def group(self, ask: Ask) -> Hashable:
        return ask.grid, len(ask.text.tokens)  # positions and text lengths are shared by a batch

    def velocities(self, asks: Sequence[Ask]) -> list[Tensor]:
        first = asks[0]
        levels = torch.tensor([ask.sigma for ask in asks]).mul(1000).to(self.dtype)
        guidance = None
        if self.transformer.config.guidance_embeds:
            guidance = tensors.sent(torch.tensor([ask.guidance for ask in asks]), self.device)
        answer = self.transformer(
            hidden_states=torch.stack([ask.latents for ask in asks]).to(self.dtype),
            timestep=tensors.sent(levels, self.device) / 1000,
            guidance=guidance,
            pooled_projections=torch.stack([ask.text.pooled for ask in asks]),  # type: ignore[misc]
            encoder_hidden_states=torch.stack([ask.text.tokens for ask in asks]),
            txt_ids=torch.zeros(len(first.text.tokens), 3, device=self.device, dtype=self.dtype),
            img_ids=self._positions(first.grid),
            return_dict=False,
        )[0]
        return list(answer.float().unbind())

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        if grid not in self._ids:
            rows, columns = torch.arange(grid[0]), torch.arange(grid[1])
            each = torch.meshgrid(rows, columns, indexing="ij")
            ids = torch.stack([torch.zeros_like(each[0]), *each], dim=-1).reshape(-1, 3)
            self._ids[grid] = ids.to(self.device, self.dtype)
        return self._ids[grid]
