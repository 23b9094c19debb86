"""Pictures on their way in: as data URLs when small, through fal's storage when large."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from fal_client.client import CDN_URL

from diptych.image import Image
from diptych.keys import Secret
from diptych.provider import RunContext

from .errors import malformed, refusal
from .wire import Answer, Wire

__all__ = ["Uploads", "together"]

T = TypeVar("T")

INLINE = 256 * 1024
"""Bytes up to which a picture travels in the request itself.

An upload costs two more round trips, in which a usual connection carries about this much; and fal
keeps the arguments of a job with it, where megabytes of base64 have no business.
"""

REMEMBERED = 64
"""Uploads that are remembered, so that the submits of one plan share them."""


@dataclass(frozen=True, slots=True)
class Token:
    """A short-lived key for fal's file store."""

    scheme: str
    value: Secret
    store: str
    until: datetime


@dataclass(slots=True)
class Uploads:
    """Puts pictures within fal's reach. Uploading is free, so it is repeated when it fails."""

    wire: Wire
    _token: Token | None = None
    _links: dict[str, str] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def filled(self, payload: Mapping[str, Any], context: RunContext) -> dict[str, Any]:
        """The payload with an address or a data URL in place of every picture."""
        pictures = list(dict.fromkeys(_pictures(payload)))
        links = await together(self._link(picture, context) for picture in pictures)
        known = dict(zip(pictures, links, strict=True))
        return {name: _replaced(value, known) for name, value in payload.items()}

    async def _link(self, image: Image, context: RunContext) -> str:
        if not image.is_fetched:
            return image.url or ""
        if len(image.bytes) <= INLINE:
            return image.data_url()
        digest = image.sha256
        # A lock for each picture: of several submits with the same one, the first uploads it.
        async with self._locks.setdefault(digest, asyncio.Lock()):
            if digest not in self._links:
                self._links[digest] = await context.retry(lambda: self._upload(image))
                for old in list(self._links)[:-REMEMBERED]:
                    del self._links[old], self._locks[old]
            return self._links[digest]

    async def _upload(self, image: Image) -> str:
        token = await self._current()
        answer = await self.wire.send(
            "upload",
            "POST",
            f"{token.store}/files/upload",
            content=image.bytes,
            headers={
                "Authorization": f"{token.scheme} {token.value.reveal()}",
                "Content-Type": image.media_type,
                "X-Fal-File-Name": f"{image.sha256[:16]}.{image.format}",
            },
            keyed=False,
        )
        if answer.status in (401, 403):
            self._token = None
        url = _object(answer, self.wire, token.value).get("access_url")
        if not isinstance(url, str) or not self.wire.may_serve(url):
            raise malformed("an upload without an access_url on a host of its own")
        return url

    async def _current(self) -> Token:
        if self._token is None or self._token.until <= datetime.now(UTC) + timedelta(minutes=1):
            address = f"{self.wire.hosts.rest}/storage/auth/token?storage_type=fal-cdn-v3"
            answer = await self.wire.send("upload", "POST", address, data={})
            self._token = self._read(_object(answer, self.wire, None))
        return self._token

    def _read(self, body: Mapping[str, Any]) -> Token:
        try:
            scheme, value = str(body["token_type"]), str(body["token"])
            until = datetime.fromisoformat(body["expires_at"])
        except (KeyError, TypeError, ValueError):
            raise malformed("without the token for its file store") from None
        store = body.get("base_url")
        if not isinstance(store, str) or not self.wire.may_store(store):
            store = CDN_URL  # the address that fal-client always uses
            if not self.wire.may_store(store):
                raise malformed("with a file store on another host")
        zoned = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
        return Token(scheme, Secret(value), store.rstrip("/"), zoned)


def _object(answer: Answer, wire: Wire, secret: Secret | None) -> dict[str, Any]:
    """The JSON object in a good answer; else the error."""
    if not 200 <= answer.status < 300:
        raise refusal(answer, "upload", secret or wire.key)
    with contextlib.suppress(ValueError):
        body = answer.json()
        if isinstance(body, dict):
            return body
    raise malformed("an upload with something that is not a JSON object", retryable=True)


def _pictures(value: Any) -> Iterator[Image]:
    if isinstance(value, Image):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _pictures(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _pictures(each)


def _replaced(value: Any, links: Mapping[Image, str]) -> Any:
    if isinstance(value, Image):
        return links[value]
    if isinstance(value, Mapping):
        return {name: _replaced(each, links) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(each, links) for each in value]
    return value


async def together(jobs: Iterable[Awaitable[T]]) -> list[T]:
    """The results of all jobs, run at once; the first error ends the others and is raised."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
