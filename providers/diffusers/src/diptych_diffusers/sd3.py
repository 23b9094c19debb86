"""Stable Diffusion 3 and 3.5: two CLIPs, perhaps T5, latents as planes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych.local import tensors

from .native import Ask, Planes, Text, falling, room, shift_of, tokens

__all__ = ["StableDiffusion3"]


class StableDiffusion3(Planes):
    """Any size of Stable Diffusion 3.x; the T5 encoder may be missing."""

    def __init__(self, parts: dict[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(parts, device, dtype)
        self.multiple = self.cell * self.transformer.config.patch_size

    def schedule(self, steps: int, size: tuple[int, int], start: float = 1.0) -> list[float]:
        rows, columns = self.grid(size)
        mu = shift_of(self.scheduler, rows * columns)
        if start >= 1:
            dynamic = {"mu": mu} if self.scheduler.config.get("use_dynamic_shifting") else {}
            self.scheduler.set_timesteps(steps, **dynamic)
            sigmas: list[float] = self.scheduler.sigmas.tolist()
            return sigmas

        def spaced(first: float) -> list[float]:
            # The least level is shifted once when the scheduler is made, and again in every schedule.
            least = min(first, self.scheduler.sigma_min)
            return [float(each) for each in np.linspace(first, least, steps)]

        return falling(self.scheduler, spaced, mu, start)

    def encode(self, prompt: str, length: int) -> Text:
        words, pooled, cut = [], [], ""
        for number in ("", "_2"):
            tokenizer, clip = self.parts[f"tokenizer{number}"], self.parts[f"text_encoder{number}"]
            ids, cut = tokens(tokenizer, prompt, room(tokenizer, clip))
            answer = clip(ids.to(self.device), output_hidden_states=True)
            pooled.append(answer.text_embeds[0])
            words.append(answer.hidden_states[-2][0])
        beside = torch.cat(words, dim=-1)
        width = self.transformer.config.joint_attention_dim
        if (t5 := self.parts.get("text_encoder_3")) is not None:
            ids, cut = tokens(self.parts["tokenizer_3"], prompt, length)
            more = t5(ids.to(self.device))[0][0]
        else:
            more = beside.new_zeros(length, width)
        beside = torch.nn.functional.pad(beside, (0, more.shape[-1] - beside.shape[-1]))
        return Text(torch.cat([beside, more]).to(self.dtype), torch.cat(pooled).to(self.dtype), cut)

    def group(self, ask: Ask) -> Hashable:
        return ask.grid, len(ask.text.tokens)

    def velocities(self, asks: Sequence[Ask]) -> list[Tensor]:
        answer = self.transformer(
            hidden_states=torch.stack([ask.latents for ask in asks]).to(self.dtype),
            timestep=tensors.sent(torch.tensor([ask.sigma for ask in asks]).mul(1000), self.device),
            encoder_hidden_states=torch.stack([ask.text.tokens for ask in asks]),
            pooled_projections=torch.stack([ask.text.pooled for ask in asks]),  # type: ignore[misc]
            return_dict=False,
        )[0]
        return list(answer.float().unbind())
