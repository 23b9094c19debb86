"""Faults on demand. Each function makes one `Fault`; `peer.fault(...)` plants it.

    peer.fault(reset(), on="generate")             # the connection is reset before any byte
    peer.fault(status(503), times=1)               # the next answer is a 503
    peer.fault(rate_limited(2), on="submit")       # 429 with Retry-After: 2
    peer.fault(endless_picture())                  # a picture that never ends

A fault is a function from the honest answer to the wrong one. `accepted` tells whether the service
does the work first (and bills it): a reset after the POST arrived is accepted, a 429 is not. A
fault that cannot apply to an answer (say, a stream fault on plain JSON) lets it pass.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import format_datetime
from typing import Any, Literal

from .pictures import bomb, decode, encode
from .wire import Event, Reply, Request, dump

__all__ = [
    "Exchange",
    "Fault",
    "bomb_picture",
    "corrupt_picture",
    "drop",
    "empty_picture",
    "endless_picture",
    "foreign",
    "html",
    "missing",
    "other_picture",
    "picture",
    "rate_limited",
    "redirect",
    "reset",
    "silence",
    "status",
    "trickle",
    "truncated_json",
    "wrong_base64",
]

Point = Literal["start", "headers", "middle"]

HTML = (
    b"<!doctype html><html><head><title>Bad gateway</title></head><body>Bad gateway</body></html>"
)


@dataclass(frozen=True)
class Exchange:
    """What a fault works on: the request, the honest reply (None when the fault comes before the
    work is done), the origin of the stranger, and the error body of the service for a status."""

    request: Request
    reply: Reply | None
    stranger: str
    error_body: Callable[[int], Any]


@dataclass(frozen=True)
class Fault:
    """One way to go wrong. `on` are the kinds of requests that it is made for (empty: all)."""

    name: str
    answer: Callable[[Exchange], Reply | None]
    accepted: bool = True
    on: tuple[str, ...] = ()


def rewrite(
    name: str, change: Callable[[Reply], Reply | None], *, on: tuple[str, ...] = ()
) -> Fault:
    """A fault that changes the honest answer; `change` gives None where it does not apply."""

    def answer(exchange: Exchange) -> Reply | None:
        assert exchange.reply is not None
        return None if exchange.reply.status >= 400 else change(exchange.reply)

    return Fault(name, answer, on=on)


# The connection.


def _broken(name: str, at: Point, then: Literal["close", "reset", "hold"], events: int) -> Fault:
    def answer(exchange: Exchange) -> Reply:
        return replace(exchange.reply or Reply(), stop=at, then=then, events_sent=events)

    return Fault(name, answer)


def reset(at: Point = "start", *, events: int = 1) -> Fault:
    """A TCP reset: before the first byte, after the headers, or in the middle of the body.

    In a stream the middle is after `events` events, and always before the last one.
    """
    return _broken(f"reset at {at}", at, "reset", events)


def drop(at: Point = "start", *, events: int = 1) -> Fault:
    """The work is done (and billed), then the connection is closed in an orderly way."""
    return _broken(f"drop at {at}", at, "close", events)


def silence(at: Point = "start", *, events: int = 1) -> Fault:
    """Nothing more comes from `at` on, until the client leaves or the peer closes."""
    return _broken(f"silence at {at}", at, "hold", events)


def trickle(piece: int = 16, pause: float = 0.05) -> Fault:
    """The right answer in pieces of `piece` bytes with `pause` seconds between them."""
    return Fault(
        "trickle", lambda exchange: replace(exchange.reply or Reply(), piece=piece, pause=pause)
    )


# Statuses.


def status(
    code: int,
    body: Any = None,
    *,
    headers: Mapping[str, str] | None = None,
    accepted: bool = False,
) -> Fault:
    """An answer with this status. `body` is JSON, text or bytes; by default what the service
    itself sends with that status."""

    def answer(exchange: Exchange) -> Reply:
        more = dict(headers or {})
        if isinstance(body, (str, bytes)):
            raw = body.encode() if isinstance(body, str) else body
            kind = "text/html" if raw.lstrip().startswith(b"<") else "text/plain"
            return Reply(code, {"content-type": kind, **more}, body=raw)
        content = exchange.error_body(code) if body is None else body
        return Reply(code, more, data=content)

    return Fault(f"status {code}", answer, accepted=accepted)


def rate_limited(after: float | datetime | None = None, **headers: str) -> Fault:
    """429 with `Retry-After` in seconds (a number) or as an HTTP date (an aware datetime in UTC)."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(after, datetime):
        more["retry-after"] = format_datetime(after, usegmt=True)
    elif after is not None:
        more["retry-after"] = f"{after:g}"
    return status(429, headers=more)


def redirect(to: str | None = None, code: int = 307) -> Fault:
    """A redirect to the same path on `to`, by default on the stranger."""

    def answer(exchange: Exchange) -> Reply:
        target = (to or exchange.stranger) + exchange.request.path
        return Reply(code, {"location": target}, body=b"")

    return Fault(f"redirect {code}", answer, accepted=False)


# The content.


def html(code: int = 200) -> Fault:
    """A page of HTML where JSON was due, as a gateway sends it; with a 200 the work was done."""
    page = Reply(code, {"content-type": "text/html; charset=utf-8"}, body=HTML)
    return Fault(f"html {code}", lambda _: page, accepted=code < 400)


def truncated_json() -> Fault:
    """The first half of the document (of the last event in a stream), in a complete answer."""

    def change(reply: Reply) -> Reply | None:
        if reply.events:
            last = reply.events[-1]
            text = dump(last.data).decode()
            cut = Event(last.name, text[: len(text) // 2])
            return replace(reply, events=(*reply.events[:-1], cut))
        if reply.data is None:
            return None
        content = reply.content()
        return replace(
            reply,
            body=content[: len(content) // 2],
            data=None,
            headers={"content-type": "application/json", **reply.headers},
        )

    return rewrite("truncated JSON", change)


def missing(*names: str) -> Fault:
    """The fields of these names are left out, wherever they are in the document."""

    def prune(data: Any) -> Any:
        if isinstance(data, dict):
            return {key: prune(value) for key, value in data.items() if key not in names}
        return [prune(item) for item in data] if isinstance(data, list) else data

    return rewrite(f"missing {', '.join(names)}", lambda reply: map_documents(reply, prune))


def foreign(*names: str) -> Fault:
    """The URLs in the fields of these names ("status_url", "url", ...) point to the stranger."""

    def answer(exchange: Exchange) -> Reply | None:
        def move(data: Any) -> Any:
            if isinstance(data, dict):
                return {
                    key: exchange.stranger + "/" + value.split("/", 3)[3]
                    if key in names and isinstance(value, str) and value.startswith("http")
                    else move(value)
                    for key, value in data.items()
                }
            return [move(item) for item in data] if isinstance(data, list) else data

        reply = exchange.reply
        return None if reply is None or reply.status >= 400 else map_documents(reply, move)

    return Fault(f"foreign {', '.join(names)}", answer)


def map_documents(reply: Reply, change: Callable[[Any], Any]) -> Reply | None:
    """`change` applied to the JSON document, or to that of every event; None if all stay equal."""
    if reply.events is not None:
        events = tuple(Event(event.name, change(event.data)) for event in reply.events)
        return None if events == reply.events else replace(reply, events=events)
    if reply.data is None:
        return None
    data = change(reply.data)
    return None if data == reply.data else replace(reply, data=data, body=None)


# The pictures.


def map_base64(data: Any, change: Callable[[str], str]) -> Any:
    """`change` applied to every base64 picture of a document, data URLs included."""
    if isinstance(data, list):
        return [map_base64(item, change) for item in data]
    if not isinstance(data, dict):
        return data
    result: dict[str, Any] = {}
    for key, value in data.items():
        if key in ("b64_json", "partial_image_b64", "result") and isinstance(value, str):
            result[key] = change(value)
        elif key == "url" and isinstance(value, str) and value.startswith("data:"):
            head, _, text = value.partition(",")
            result[key] = f"{head},{change(text)}"
        else:
            result[key] = map_base64(value, change)
    return result


def wrong_base64() -> Fault:
    """Pictures in JSON are no base64. Pictures that are fetched as files are not touched."""
    return rewrite(
        "wrong base64",
        lambda reply: map_documents(reply, lambda d: map_base64(d, lambda t: "%%" + t[2:])),
    )


def _pictures(name: str, change: Callable[[bytes], bytes]) -> Fault:
    def recode(text: str) -> str:
        return base64.b64encode(change(base64.b64decode(text))).decode()

    def answer(reply: Reply) -> Reply | None:
        if reply.body is not None and _is_picture(reply):
            return replace(reply, body=change(reply.body))
        return map_documents(reply, lambda data: map_base64(data, recode))

    return rewrite(name, answer)


def _is_picture(reply: Reply) -> bool:
    return reply.headers.get("content-type", "").startswith("image/")


def picture(data: bytes) -> Fault:
    """These bytes instead of every picture; type and size are announced as before."""
    return _pictures("picture", lambda _: data)


def empty_picture() -> Fault:
    """No bytes at all where a picture was due."""
    return _pictures("empty picture", lambda _: b"")


def corrupt_picture() -> Fault:
    """The header of the right picture and half of its bytes."""
    return _pictures("corrupt picture", lambda data: data[: len(data) // 2])


def other_picture(form: str = "webp") -> Fault:
    """The right picture in another format than announced."""
    return _pictures(f"picture in {form}", lambda data: encode(decode(data), form))


def bomb_picture(side: int = 60_000) -> Fault:
    """A small PNG that claims side x side pixels: a decompression bomb."""
    return _pictures("picture bomb", lambda _: bomb(side))


def endless_picture() -> Fault:
    """The picture never ends; it is made as the client reads, so it costs no memory here."""
    mark = "QQQQendlessQQQQ="

    def filler(head: bytes, text: bytes) -> Callable[[], Iterator[bytes]]:
        def chunks() -> Iterator[bytes]:
            yield head
            while True:
                yield text

        return chunks

    def change(reply: Reply) -> Reply | None:
        if reply.body is not None and _is_picture(reply):
            chunks = filler(reply.body, b"\0" * 65536)
            return Reply(headers=reply.headers, chunks=chunks)
        marked = map_documents(reply, lambda data: map_base64(data, lambda _: mark))
        if marked is None:
            return None
        head = marked.content().partition(mark.encode())[0]
        kind = {"content-type": reply.content_type(), **reply.headers}
        return Reply(headers=kind, chunks=filler(head, b"QUJD" * 16384))

    return rewrite("endless picture", change)


def map_events(name: str, change: Callable[[tuple[Event, ...]], Iterable[Event] | None]) -> Fault:
    """A fault on streams alone: `change` gives the new events, or None where it cannot apply."""

    def answer(reply: Reply) -> Reply | None:
        if reply.events is None:
            return None
        events = change(reply.events)
        return None if events is None else replace(reply, events=tuple(events))

    return rewrite(name, answer)
