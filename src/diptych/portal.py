"""The one background event loop that sync clients run on.

A thread of our own and not a pool's: pools are joined when the interpreter exits, so a client that
nobody closed would keep the process alive. This thread is a daemon and ends with the last client.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["Portal"]

T = TypeVar("T")


class Portal:
    """Counts its users; the loop runs while there is at least one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._last_words: set[asyncio.Task[None]] = set()

    def acquire(self) -> None:
        """Register a user; starts the loop for the first one."""
        with self._lock:
            self._users += 1
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name="diptych", daemon=True
                )
                self._thread.start()

    def release(self) -> None:
        """Unregister a user; ends the loop after the last one."""
        with self._lock:
            self._users -= 1
            if self._users or self._loop is None or self._thread is None:
                return
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` on the loop and wait. An interrupt of the waiting thread cancels it."""
        loop = self._loop
        if loop is None or threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError(
                "the client is closed"
                if loop is None
                else "a sync client was called from its own loop"
            )
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def finish(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """As `call`, from any thread: a finalizer may run in the loop's own, which cannot wait."""
        if threading.current_thread() is self._thread and self._loop is not None:
            self._last_words.add(task := self._loop.create_task(coroutine))
            task.add_done_callback(self._last_words.discard)
        else:
            self.call(coroutine)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        if pending:
            loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


PORTAL = Portal()


def _after_fork() -> None:
    """A forked child has the loop but not its thread: start afresh."""
    global PORTAL
    PORTAL = Portal()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
