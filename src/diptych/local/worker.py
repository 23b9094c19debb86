"""One thread per device: local models run there, one step at a time, in turn.

Work on a device is a generator: each `next()` is one step (a denoising step, a token, a scale). The
thread takes one step of every job in turn, so that several requests share a device fairly, progress
is seen as it happens, and cancelling takes effect within a step. No two steps ever run at once on
one device, so a model needs no locks.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["Worker", "worker"]

E = TypeVar("E")
T = TypeVar("T")

IDLE = 5.0
"""Seconds without work after which a thread ends; the next job starts a new one."""


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None = None


class _Job(Generic[E]):
    """A generator on its way through the worker, and where its events go."""

    def __init__(self, steps: Generator[E | None, None, None]) -> None:
        self.cancelled = False
        self._steps = steps
        self._loop = asyncio.get_running_loop()
        self.events: asyncio.Queue[E | _End] = asyncio.Queue()

    def step(self) -> bool:
        """Take one step; False when that was the last one."""
        try:
            if self.cancelled:
                self._steps.close()
                raise StopIteration
            event = next(self._steps)
        except StopIteration:
            self._post(_End())
            return False
        except BaseException as error:
            self._post(_End(error))
            return False
        if event is not None:
            self._post(event)
        return True

    def _post(self, item: E | _End) -> None:
        try:
            self._loop.call_soon_threadsafe(self.events.put_nowait, item)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self.cancelled = True


class Worker:
    """The thread of one device. Use `worker(device)`; there is one per device and process."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._changed = threading.Condition()
        self._arrived: deque[_Job[Any]] = deque()
        self._thread: threading.Thread | None = None

    async def stream(self, steps: Generator[E | None, None, None]) -> AsyncGenerator[E, None]:
        """Run `steps` on the device's thread and yield what it yields, without the Nones.

        Raises what it raises. Closing the stream, or cancelling the task that reads it, closes the
        generator before its next step and waits until that is done. Gradients are off on the thread;
        do not yield inside another context that is bound to a thread.
        """
        job = _Job(steps)
        with self._changed:
            self._arrived.append(job)
            if self._thread is None:
                name = f"diptych-{self.device}"
                self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
                self._thread.start()
            self._changed.notify()
        ended = False
        try:
            while True:
                item = await job.events.get()
                if isinstance(item, _End):
                    ended = True
                    if item.error is not None:
                        raise item.error
                    return
                yield item
        finally:
            job.cancelled = True
            while not ended:
                ended = isinstance(await job.events.get(), _End)

    async def call(self, function: Callable[..., T], *values: Any) -> T:
        """Run one function on the device's thread, between the steps of its jobs."""

        def once() -> Generator[T | None, None, None]:
            answer.append(function(*values))
            yield None

        answer: list[T] = []
        async for _ in self.stream(once()):
            pass
        return answer[0]

    def _serve(self) -> None:
        import torch

        torch.set_grad_enabled(False)  # a setting of this thread alone
        jobs: deque[_Job[Any]] = deque()
        while True:
            with self._changed:
                if not (jobs or self._arrived):
                    self._changed.wait_for(lambda: bool(self._arrived), timeout=IDLE)
                    if not self._arrived:
                        self._thread = None
                        return
                jobs.extend(self._arrived)
                self._arrived.clear()
            # A whole round without the lock: those that arrive meanwhile join the next one.
            for _ in range(len(jobs)):
                job = jobs.popleft()
                if job.step():
                    jobs.append(job)


_WORKERS: dict[str, Worker] = {}
_LOCK = threading.Lock()


def worker(device: str) -> Worker:
    """The worker of `device` ("cpu", "cuda:0", "mps")."""
    with _LOCK:
        return _WORKERS.setdefault(device, Worker(device))
