"""Connections for the vendor's HTTP client, straight on asyncio.

By default it goes through a layer that also serves other kinds of loops, which costs about a tenth of
the time of a small request. Where a proxy is set up the default stays: this knows none.
"""

from __future__ import annotations

import asyncio
import select
import ssl
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import getproxies

import httpcore2
import httpx2

__all__ = ["transport"]

_LIMIT = 2**20
"""Bytes that are read ahead of whoever wants them."""


def transport() -> httpx2.AsyncHTTPTransport | None:
    """A transport on connections of our own; None where the default one is needed."""
    return None if getproxies() else _Transport()


class _Transport(httpx2.AsyncHTTPTransport):
    def __init__(self) -> None:
        context = httpx2.create_ssl_context()
        super().__init__(verify=context)
        # It takes no backend itself. Were the name to change, its own pool would go on serving.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            max_connections=1000,  # as the vendor's SDK has it
            max_keepalive_connections=100,
            keepalive_expiry=5.0,
            network_backend=_Network(),
        )


class _Network(httpcore2.AsyncNetworkBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        local = None if local_address is None else (local_address, 0)
        with _told(httpcore2.ConnectError, httpcore2.ConnectTimeout):
            async with asyncio.timeout(timeout):
                connected, protocol = await loop.create_connection(
                    _Protocol, host, port, local_addr=local, happy_eyeballs_delay=0.25
                )
        for option in socket_options or ():
            connected.get_extra_info("socket").setsockopt(*option)
        return _Stream(connected, protocol)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Protocol(asyncio.Protocol):
    """What has come and was not read yet, and whether more can be sent."""

    def __init__(self) -> None:
        self.source: asyncio.Transport | None = None
        self.chunks: deque[memoryview] = deque()
        self.ahead = 0
        self.ended = False
        self.failure: Exception | None = None
        self.paused = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        self.chunks.append(memoryview(data))
        self.ahead += len(data)
        if self.ahead > _LIMIT and self.source is not None:
            self.source.pause_reading()
        self._wake(self._reader)

    def eof_received(self) -> bool:
        self.ended = True
        self._wake(self._reader)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended, self.failure, self.paused = True, exc, False
        self._wake(self._reader)
        self._wake(self._writer)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._wake(self._writer)

    @staticmethod
    def _wake(waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def readable(self) -> None:
        """Wait until something has come, or nothing more will."""
        while not self.chunks and not self.ended:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader

    async def writable(self) -> None:
        """Wait until what was written has left, but for a little."""
        while self.paused:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    def take(self, most: int) -> bytes:
        """At most `most` bytes of what has come."""
        first = self.chunks[0]
        if len(first) > most:
            self.chunks[0], first = first[most:], first[:most]
        else:
            self.chunks.popleft()
        self.ahead -= len(first)
        if self.ahead <= _LIMIT < self.ahead + len(first) and self.source is not None:
            self.source.resume_reading()
        return bytes(first)


class _Stream(httpcore2.AsyncNetworkStream):
    def __init__(self, connected: asyncio.Transport, protocol: _Protocol) -> None:
        self._transport = protocol.source = connected
        self._protocol = protocol

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        protocol = self._protocol
        with _told(httpcore2.ReadError, httpcore2.ReadTimeout):
            if timeout is None:
                await protocol.readable()
            else:
                async with asyncio.timeout(timeout):
                    await protocol.readable()
            if not protocol.chunks:
                if protocol.failure is not None:
                    raise protocol.failure
                return b""
        return protocol.take(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        protocol = self._protocol
        with _told(httpcore2.WriteError, httpcore2.WriteTimeout):
            if self._transport.is_closing():
                raise protocol.failure or ConnectionResetError("the connection was closed")
            self._transport.write(buffer)
            if not protocol.paused:
                return
            async with asyncio.timeout(timeout):
                await protocol.writable()
            if protocol.failure is not None:
                raise protocol.failure

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        with _told(httpcore2.ConnectError, httpcore2.ConnectTimeout):
            try:
                async with asyncio.timeout(timeout):
                    secured = await loop.start_tls(
                        self._transport,
                        self._protocol,
                        ssl_context,
                        server_hostname=server_hostname,
                    )
            except BaseException:
                await self.aclose()
                raise
        assert secured is not None
        return _Stream(secured, self._protocol)

    async def aclose(self) -> None:
        self._transport.abort()  # what should be read was read; TLS would wait for the peer's farewell
        await asyncio.sleep(0)  # the socket is closed in the next round

    def get_extra_info(self, info: str) -> Any:
        names = {"client_addr": "sockname", "server_addr": "peername"}
        if info == "is_readable":
            return self._protocol.ended or bool(self._protocol.chunks) or self._at_hand()
        return self._transport.get_extra_info(names.get(info, info))

    def _at_hand(self) -> bool:
        """Whether the socket has something that the loop, which may have stood still, has not seen."""
        number = self._transport.get_extra_info("socket").fileno()
        if number < 0:
            return True
        if sys.platform == "win32":
            return bool(select.select([number], [], [], 0)[0])
        poll = select.poll()
        poll.register(number, select.POLLIN)
        return bool(poll.poll(0))


@contextmanager
def _told(lost: type[Exception], late: type[Exception]) -> Iterator[None]:
    """What the system raises, as what the vendor's HTTP client expects."""
    try:
        yield
    except TimeoutError as error:
        raise late(str(error)) from error
    except (OSError, EOFError) as error:
        raise lost(str(error)) from error
