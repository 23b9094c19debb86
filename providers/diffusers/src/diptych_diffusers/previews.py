"""Unfinished pictures of a stock pipeline, from the latents that its callback shows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diptych.image import Image

from .geometry import Canvas
from .placing import crop

__all__ = ["preview"]


def preview(pipe: Any, latents: Tensor, previous: Tensor | None, canvas: Canvas) -> Image | None:
    """The picture as far as it is known. None where the latents have a layout that is not known."""
    vae = pipe.vae
    planes = _planes(pipe, _clean(pipe.scheduler, latents, previous), canvas)
    if planes is None:
        return None
    config = vae.config
    planes = planes.to(vae.dtype) / config.scaling_factor + (config.get("shift_factor") or 0)
    from PIL import Image as pillow

    with torch.no_grad():
        picture = vae.decode(planes, return_dict=False)[0][0]
    levels = ((picture.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return crop(pillow.fromarray(levels.permute(1, 2, 0).contiguous().cpu().numpy()), canvas)


def _clean(scheduler: Any, latents: Tensor, previous: Tensor | None) -> Tensor:
    """Where a flow is heading, by its last step; other schedulers' latents as they are."""
    at = getattr(scheduler, "step_index", None)
    if previous is None or at is None or "FlowMatch" not in type(scheduler).__name__:
        return latents
    now, before = scheduler.sigmas[at], scheduler.sigmas[at - 1]
    clean: Tensor = latents - now * (latents - previous) / (now - before)
    return clean


def _planes(pipe: Any, latents: Tensor, canvas: Canvas) -> Tensor | None:
    """Latents as (1, channels, rows, columns)."""
    if latents.dim() == 4:
        return latents
    unpack = getattr(pipe, "_unpack_latents", None)
    if latents.dim() != 3 or unpack is None:
        return None
    width, height = canvas.drawn
    planes: Tensor = unpack(latents, height, width, pipe.vae_scale_factor)
    return planes if planes.dim() == 4 else None
