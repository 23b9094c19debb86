"""One HTTP exchange with fal: the key only where it may go, every answer bounded in size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
from fal_client.auth import AuthCredentials
from fal_client.client import USER_AGENT, AsyncBackupDomainTransport

from diptych.errors import DiptychError, MissingCredentials
from diptych.keys import Secret
from diptych.sniff import MAX_BYTES

from .errors import FAILURES, Step, connection, malformed
from .hosts import Hosts

__all__ = ["Answer", "Wire", "host_of", "joined"]

JSON_LIMIT = 2 * MAX_BYTES
"""Bytes of JSON in an answer; with sync_mode the pictures stand in it as base64."""

PATIENCE = 30.0
"""Seconds without a byte after which a request that is free to repeat is given up."""

CONNECT = 15.0
"""Seconds for a connection to come about."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """The body as JSON. Raises `ValueError`."""
        return json.loads(self.body)


class Wire:
    """fal's transport without fal's client.

    fal-client is built on three parts. Its transport (connections, proxies, and the second domain
    that is tried when no connection to the first comes about) is used here as it is, and so are its
    form of the Authorization header, its User-Agent and its rule from endpoint ids to job
    addresses. Its request loop is not: it sends a submit up to ten times over, so that one call may
    be billed ten times. Its `httpx.AsyncClient` is not either: that one puts the key into every
    request, also to an address that an answer named. So each request leaves through `send`, which
    sends it once and adds the key only for an allow-listed host; repeating what is free is the
    caller's business. Nothing is forked or patched, and no global setting is touched.
    """

    def __init__(self, key: Secret | None, hosts: Hosts) -> None:
        self.key = key
        self.hosts = hosts
        self._base = None if hosts.base_url is None else httpx.URL(hosts.base_url)
        self._client = httpx.AsyncClient(
            transport=AsyncBackupDomainTransport(),
            headers={"User-Agent": USER_AGENT},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def send(
        self,
        step: Step,
        method: str,
        url: str,
        *,
        data: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        keyed: bool = True,
        limit: int = JSON_LIMIT,
    ) -> Answer:
        """Send one request, once, and read the answer whatever its status.

        `data` is sent as JSON. With `keyed` the key goes along, and the host must be one that may
        have it. A paid submit waits as long as the caller's deadline; everything else gives up
        after `PATIENCE` seconds of silence.
        """
        sent = dict(headers or {})
        if data is not None:
            content = json.dumps(data, separators=(",", ":")).encode()
            sent["Content-Type"] = "application/json"
        failure: DiptychError
        try:
            target = httpx.URL(url)
            if keyed:
                sent |= self._credentials(target)
            read = None if step == "submit" else PATIENCE
            request = self._client.build_request(
                method,
                target,
                content=content,
                headers=sent,
                timeout=httpx.Timeout(read, connect=CONNECT, pool=None),
            )
            return await self._read(request, limit)
        except FAILURES as error:
            failure = connection(error, step, self.key)
        raise failure  # outside of the handler: httpx's error, which holds the key, is not chained

    async def _read(self, request: httpx.Request, limit: int) -> Answer:
        response = await self._client.send(request, stream=True)
        try:
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > limit:
                    raise malformed(f"with more than {limit:,} bytes, which is not read to its end")
            return Answer(response.status_code, dict(response.headers), bytes(body))
        finally:
            await response.aclose()

    def _credentials(self, url: httpx.URL) -> dict[str, str]:
        if not self.hosts.may_have_key(url, self._base):
            raise malformed(f"with an address on {url.host}, which may not have the key")
        if self.key is None:
            if self._base is not None:
                return {}  # a server of the caller's own that wants none
            raise MissingCredentials(
                "provider 'fal' needs a key: set FAL_KEY, or pass api_key= to ImageClient"
            )
        return AuthCredentials("Key", self.key.reveal()).as_headers()

    def may_have_key(self, url: str) -> bool:
        """Whether `url` is an address that the key may be sent to."""
        parsed = _parsed(url)
        return parsed is not None and self.hosts.may_have_key(parsed, self._base)

    def may_serve(self, url: str) -> bool:
        """Whether results may be fetched from `url`."""
        parsed = _parsed(url)
        return parsed is not None and self.hosts.may_serve(parsed, self._base)

    def may_store(self, url: str) -> bool:
        """Whether pictures may be uploaded to `url`."""
        parsed = _parsed(url)
        return parsed is not None and self.hosts.may_store(parsed, self._base)


def host_of(url: str) -> str:
    """The host of an address, for messages."""
    parsed = _parsed(url)
    return parsed.host if parsed is not None and parsed.host else "an address that cannot be read"


def joined(url: str, target: str) -> str:
    """The address that a redirect from `url` leads to; an empty one when it cannot be read."""
    base = _parsed(url)
    try:
        return "" if base is None else str(base.join(target))
    except FAILURES:
        return ""


def _parsed(url: str) -> httpx.URL | None:
    try:
        return httpx.URL(url)
    except FAILURES:
        return None
