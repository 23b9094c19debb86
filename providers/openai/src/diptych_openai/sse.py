"""Server-sent events from bytes: the data of each event, and no more bytes than allowed.

The SDK's own decoder holds an event of any size; a picture that never ends would fill the memory.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator

__all__ = ["data_of_events"]

_LINE_END = re.compile(rb"\r\n|\n|\r")
_DONE = b"[DONE]"


async def data_of_events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The data of each event in `chunks`, its lines joined by line breaks, until `[DONE]`.

    Source: WHATWG HTML, section 9.2.6. An event that the end of the stream cuts off is given as far
    as it came, so that its reader can say that it is not whole.
    """
    data: list[bytes] = []
    async for line in _lines(chunks):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            whole = b"\n".join(data)
            data.clear()
            if whole.startswith(_DONE):
                return
            yield whole
    if data:
        yield b"\n".join(data)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines without their ends. The parts of a long line are joined once, when it is complete."""
    parts: list[bytes] = []
    held = b""
    async for chunk in chunks:
        text = held + chunk
        # A line feed that ends with the chunk's carriage return may come in the next chunk.
        held = text[-1:] if text.endswith(b"\r") else b""
        first, *more = _LINE_END.split(text[: len(text) - len(held)])
        parts.append(first)
        for line in more:
            yield b"".join(parts)
            parts = [line]
    yield b"".join(parts)
