"""Control images: edges, depth, poses that a picture follows, and the ControlNets that read them.

A `Control` brings a finished control image, whatever its kind. An edge map is computed here where a
picture itself is to be followed: `edit(image, prompt, mode="control")`; `canny` makes one of any
picture for a `Control("canny", ...)`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from diptych import pixels
from diptych.errors import ConfigurationError, InvalidInput, UnsupportedOption
from diptych.image import Image
from diptych.local.components import weights

from .classes import CLASSES
from .files import weights_in
from .placing import blank

if TYPE_CHECKING:
    import torch

__all__ = ["canny", "check_image", "check_paints", "controlnet", "union_mode"]

COLOURED = 12.0
"""Mean distance of the channels, of 255, from which a picture is coloured; JPEG leaves some."""

KINDS = ("canny", "tile", "depth", "blur", "pose", "gray", "low_quality")
"""The kinds of a union ControlNet for FLUX.1, in the order of its modes."""


def canny(image: Image, low: float = 100, high: float = 200) -> Image:
    """The edges of a picture, white on black, of its size.

    Gradients by Sobel's operator on grey levels (0..255), their maxima across the edge, kept where
    they are above `high` or hang together with such a one above `low` (Canny 1986). A transparent
    part counts as white. Raises `InvalidInput` for thresholds in the wrong order.
    """
    if not 0 <= low <= high:
        raise InvalidInput(f"low={low} and high={high} must be thresholds with 0 <= low <= high")
    grey = np.asarray(blank(image).convert("L"), np.float32)
    across, down = _gradients(grey)
    strength = np.abs(across) + np.abs(down)
    ridge = _thin(strength, across, down)
    edges = _connected(ridge > high, ridge > low)
    plane = pillow.fromarray(np.where(edges, 255, 0).astype(np.uint8))
    return Image.of(pixels.encode(plane.convert("RGB"), "png"))


def _gradients(grey: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sobel's differences along columns and rows; the border is repeated."""
    wide = np.pad(grey, 1, mode="edge")
    rows = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    columns = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    return rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2]


def _thin(
    strength: NDArray[np.float32], across: NDArray[np.float32], down: NDArray[np.float32]
) -> NDArray[np.float32]:
    """`strength` where it is largest across the edge, in one of four directions; 0 elsewhere."""
    high, wide = strength.shape
    padded = np.pad(strength, 1)

    def beside(row: int, column: int) -> NDArray[np.float32]:
        return padded[1 + row : 1 + row + high, 1 + column : 1 + column + wide]

    steep = np.abs(down) / np.maximum(np.abs(across), 1e-6)
    flat, upright = steep < np.tan(np.pi / 8), steep > np.tan(3 * np.pi / 8)
    same = across * down > 0
    before = np.select(
        [flat, upright, same], [beside(0, -1), beside(-1, 0), beside(-1, -1)], beside(-1, 1)
    )
    after = np.select(
        [flat, upright, same], [beside(0, 1), beside(1, 0), beside(1, 1)], beside(1, -1)
    )
    return np.where((strength > before) & (strength >= after), strength, 0)


def _connected(strong: NDArray[np.bool_], weak: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of `weak` that hang together with one of `strong`, corners included."""
    kept = np.pad(strong, 1)
    open_ = np.pad(weak, 1)
    width = kept.shape[1]
    flat, free = kept.ravel(), open_.ravel() & ~kept.ravel()
    around = np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])
    front = np.flatnonzero(flat)
    while front.size:
        near = np.unique(front[:, None] + around)
        front = near[free[near]]
        flat[front], free[front] = True, False
    return flat.reshape(kept.shape)[1:-1, 1:-1]


def check_image(kind: str, image: Image) -> None:
    """Refuse a photograph where a map without colours is meant. Raises `InvalidInput`."""
    if kind not in ("canny", "depth", "gray"):
        return
    levels = np.asarray(blank(image), np.float32)
    apart = float((levels.max(axis=2) - levels.min(axis=2)).mean())
    if apart > COLOURED:
        advice = (
            "; diptych_diffusers.control.canny(image) makes an edge map" if kind == "canny" else ""
        )
        raise InvalidInput(
            f"Control({kind!r}) takes a {kind} map without colours, and this picture has some{advice}"
        )


def controlnet(folder: Path, kind: str, dtype: torch.dtype, device: str, denoiser: Any) -> Any:
    """The ControlNet in `folder`, which must be of class `kind`, for a model with that denoiser.

    Raises `ConfigurationError` for another model's, and for weights that are not safetensors.
    """
    if kind == "ZImageControlNetModel" and not (folder / "config.json").is_file():
        from .zimage_control import from_file

        return from_file(weights_in(folder, "controls"), denoiser, dtype).to(device)
    try:
        config: Mapping[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        more = (
            "; and no control LoRA: none of its weights are for an input layer of twice the width"
        )
        raise ConfigurationError(
            f"{folder} is no ControlNet: it has no config.json"
            f"{more if kind == 'FluxControlNetModel' else ''}"
        ) from None
    if config.get("_class_name") != kind:
        raise ConfigurationError(
            f"{folder} is a {config.get('_class_name')}, and this model needs a {kind}"
        )
    return weights(folder, kind, dtype, CLASSES).to(device)


def check_paints(net: Any, transformer: Any, path: str) -> None:
    """Refuse a ControlNet of Z-Image that reads no mask for an inpainting. Raises `UnsupportedOption`."""
    if net.config.control_in_dim == transformer.in_channels:
        raise UnsupportedOption(
            f"controls: {path} reads a control image alone, and an inpainting needs one that reads a mask "
            "beside it, such as Z-Image-Turbo-Fun-Controlnet-Union-2.1",
            option="controls",
        )


def union_mode(net: Any, kind: str) -> int | None:
    """The mode of a union ControlNet for a kind of control image; None for a plain one."""
    if net.config.get("num_mode") is None:
        return None
    return KINDS.index(kind)
