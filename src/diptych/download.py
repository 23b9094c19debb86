"""Fetching one picture from the web: bounded in time, in size and in redirects."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .errors import DeadlineExceeded, InvalidInput, Unavailable, VendorFailure
from .sniff import MAX_BYTES

if TYPE_CHECKING:
    import httpx

__all__ = ["checked", "download", "is_public", "shown"]

MAX_REDIRECTS = 5
_HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "diptych"}
_LOCAL = (".local", ".localhost", ".internal", ".home.arpa")
_TRANSIENT = {408, 425, 429}


def checked(url: str) -> str:
    """`url` if it is an http(s) URL with a host. Raises `InvalidInput`."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and not _CONTROL.search(url)
    except ValueError:
        good = False
    if not good:
        raise InvalidInput(
            f"{shown(url)!r} is no address of a picture; http:// and https:// URLs with a host are"
        )
    return url


_CONTROL = re.compile(r"[\x00-\x20\x7f]")


def shown(url: str) -> str:
    """`url` without user, query and fragment, which may hold a signature or a key."""
    scheme, _, rest = url.partition("://")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    text = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}" if rest else scheme
    return text if len(text) <= 120 else text[:117] + "..."


async def download(
    url: str, *, client: httpx.AsyncClient | None = None, timeout: float = 60.0
) -> bytes:
    """The body at `url`, at most `MAX_BYTES` of it, within `timeout` seconds in all.

    Redirects are followed up to `MAX_REDIRECTS` times: from https to https only, and from the
    public internet to the public internet only. `client` lends its connections, proxies and
    headers; its credentials do not follow a redirect. Raises
    `InvalidInput` for what asking again will not mend, `Unavailable` (retryable) for what it may,
    and `DeadlineExceeded`.
    """
    import anyio
    import httpx

    failure: Exception
    try:
        with anyio.fail_after(timeout):
            async with AsyncExitStack() as stack:
                if client is None:
                    client = await stack.enter_async_context(httpx.AsyncClient())
                return await _follow(client, checked(url))
    except TimeoutError:
        raise DeadlineExceeded(
            f"{shown(url)} was not read within {timeout:g} s; give a longer timeout"
        ) from None
    except httpx.InvalidURL as error:
        raise InvalidInput(
            f"{shown(url)} is, or leads to, no http:// or https:// URL: {error}"
        ) from None
    except httpx.HTTPError as error:
        failure = error
    # Outside of the handler, so that httpx's error, which holds the request, is not chained.
    raise Unavailable(
        f"{shown(url)} cannot be read ({type(failure).__name__}); check the address and the network",
        provider=_host(url),
        retryable=True,
    ) from VendorFailure(f"{type(failure).__name__}: {failure}".replace(url, shown(url)))


async def _follow(client: httpx.AsyncClient, url: str) -> bytes:
    import httpx

    request = client.build_request("GET", url, headers=_HEADERS, timeout=None)
    for hop in range(MAX_REDIRECTS + 1):
        auth = None if hop else httpx.USE_CLIENT_DEFAULT
        response = await client.send(request, stream=True, follow_redirects=False, auth=auth)
        try:
            if response.next_request is None:
                return await _body(response, url)
            target = checked(str(response.next_request.url))
        finally:
            await response.aclose()
        await _check_redirect(url, str(request.url), target)
        # A bare request: no header of the client's follows to where it was not meant to go.
        request = httpx.Request("GET", target, headers=_HEADERS)
    raise InvalidInput(
        f"{shown(url)} redirects more than {MAX_REDIRECTS} times; give the picture's own address"
    )


async def _check_redirect(url: str, before: str, target: str) -> None:
    """Raises `InvalidInput` for a redirect that leads where the caller of `url` did not mean to go."""
    if urlsplit(before).scheme == "https" and urlsplit(target).scheme != "https":
        raise InvalidInput(
            f"{shown(url)} redirects from https to {shown(target)}, which is not followed; "
            "give that address itself if it is meant"
        )
    if not await is_public(_host(target)) and await is_public(_host(url)):
        raise InvalidInput(
            f"{shown(url)} redirects to {shown(target)}, an address inside a network, which is not "
            "followed; give that address itself if it is meant"
        )


async def is_public(host: str) -> bool:
    """Whether all addresses of `host` are on the public internet, as far as it has any here.

    A name that is not resolved counts as public, since a proxy may know it, unless it is of the
    kind that only local networks have.
    """
    import anyio

    if _is_local(host):
        return False
    try:
        found = {str(each[4][0]) for each in await anyio.getaddrinfo(host, None)}
    except OSError:
        return True
    return all(map(_is_public, found))


def _is_local(host: str) -> bool:
    name = host.lower().rstrip(".")
    return ("." not in name and ":" not in name) or name.endswith(_LOCAL)


def _is_public(address: str) -> bool:
    from ipaddress import IPv6Address, ip_address

    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast


async def _body(response: httpx.Response, url: str) -> bytes:
    status = response.status_code
    if status != 200:
        text = f"{shown(url)} was answered with HTTP {status}"
        if status >= 500 or status in _TRANSIENT:
            raise Unavailable(
                f"{text}; try again later", provider=_host(url), status=status, retryable=True
            )
        raise InvalidInput(f"{text} and no picture; the address is wrong, private or has expired")
    announced = response.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) > MAX_BYTES:
        raise _too_large(url)
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BYTES:
            raise _too_large(url)
    return bytes(body)


def _too_large(url: str) -> InvalidInput:
    return InvalidInput(
        f"{shown(url)} holds more than {MAX_BYTES:,} bytes, the limit for a picture"
    )


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
