"""Webhook deliveries: fal's own are read, all others refused with one and the same text."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from diptych_fal import verify_webhook, webhook

from diptych.errors import InvalidInput, ProviderNotInstalled, Unavailable
from diptych.testing.peers import FalPeer, status, unused_port

pytest.importorskip("cryptography")

NOW = 1_795_000_000
PAYLOAD = {"request_id": "abc", "status": "OK", "payload": {"images": []}}
BODY = json.dumps(PAYLOAD).encode()


@pytest.fixture
def keys(peer: FalPeer) -> Any:
    peer.sign_webhook(BODY, request_id="abc", timestamp=NOW)
    return httpx.get(f"{peer.origin}/.well-known/jwks.json").json()


@pytest.fixture
def delivery(peer: FalPeer) -> dict[str, str]:
    return peer.sign_webhook(BODY, request_id="abc", timestamp=NOW)


def test_a_delivery_of_fals_is_read(delivery: dict[str, str], keys: Any) -> None:
    assert verify_webhook(delivery, BODY, jwks=keys, now=NOW + 299) == PAYLOAD


def test_header_names_may_have_any_case(delivery: dict[str, str], keys: Any) -> None:
    lower = {name.lower(): value for name, value in delivery.items()}
    assert verify_webhook(lower, BODY, jwks=keys, now=NOW) == PAYLOAD


def test_every_key_of_the_set_is_tried(delivery: dict[str, str], keys: Any, peer: FalPeer) -> None:
    strangers = [{"kty": "OKP", "x": "A" * 43}, {"kty": "RSA"}, {"x": "%%%"}, {"x": "AAAA"}, 3]
    crowded = {"keys": [*strangers, *keys["keys"]]}
    assert verify_webhook(delivery, BODY, jwks=crowded, now=NOW) == PAYLOAD
    with pytest.raises(InvalidInput):
        verify_webhook(delivery, BODY, jwks={"keys": strangers}, now=NOW)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda headers, body: (headers, body + b" "),
        lambda headers, body: ({**headers, "X-Fal-Webhook-User-Id": "somebody"}, body),
        lambda headers, body: ({**headers, "X-Fal-Webhook-Request-Id": "another"}, body),
        lambda headers, body: ({**headers, "X-Fal-Webhook-Timestamp": str(NOW + 1)}, body),
        lambda headers, body: ({**headers, "X-Fal-Webhook-Timestamp": "soon"}, body),
        lambda headers, body: ({**headers, "X-Fal-Webhook-Signature": "00" * 64}, body),
        lambda headers, body: ({**headers, "X-Fal-Webhook-Signature": "not hex"}, body),
        lambda headers, body: ({**headers, "X-Fal-Webhook-Signature": ""}, body),
        lambda headers, body: ({}, body),
    ],
)
def test_anything_else_is_refused_with_the_same_words(
    spoil: Callable[[dict[str, str], bytes], tuple[dict[str, str], bytes]],
    delivery: dict[str, str],
    keys: Any,
) -> None:
    with pytest.raises(InvalidInput) as caught:
        verify_webhook(*spoil(delivery, BODY), jwks=keys, now=NOW)
    with pytest.raises(InvalidInput) as stale:
        verify_webhook(delivery, BODY, jwks=keys, now=NOW + 301)
    assert str(caught.value) == str(stale.value)


@pytest.mark.parametrize("jwks", [{}, {"keys": None}, {"keys": []}])
def test_a_set_without_keys_verifies_nothing(jwks: Any, delivery: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        verify_webhook(delivery, BODY, jwks=jwks, now=NOW)


def test_a_signed_body_that_is_not_json_is_told(peer: FalPeer, keys: Any) -> None:
    headers = peer.sign_webhook(b"{", request_id="abc", timestamp=NOW)
    with pytest.raises(InvalidInput, match="not JSON"):
        verify_webhook(headers, b"{", jwks=keys, now=NOW)


@pytest.fixture
def published(peer: FalPeer, monkeypatch: pytest.MonkeyPatch) -> FalPeer:
    """fal's key set at the peer, with nothing fetched yet."""
    monkeypatch.setattr(webhook, "JWKS_URL", f"{peer.origin}/.well-known/jwks.json")
    monkeypatch.setattr(webhook, "_fetched", None)
    return peer


def test_the_keys_are_fetched_once(published: FalPeer, delivery: dict[str, str]) -> None:
    for _ in range(3):
        assert verify_webhook(delivery, BODY, now=NOW) == PAYLOAD
    assert published.count("jwks") == 1


def test_keys_that_cannot_be_fetched_are_no_verdict(
    published: FalPeer, delivery: dict[str, str]
) -> None:
    published.fault(status(500), on="jwks")
    with pytest.raises(Unavailable, match="HTTP 500"):
        verify_webhook(delivery, BODY, now=NOW)


def test_keys_behind_a_dead_connection_are_no_verdict(
    delivery: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "_fetched", None)
    with unused_port() as port, monkeypatch.context() as patched:
        patched.setattr(webhook, "JWKS_URL", f"http://127.0.0.1:{port}/")
        with pytest.raises(Unavailable, match="ConnectError"):
            verify_webhook(delivery, BODY, now=NOW)


def test_without_cryptography_the_pip_command_is_told(
    delivery: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(ProviderNotInstalled, match=r"diptych-fal\[webhook\]"):
        verify_webhook(delivery, BODY, jwks={"keys": []}, now=NOW)
