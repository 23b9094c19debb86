"""Z-Image: a language model reads the prompt, latents as planes, time runs the other way."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from diptych.local import tensors

from .native import Ask, Planes, Text, even, falling, shift_of

__all__ = ["ZImage"]


class ZImage(Planes):
    """Z-Image and Z-Image Turbo. Its guidance g weighs positive + g (positive - negative)."""

    def __init__(self, parts: dict[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(parts, device, dtype)
        self.multiple = 2 * self.cell

    def schedule(self, steps: int, size: tuple[int, int], start: float = 1.0) -> list[float]:
        rows, columns = self.grid(size)
        mu = shift_of(self.scheduler, rows * columns)
        return falling(self.scheduler, lambda first: even(first, steps), mu, start)

    def encode(self, prompt: str, length: int) -> Text:
        tokenizer = self.parts["tokenizer"]
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=True,
        )
        whole = tokenizer(chat, return_tensors="pt", verbose=False).input_ids
        ids = whole[:, :length].to(self.device)
        answer = self.parts["text_encoder"](
            input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True
        )
        cut = str(tokenizer.decode(whole[0, length:], skip_special_tokens=True)).strip()
        return Text(answer.hidden_states[-2][0].to(self.dtype), cut=cut)

    def group(self, ask: Ask) -> Hashable:
        return ask.grid

    def velocities(self, asks: Sequence[Ask]) -> list[Tensor]:
        answers = self.transformer(
            x=[ask.latents.to(self.dtype)[:, None] for ask in asks],
            t=tensors.sent(torch.tensor([1 - ask.sigma for ask in asks]), self.device),
            cap_feats=[ask.text.tokens for ask in asks],
            return_dict=False,
        )[0]
        return [-answer.float()[:, 0] for answer in answers]

    def has_guidance(self, scale: float) -> bool:
        return scale > 0

    def guided(self, positive: Tensor, negative: Tensor, scale: float) -> Tensor:
        return positive + scale * (positive - negative)
