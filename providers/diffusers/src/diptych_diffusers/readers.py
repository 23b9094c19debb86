"""What prepares pictures and words for Qwen's vision model, without torchvision.

transformers' own `Qwen2_5_VLProcessor` reads videos too and cannot be made where torchvision is not
installed. This one reads pictures alone, to the same numbers.
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
        """`input_ids`, `attention_mask`, and with pictures `pixel_values` and `image_grid_thw`."""
        from transformers import BatchFeature

        texts = [text] if isinstance(text, str) else list(text)
        seen: dict[str, Any] = {}
        if images is not None:
            seen = dict(self.pictures(images=images, return_tensors="pt"))
            grids = iter(seen["image_grid_thw"].prod(-1).tolist())
            cell = self.pictures.merge_size**2
            texts = [_filled(each, grids, cell) for each in texts]
        return BatchFeature({**self.tokenizer(texts, **settings), **seen})


def _filled(text: str, grids: Any, cell: int) -> str:
    """Repeat each placeholder as often as its picture has tokens."""
    first, *rest = text.split(PLACE)
    return first + "".join(PLACE * (next(grids) // cell) + part for part in rest)
