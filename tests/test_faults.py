"""The fault matrix: every fault on a real socket, against both hosted plug-ins.

Each row says which documented error comes of a fault, and the peer counts the POSTs: how many came, and
how many of them the service would have billed. `python tests/test_faults.py` writes the matrix to
docs/fault-matrix.md; a test keeps it in step.
"""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from diptych import AsyncImageClient, Completed, ImageClient
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
from diptych.testing import peers as p

MATRIX = Path(__file__).parent.parent / "docs" / "fault-matrix.md"
KEY = "sk-canary-0123456789abcdef"
MODELS = {"openai": "openai/gpt-image-2", "fal": "fal/flux-pro/v1.1"}
SOON = datetime.now(UTC) + timedelta(seconds=1)


@dataclass(frozen=True)
class Case:
    """`error` is None where the fault is survived. `posts` counts submissions, `paid` the billed."""

    fault: str
    provider: str
    plant: Any
    error: type[DiptychError] | None
    posts: int = 1
    paid: int = 1
    on: str | None = None
    how: str = "generate"
    timeout: float = 20.0
    times: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.provider}-{self.fault}".replace(" ", "_")


def openai(fault: str, plant: Any, error: type[DiptychError] | None, **more: Any) -> Case:
    return Case(fault, "openai", plant, error, **{"on": "generate", **more})


def fal(fault: str, plant: Any, error: type[DiptychError] | None, **more: Any) -> Case:
    return Case(fault, "fal", plant, error, **{"on": "submit", **more})


def both(fault: str, plant: Any, error: type[DiptychError] | None, **more: Any) -> list[Case]:
    return [openai(fault, plant, error, **more), fal(fault, plant, error, **more)]


FREE = {"posts": 1, "paid": 0}
LATE = {"timeout": 0.7}
JOB = {"handle": ...}  # the error must carry a handle

CASES = [
    # The connection
    *both("reset before any byte of the answer", p.reset(), OutcomeUnknown),
    *both("reset in mid-body", p.reset("middle"), OutcomeUnknown),
    openai("reset in mid-stream", p.reset("middle"), OutcomeUnknown, how="stream"),
    fal("reset of a status poll, once", p.reset(), None, on="status", times=1),
    fal("reset of every status poll", p.reset(), OutcomeUnknown, on="status", fields=JOB),
    fal("reset of a download in mid-body, once", p.reset("middle"), None, on="file", times=1),
    *both("the answer is dropped after the work was done", p.drop(), OutcomeUnknown),
    # Silence
    *both("silence before the headers", p.silence(), DeadlineExceeded, **LATE),
    *both("silence in mid-body", p.silence("middle"), DeadlineExceeded, **LATE),
    openai("silence between events", p.silence("middle"), DeadlineExceeded, how="stream", **LATE),
    fal("silence of a status poll", p.silence(), DeadlineExceeded, on="status", fields=JOB, **LATE),
    fal(
        "silence in a download",
        p.silence("middle"),
        DeadlineExceeded,
        on="file",
        fields=JOB,
        **LATE,
    ),
    fal(
        "a job that never leaves the queue",
        p.stuck(),
        DeadlineExceeded,
        on="status",
        fields=JOB,
        **LATE,
    ),
    # Refusals
    *both("400", p.status(400), ProviderError, **FREE, fields={"status": 400}),
    *both("401", p.status(401), AuthenticationFailed, **FREE, fields={"status": 401}),
    *both("403", p.status(403), PermissionDenied, **FREE, fields={"status": 403}),
    *both("404", p.status(404), ProviderError, **FREE, fields={"status": 404}),
    *both("409", p.status(409), ProviderError, **FREE, fields={"status": 409}),
    *both("413", p.status(413), ProviderError, **FREE, fields={"status": 413}),
    *both("422", p.status(422), ProviderError, **FREE, fields={"status": 422}),
    *both("429, Retry-After 0.1 s, once", p.rate_limited(0.1), None, posts=2, times=1),
    *both(
        "429, Retry-After 0.1 s, always",
        p.rate_limited(0.1),
        RateLimited,
        posts=3,
        paid=0,
        fields={"status": 429, "retry_after": 0.1},
    ),
    *both("429, Retry-After as a date, once", p.rate_limited(SOON), None, posts=2, times=1),
    *both("429, Retry-After beyond the deadline", p.rate_limited(60), RateLimited, **FREE),
    openai("429, out of credit", p.quota_exhausted(), QuotaExhausted, **FREE),
    openai("400, billing limit", p.billing_limit(), QuotaExhausted, **FREE),
    fal("403, out of credit", p.balance_exhausted(), QuotaExhausted, **FREE),
    *both("500", p.status(500), Unavailable, **FREE, fields={"status": 500, "retryable": False}),
    *both("502", p.status(502), OutcomeUnknown, **FREE),
    *both("503, once", p.status(503), None, posts=2, times=1),
    *both("503, always", p.status(503), Unavailable, posts=3, paid=0, fields={"status": 503}),
    *both("504", p.status(504), OutcomeUnknown, **FREE),
    fal("503 of a status poll, once", p.status(503), None, on="status", times=1),
    *both("a redirect to another host", p.redirect(), ProviderError, **FREE),
    # Answers that are not what is documented
    *both("200 with HTML", p.html(), MalformedResponse),
    *both("200 with truncated JSON", p.truncated_json(), MalformedResponse),
    openai("200 without its fields", p.missing("data"), MalformedResponse),
    fal(
        "200 without its fields",
        p.missing("request_id", "status_url", "response_url"),
        None,  # the id is in the headers, and the addresses follow from it
    ),
    fal(
        "a result without its fields",
        p.missing("images"),
        MalformedResponse,
        on="result",
        fields=JOB,
    ),
    openai("wrong base64", p.wrong_base64(), MalformedResponse),
    openai("an empty picture", p.empty_picture(), MalformedResponse),
    fal("an empty picture", p.empty_picture(), MalformedResponse, on="file", fields=JOB),
    openai("a corrupt picture", p.corrupt_picture(), MalformedResponse),
    fal("a corrupt picture", p.corrupt_picture(), MalformedResponse, on="file", fields=JOB),
    openai("a decompression bomb", p.bomb_picture(), MalformedResponse),
    fal("a decompression bomb", p.bomb_picture(), MalformedResponse, on="file", fields=JOB),
    openai("an endless picture", p.endless_picture(), MalformedResponse),
    fal("an endless picture", p.endless_picture(), MalformedResponse, on="file", fields=JOB),
    openai("a picture of another type than announced", p.other_picture(), None),
    fal("a picture of another type than announced", p.other_picture(), None, on="file"),
    # Streams
    openai("JSON in place of a stream", p.json_for_stream(), MalformedResponse, how="stream"),
    openai("HTML in place of a stream", p.html(), MalformedResponse, how="stream"),
    openai("a stream that ends too early", p.unterminated(), MalformedResponse, how="stream"),
    openai("a flat error event", p.flat_error_event(), DiptychError, how="stream"),
    openai("a nested error event", p.nested_error_event(), DiptychError, how="stream"),
    openai("duplicate events", p.duplicated_events(), None, how="stream"),
    openai("previews out of order", p.shuffled_partials(), None, how="stream"),
    openai("an unknown event", p.unknown_event(), None, how="stream"),
    # Moderation
    openai(
        "moderation, 400",
        p.moderation_blocked("input"),
        ContentBlocked,
        **FREE,
        fields={"stage": "input", "categories": ("sexual",)},
    ),
    openai("moderation, 400 without details", p.moderation_blocked(None), ContentBlocked, **FREE),
    openai(
        "moderation inside a 200",
        p.failed_call(),
        ContentBlocked,
        on="responses",
        how="converse",
        fields={"stage": "output"},
    ),
    openai(
        "moderation as a failed response",
        p.failed_response(),
        ContentBlocked,
        on="responses",
        how="converse",
    ),
    openai(
        "moderation as an incomplete response",
        p.incomplete_response(),
        ContentBlocked,
        on="responses",
        how="converse",
    ),
    fal(
        "moderation, 422 of the result",
        p.policy_violation(),
        ContentBlocked,
        on="result",
        fields={"status": 422},
    ),
    fal("flagged pictures", p.nsfw(), None, on="result"),
    # Strangers
    fal("status_url on a foreign host", p.foreign("status_url"), None),
    fal("response_url on a foreign host", p.foreign("response_url"), None),
    fal("picture on a foreign host", p.foreign("url"), MalformedResponse, on="result", fields=JOB),
]


@contextmanager
def running(case: Case) -> Iterator[tuple[Any, str]]:
    with p.OpenAIPeer(key=KEY) if case.provider == "openai" else p.FalPeer(key=KEY) as peer:
        yield peer, peer.base_url if case.provider == "openai" else peer.origin


def act(client: ImageClient, how: str) -> None:
    if how == "generate":
        client.generate("a fox")
    elif how == "stream":
        *_, last = client.stream_generate("a fox", previews=2)
        assert isinstance(last, Completed)
    else:
        client.conversation().send("Generate a fox.")


def everything(error: BaseException) -> str:
    """All that a log, a report or a curious caller could print of an error."""
    seen: BaseException | None = error
    text = ""
    while seen is not None:
        text += "".join(traceback.format_exception(seen)) + repr(seen) + repr(vars(seen))
        seen = seen.__cause__ or seen.__context__
    return text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_fault(case):
    threads = set(threading.enumerate())
    with running(case) as (peer, url):
        peer.fault(case.plant, on=case.on, times=case.times)
        client = ImageClient(MODELS[case.provider], api_key=KEY, base_url=url, timeout=case.timeout)
        began = time.monotonic()
        try:
            act(client, case.how)
            raised = None
        except DiptychError as error:
            raised = error
        took = time.monotonic() - began
        client.close()
        stranger = peer.stranger
        peer.wait_until_idle()
        posts = sum(request.method == "POST" for request in peer.requests)
        assert (posts, peer.paid_posts) == (case.posts, case.paid)
        assert not stranger.saw_credentials
    assert took < case.timeout + 1
    if case.error is None:
        assert raised is None
    else:
        assert isinstance(raised, case.error), raised
        for name, value in case.fields.items():
            found = getattr(raised, name)
            assert found if value is ... else found == value
        assert KEY not in everything(raised)
        assert len(str(raised)) > 20
    assert set(threading.enumerate()) <= threads


@pytest.mark.parametrize("provider", MODELS)
@pytest.mark.parametrize("stage", ["connect", "name", "certificate"])
def test_what_cannot_be_reached_is_unavailable(provider, stage):
    with p.unused_port() as port, p.untrusted_tls() as origin:
        urls = {
            "connect": f"http://127.0.0.1:{port}",
            "name": p.UNRESOLVABLE,
            "certificate": origin,
        }
        suffix = "/v1" if provider == "openai" else ""
        with ImageClient(
            MODELS[provider], api_key=KEY, base_url=urls[stage] + suffix, timeout=20
        ) as client:
            with pytest.raises(Unavailable) as raised:
                client.generate("a fox")
            assert raised.value.retryable is (stage != "certificate")
            assert KEY not in everything(raised.value)


@pytest.mark.parametrize(
    ("provider", "stage"),
    [
        ("openai", "generate"),
        ("fal", "submit"),
        ("fal", "status"),
        ("fal", "result"),
        ("fal", "file"),
    ],
)
def test_cancelling_closes_everything(provider, stage):
    case = Case("cancel", provider, None, None)

    async def main(peer: Any, url: str) -> None:
        async with AsyncImageClient(MODELS[provider], api_key=KEY, base_url=url) as client:
            task = asyncio.ensure_future(client.generate("a fox"))
            await asyncio.to_thread(peer.wait_for, stage)
            task.cancel()
            began = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 1
        assert len(asyncio.all_tasks()) == 1
        await asyncio.to_thread(peer.wait_until_idle)

    with running(case) as (peer, url):
        peer.fault(p.silence(), on=stage)
        asyncio.run(main(peer, url))


def rendered() -> str:
    """The matrix as the page in docs."""
    lines = [
        "# The fault matrix",
        "",
        "Every row is a test over a real socket (`tests/test_faults.py`), with `max_retries=2`. *POSTs* counts",
        "the submissions that arrived, *billed* those that the service would have charged for: never more than",
        "one. An error marked *handle* carries a handle that `client.resume` takes.",
        "",
        "| fault | OpenAI: error | POSTs | billed | fal: error | POSTs | billed |",
        "|---|---|---|---|---|---|---|",
    ]
    for fault in dict.fromkeys(case.fault for case in CASES):
        cells = []
        for provider in MODELS:
            found = [case for case in CASES if (case.fault, case.provider) == (fault, provider)]
            cells.append(_cells(found[0]) if found else "| - | - | - ")
        lines.append(f"| {fault} {''.join(cells)}|")
    unreachable = "| `Unavailable` | 0 | 0 "
    never = ("connection refused", "the name does not resolve", "the certificate is not trusted")
    lines += [f"| {fault} {unreachable * 2}|" for fault in never]
    return "\n".join(lines) + "\n"


def _cells(case: Case) -> str:
    error = "none" if case.error is None else f"`{case.error.__name__}`"
    handle = ", handle" if "handle" in case.fields else ""
    return f"| {error}{handle} | {case.posts} | {case.paid} "


def test_the_page_shows_this_matrix():
    assert MATRIX.read_text() == rendered()


if __name__ == "__main__":
    MATRIX.write_text(rendered())
