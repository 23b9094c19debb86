"""The Images API of the OpenAI peer: inputs are decoded, pictures painted, answers put together."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from PIL import Image

from . import pictures
from .openai_rules import USER_ERROR, refuse, size_of
from .wire import Event, Reply, Request, Seen, dump

__all__ = ["Job", "form_parameters", "images_reply", "read_mask", "read_picture", "usage"]

MAX_IMAGES = 16
MAX_IMAGE_BYTES = 50 * 1024 * 1024
MAX_MASK_BYTES = 4 * 1024 * 1024
WHOLE_NUMBERS = ("n", "output_compression", "partial_images", "frame_count", "frame_duration_ms")
TOKENS = {"low": 196, "medium": 1056, "high": 4160, "xhigh": 6240, "max": 8320}
"""Output tokens of a picture of 1024x1024 pixels; invented, but of the usual order."""
MEGAPIXEL = 1024 * 1024
PARTIAL_TOKENS = 100
MARK = "=the picture="


@dataclass(frozen=True)
class Job:
    """One picture order: what to paint, from what, and how it is to be encoded."""

    prompt: str
    given: Mapping[str, Any]
    sources: tuple[Image.Image, ...] = ()
    mask: Image.Image | None = None
    fixed: bytes | None = field(default=None, repr=False)

    @property
    def form(self) -> str:
        return str(self.given.get("output_format") or "png")

    @property
    def quality(self) -> str:
        quality = self.given.get("quality") or "auto"
        return "medium" if quality == "auto" else str(quality)

    @property
    def background(self) -> Literal["transparent", "opaque"]:
        return "transparent" if self.given.get("background") == "transparent" else "opaque"

    @property
    def size(self) -> tuple[int, int]:
        return size_of(self.given.get("size"), self._automatic())

    @property
    def size_text(self) -> str:
        return "{}x{}".format(*self.size)

    @property
    def seen(self) -> Seen:
        return Seen(
            prompt=self.prompt,
            action="edit" if self.sources else "generate",
            sources=tuple(source.size for source in self.sources),
            change=None if self.mask is None else pictures.share(self.mask),
            change_box=None if self.mask is None else pictures.box(self.mask),
        )

    def _automatic(self) -> tuple[int, int]:
        """ "auto" keeps the shape of the edited picture, as one of the three standard sizes."""
        if not self.sources:
            return 1024, 1024
        width, height = self.sources[0].size
        if width * 5 > height * 6:
            return 1536, 1024
        return (1024, 1536) if height * 5 > width * 6 else (1024, 1024)

    def paint(self, index: int = 0) -> bytes:
        """Picture number `index` of the order."""
        if self.fixed is not None:
            return self.fixed
        compression = self.given.get("output_compression")
        clear = self.background == "transparent"
        how: dict[str, int] = {
            "compression": 100 if compression is None else compression,
            "frames": self.given.get("frame_count") or 9,
            "duration": self.given.get("frame_duration_ms") or 200,
        }
        if not self.sources:
            return pictures.paint(
                self.prompt, self.size, self.form, index=index, transparent=clear, **how
            )
        edited = pictures.edit(
            self.sources[0],
            self.prompt,
            self.size,
            mask=self.mask,
            index=index,
            transparent=clear,
        )
        return pictures.encode(edited, self.form, **how)


@lru_cache(maxsize=8)
def encoded(data: bytes) -> str:
    """Base64; the last pictures are kept, because a fixed one is sent again and again."""
    return base64.b64encode(data).decode()


def form_parameters(request: Request) -> dict[str, Any]:
    """The parameters of a multipart form, typed; files are named by their field."""
    given: dict[str, Any] = {}
    for name, text in request.form.items():
        if name.startswith("svg["):
            given.setdefault("svg", {})[name] = text
        elif name in WHOLE_NUMBERS and re.fullmatch(r"-?\d+", text):
            given[name] = int(text)
        else:
            given[name] = {"true": True, "false": False}.get(text, text)
    for file in request.files:
        given["image" if _is_image_field(file.field) else file.field] = file
    return given


def _is_image_field(name: str) -> bool:
    return re.fullmatch(r"image(\[\d*\])?", name) is not None


def uploaded(request: Request) -> list[bytes]:
    """The input pictures of a multipart edit in their order."""
    files = [file.data for file in request.files if _is_image_field(file.field)]
    if not files:
        raise refuse(
            "Missing required parameter: 'image'.", "image", code="missing_required_parameter"
        )
    return files


def referenced(
    given: Mapping[str, Any], fetch: Callable[[Any, str], bytes]
) -> tuple[list[bytes], bytes | None]:
    """The input pictures and the mask of a JSON edit; `fetch` resolves a reference."""
    images = given.get("images")
    if not isinstance(images, list) or not images:
        raise refuse(
            "Missing required parameter: 'images'.", "images", code="missing_required_parameter"
        )
    mask = given.get("mask")
    return (
        [fetch(image, f"images[{index}].image_url") for index, image in enumerate(images)],
        None if mask is None else fetch(mask, "mask.image_url"),
    )


def read_pictures(files: list[bytes], param: str = "image") -> tuple[Image.Image, ...]:
    """The decoded input pictures, or `Refused`."""
    if len(files) > MAX_IMAGES:
        raise refuse(
            f"Invalid '{param}': too many images. Expected at most {MAX_IMAGES}, but got "
            f"{len(files)}.",
            param,
            code="array_above_max_length",
        )
    return tuple(read_picture(file, param) for file in files)


def read_picture(data: bytes, param: str) -> Image.Image:
    """One decoded input picture, or `Refused`."""
    if len(data) > MAX_IMAGE_BYTES:
        raise refuse("The image is larger than 50 MB.", param, code="image_file_too_large")
    try:
        picture = pictures.decode(data)
    except ValueError:
        picture = None
    if picture is None or picture.format not in ("PNG", "WEBP", "JPEG"):
        raise refuse(
            "Invalid image file or mode for image, please check your image file.",
            param,
            code="invalid_image_file",
            kind=USER_ERROR,
        )
    return picture


def read_mask(data: bytes, first: Image.Image, param: str = "mask") -> Image.Image:
    """White = change from an alpha mask for `first`, or `Refused`."""
    if len(data) > MAX_MASK_BYTES:
        raise refuse("The mask is larger than 4 MB.", param, code="image_file_too_large")
    mask = read_picture(data, param)
    if mask.format != "PNG":
        wrong = "Invalid mask image format - the mask must be a PNG file."
    elif "A" not in mask.getbands():
        wrong = "Invalid mask image format - mask image missing alpha channel."
    elif mask.size != first.size:
        wrong = "Invalid mask image size - mask and image must have the same size."
    else:
        return pictures.alpha_mask(mask)
    raise refuse(wrong, param, code="invalid_mask_image", kind=USER_ERROR)


def usage(job: Job, count: int = 1, partials: int = 0) -> dict[str, Any]:
    """Tokens of an order as the Images API reports them."""
    text = 7 + len(job.prompt.split())
    image = sum(323 * w * h // MEGAPIXEL + 1 for w, h in (s.size for s in job.sources))
    width, height = job.size
    output = count * (TOKENS[job.quality] * width * height // MEGAPIXEL)
    output += PARTIAL_TOKENS * partials
    return {
        "input_tokens": text + image,
        "input_tokens_details": {"image_tokens": image, "text_tokens": text},
        "output_tokens": output,
        "output_tokens_details": {"image_tokens": output, "text_tokens": 0},
        "total_tokens": text + image + output,
    }


def images_reply(job: Job, *, created: int, plain: bool = False) -> Reply:
    """The whole answer to a generation or an edit; `plain` is that of a compatible server."""
    count = job.given.get("n") or 1
    if job.given.get("stream") and not plain:
        return Reply(events=tuple(_events(job, count, created)))
    data: dict[str, Any] = {
        "created": created,
        "data": [{"b64_json": encoded(job.paint(index))} for index in range(count)],
    }
    if plain:
        return Reply(data=data)
    data |= {
        "background": job.background,
        "output_format": job.form,
        "quality": job.quality,
        "size": job.size_text,
        "usage": usage(job, count),
        **_safety(job),
    }
    if job.fixed is not None:
        # The same large picture again and again: spliced in, not escaped as JSON each time.
        short = {**data, "data": [{"b64_json": MARK}] * count}
        text = encoded(job.fixed).encode()
        return Reply(data=data, body=dump(short).replace(MARK.encode(), text))
    if job.form == "svg":
        tokens = {"input_tokens": 300, "output_tokens": 900, "reasoning_tokens": 200}
        author = (job.given.get("svg") or {}).get("model") or "gpt-6-sol"
        data["svg_usage"] = {"model": author, **tokens, "total_tokens": 1200}
    return Reply(data=data)


def _safety(job: Job) -> dict[str, str]:
    name = job.given.get("safety_identifier") or job.given.get("user")
    return {"safety_identifier": name} if name else {}


def _events(job: Job, count: int, created: int) -> list[Event]:
    partials = job.given.get("partial_images") or 0
    family = "image_edit" if job.sources else "image_generation"
    common = {
        "created_at": created,
        "size": job.size_text,
        "quality": job.quality,
        "background": job.background,
        "output_format": job.form,
    }
    events: list[Event] = []
    for index in range(count):
        for step in range(partials):
            name = f"{family}.partial_image"
            rough = encoded(job.paint(index + 1000 * (partials - step)))
            more = {"b64_json": rough, "partial_image_index": step}
            events.append(Event(name, {"type": name, **common, **more}))
        name = f"{family}.completed"
        tokens = usage(job, 1, partials)
        del tokens["output_tokens_details"]  # the stream reports no split of the output
        more = {"b64_json": encoded(job.paint(index)), "usage": tokens, **_safety(job)}
        events.append(Event(name, {"type": name, **common, **more}))
    return events
