"""Captions as LlamaGen reads them: 120 tokens of Flan-T5, whose features move to the right end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from diptych.errors import InvalidInput

__all__ = ["LENGTH", "Captions"]

LENGTH = 120


class Captions:
    """The text encoder: Flan-T5, or another T5 of the same width."""

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self._tokenizer, self._encoder = tokenizer, encoder

    @classmethod
    def load(cls, folder: Path, device: str, dtype: torch.dtype) -> Self:
        """From a transformers folder. Only safetensors files are read."""
        from transformers import AutoTokenizer, T5EncoderModel

        encoder = T5EncoderModel.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return cls(tokenizer, encoder.eval().requires_grad_(False).to(device))

    @property
    def width(self) -> int:
        width: int = self._encoder.config.d_model
        return width

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Features (B, 120, C) and mask (B, 120), both with the valid ones at the right end.

        Texts are `cleaned` before. Raises `InvalidInput` for one that is too long.
        """
        ids = self._tokenizer(list(texts), add_special_tokens=True).input_ids
        longest = max(map(len, ids))
        if longest > LENGTH:
            raise InvalidInput(
                f"the prompt is {longest} tokens long and the model reads {LENGTH}; shorten it"
            )
        padded = torch.zeros(len(ids), LENGTH, dtype=torch.long)
        mask = torch.zeros(len(ids), LENGTH)
        for row, each in enumerate(ids):
            padded[row, : len(each)], mask[row, : len(each)] = torch.tensor(each), 1
        device = self._encoder.device
        features = self._encoder(
            input_ids=padded.to(device), attention_mask=mask.to(device)
        ).last_hidden_state
        rolled = [
            torch.roll(row, LENGTH - len(each), 0) for row, each in zip(features, ids, strict=True)
        ]
        mask = mask.flip(1).to(device)
        return torch.stack(rolled) * mask[:, :, None], mask
