"""Jobs: work that goes on while the caller does something else, or after the caller is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Literal

from .engine import Run
from .errors import Cancelled, DeadlineExceeded
from .events import Completed, Event
from .result import Result

__all__ = ["AsyncJob", "Status"]

Status = Literal["running", "completed", "failed", "cancelled"]


class AsyncJob:
    """A submitted request. Made by `AsyncImageClient.submit` and `resume`.

    The work goes on whether or not anybody waits. Events are kept, so every iterator of `events()`
    sees all of them.
    """

    def __init__(self, run: Run, work: Callable[[], Awaitable[Result]]) -> None:
        self._run = run
        self._events: list[Event] = []
        self._news = asyncio.Event()
        self._cancelled = False
        run.listen(self._happened, accepted=self._wake)
        self._task = asyncio.ensure_future(work())
        self._task.add_done_callback(self._ended)

    @property
    def handle(self) -> str | None:
        """A string without secrets for `client.resume`, in any process.

        None until the provider has accepted the job, and always for a provider that keeps no jobs.
        """
        return self._run.handle

    def status(self) -> Status:
        """Where the job is, as far as this process knows; asks nobody."""
        if not self._task.done():
            return "running"
        if self._cancelled or self._task.cancelled():
            return "cancelled"
        return "completed" if self._task.exception() is None else "failed"

    async def events(self) -> AsyncGenerator[Event, None]:
        """Every event from the first on; ends with `Completed`, or raises what the job raised."""
        seen = 0
        while True:
            news = self._news
            while seen < len(self._events):
                yield self._events[seen]
                seen += 1
            if self._task.done():
                yield Completed(await self.result())
                return
            await news.wait()

    async def result(self, timeout: float | None = None) -> Result:
        """The result, waiting at most `timeout` seconds (None: until the job's own deadline).

        Raises `DeadlineExceeded` when the wait ends first (the job goes on), `Cancelled` after
        `cancel()`, or whatever the job raised.
        """
        done, _ = await asyncio.wait([self._task], timeout=timeout)
        if not done:
            raise DeadlineExceeded(
                f"the job is not done after {timeout:g} s; it goes on, wait again or resume its handle",
                job=self.handle,
                may_be_billed=self._run.paid,
            )
        if self._cancelled or self._task.cancelled():
            cancelled = Cancelled("the job was cancelled")
            cancelled.handle = self.handle
            raise cancelled
        return self._task.result()

    async def cancel(self) -> bool:
        """Stop the job here and ask the provider to stop it. False when it had already ended."""
        if self._task.done():
            return False
        self._cancelled = True
        self._task.cancel()
        await asyncio.wait([self._task])
        for handle in self._run.handles:
            await self._run.provider.cancel(handle)
        return True

    async def accepted(self) -> None:
        """Wait until the provider has accepted every call, or the job ended."""
        while not self._task.done() and len(self._run.handles) < len(self._run.plan.calls):
            await self._news.wait()

    def _happened(self, event: Event) -> None:
        self._events.append(event)
        self._wake()

    def _ended(self, task: asyncio.Future[Result]) -> None:
        if not task.cancelled():
            task.exception()  # looked at, so that a job nobody waits for does not warn about it
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
