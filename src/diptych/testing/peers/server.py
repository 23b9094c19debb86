"""The core that every loopback peer shares: a real socket, a record of what came, and faults.

A peer runs an asyncio server in a thread of its own, so it serves sync and async tests alike.
Leaving the `with` block closes every connection and joins the thread.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from .faults import Exchange, Fault
from .wire import MAX_HEAD, Reply, Request, read_request, write_reply

__all__ = ["On", "Peer", "Planted", "Stranger"]

On = str | Iterable[str] | Callable[[Request], bool] | None
"""Which requests a fault meets: a kind ("generate"), a path ("/v1/..."), several, a test, all."""

CREDENTIAL_HEADERS = ("authorization", "api-key", "x-api-key", "cookie")


class Planted:
    """A fault that waits for its requests; `hits` counts how often it struck."""

    def __init__(self, fault: Fault, on: On, times: int | None, after: int) -> None:
        self.fault = fault
        self.times = times
        self.after = after
        self.hits = 0
        self._on = on if on is None or isinstance(on, str) or callable(on) else tuple(on)

    def __repr__(self) -> str:
        return f"Planted({self.fault.name!r}, hits={self.hits})"

    def meets(self, request: Request) -> bool:
        if self.times is not None and self.hits >= self.times:
            return False
        on = self._on
        if on is None:
            return not self.fault.on or request.kind in self.fault.on
        if callable(on):
            return on(request)
        wanted = (on,) if isinstance(on, str) else on
        return request.kind in wanted or request.path in wanted


class Stranger:
    """A second listener under another host name that writes down what reaches it.

    It answers as the peer itself would, so a client that follows a foreign link gets what it came
    for; `saw_credentials` then tells whether a key was carried there.
    """

    def __init__(self, origin: str, key: str) -> None:
        self.origin = origin
        self.requests: list[Request] = []
        self._key = key

    @property
    def saw_credentials(self) -> bool:
        """Whether a request carried an authorization header, or the key anywhere in it."""
        return any(
            any(name in request.headers for name in CREDENTIAL_HEADERS)
            or any(self._key in value for value in request.headers.values())
            or any(self._key in value for value in request.query.values())
            or self._key.encode() in request.body
            for request in self.requests
        )


class Peer(ABC):
    """Base of the peers; a subclass classifies requests and answers them.

    `key` is the only API key that is accepted. `delay` is the number of seconds that a paid
    request takes, `pace` the seconds between two server-sent events. With `tls=True` the origin
    is https and `ca_file` is the PEM file to trust (needs the package `trustme`). `record=False`
    keeps no requests, for benchmarks.
    """

    paid: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        *,
        key: str = "test-key",
        delay: float = 0.0,
        pace: float = 0.0,
        tls: bool = False,
        record: bool = True,
    ) -> None:
        self.key = key
        self.delay = delay
        self.pace = pace
        self.tls = tls
        self.record = record
        self.requests: list[Request] = []
        self.paid_posts = 0
        self.connections = 0
        self.open_connections = 0
        self.web: dict[str, bytes] = {}
        self.origin = ""
        self.ca_file: Path | None = None
        self._planted: list[Planted] = []
        self._stranger: Stranger | None = None
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._context: ssl.SSLContext | None = None

    @property
    def base_url(self) -> str:
        """What a client is given as its base URL."""
        return self.origin

    # What a subclass provides.

    @abstractmethod
    def classify(self, request: Request) -> str:
        """The kind of a request, as `fault(on=...)` and `count` name it."""

    @abstractmethod
    def respond(self, request: Request) -> Reply:
        """The honest answer. Runs in the peer's own thread, one request at a time."""

    @abstractmethod
    def error_body(self, status: int) -> Any:
        """The JSON that the real service sends with this status."""

    def seconds(self, request: Request) -> float:
        """How long the answer to this request takes."""
        return self.delay if request.kind in self.paid else 0.0

    # Life cycle.

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Listen on a free port of 127.0.0.1. Done by `with`."""
        if self.tls:
            self._context, self.ca_file = _certificate()
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name=f"{type(self).__name__}", daemon=True
        )
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise RuntimeError(f"{type(self).__name__} could not start") from self._failure

    def close(self) -> None:
        """Close every connection, stop listening and end the thread. Done by `with`."""
        loop, stop, thread = self._loop, self._stop, self._thread
        if loop is not None and stop is not None and thread is not None and thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
            thread.join()
        self._thread = None
        if self.ca_file is not None:
            self.ca_file.unlink(missing_ok=True)
        if self._failure is not None:
            raise RuntimeError(f"{type(self).__name__} itself failed") from self._failure

    # What a test asks.

    def fault(
        self, fault: Fault, *, on: On = None, times: int | None = None, after: int = 0
    ) -> Planted:
        """Plant a fault.

        It meets the requests that `on` names (by default those that the fault is made for, else
        all), from the one after the first `after` of them, at most `times` times (None: always).
        The first planted fault that applies to a request wins.
        """
        planted = Planted(fault, on, times, after)
        _ = self.stranger  # its listener must be there before the loop needs its address
        self._planted.append(planted)
        return planted

    def clear(self) -> None:
        """Take back every planted fault."""
        self._planted.clear()

    def count(self, *kinds: str) -> int:
        """How many requests of these kinds came, or how many at all."""
        return sum(1 for request in self.requests if not kinds or request.kind in kinds)

    def last(self, *kinds: str) -> Request:
        """The latest request of these kinds; LookupError when there was none."""
        for request in reversed(self.requests):
            if not kinds or request.kind in kinds:
                return request
        raise LookupError(f"no request of kind {' or '.join(kinds) or 'any'} came")

    def wait_for(self, *kinds: str, count: int = 1, timeout: float = 10.0) -> None:
        """Block until `count` requests of these kinds have come; TimeoutError after `timeout` s."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.count(*kinds) >= count, timeout):
                raise TimeoutError(
                    f"{self.count(*kinds)} of {count} requests of kind {kinds} came in {timeout} s"
                )

    def wait_until_idle(self, timeout: float = 10.0) -> None:
        """Block until no connection is open; TimeoutError after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.open_connections == 0, timeout):
                raise TimeoutError(
                    f"{self.open_connections} connections are open after {timeout} s"
                )

    @property
    def stranger(self) -> Stranger:
        """The listener under another host name; it is started when first asked for."""
        if self._stranger is None:
            if self._loop is None:
                raise RuntimeError("the peer is not running; use it in a with block")
            work = asyncio.run_coroutine_threadsafe(self._listen(foreign=True), self._loop)
            scheme = "https" if self.tls else "http"
            self._stranger = Stranger(f"{scheme}://localhost:{work.result()}", self.key)
        return self._stranger

    # Inside the thread.

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._main(ready))
        except BaseException as error:
            self._failure = error
        finally:
            ready.set()

    async def _main(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        port = await self._listen(foreign=False)
        self.origin = f"{'https' if self.tls else 'http'}://127.0.0.1:{port}"
        ready.set()
        await self._stop.wait()
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # aborted transports close their sockets in the next round
        for server in self._servers:
            await server.wait_closed()

    async def _listen(self, *, foreign: bool) -> int:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._converse(reader, writer, foreign))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        server = await asyncio.start_server(
            accept, "127.0.0.1", 0, limit=MAX_HEAD, ssl=self._context, backlog=512
        )
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, foreign: bool
    ) -> None:
        if not foreign:
            self.connections += 1
            self.open_connections += 1
        number = self.connections
        carrier = writer.get_extra_info("socket")
        carrier.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while request := await read_request(reader, writer):
                request.connection = number
                request.foreign = foreign
                if not await self._exchange(request, reader, writer):
                    break
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, EOFError, ssl.SSLError, ValueError, asyncio.LimitOverrunError):
            pass  # the client left, or spoke something that is not HTTP
        finally:
            writer.transport.abort()
            with self._changed:
                self.open_connections -= not foreign
                self._changed.notify_all()

    async def _exchange(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        request.kind = self.classify(request)
        self._write_down(request)
        try:
            reply = self._answer(request)
        except Exception as error:  # a fault of the peer itself: told when the peer closes
            self._failure = self._failure or error
            reply = Reply(500, data={"error": {"message": f"the peer itself failed: {error!r}"}})
        request.status = reply.status
        if seconds := self.seconds(request):
            await asyncio.sleep(seconds)
        if await write_reply(reply, writer, pace=self.pace):
            return request.headers.get("connection", "").lower() != "close"
        if reply.then == "reset":
            carrier = writer.get_extra_info("socket")
            # Zero linger makes the close a reset; what was sent before it is on its way already.
            carrier.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        elif reply.then == "hold":
            while await reader.read(65536):
                pass
        return False

    def _write_down(self, request: Request) -> None:
        if not self.record:
            return
        with self._changed:
            if request.foreign:
                self.stranger.requests.append(request)
            else:
                self.requests.append(request)
            self._changed.notify_all()

    def _answer(self, request: Request) -> Reply:
        if request.foreign:
            return self.respond(request)
        honest: Reply | None = None
        for planted in self._planted:
            if not planted.meets(request):
                continue
            if planted.after > 0:
                planted.after -= 1
                continue
            fault = planted.fault
            if fault.accepted and honest is None:
                honest = self._honest(request)
            exchange = Exchange(
                request, honest if fault.accepted else None, self.stranger.origin, self.error_body
            )
            wrong = fault.answer(exchange)
            if wrong is not None:
                planted.hits += 1
                request.fault = fault.name
                return wrong
        return honest if honest is not None else self._honest(request)

    def _honest(self, request: Request) -> Reply:
        reply = self.respond(request)
        if request.kind in self.paid and reply.status < 400:
            self.paid_posts += 1
        return reply


def _certificate() -> tuple[ssl.SSLContext, Path]:
    """A TLS context for 127.0.0.1 and localhost, and the file of the authority that signed it."""
    try:
        import trustme
    except ImportError as error:
        raise ImportError("tls=True needs trustme: pip install trustme") from error
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    with tempfile.NamedTemporaryFile(suffix=".pem", delete=False) as file:
        file.write(authority.cert_pem.bytes())
    return context, Path(file.name)
