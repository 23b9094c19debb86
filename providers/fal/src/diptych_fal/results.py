"""What a finished job answers: pictures fetched, flags reported, units and seeds kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diptych.cost import Cost
from diptych.errors import InvalidInput
from diptych.image import Image
from diptych.notices import Notice
from diptych.provider import Outcome, RunContext
from diptych.result import Usage
from diptych.sniff import MAX_BYTES

from .cards import pricing_of
from .endpoints import Endpoint
from .errors import malformed, refusal
from .uploads import together
from .wire import Answer, Wire, host_of, joined

__all__ = ["Job", "outcome_of"]

REDIRECTS = 3
_SAID = ("description", "generated_text")


@dataclass(frozen=True, slots=True)
class Job:
    """A job in fal's queue. `payload` is None when it was submitted by another process."""

    row: Endpoint
    id: str
    status_url: str
    response_url: str
    cancel_url: str
    payload: Mapping[str, Any] | None = None
    position: int | None = None
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """One picture in an answer: its address, and the media type that was announced."""

    url: str
    announced: str | None = None


async def outcome_of(
    job: Job, answer: Answer, body: Mapping[str, Any], wire: Wire, context: RunContext
) -> Outcome:
    """The outcome of a finished job; `body` is its answer's JSON. Raises `MalformedResponse`."""
    found = _found(job, body)
    text = "\n".join(
        each for name in _SAID if isinstance(each := body.get(name), str) and each.strip()
    )
    if not found and not text:
        raise malformed("a finished job without a picture", request_id=job.id)
    images = await together(_fetched(job, each, wire, context) for each in found)
    notices = [*job.notices, *_flags(body, len(images))]
    for number, (each, image) in enumerate(zip(found, images, strict=True), 1):
        if _differs(each.announced, image):
            told = f"picture {number} was announced as {each.announced} and is {image.media_type}"
            notices.append(Notice("mismatch", told, "format"))
    seed = body.get("seed")
    if len(images) == 1 and isinstance(seed, int) and not isinstance(seed, bool):
        images = [images[0].with_(seed=seed)]  # of a batch, fal names the first seed only
    usage = _usage(answer)
    pricing = pricing_of(job.row, job.payload)
    sizes = [image.size for image in images if image.format != "svg"]
    priced = pricing is not None and len(sizes) == len(images)
    return Outcome(
        images=tuple(images),
        text=text,
        usage=usage,
        cost=pricing.cost(sizes=sizes, usage=usage) if pricing is not None and priced else Cost(),
        model=job.row.ref,
        request_id=answer.headers.get("x-fal-request-id") or job.id,
        notices=tuple(notices),
        raw=_without_pictures(body),
    )


def _found(job: Job, body: Mapping[str, Any]) -> list[Found]:
    """The pictures of an answer: `images`, or a single `image`."""
    listed = body.get("images")
    if listed is None:
        single = body.get("image")
        listed = [] if single is None else [single]
    if not isinstance(listed, list):
        raise malformed("with images that are not a list", request_id=job.id)
    found = []
    for item in listed:
        url = item.get("url") if isinstance(item, dict) else item
        if not isinstance(url, str) or not url:
            raise malformed("with a picture that has no url", request_id=job.id)
        announced = item.get("content_type") if isinstance(item, dict) else None
        found.append(Found(url, announced if isinstance(announced, str) else None))
    return found


async def _fetched(job: Job, found: Found, wire: Wire, context: RunContext) -> Image:
    if found.url[:5].lower() == "data:":
        data: str | bytes = found.url
    else:
        data = await context.retry(lambda: _download(job, found.url, wire))
    reason = ""
    try:
        return Image.of(data, name="fal's picture")
    except InvalidInput as error:
        reason = str(error)
    raise malformed(f"with something that is no picture: {reason}", key=wire.key, request_id=job.id)


async def _download(job: Job, url: str, wire: Wire) -> bytes:
    """The bytes at `url`, without credentials, from fal's own hosts only."""
    for _ in range(REDIRECTS + 1):
        if not wire.may_serve(url):
            told = (
                f"with a picture on {host_of(url)}, which is not a host of fal; it was not fetched"
            )
            raise malformed(told, key=wire.key, request_id=job.id)
        answer = await wire.send(
            "download",
            "GET",
            url,
            headers={"Accept": "image/*", "Accept-Encoding": "identity"},
            keyed=False,
            limit=MAX_BYTES,
        )
        target = answer.headers.get("location")
        if answer.status not in (301, 302, 303, 307, 308) or target is None:
            break
        url = joined(url, target)
    if answer.status == 200:
        return answer.body
    if answer.status < 500 and answer.status not in (404, 408, 429):
        raise malformed(
            f"with a picture that cannot be fetched ({answer.status})", request_id=job.id
        )
    # fal's file hosts may lag behind the job, so a missing file is asked for again too.
    if answer.status == 404:
        told = "with a picture that is not there (404)"
        raise malformed(told, request_id=job.id, retryable=True)
    raise refusal(answer, "download", wire.key, request_id=job.id)


def _flags(body: Mapping[str, Any], count: int) -> list[Notice]:
    flags = body.get("has_nsfw_concepts")
    if not isinstance(flags, list):
        return []
    flagged = [number for number, flag in enumerate(flags[:count], 1) if flag is True]
    told = "fal flagged picture {} as not safe for work; such pictures are often all black"
    return [Notice("content", told.format(number)) for number in flagged]


def _differs(announced: str | None, image: Image) -> bool:
    kind = (announced or "").partition(";")[0].strip().lower().replace("image/jpg", "image/jpeg")
    return kind.startswith("image/") and kind != image.media_type


def _usage(answer: Answer) -> Usage | None:
    """fal's billable units: their price differs from endpoint to endpoint."""
    try:
        return Usage(units=float(answer.headers["x-fal-billable-units"]))
    except (KeyError, ValueError):
        return None


def _without_pictures(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_pictures(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_pictures(each) for each in value]
    if isinstance(value, str) and value[:5].lower() == "data:":
        return f"{value.partition(',')[0]}, ({len(value):,} characters)"
    return value
