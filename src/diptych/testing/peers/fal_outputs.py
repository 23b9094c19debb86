"""What fal's image endpoints answer: which fields, which format, which size.

Families are told apart by the endpoint id. The fields follow fal's published types and recorded
answers; the masks are read with the polarity that is documented for the family, and where none is
documented the peer does not guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Family", "family_of", "required", "size_of"]


SIZES = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
FLUX_FIELDS = ("timings", "seed", "has_nsfw_concepts", "prompt")


@dataclass(frozen=True)
class Family:
    """The answers of a family of endpoints: fields beside the pictures, format, mask polarity."""

    fields: tuple[str, ...] = FLUX_FIELDS
    form: str = "jpeg"
    single: bool = False
    """One `image` instead of a list of `images`."""
    white_changes: bool | None = None
    """The mask's white is what changes; False the opposite, None not documented."""
    sized: bool = True
    """The answer states width and height."""


FAMILIES: tuple[tuple[str, Family], ...] = (
    (r"recraft/(upscale|vectorize)|bria/eraser|esrgan", Family((), "png", True)),
    (r"clarity-upscaler", Family(("seed", "timings"), "png", True)),
    (r"bria/expand", Family(("seed",), "png", True)),
    (r"nano-banana|gemini|imagen4|mai-image", Family(("description",), "png", sized=False)),
    (r"gpt-image", Family((), "png", sized=False)),
    (r"grok-imagine", Family(("revised_prompt",), "jpeg", sized=False)),
    (r"ideogram", Family(("seed",), "png")),
    (r"recraft", Family((), "webp", sized=False)),
    (r"flux-2-(pro|flex|max)", Family(("seed",), "jpeg")),
    (r"flux-3", Family((), "jpeg")),
    (r"seedream|qwen-image-[23]|hunyuan|emu-3|krea", Family(("seed",), "png", sized=False)),
    (r"luma-photon|reve|uni-1|muse-image", Family((), "png")),
    (r"qwen-image", Family(FLUX_FIELDS, "png", white_changes=True)),
    (r"flux|stable-diffusion|sdxl|lora", Family(white_changes=True)),
)

NEEDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"(fill|inpaint(ing)?|ideogram/v\d/edit)$", ("prompt", "image_url", "mask_url")),
    (r"(kontext/(max/)?multi|[^/]*(flux-2|nano-banana|gemini|gpt-image|seedream)\S*/edit"
     r"|qwen-image-\d/edit|flux-3/edit-image|grok-imagine-image/edit)$", ("prompt", "image_urls")),
    (r"(text-to-image)$", ("prompt",)),
    (r"(kontext(/max)?|image-to-image|remix|qwen-image-edit|modify)$", ("prompt", "image_url")),
    (r"(reframe|flux-2-pro/outpaint|upscale/\w+|vectorize|redux|esrgan)$", ("image_url",)),
)  # fmt: skip


def family_of(endpoint: str) -> Family:
    """The family of an endpoint id; an unknown one answers as the FLUX family does."""
    for pattern, family in FAMILIES:
        if re.search(pattern, endpoint):
            return family
    return Family()


def required(endpoint: str) -> tuple[str, ...]:
    """The inputs that an endpoint cannot do without."""
    for pattern, names in NEEDS:
        if re.search(pattern, endpoint):
            return names
    return ("prompt",)


def size_of(given: Mapping[str, Any], source: tuple[int, int] | None) -> tuple[int, int]:
    """(width, height) from image_size, or from aspect_ratio and resolution, or of the source."""
    size = given.get("image_size")
    if isinstance(size, Mapping):
        return int(size["width"]), int(size["height"])
    if isinstance(size, str) and size in SIZES:
        return SIZES[size]
    if isinstance(size, str) and (match := re.fullmatch(r"(\d+)x(\d+)", size)):
        return int(match[1]), int(match[2])
    ratio = given.get("aspect_ratio")
    if isinstance(ratio, str) and (match := re.fullmatch(r"(\d+):(\d+)", ratio)):
        scale = {"0.5K": 0.5, "2K": 2.0, "4K": 4.0}.get(str(given.get("resolution")).upper(), 1.0)
        wide, high = int(match[1]), int(match[2])
        area = (1024 * scale) ** 2
        return round((area * wide / high) ** 0.5 / 16) * 16, round(
            (area * high / wide) ** 0.5 / 16
        ) * 16
    return source or (1024, 768)
