"""What can go wrong on the way: the documented error, its fields, and how often fal was paid."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from diptych import ImageClient
from diptych.errors import (
    AuthenticationFailed,
    ContentBlocked,
    DeadlineExceeded,
    DiptychError,
    MalformedResponse,
    OutcomeUnknown,
    PermissionDenied,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    Unavailable,
)
from diptych.testing.peers import (
    UNRESOLVABLE,
    FalPeer,
    Fault,
    balance_exhausted,
    bomb_picture,
    drop,
    empty_picture,
    endless_picture,
    html,
    missing,
    picture,
    policy_violation,
    rate_limited,
    reset,
    silence,
    status,
    truncated_json,
    untrusted_tls,
    unused_port,
    wrong_base64,
)

Make = Callable[..., ImageClient]

LATER = {"detail": "Too many requests"}
POLICY = {
    "detail": [
        {"loc": ["body", "image_url"], "msg": "flagged", "type": "content_policy_violation",
         "ctx": {"categories": ["violence"]}}
    ]
}  # fmt: skip
SUBMIT: list[tuple[Fault, type[DiptychError], dict[str, Any], int]] = [
    # fault of the submit, error, fields, submits that arrived
    (reset(), OutcomeUnknown, {}, 1),
    (drop(), OutcomeUnknown, {}, 1),
    (reset("headers"), OutcomeUnknown, {}, 1),
    (reset("middle"), OutcomeUnknown, {}, 1),
    (silence(), DeadlineExceeded, {"may_be_billed": True, "job": None}, 1),
    (silence("middle"), DeadlineExceeded, {"may_be_billed": True, "job": None}, 1),
    (status(400), ProviderError, {"status": 400, "retryable": False}, 1),
    (status(401), AuthenticationFailed, {"status": 401}, 1),
    (status(403), PermissionDenied, {"status": 403}, 1),
    (status(404), ProviderError, {"status": 404, "retryable": False}, 1),
    (status(409), ProviderError, {"status": 409, "retryable": False}, 1),
    (status(413), ProviderError, {"status": 413, "retryable": False}, 1),
    (status(422), ProviderError, {"status": 422, "code": "value_error"}, 1),
    (status(422, POLICY), ContentBlocked, {"stage": "input", "categories": ("violence",)}, 1),
    (balance_exhausted(), QuotaExhausted, {"status": 403, "retryable": False}, 1),
    (status(429, {"detail": "Exhausted balance"}), QuotaExhausted, {"retryable": False}, 1),
    (status(402), QuotaExhausted, {"status": 402}, 1),
    (rate_limited(0), RateLimited, {"status": 429, "retry_after": 0.0}, 2),
    (rate_limited(3600), RateLimited, {"retry_after": 3600.0, "retryable": True}, 1),
    (status(500), Unavailable, {"status": 500, "retryable": False}, 1),
    (status(502), OutcomeUnknown, {}, 1),
    (status(503), Unavailable, {"status": 503, "retryable": True}, 2),
    (status(504), OutcomeUnknown, {}, 1),
    (html(), MalformedResponse, {"retryable": False}, 1),
    (html(502), OutcomeUnknown, {}, 1),
    (truncated_json(), MalformedResponse, {"retryable": False}, 1),
]


@pytest.mark.parametrize(
    ("fault", "error", "fields", "submits"),
    SUBMIT,
    ids=[f"{fault.name}-{error.__name__}-{i}" for i, (fault, error, _, _) in enumerate(SUBMIT)],
)
def test_a_submit_that_fails(
    fault: Fault,
    error: type[DiptychError],
    fields: dict[str, Any],
    submits: int,
    peer: FalPeer,
    client: Make,
) -> None:
    peer.fault(fault, on="submit")
    with pytest.raises(DiptychError) as caught:
        client(max_retries=1, timeout=2.0).generate("a fox")
    assert type(caught.value) is error
    for name, value in fields.items():
        assert getattr(caught.value, name) == value, name
    assert peer.count("submit") == submits
    assert peer.paid_posts <= 1
    assert_no_key(caught.value, peer.key)


def test_retry_after_may_be_a_date(peer: FalPeer, client: Make) -> None:
    peer.fault(rate_limited(datetime.now(UTC) + timedelta(hours=1)), on="submit")
    with pytest.raises(RateLimited) as caught:
        client().generate("a fox")
    assert caught.value.retry_after == pytest.approx(3600, abs=60)


def test_a_submit_that_was_refused_for_a_moment_is_sent_again(peer: FalPeer, client: Make) -> None:
    peer.fault(rate_limited(0), on="submit", times=1)
    assert client().generate("a fox").images
    assert (peer.count("submit"), peer.paid_posts) == (2, 1)


RESULT: list[tuple[Fault, str, type[DiptychError], dict[str, Any]]] = [
    # fault, the requests it meets, error, fields; fal was paid once, every time
    (status(500), "result", Unavailable, {"status": 500, "retryable": False}),
    (status(503, "upstream busy"), "result", OutcomeUnknown, {}),
    (status(503), "result", Unavailable, {"code": "runner_scheduling_failure", "retryable": False}),
    (status(504), "result", Unavailable, {"code": "request_timeout", "retryable": False}),
    (html(502), "result", OutcomeUnknown, {}),
    (reset(), "result", OutcomeUnknown, {}),
    (reset("middle"), "result", OutcomeUnknown, {}),
    (status(404), "status", ProviderError, {"status": 404}),
    (status(401), "status", AuthenticationFailed, {"status": 401}),
    (reset(), "status", OutcomeUnknown, {}),
    (html(), "status", MalformedResponse, {"retryable": False}),
    (html(), "result", MalformedResponse, {"retryable": False}),
    (truncated_json(), "result", MalformedResponse, {"retryable": False}),
    (missing("images"), "result", MalformedResponse, {}),
    (missing("url"), "result", MalformedResponse, {}),
    (policy_violation("prompt"), "result", ContentBlocked, {"stage": "input"}),
    (policy_violation("images"), "result", ContentBlocked, {"stage": "output"}),
    (policy_violation("nothing"), "result", ContentBlocked, {"stage": "unknown"}),
    (status(422), "result", ProviderError, {"status": 422, "retryable": False}),
    (silence(), "status", DeadlineExceeded, {"may_be_billed": True}),
    (silence("middle"), "result", DeadlineExceeded, {"may_be_billed": True}),
    (empty_picture(), "file", MalformedResponse, {}),
    (picture(b"<!doctype html><html></html>"), "file", MalformedResponse, {}),
    (bomb_picture(), "file", MalformedResponse, {}),
    (status(403), "file", MalformedResponse, {}),
    (status(404), "file", MalformedResponse, {"retryable": False}),
    (status(500), "file", OutcomeUnknown, {}),
    (reset("middle"), "file", OutcomeUnknown, {}),
    (silence("middle"), "file", DeadlineExceeded, {"may_be_billed": True}),
]


@pytest.mark.parametrize(
    ("fault", "kind", "error", "fields"),
    RESULT,
    ids=[f"{kind}-{fault.name}-{error.__name__}" for fault, kind, error, _ in RESULT],
)
def test_a_job_that_was_paid_is_never_paid_again(
    fault: Fault,
    kind: str,
    error: type[DiptychError],
    fields: dict[str, Any],
    peer: FalPeer,
    client: Make,
) -> None:
    peer.fault(fault, on=kind)
    with pytest.raises(DiptychError) as caught:
        client(max_retries=1, timeout=4.0).generate("a fox")
    assert type(caught.value) is error
    for name, value in fields.items():
        assert getattr(caught.value, name) == value, name
    assert (peer.count("submit"), peer.paid_posts) == (1, 1)
    assert caught.value.handle is not None
    assert_no_key(caught.value, peer.key)


@pytest.mark.parametrize("fault", [wrong_base64(), empty_picture()], ids=lambda fault: fault.name)
def test_inline_pictures_that_are_none(fault: Fault, peer: FalPeer, client: Make) -> None:
    peer.fault(fault, on="result")
    with pytest.raises(MalformedResponse, match="picture"):
        client().generate("a fox", extra={"sync_mode": True})


def test_a_picture_that_never_ends_is_not_read_to_its_end(peer: FalPeer, client: Make) -> None:
    peer.fault(endless_picture(), on="file")
    with pytest.raises(MalformedResponse, match="more than"):
        client(timeout=60.0).generate("a fox")


def test_a_timeout_that_fal_was_asked_for_keeps_its_kind(peer: FalPeer, client: Make) -> None:
    headers = {"x-fal-request-timeout-type": "user", "x-fal-error-type": "request_timeout"}
    peer.fault(status(504, {"detail": "Request timed out"}, headers=headers), on="result")
    with pytest.raises(Unavailable) as caught:
        client().generate("a fox")
    assert (caught.value.code, caught.value.status) == ("request_timeout", 504)
    assert peer.count("result") == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"detail": ["too long", {"msg": "too wide"}]}, "too long; too wide"),
        ({"detail": "no such size", "error_type": "bad_size"}, "no such size"),
        ({"message": "no"}, "no"),
        (["no", "really"], "really"),
        ("plainly no", "plainly no"),
        ("<html>no</html>", "an HTML page"),
        ("", "nothing"),
    ],
)
def test_every_form_of_error_body_is_read(
    body: Any, said: str, peer: FalPeer, client: Make
) -> None:
    peer.fault(status(400, body), on="submit")
    with pytest.raises(ProviderError, match=said):
        client().generate("a fox")


def test_a_long_answer_is_cut_only_after_the_key_is_out(peer: FalPeer, client: Make) -> None:
    for length in (585, 590, 595, 600):
        peer.clear()
        peer.fault(status(400, "x" * length + peer.key), on="submit")
        with pytest.raises(ProviderError) as caught:
            client().generate("a fox")
        assert peer.key[:6] not in str(caught.value) + str(caught.value.__cause__)


# No connection at all


def test_a_refused_connection_says_that_nothing_was_sent(client: Make) -> None:
    with unused_port() as port, pytest.raises(Unavailable, match="nothing was sent") as caught:
        client(base_url=f"http://127.0.0.1:{port}", max_retries=0).generate("a fox")
    assert caught.value.retryable
    assert caught.value.status is None


def test_a_name_that_is_not_resolved(client: Make) -> None:
    with pytest.raises(Unavailable, match="nothing was sent") as caught:
        client(base_url=UNRESOLVABLE, max_retries=0).generate("a fox")
    assert caught.value.retryable


def test_a_certificate_that_nobody_trusts_is_not_tried_again(client: Make) -> None:
    pytest.importorskip("trustme")
    with untrusted_tls() as origin, pytest.raises(Unavailable, match="TLS") as caught:
        client(base_url=origin).generate("a fox")
    assert not caught.value.retryable


def assert_no_key(error: BaseException, key: str) -> None:
    """Not in the message, the fields, the traceback with its locals, or a chained error."""
    printed = "".join(traceback.format_exception(error)) + repr(error)
    seen: BaseException | None = error
    while seen is not None:
        printed += repr(vars(seen)) + str(seen) + repr(seen.args)
        seen = seen.__cause__ or seen.__context__
    assert key not in printed
    assert "Authorization" not in printed
