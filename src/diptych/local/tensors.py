"""Pictures as tensors and back. Torch is imported when a function is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..image import Image
from ..mask import Mask

if TYPE_CHECKING:
    import torch

__all__ = ["from_image", "from_mask", "sent", "to_image"]


def from_image(image: Image, size: tuple[int, int] | None = None) -> torch.Tensor:
    """The upright picture as float32 (3, H, W) in -1..1; transparent parts over white.

    `size` is (width, height); a picture of another size is resampled (Lanczos).
    """
    import numpy as np
    import torch
    from PIL import Image as pillow

    picture = image._rgb()
    if picture.mode == "RGBA":
        white = pillow.new("RGBA", picture.size, "white")
        picture = pillow.alpha_composite(white, picture).convert("RGB")
    if size is not None and picture.size != size:
        picture = picture.resize(size, pillow.Resampling.LANCZOS)
    array = np.asarray(picture, dtype=np.float32)
    return torch.from_numpy(array / 127.5 - 1).permute(2, 0, 1).contiguous()


def from_mask(mask: Mask, size: tuple[int, int] | None = None) -> torch.Tensor:
    """The mask as float32 (1, H, W) in 0..1, 1 = change; soft values stay soft."""
    import numpy as np
    import torch
    from PIL import Image as pillow

    plane = mask.pil()
    if size is not None and plane.size != size:
        plane = plane.resize(size, pillow.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(plane, dtype=np.float32) / 255)[None]


def to_image(picture: torch.Tensor) -> Image:
    """A PNG of (3, H, W) in -1..1; values beyond are clipped, fractions rounded."""
    from .png import png

    scaled = (picture.detach().float().clamp(-1, 1) + 1) * 127.5
    return Image.of(png(scaled.round().byte().permute(1, 2, 0).contiguous().cpu().numpy()))


def sent(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`values` of the CPU on `device`, without waiting for what was launched there before."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
