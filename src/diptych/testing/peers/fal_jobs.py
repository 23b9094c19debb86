"""The models behind the fal peer: inputs are checked, pictures painted, outputs put together."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from . import pictures
from .fal_outputs import SIZES, Family, family_of, required, size_of
from .wire import Reply, Seen

__all__ = ["Files", "Job", "Outcome", "run_model"]

Loc = tuple[str | int, ...]
LIMITS: dict[str, tuple[float, float]] = {
    "num_images": (1, 10),
    "strength": (0, 1),
    "num_inference_steps": (1, 100),
    "guidance_scale": (0, 35),
}
WHOLE = ("num_images", "seed", "num_inference_steps")
MEDIA = re.compile(r"https://[\w.-]*\bfal\.media/")


@dataclass(frozen=True)
class Outcome:
    """What a model made of its input: the answer and what it understood of the pictures."""

    reply: Reply
    seen: Seen | None = None


@dataclass
class Job:
    """A request in the queue. `polls` counts the status requests so far."""

    request_id: str
    app: str
    outcome: Outcome = field(repr=False)
    ready_at: float = 0.0
    polls: int = 0
    cancelled: bool = False


class Invalid(Exception):
    """The model refuses its input with a 422."""

    def __init__(self, loc: Loc, message: str, kind: str, value: Any, **context: Any) -> None:
        super().__init__(message)
        item: dict[str, Any] = {"loc": list(loc), "msg": message, "type": kind}
        if context:
            item["ctx"] = context
        self.reply = Reply(
            422, {"x-fal-retryable": "false"}, data={"detail": [{**item, "input": value}]}
        )


class Files:
    """The files that the peer serves, by path, each with its content type."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str]] = {}

    def put(self, path: str, data: bytes, content_type: str) -> None:
        self._files[path] = (data, content_type)

    def get(self, path: str) -> tuple[bytes, str] | None:
        if path.startswith("/files/black/"):
            return self._black(path)
        return self._files.get(path)

    def _black(self, path: str) -> tuple[bytes, str] | None:
        """The safety checker's black picture in place of the one of the same name."""
        known = self._files.get(path.replace("/files/black/", "/files/", 1))
        if known is None:
            return None
        data, kind = known
        black = Image.new("RGB", pictures.decode(data).size)
        return pictures.encode(black, kind.removeprefix("image/")), kind


def run_model(
    endpoint: str,
    given: Mapping[str, Any],
    *,
    fetch: Callable[[str], bytes | None],
    publish: Callable[[str, bytes, str], str],
    image: bytes | None = None,
) -> Outcome:
    """Run an endpoint. `fetch` gives the bytes behind a URL (None: not found); `publish` takes a
    name, bytes and a content type and gives the URL under which they are served."""
    try:
        return _run(endpoint, given, fetch, publish, image)
    except Invalid as invalid:
        return Outcome(invalid.reply)


def _run(
    endpoint: str,
    given: Mapping[str, Any],
    fetch: Callable[[str], bytes | None],
    publish: Callable[[str, bytes, str], str],
    fixed: bytes | None,
) -> Outcome:
    _check(endpoint, given)
    family = family_of(endpoint)
    sources = _sources(given, fetch)
    mask, seen_white = _mask(given, fetch, family)
    prompt = str(given.get("prompt", ""))
    seed = given.get("seed")
    if seed is None:
        seed = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big")
    size = size_of(given, sources[0].size if sources else None)
    form = str(given.get("output_format") or family.form).replace("jpg", "jpeg")
    urls = []
    for index in range(given.get("num_images") or 1):
        if fixed is not None:
            data = fixed
        elif sources:
            edited = pictures.edit(sources[0], f"{prompt}|{seed}", size, mask=mask, index=index)
            data = pictures.encode(edited, form)
        else:
            data = pictures.paint(f"{prompt}|{seed}", size, form, index=index)
        urls.append(_file(data, form, size, family, bool(given.get("sync_mode")), publish))
    output: dict[str, Any] = {"image": urls[0]} if family.single else {"images": urls}
    beside = {
        "timings": {"inference": 1.25},
        "seed": seed,
        "has_nsfw_concepts": [False] * len(urls),
        "prompt": prompt,
        "description": "",
        "revised_prompt": "",
    }
    output |= {name: beside[name] for name in family.fields}
    units = {"x-fal-billable-units": str(len(urls))}
    seen = Seen(
        prompt=prompt,
        action="edit" if sources else "generate",
        sources=tuple(source.size for source in sources),
        change=None if mask is None else pictures.share(mask),
        change_box=None if mask is None else pictures.box(mask),
        white=seen_white,
    )
    return Outcome(Reply(200, units, data=output), seen)


def _check(endpoint: str, given: Mapping[str, Any]) -> None:
    for name in required(endpoint):
        if given.get(name) in (None, []):
            raise Invalid(("body", name), "Field required", "missing", dict(given))
    prompt = given.get("prompt")
    if prompt is not None and not isinstance(prompt, str):
        raise Invalid(("body", "prompt"), "Input should be a valid string", "string_type", prompt)
    for name in WHOLE:
        value = given.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise Invalid(("body", name), "Input should be a valid integer", "int_type", value)
    for name, (low, high) in LIMITS.items():
        value = given.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Invalid(("body", name), "Input should be a valid number", "float_type", value)
        if value < low:
            message = f"Input should be greater than or equal to {low}"
            raise Invalid(("body", name), message, "greater_than_equal", value, ge=low)
        if value > high:
            message = f"Input should be less than or equal to {high}"
            raise Invalid(("body", name), message, "less_than_equal", value, le=high)
    _check_size(given.get("image_size"))


def _check_size(size: Any) -> None:
    if size is None or (isinstance(size, str) and (size in SIZES or size == "auto")):
        return
    if isinstance(size, str) and re.fullmatch(r"\d+x\d+", size):
        return  # the GPT image endpoints name sizes so
    if isinstance(size, Mapping) and {"width", "height"} <= set(size):
        for name in ("width", "height"):
            if not isinstance(size[name], int) or not 1 <= size[name] <= 14142:
                message = "Input should be less than or equal to 14142"
                raise Invalid(
                    ("body", "image_size", name), message, "less_than_equal", size[name], le=14142
                )
        return
    listed = ", ".join(f"'{name}'" for name in SIZES)
    raise Invalid(("body", "image_size"), f"Input should be {listed}", "enum", size)


def _sources(given: Mapping[str, Any], fetch: Callable[[str], bytes | None]) -> list[Image.Image]:
    wanted: list[tuple[Loc, Any]] = []
    if given.get("image_url") is not None:
        wanted.append((("body", "image_url"), given["image_url"]))
    for index, url in enumerate(given.get("image_urls") or ()):
        wanted.append((("body", "image_urls", index), url))
    return [_picture(url, loc, fetch) for loc, url in wanted]


def _picture(url: Any, loc: Loc, fetch: Callable[[str], bytes | None]) -> Image.Image:
    data: bytes | None = None
    if isinstance(url, str):
        try:
            data = pictures.from_data_url(url) if url.startswith("data:") else fetch(url)
        except ValueError:
            data = None
    if data is None:
        message = "Failed to download the file. Please check if the URL is accessible."
        raise Invalid(loc, message, "file_download_error", url)
    try:
        return pictures.decode(data)
    except ValueError:
        message = "Failed to load the image. Please ensure the image file is not corrupted."
        raise Invalid(loc, message, "image_load_error", url) from None


def _mask(
    given: Mapping[str, Any], fetch: Callable[[str], bytes | None], family: Family
) -> tuple[Image.Image | None, float | None]:
    """The mask as white = change (None where the polarity is unknown) and its share of white."""
    name = "mask_url" if given.get("mask_url") is not None else "mask_image_url"
    if given.get(name) is None:
        return None, None
    raw = _picture(given[name], ("body", name), fetch).convert("L")
    white = pictures.share(raw)
    if family.white_changes is None:
        return None, white
    return raw if family.white_changes else raw.point(lambda value: 255 - value), white


def _file(
    data: bytes,
    form: str,
    size: tuple[int, int],
    family: Family,
    inline: bool,
    publish: Callable[[str, bytes, str], str],
) -> dict[str, Any]:
    kind = pictures.MIME[form]
    name = f"{hashlib.sha256(data).hexdigest()[:21]}.{form.replace('jpeg', 'jpg')}"
    if inline:
        url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    else:
        url = publish(name, data, kind)
    sides: tuple[int | None, int | None] = size if family.sized else (None, None)
    return {
        "url": url,
        "content_type": kind,
        "file_name": name,
        "file_size": len(data),
        "width": sides[0],
        "height": sides[1],
    }


def localise(
    data: Any, publish: Callable[[str, bytes, str], str], files: Mapping[str, bytes]
) -> Any:
    """A recorded output whose fal.media URLs point to files of the peer, of the announced type and
    size (64 x 64 where none is announced), or with the bytes that `files` gives for the URL."""
    if isinstance(data, list):
        return [localise(item, publish, files) for item in data]
    if not isinstance(data, dict):
        return data
    result = {key: localise(value, publish, files) for key, value in data.items()}
    url = data.get("url")
    if isinstance(url, str) and MEDIA.match(url):
        name = urlsplit(url).path.rsplit("/", 1)[-1]
        kind = data.get("content_type") or f"image/{name.rsplit('.', 1)[-1]}"
        form = str(kind).removeprefix("image/").replace("jpg", "jpeg")
        size = (data.get("width") or 64, data.get("height") or 64)
        content = files.get(url) or pictures.paint(url, size, form)
        result["url"] = publish(name, content, f"image/{form}")
    return result
