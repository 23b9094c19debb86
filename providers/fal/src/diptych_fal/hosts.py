"""Where the key may go, where pictures may come from, and fal's addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from diptych.errors import ConfigurationError

__all__ = ["KEY_HOSTS", "Hosts", "Url"]

QUEUE = "https://queue.fal.run"
REST = "https://rest.fal.ai"

KEY_HOSTS = ("fal.run", ".fal.run", "falrun.com", ".falrun.com", "rest.fal.ai", "api.fal.ai")
"""Hosts that may be sent the key; a leading dot is a suffix. falrun.com is fal's second domain."""

FILE_HOSTS = ("fal.media", ".fal.media", ".fal.ai", ".fal.run", "fal.run")
"""Hosts from which fal serves results."""

STORE_HOSTS = ("fal.media", ".fal.media", "rest.fal.ai")
"""Hosts that take uploads."""


class Url(Protocol):
    """A parsed URL: the parser must be the one that the request is made with."""

    @property
    def scheme(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int | None: ...
    @property
    def userinfo(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Hosts:
    """fal's own hosts, or the one server that `base_url` names in their place.

    With a `base_url` the key belongs to that server: it goes to that origin and nowhere else.
    """

    base_url: str | None = None

    @classmethod
    def of(cls, base_url: str | None) -> Hosts:
        """`base_url` is one that the core has checked. Raises `ConfigurationError`."""
        if base_url is None or base_url.rstrip("/") in (QUEUE, f"{QUEUE}/"):
            return cls()
        if "@" in base_url or "?" in base_url:
            raise ConfigurationError(
                "base_url must be an address without user and query, such as http://127.0.0.1:8000"
            )
        return cls(base_url.rstrip("/"))

    @property
    def queue(self) -> str:
        return self.base_url or QUEUE

    @property
    def rest(self) -> str:
        return self.base_url or REST

    def may_have_key(self, url: Url, base: Url | None) -> bool:
        """Whether a request to `url` may carry the key. `base` is `base_url`, parsed."""
        return _same(url, base) if base is not None else _safe(url, KEY_HOSTS)

    def may_serve(self, url: Url, base: Url | None) -> bool:
        """Whether a result may be fetched from `url`."""
        return _same(url, base) or _safe(url, FILE_HOSTS)

    def may_store(self, url: Url, base: Url | None) -> bool:
        """Whether a picture may be uploaded to `url`."""
        return _same(url, base) or (base is None and _safe(url, STORE_HOSTS))


def _safe(url: Url, hosts: tuple[str, ...]) -> bool:
    host = url.host.lower().rstrip(".")
    return (
        url.scheme == "https"
        and url.port in (None, 443)
        and not url.userinfo
        and any(host.endswith(each) if each.startswith(".") else host == each for each in hosts)
    )


def _same(url: Url, base: Url | None) -> bool:
    if base is None or url.userinfo:
        return False
    return _origin(url) == _origin(base)


def _origin(url: Url) -> tuple[str, str, int]:
    return url.scheme, url.host.lower(), url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
