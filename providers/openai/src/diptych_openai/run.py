"""Running one call: send it once, read what comes, end with an `Outcome` or a diptych error."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

from diptych.download import is_public
from diptych.errors import DiptychError
from diptych.events import Preview, TextDelta
from diptych.image import Image
from diptych.notices import Notice
from diptych.plan import Call
from diptych.pricing import Pricing
from diptych.provider import Outcome, RunContext

from .answers import Reader
from .errors import translate, vendor_errors
from .pictures import loaded
from .sse import data_of_events
from .streams import ImagesStream, TurnStream
from .transport import Reply, Transport
from .turns import TURN

__all__ = ["run"]

Event = Preview | TextDelta | Outcome


async def run(
    call: Call, context: RunContext, transport: Transport, price: Pricing | None
) -> AsyncGenerator[Event, None]:
    """As `Provider.run`."""
    reader = Reader(call, transport.origin, price)
    failure: DiptychError | None = None
    try:
        async with aclosing(_exchange(call, context, transport, reader)) as events:
            async for event in events:
                yield event
    except vendor_errors() as error:
        failure = translate(error, transport.origin, request_id=reader.request_id)
    if failure is not None:
        raise failure


async def _exchange(
    call: Call, context: RunContext, transport: Transport, reader: Reader
) -> AsyncGenerator[Event, None]:
    notices: list[Notice] = []
    payload = await loaded(call.payload, context, notices)
    context.sent()
    async with transport.send(call, payload) as reply:
        reader.request_id = reply.request_id
        if not reply.content_type.startswith("text/event-stream"):
            body = reader.parsed(await reply.body(), reply.content_type)
            if payload.get("stream"):
                told = "the server answered at once, without streaming"
                notices.append(Notice("mismatch", told, "previews"))
            pictures: dict[str, Image] = {}
        else:
            kind = TurnStream if call.operation == TURN else ImagesStream
            stream = kind(reader, watched=context.streaming)
            async with aclosing(_watched(stream, reply, transport)) as shown:
                async for event in shown:
                    yield event
            body, pictures = stream.body(), stream.pictures
            notices += stream.notices
    pictures |= await _linked(body, context, transport, reader)
    yield reader.outcome(body, tuple(notices), pictures)


async def _watched(
    stream: ImagesStream | TurnStream, reply: Reply, transport: Transport
) -> AsyncGenerator[Event, None]:
    """Feed `stream` until it is finished; what there is to show, or to keep, on the way."""
    from jiter import from_json

    failure: DiptychError | None = None
    try:
        async with aclosing(data_of_events(reply.chunks())) as events:
            async for data in events:
                had = len(stream.pictures)
                for each in stream.feed(from_json(data, cache_mode="keys")):
                    yield each
                if stream.finished:
                    return
                if len(stream.pictures) > had:
                    yield stream.so_far()
    except vendor_errors() as error:
        failure = translate(error, transport.origin, request_id=reply.request_id)
    except ValueError:
        failure = stream.reader.broken("sent an event that is not JSON")
    if failure is not None:
        stream.lost(failure)
    stream.ended()


async def _linked(
    body: dict[str, Any], context: RunContext, transport: Transport, reader: Reader
) -> dict[str, Image]:
    """The pictures that came by URL, from servers that do so: fetched without the key."""
    items = body.get("data")
    found: dict[str, Image] = {}
    for item in items if isinstance(items, list) else ():
        url = item.get("url") if isinstance(item, dict) and not item.get("b64_json") else None
        if not isinstance(url, str):
            continue
        if not url.startswith("data:") and not await _permitted(url, transport.base_url):
            host = urlsplit(url).netloc.rpartition("@")[2]
            raise reader.broken(f"sent a picture by a link to {host!r}, which is not public https")
        try:
            link = Image.of(url)
            found[url] = await context.retry(lambda link=link: context.load(link))  # type: ignore[misc]  # bound here
        except DiptychError as error:
            failure = reader.broken(f"sent a picture by a link that cannot be used: {error}")
        else:
            continue
        raise failure
    return found


async def _permitted(url: str, base_url: str) -> bool:
    """Whether the link leads to the server itself, or to a public host by https, without a user."""
    parts, base = urlsplit(url), urlsplit(base_url)
    if parts.username is not None or parts.hostname is None:
        return False
    if (parts.scheme, parts.netloc) == (base.scheme, base.netloc):
        return True
    return parts.scheme == "https" and await is_public(parts.hostname)
