"""HTTP/1.1 as the peers speak it: requests are parsed, replies are described and then written.

Only what API clients use: content-length and chunked bodies, keep-alive, JSON, multipart forms
and server-sent events. A `Reply` also says how it goes wrong on the wire (`stop`, `then`), so that
a fault is a reply like any other.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["Event", "Reply", "Request", "Seen", "Stop", "Then", "Upload"]

Stop = Literal["never", "start", "headers", "middle"]
"""Where an answer breaks off: never, before its first byte, after its headers, in its body."""

Then = Literal["close", "reset", "hold"]
"""What follows: an orderly FIN, a TCP reset, or silence until the client or the peer closes."""

MAX_BODY = 512 * 1024 * 1024
MAX_HEAD = 256 * 1024


@dataclass(frozen=True)
class Upload:
    """One file of a multipart form: the field it came in, its name, its type and its bytes."""

    field: str
    filename: str
    content_type: str
    data: bytes = attribute(repr=False)


@dataclass(frozen=True)
class Seen:
    """What the service understood of the pictures in a request.

    `sources` are the sizes (width, height) of the input pictures, the edited one first. `change`
    is the share of the mask (0..1) that the service will repaint by its own polarity and
    `change_box` its bounding box (left, top, right, bottom); both are None without a mask, or
    where the polarity is not documented. `white` is the share of white in a luminance mask.
    """

    prompt: str
    action: Literal["generate", "edit"] = "generate"
    sources: tuple[tuple[int, int], ...] = ()
    change: float | None = None
    change_box: tuple[int, int, int, int] | None = None
    white: float | None = None


@dataclass
class Request:
    """One request as it arrived. Header names are lower case; header values stay out of `repr`."""

    method: str
    path: str
    query: dict[str, str] = attribute(default_factory=dict)
    headers: dict[str, str] = attribute(default_factory=dict, repr=False)
    body: bytes = attribute(default=b"", repr=False)
    json: Any = attribute(default=None, repr=False)
    form: dict[str, str] = attribute(default_factory=dict, repr=False)
    files: tuple[Upload, ...] = ()
    kind: str = ""
    connection: int = 0
    seen: Seen | None = None
    status: int | None = None
    fault: str | None = None
    foreign: bool = False

    def upload(self, *names: str) -> bytes | None:
        """The bytes of the first file whose field is one of `names`, or None."""
        return next((file.data for file in self.files if file.field in names), None)


@dataclass(frozen=True)
class Event:
    """One server-sent event; `data` is JSON, or text that goes out as it is."""

    name: str | None
    data: Any

    def encoded(self) -> bytes:
        text = self.data if isinstance(self.data, str) else dump(self.data).decode()
        head = f"event: {self.name}\n" if self.name else ""
        return f"{head}data: {text}\n\n".encode()


@dataclass(frozen=True)
class Reply:
    """An answer: one of `data` (JSON), `body`, `events` or `chunks` is its content. With both
    `data` and `body`, the body is that document, already encoded.

    `chunks` makes the pieces of a body of unknown, perhaps endless, length. With `stop` the
    answer breaks off there (after `events_sent` events or half of the bytes in the middle) and
    `then` follows. `piece` and `pause` send the body in pieces of that many bytes with so many
    seconds between them.
    """

    status: int = 200
    headers: Mapping[str, str] = attribute(default_factory=dict)
    data: Any = None
    body: bytes | None = None
    events: tuple[Event, ...] | None = None
    chunks: Callable[[], Iterator[bytes]] | None = None
    stop: Stop = "never"
    then: Then = "close"
    events_sent: int = 1
    piece: int = 0
    pause: float = 0.0

    def content(self) -> bytes:
        """The whole body as bytes; `chunks` have none."""
        if self.events is not None:
            return b"".join(event.encoded() for event in self.events)
        return dump(self.data) if self.body is None else self.body

    def content_type(self) -> str:
        if self.events is not None:
            return "text/event-stream; charset=utf-8"
        return "application/json"

    def with_headers(self, **headers: str) -> Reply:
        """The same reply with more headers; underscores in names become hyphens."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **more})


def dump(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Request | None:
    """The next request of a connection, or None when the client closed it between requests."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        key = name.strip().lower()
        value = value.strip()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = await _read_chunked(reader)
    else:
        length = int(headers.get("content-length", "0"))
        if length > MAX_BODY:
            raise ValueError(f"a body of {length} bytes is over the peer's limit of {MAX_BODY}")
        body = await reader.readexactly(length) if length else b""
    url = urlsplit(target)
    request = Request(
        method=method,
        path=unquote(url.path),
        query=dict(parse_qsl(url.query, keep_blank_values=True)) if url.query else {},
        headers=headers,
        body=body,
    )
    _parse_content(request)
    return request


async def _read_chunked(reader: asyncio.StreamReader) -> bytes:
    pieces = bytearray()
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        if len(pieces) + size > MAX_BODY:
            raise ValueError(f"a chunked body is over the peer's limit of {MAX_BODY}")
        pieces += await reader.readexactly(size)
        await reader.readuntil(b"\r\n")
        if not size:
            return bytes(pieces)


def _parse_content(request: Request) -> None:
    kind = request.headers.get("content-type", "")
    if kind.startswith("application/json"):
        try:
            request.json = json.loads(request.body) if request.body else None
        except ValueError:
            request.json = None
    elif kind.startswith("multipart/form-data"):
        request.form, request.files = parse_multipart(request.body, kind)


def parse_multipart(body: bytes, content_type: str) -> tuple[dict[str, str], tuple[Upload, ...]]:
    """The text fields and the files of a multipart form. A field without a file name is text."""
    boundary = _parameter(content_type, "boundary").encode()
    form: dict[str, str] = {}
    files: list[Upload] = []
    # The preamble counts as empty; the last part is the closing "--".
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
        head, _, data = part[2:].partition(b"\r\n\r\n")
        fields = {}
        for line in head.decode("utf-8", "replace").split("\r\n"):
            name, _, value = line.partition(":")
            fields[name.strip().lower()] = value.strip()
        disposition = fields.get("content-disposition", "")
        name = _parameter(disposition, "name")
        if "filename" in disposition:
            kind = fields.get("content-type", "application/octet-stream")
            files.append(Upload(name, _parameter(disposition, "filename"), kind, data))
        else:
            form[name] = data.decode("utf-8", "replace")
    return form, tuple(files)


def _parameter(header: str, name: str) -> str:
    for item in header.split(";")[1:]:
        key, _, value = item.strip().partition("=")
        if key.lower() == name:
            return value.strip('"')
    return ""


async def write_reply(reply: Reply, writer: asyncio.StreamWriter, *, pace: float = 0.0) -> bool:
    """Write `reply` as far as it goes; True when it went out whole.

    `pace` is the number of seconds between two server-sent events.
    """
    if reply.stop == "start":
        return False
    chunked = reply.events is not None or reply.chunks is not None
    content = b"" if chunked else reply.content()
    headers = {
        "date": formatdate(usegmt=True),
        "content-type": reply.content_type(),
        "connection": "keep-alive",
        **{name.lower(): value for name, value in reply.headers.items()},
    }
    if chunked:
        headers["transfer-encoding"] = "chunked"
    else:
        headers["content-length"] = str(len(content))
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {reply.status} {phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    if reply.stop == "headers":
        writer.write(head)
        await writer.drain()
        return False
    if not chunked:
        return await _write_body(reply, writer, head, content)
    writer.write(head)
    await writer.drain()
    pieces = _pieces(reply)
    for index, piece in enumerate(pieces):
        if index and pace:
            await asyncio.sleep(pace)
        for start in range(0, len(piece), reply.piece or len(piece) or 1):
            part = piece[start : start + (reply.piece or len(piece))]
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            await writer.drain()
            if reply.pause:
                await asyncio.sleep(reply.pause)
    if reply.stop == "middle":
        return False
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


def _pieces(reply: Reply) -> Iterator[bytes]:
    if reply.events is None:
        assert reply.chunks is not None
        yield from reply.chunks()
        return
    events = reply.events
    if reply.stop == "middle":
        # The last event ends a stream, so a stream that breaks off never gets so far.
        events = events[: min(reply.events_sent, len(events) - 1)]
    for event in events:
        yield event.encoded()


async def _write_body(
    reply: Reply, writer: asyncio.StreamWriter, head: bytes, content: bytes
) -> bool:
    whole = reply.stop != "middle"
    if not whole:
        content = content[: len(content) // 2]
    if not reply.piece:
        # Large bodies are written apart, so that they are not copied once more.
        writer.writelines((head, content)) if len(content) < 65536 else writer.write(head)
        if len(content) >= 65536:
            writer.write(content)
        await writer.drain()
        return whole
    writer.write(head)
    for start in range(0, len(content), reply.piece):
        writer.write(content[start : start + reply.piece])
        await writer.drain()
        await asyncio.sleep(reply.pause)
    return whole
