"""What prepares pictures and words for Qwen's vision models, without torchvision.

transformers' own `Qwen2_5_VLProcessor` and `Qwen3VLProcessor` read videos too and cannot be made where
torchvision is not installed. This one reads pictures alone, to the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image as pillow

__all__ = ["PictureReader"]

PLACE = "<|image_pad|>"


class PictureReader:
    """Called as a transformers processor is: text with a placeholder for each picture."""

    def __init__(self, pictures: Any, tokenizer: Any) -> None:
        self.pictures, self.tokenizer = pictures, tokenizer

    @classmethod
    def from_pretrained(cls, folder: Path, **settings: Any) -> PictureReader:
        from transformers import AutoTokenizer
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
            Qwen2VLImageProcessorPil,
        )

        return cls(
            Qwen2VLImageProcessorPil.from_pretrained(folder, **settings),
            AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **settings),
        )

    def __call__(
        self,
        text: str | Sequence[str],
        images: pillow.Image | Sequence[Any] | None = None,
        **settings: Any,
    ) -> Any:
        """`input_ids`, `attention_mask`, and with pictures `pixel_values` and `image_grid_thw`.

        `mm_token_type_ids` is 1 where a token stands for a part of a picture, 0 elsewhere.
        """
        import torch
        from transformers import BatchFeature

        texts = [text] if isinstance(text, str) else list(text)
        seen: dict[str, Any] = {}
        if images is not None:
            seen = dict(self.pictures(images=images, return_tensors="pt"))
            grids = iter(seen["image_grid_thw"].prod(-1).tolist())
            cell = self.pictures.merge_size**2
            texts = [_filled(each, grids, cell) for each in texts]
        words = self.tokenizer(texts, **settings)
        if seen:
            place = self.tokenizer.convert_tokens_to_ids(PLACE)
            seen["mm_token_type_ids"] = (torch.as_tensor(words["input_ids"]) == place).long()
        return BatchFeature({**words, **seen})

    def apply_chat_template(self, messages: Sequence[Any], **settings: Any) -> Any:
        """The messages of one conversation as a batch of one: its text, or with `tokenize` its tokens."""
        return self.tokenizer.apply_chat_template([messages], **settings)


def _filled(text: str, grids: Any, cell: int) -> str:
    """Repeat each placeholder as often as its picture has tokens."""
    first, *rest = text.split(PLACE)
    return first + "".join(PLACE * (next(grids) // cell) + part for part in rest)
