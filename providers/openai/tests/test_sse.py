"""Server-sent events out of bytes, however the network cuts them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from diptych_openai.sse import data_of_events
from hypothesis import given
from hypothesis import strategies as st

EVENTS = [b'{"type":"a"}', b"two\nlines", "süß".encode(), b""]


def decoded(chunks: list[bytes]) -> list[bytes]:
    async def feed() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def collect() -> list[bytes]:
        return [data async for data in data_of_events(feed())]

    return asyncio.run(collect())


def encoded(events: list[bytes], end: bytes) -> bytes:
    """What a server sends, with names and comments that no reader needs."""
    sent = b": hello" + end + end
    for data in events:
        lines = b"".join(b"data: " + line + end for line in data.split(b"\n"))
        sent += b"event: some.name" + end + lines + end
    return sent


@given(end=st.sampled_from([b"\n", b"\r\n", b"\r"]), cuts=st.lists(st.integers(0, 150)))
def test_every_cut_gives_the_same_events(end: bytes, cuts: list[int]) -> None:
    sent = encoded(EVENTS, end)
    places = [0, *sorted(cuts), len(sent)]
    chunks = [sent[a:b] for a, b in pairwise(places)]
    assert decoded(chunks) == EVENTS


def test_nothing_after_done_is_read() -> None:
    assert decoded([b"data: 1\n\ndata: [DONE]\n\ndata: 2\n\n"]) == [b"1"]


@pytest.mark.parametrize("sent", [b'data: {"half', b'data: {"half\n'])
def test_an_event_that_was_cut_off_is_not_swallowed(sent: bytes) -> None:
    assert decoded([sent]) == [b'{"half']


def test_a_space_after_the_colon_is_optional_and_only_one() -> None:
    assert decoded([b"data:x\n\ndata:  y\n\n"]) == [b"x", b" y"]
