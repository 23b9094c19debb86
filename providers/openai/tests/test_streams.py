"""Streams that go wrong, silence, and what is sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from diptych import AsyncImageClient, ImageClient
from diptych.errors import (
    ContentBlocked,
    DeadlineExceeded,
    DiptychError,
    MalformedResponse,
    OutcomeUnknown,
    QuotaExhausted,
    RateLimited,
    Unavailable,
)
from diptych.events import Event, Preview
from diptych.image import Image
from diptych.plan import Plan
from diptych.testing.peers import (
    OpenAIPeer,
    duplicated_events,
    flat_error_event,
    html,
    json_for_stream,
    nested_error_event,
    quota_exhausted,
    rate_limited,
    reset,
    shuffled_partials,
    silence,
    status,
    unknown_event,
    unterminated,
    wrong_base64,
)

MODEL = "gpt-image-2"


@pytest.mark.parametrize("fault", [None, duplicated_events(), shuffled_partials(), unknown_event()])
def test_a_stream_shows_each_preview_once_and_ends_with_the_picture(
    bench: Callable[..., Any], peer: OpenAIPeer, fault: Any
) -> None:
    if fault is not None:
        peer.fault(fault)
    made = bench(peer)
    *shown, result = made.events(made.plan(MODEL, previews=3).calls[0])
    assert sorted(each.index for each in shown if isinstance(each, Preview)) == [0, 1, 2]
    assert len(result.images) == 1
    assert result.cost.amount is not None
    assert peer.paid_posts == 1


@pytest.mark.parametrize("state", [None, {}])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (unterminated(), MalformedResponse),
        (html(), MalformedResponse),
        (wrong_base64(), MalformedResponse),
        (flat_error_event(), Unavailable),
        (nested_error_event(), Unavailable),
        (flat_error_event("rate_limit_exceeded"), RateLimited),
        (flat_error_event("moderation_blocked"), ContentBlocked),
        (nested_error_event("insufficient_quota", after=1), QuotaExhausted),
        (reset("middle"), OutcomeUnknown),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_streams_that_go_wrong(
    bench: Callable[..., Any],
    peer: OpenAIPeer,
    state: Any,
    fault: Any,
    kind: type[DiptychError],
) -> None:
    peer.fault(fault)
    made = bench(peer)
    error = made.fails(made.plan(MODEL, previews=2, state=state).calls[0], peer.key)
    assert type(error) is kind
    assert not getattr(error, "retryable", False)
    assert len(peer.requests) == 1


def test_json_in_place_of_a_stream_is_no_answer_to_an_images_call(
    bench: Callable[..., Any], peer: OpenAIPeer
) -> None:
    peer.fault(json_for_stream())
    made = bench(peer)
    error = made.fails(made.plan(MODEL, previews=1).calls[0])
    assert type(error) is MalformedResponse


def test_a_server_that_answers_at_once_has_its_picture_kept(
    bench: Callable[..., Any], peer: OpenAIPeer, picture: Callable[..., Image]
) -> None:
    text = picture().data_url().partition(",")[2]
    peer.fault(status(200, {"data": [{"b64_json": text}]}))
    made = bench(peer)
    result = made.run(made.plan(MODEL, previews=1).calls[0])
    assert result.images == (picture(),)
    assert [each.option for each in result.notices] == ["previews"]


def test_a_picture_that_came_before_the_stream_broke_is_not_lost(
    bench: Callable[..., Any], peer: OpenAIPeer
) -> None:
    honest = bench(peer)
    shown = honest.events(honest.plan(MODEL, state={}, previews=1).calls[0])
    assert shown
    # Everything up to and with the finished picture, then a reset.
    peer.fault(reset("middle", events=_events_until_the_picture(peer, honest)))
    made = bench(peer)
    result = made.run(made.plan(MODEL, state={}, previews=1).calls[0])
    assert len(result.images) == 1
    assert any("broke off" in each.message for each in result.notices)
    assert result.cost.amount is None


def _events_until_the_picture(peer: OpenAIPeer, made: Any) -> int:
    """How many events the peer sends up to the finished picture."""
    from diptych.testing.peers.faults import map_events

    counted: list[int] = []

    def count(events: Any) -> Any:
        counted.append(
            1
            + next(
                place
                for place, each in enumerate(events)
                if each.data.get("type") == "response.output_item.done"
                and each.data["item"].get("type") == "image_generation_call"
            )
        )
        return events

    peer.fault(map_events("count", count), times=1)
    made.events(made.plan(MODEL, state={}, previews=1).calls[0])
    return counted[0]


# Time


def test_a_picture_that_came_before_the_deadline_is_on_the_error(
    bench: Callable[..., Any], peer: OpenAIPeer
) -> None:
    peer.fault(silence("middle", events=_events_until_the_picture(peer, bench(peer))))
    with ImageClient(f"openai/{MODEL}", api_key=peer.key, base_url=peer.base_url) as client:
        chat = client.conversation()
        with pytest.raises(DeadlineExceeded) as caught:
            list(chat.stream("a fox", previews=1, timeout=2))
        assert chat.turns == ()
    partial = caught.value.partial
    assert partial is not None
    assert len(partial.images) == 1
    assert partial.cost.amount is None
    assert any("had not ended" in notice.message for notice in partial.notices)


async def watch(client: AsyncImageClient, plan: Plan) -> list[Event]:
    async with aclosing(client.stream(plan)) as events:
        return [event async for event in events]


@pytest.mark.parametrize("previews", [None, 2])
@pytest.mark.parametrize("at", ["start", "headers", "middle"])
def test_silence_ends_at_the_deadline_and_closes_the_connection(
    peer: OpenAIPeer, at: Any, previews: int | None
) -> None:
    peer.fault(silence(at))

    async def wait() -> None:
        async with AsyncImageClient(
            f"openai/{MODEL}", api_key=peer.key, base_url=peer.base_url, timeout=1.0
        ) as client:
            plan = client.plan("a fox", previews=previews)
            with pytest.raises(DeadlineExceeded) as caught:
                await watch(client, plan)
            assert caught.value.may_be_billed
            # Before the client is closed: the deadline alone has to let go of the connection.
            await asyncio.to_thread(peer.wait_until_idle)

    asyncio.run(wait())
    assert peer.paid_posts == 1


@pytest.mark.parametrize("at", ["start", "middle"])
def test_cancelling_closes_the_connection(peer: OpenAIPeer, at: Any) -> None:
    peer.fault(silence(at))

    async def cancel() -> None:
        async with AsyncImageClient(
            f"openai/{MODEL}", api_key=peer.key, base_url=peer.base_url
        ) as client:
            task = asyncio.ensure_future(client.generate("a fox"))
            await asyncio.to_thread(peer.wait_for, "generate")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(peer.wait_until_idle)

    asyncio.run(cancel())
    assert peer.paid_posts == 1


@pytest.mark.parametrize(
    ("fault", "posts"),
    [
        (rate_limited(0.01), 2),
        (status(503), 2),
        (status(500), 1),
        (quota_exhausted(), 1),
        (reset(), 1),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_only_what_was_not_accepted_is_sent_again(peer: OpenAIPeer, fault: Any, posts: int) -> None:
    peer.fault(fault, times=1)
    with ImageClient(f"openai/{MODEL}", api_key=peer.key, base_url=peer.base_url) as client:
        if posts == 2:
            assert len(client.generate("a fox").images) == 1
        else:
            with pytest.raises(DiptychError):
                client.generate("a fox")
    assert peer.count("generate") == posts
    assert peer.paid_posts == 1 or posts == 1
