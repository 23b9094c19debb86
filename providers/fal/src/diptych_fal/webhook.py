"""Webhooks: whether a delivery really comes from fal."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Mapping
from typing import Any

from diptych.errors import InvalidInput, ProviderNotInstalled, Unavailable

__all__ = ["verify_webhook"]

JWKS_URL = "https://rest.fal.ai/.well-known/jwks.json"
JWKS_AGE = 24 * 3600.0
"""Seconds for which fetched keys are used; fal asks for no more than a day."""

LEEWAY = 300
"""Seconds by which the time of a delivery may differ from ours."""

_REFUSED = "this is not a delivery that fal signed within the last 5 minutes"
_lock = threading.Lock()
_fetched: tuple[float, Mapping[str, Any]] | None = None


def verify_webhook(
    headers: Mapping[str, str],
    body: bytes,
    *,
    jwks: Mapping[str, Any] | None = None,
    now: float | None = None,
) -> Any:
    """The JSON of a webhook delivery, once its signature has been verified.

    `headers` are those of the delivery, in any case; `body` its bytes exactly as they came. `jwks`
    is fal's key set as JSON values; without it the set is fetched from rest.fal.ai, which blocks for
    a moment, and kept for 24 hours. `now` is the time in seconds since 1970.

    Raises `InvalidInput`, always with the same text, for whatever is not a fresh delivery signed by
    fal; `ProviderNotInstalled` without the `cryptography` package; `Unavailable` when the keys
    cannot be fetched. Source: docs.fal.ai, "Webhooks" (Ed25519 over request id, user id, timestamp
    and the SHA-256 of the body, joined by newlines).
    """
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise ProviderNotInstalled(
            "verifying webhooks needs cryptography; run: pip install 'diptych-fal[webhook]'"
        ) from None
    given = {name.lower(): value for name, value in headers.items()}
    named = [
        given.get(f"x-fal-webhook-{name}", "") for name in ("request-id", "user-id", "timestamp")
    ]
    signature = _hex(given.get("x-fal-webhook-signature", ""))
    fresh = _is_fresh(named[2], time.time() if now is None else now)
    if not all(named) or signature is None or not fresh:
        raise InvalidInput(_REFUSED)
    message = "\n".join([*named, hashlib.sha256(body).hexdigest()]).encode()
    for raw in _keys(_published() if jwks is None else jwks):
        try:
            Ed25519PublicKey.from_public_bytes(raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            continue
        return _parsed(body)
    raise InvalidInput(_REFUSED)


def _hex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def _is_fresh(timestamp: str, now: float) -> bool:
    return timestamp.isascii() and timestamp.isdigit() and abs(now - int(timestamp)) <= LEEWAY


def _keys(jwks: Mapping[str, Any]) -> list[bytes]:
    """The Ed25519 keys of a set, 32 bytes each; anything else in it is passed over."""
    keys = []
    listed = jwks.get("keys")
    for key in listed if isinstance(listed, list) else ():
        text = key.get("x") if isinstance(key, dict) else None
        if isinstance(text, str):
            try:
                keys.append(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            except ValueError:
                continue
    return keys


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise InvalidInput("fal signed this delivery, but it is not JSON") from None


def _published() -> Mapping[str, Any]:
    """fal's key set, fetched at most once a day."""
    global _fetched
    with _lock:
        if _fetched is None or time.monotonic() - _fetched[0] > JWKS_AGE:
            _fetched = (time.monotonic(), _fetch(JWKS_URL))
        return _fetched[1]


def _fetch(url: str) -> Mapping[str, Any]:
    import httpx

    from .errors import FAILURES

    reason = ""
    try:
        answer = httpx.get(url, timeout=10.0)
        keys = answer.json() if answer.status_code == 200 else None
        if isinstance(keys, dict):
            return keys
        reason = f"HTTP {answer.status_code}"
    except (*FAILURES, ValueError) as error:
        reason = type(error).__name__
    raise Unavailable(
        f"fal's webhook keys cannot be fetched from {url} ({reason})",
        provider="fal",
        retryable=True,
    )
