"""Addresses that a caller names: whether a request can be made for one, and who may have a key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from .errors import ConfigurationError

__all__ = ["check_address", "may_receive_key"]

_NUMBERS = re.compile(r"[\d.]+")


def check_address(setting: str, url: Any) -> None:
    """Raises `ConfigurationError` for what is not an http(s) address with a host and a true port."""
    try:
        wrong = _wrong(url)
    except ValueError as error:  # as urlsplit, ipaddress and the IDNA codec raise it
        wrong = f": {error}"
    if wrong is not None:
        # A user and a password may stand before the @, and this text ends up in logs.
        shown = f"...@{url.rpartition('@')[2]}" if isinstance(url, str) and "@" in url else url
        raise ConfigurationError(
            f"{setting}={shown!r} must be an http(s) address such as http://127.0.0.1:8000{wrong}"
        )


def _wrong(url: Any) -> str | None:
    """What is wrong with `url`, as the end of a sentence. None when it is well. Raises `ValueError`."""
    from urllib.parse import urlsplit

    if not isinstance(url, str):
        return f", not a {type(url).__name__}"
    if " " in url or not url.isprintable():
        return ", without spaces and control characters"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    if parts.port == 0:  # other ports beyond 1 to 65535 make urlsplit raise
        return ": there is no port 0"
    if _NUMBERS.fullmatch(parts.hostname):
        from ipaddress import IPv4Address

        IPv4Address(parts.hostname)
    parts.hostname.encode("idna")
    return None


def may_receive_key(url: str, hosts: Iterable[str]) -> bool:
    """Whether `url` is https on one of `hosts`; a host that starts with a dot is a suffix."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    host = (parts.hostname or "").lower()
    return parts.scheme == "https" and any(
        host.endswith(each) if each.startswith(".") else host == each for each in hosts
    )
