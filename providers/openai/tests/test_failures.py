"""Failures over a real socket: which error, with which fields, and how often the peer was paid."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from diptych.errors import (
    AuthenticationFailed,
    ContentBlocked,
    InvalidInput,
    MalformedResponse,
    OutcomeUnknown,
    PermissionDenied,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    Unavailable,
    VendorFailure,
)
from diptych.testing.peers import (
    UNRESOLVABLE,
    OpenAIPeer,
    billing_limit,
    bomb_picture,
    corrupt_picture,
    drop,
    empty_picture,
    endless_picture,
    html,
    missing,
    moderation_blocked,
    quota_exhausted,
    rate_limited,
    reset,
    status,
    truncated_json,
    untrusted_tls,
    unused_port,
    wrong_base64,
)

MODEL = "gpt-image-2"


@pytest.mark.parametrize(
    ("fault", "kind", "retryable"),
    [
        (status(400), ProviderError, False),
        (status(401), AuthenticationFailed, False),
        (status(402), QuotaExhausted, False),
        (status(403), PermissionDenied, False),
        (status(404), ProviderError, False),
        (status(409), ProviderError, False),
        (status(413), ProviderError, False),
        (status(422), ProviderError, False),
        (rate_limited(2), RateLimited, True),
        (quota_exhausted(), QuotaExhausted, False),
        (quota_exhausted("project_spend_limit_exceeded"), QuotaExhausted, False),
        (billing_limit(), QuotaExhausted, False),
        (status(500), Unavailable, False),
        (status(503), Unavailable, True),
        (moderation_blocked(), ContentBlocked, False),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_statuses(
    bench: Callable[..., Any],
    peer: OpenAIPeer,
    fault: Any,
    kind: type[ProviderError],
    retryable: bool,
) -> None:
    peer.fault(fault)
    made = bench(peer)
    error = made.fails(made.plan(MODEL).calls[0], peer.key)
    assert type(error) is kind
    assert isinstance(error, ProviderError)
    assert error.retryable is retryable
    assert (error.provider, error.status) == ("openai", peer.last("generate").status)
    assert isinstance(error.__cause__, VendorFailure)
    assert error.__context__ is None or isinstance(error.__context__, VendorFailure)


@pytest.mark.parametrize(
    "fault",
    [
        status(400, headers={"x-request-id": "req_7"}),
        status(502, headers={"x-request-id": "req_7"}),
        status(200, {"data": []}, headers={"x-request-id": "req_7"}),
        status(200, {"error": "no"}, headers={"apim-request-id": "req_7"}),
    ],
    ids=lambda fault: fault.name,
)
def test_the_request_id_is_kept(bench: Callable[..., Any], peer: OpenAIPeer, fault: Any) -> None:
    peer.fault(fault)
    made = bench(peer)
    assert getattr(made.fails(made.plan(MODEL).calls[0]), "request_id", None) == "req_7"


@pytest.mark.parametrize("code", [408, 502, 504])
def test_a_gateway_that_gave_up_leaves_the_outcome_open(
    bench: Callable[..., Any], peer: OpenAIPeer, code: int
) -> None:
    peer.fault(status(code, "<html>Bad gateway</html>"))
    made = bench(peer)
    assert type(made.fails(made.plan(MODEL).calls[0], peer.key)) is OutcomeUnknown
    assert len(peer.requests) == 1


@pytest.mark.parametrize(
    ("after", "headers", "seconds"),
    [
        (2, {}, 2.0),
        (0.5, {}, 0.5),
        (None, {"retry_after_ms": "1500"}, 1.5),
        (None, {}, None),
        (None, {"retry_after": "soon"}, None),
    ],
)
def test_retry_after_in_seconds(
    bench: Callable[..., Any],
    peer: OpenAIPeer,
    after: float | None,
    headers: dict[str, str],
    seconds: float | None,
) -> None:
    peer.fault(rate_limited(after, **headers))
    made = bench(peer)
    error = made.fails(made.plan(MODEL).calls[0])
    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds


def test_retry_after_as_a_date(bench: Callable[..., Any], peer: OpenAIPeer) -> None:
    peer.fault(rate_limited(datetime.now(UTC) + timedelta(seconds=90)))
    made = bench(peer)
    error = made.fails(made.plan(MODEL).calls[0])
    assert isinstance(error, RateLimited)
    assert error.retry_after is not None
    assert 30 < error.retry_after <= 90


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": "out of memory"}, "out of memory"),
        ({"detail": "no such model"}, "no such model"),
        ({"detail": [{"loc": ["body", "n"], "msg": "too many"}]}, "too many"),
        ({"message": "not now", "code": 7}, "not now"),
        ({"error": {"message": "bad size", "param": "size"}}, "(size): bad size"),
        ("plain text", "plain text"),
        ("", "Bad Request"),
    ],
)
def test_error_bodies_of_other_servers(
    bench: Callable[..., Any], peer: OpenAIPeer, body: Any, words: str
) -> None:
    peer.fault(status(400, body))
    made = bench(peer)
    assert words in str(made.fails(made.plan(MODEL).calls[0]))


@pytest.mark.parametrize(
    ("body", "stage", "categories"),
    [
        (
            {
                "code": "moderation_blocked",
                "message": "No. safety_violations=[violence, self-harm].",
            },
            "unknown",
            ("violence", "self-harm"),
        ),
        (
            {
                "code": "moderation_blocked",
                "message": "No.",
                "moderation_details": {"moderation_stage": "input", "categories": ["sexual"]},
            },
            "input",
            ("sexual",),
        ),
        (
            {
                "code": "content_filter",
                "message": "No.",
                "innererror": {
                    "content_filter_result": {
                        "hate": {"filtered": False},
                        "violence": {"filtered": True},
                        "jailbreak": "unexpected",
                    }
                },
            },
            "input",
            ("violence",),
        ),
        ({"code": "content_policy_violation", "message": "No."}, "unknown", ()),
    ],
)
def test_every_form_of_moderation(
    bench: Callable[..., Any],
    peer: OpenAIPeer,
    body: dict[str, Any],
    stage: str,
    categories: tuple[str, ...],
) -> None:
    peer.fault(status(400, {"error": body}))
    made = bench(peer)
    error = made.fails(made.plan(MODEL).calls[0])
    assert isinstance(error, ContentBlocked)
    assert (error.stage, error.categories) == (stage, categories)


@pytest.mark.parametrize(
    "fault",
    [
        html(),
        truncated_json(),
        missing("data"),
        missing("b64_json"),
        wrong_base64(),
        empty_picture(),
        corrupt_picture(),
        bomb_picture(),
        status(200, []),
        status(200, {"data": ["fox"]}),
    ],
    ids=lambda fault: fault.name,
)
def test_a_200_that_is_not_what_is_documented(
    bench: Callable[..., Any], peer: OpenAIPeer, fault: Any
) -> None:
    peer.fault(fault)
    made = bench(peer)
    error = made.fails(made.plan(MODEL).calls[0], peer.key)
    assert type(error) is MalformedResponse
    assert error.status == 200
    assert len(peer.requests) == 1


@pytest.mark.parametrize("previews", [None, 0])
def test_a_picture_that_never_ends_is_left_at_the_limit(
    bench: Callable[..., Any], peer: OpenAIPeer, previews: int | None
) -> None:
    peer.fault(endless_picture())
    made = bench(peer)
    error = made.fails(made.plan(MODEL, previews=previews).calls[0], peer.key)
    assert type(error) is MalformedResponse
    assert "more than" in str(error)
    peer.wait_until_idle()


def test_an_error_inside_a_200(bench: Callable[..., Any], peer: OpenAIPeer) -> None:
    peer.fault(status(200, {"error": {"message": "busy", "code": "rate_limit_exceeded"}}))
    made = bench(peer)
    error = made.fails(made.plan(MODEL).calls[0])
    assert isinstance(error, RateLimited)
    assert not error.retryable  # it had been accepted


@pytest.mark.parametrize("fault", [reset(), reset("headers"), reset("middle"), drop("middle")])
@pytest.mark.parametrize("previews", [None, 1])
def test_a_lost_connection_leaves_the_outcome_open(
    bench: Callable[..., Any], peer: OpenAIPeer, fault: Any, previews: int | None
) -> None:
    peer.fault(fault)
    made = bench(peer)
    error = made.fails(made.plan(MODEL, previews=previews).calls[0], peer.key)
    assert type(error) is OutcomeUnknown
    assert peer.paid_posts == 1


# Where nothing was sent


def test_a_refused_connection_may_be_tried_again(bench: Callable[..., Any]) -> None:
    with unused_port() as port:
        made = bench(base_url=f"http://127.0.0.1:{port}/v1")
        error = made.fails(made.plan(MODEL).calls[0])
    assert type(error) is Unavailable
    assert error.retryable


def test_a_name_that_does_not_resolve_may_be_tried_again(bench: Callable[..., Any]) -> None:
    made = bench(base_url=f"{UNRESOLVABLE}/v1")
    error = made.fails(made.plan(MODEL).calls[0])
    assert type(error) is Unavailable
    assert error.retryable


def test_a_certificate_that_nobody_trusts_is_final(bench: Callable[..., Any]) -> None:
    pytest.importorskip("trustme")
    with untrusted_tls() as origin:
        made = bench(base_url=f"{origin}/v1", api_key="sk-secret-0123456789")
        error = made.fails(made.plan(MODEL).calls[0], "sk-secret-0123456789")
    assert type(error) is Unavailable
    assert not error.retryable


@pytest.mark.parametrize(
    "settings",
    [{"api_key": "sk-with\nnewline"}, {"default_headers": {"X-Key": "sk-with\nnewline"}}],
)
def test_a_key_that_cannot_be_a_header_is_not_repeated(
    bench: Callable[..., Any], settings: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput, match="line break") as caught:
        bench(**settings)
    assert "newline" not in str(caught.value)


@pytest.mark.parametrize("message", ["Incorrect API key provided: sk-ab**********6789.", "{key}"])
def test_keys_that_the_service_repeats_are_removed(
    bench: Callable[..., Any], peer: OpenAIPeer, message: str
) -> None:
    error_body = {"message": message.format(key=peer.key), "code": "invalid_api_key"}
    peer.fault(status(401, {"error": error_body}))
    made = bench(peer)
    error = made.fails(made.plan(MODEL).calls[0], peer.key, "*6789")
    assert isinstance(error, AuthenticationFailed)
