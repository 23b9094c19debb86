"""The one event loop of all sync clients, run by whichever thread needs it.

Who finds the loop idle runs it in their own thread until their call is done: a call costs no change
of threads. Who finds it running hands their call over and waits. Where work is left when a caller
is done, a submitted job or another thread's call, a daemon thread runs the loop until nothing is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Self, TypeVar

from .errors import Cancelled, ConfigurationError

__all__ = ["PORTAL", "Portal"]

T = TypeVar("T")


class Portal:
    """Counts its users; the loop lives from their first call to the end of the last of them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant: a finalizer may come in between
        self._users = 0
        self._loop: _SharedLoop | None = None
        self._inherited: list[_SharedLoop] = []

    def acquire(self) -> None:
        """Register a user."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """Unregister a user; ends the loop, and what runs on it, after the last one."""
        with self._lock:
            self._users -= 1
            if self._users or self._loop is None:
                return
            loop, self._loop = self._loop, None
        loop.close()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` on the loop and wait.

        An interrupt of the waiting thread cancels it and waits until it has unwound; a second one
        leaves it to unwind by itself. Raises what it raises, and `Cancelled` when the last client
        is closed meanwhile.
        """
        return self._current(coroutine).call(coroutine)

    def finish(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """As `call`, from any thread: a finalizer may run in the loop's own, which cannot wait."""
        self._current(coroutine).finish(coroutine)

    def _current(self, coroutine: Coroutine[Any, Any, Any]) -> _SharedLoop:
        with self._lock:
            if not self._users:
                raise _closed(coroutine)
            if self._loop is None:
                self._loop = _SharedLoop()
            return self._loop

    def after_fork(self) -> None:
        """Start afresh in a forked child, which has the loop but not the threads."""
        self._lock = threading.RLock()
        if self._loop is not None:
            self._loop.disown()
            self._inherited.append(self._loop)
            self._loop = None


class _SharedLoop:
    """A loop that at most one thread runs at a time: its driver."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.RLock()
        self._driver: int | None = None
        self._visits: set[asyncio.Task[Any]] = set()
        self._told: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._wake = threading.Semaphore(0)
        self._closing = self._shutting = False
        self._closed = threading.Event()
        self._last_words: set[asyncio.Task[None]] = set()

    # Calls

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        with _Interrupts(self._loop) as interrupts:
            if interrupts.running is self._loop:
                coroutine.close()
                raise RuntimeError("a sync client was called from its own loop")
            try:
                if interrupts.safe and self._claimed():
                    return self._drive(coroutine, interrupts)
            finally:
                self._pass_on()
        return self._visit(coroutine)

    def finish(self, coroutine: Coroutine[Any, Any, None]) -> None:
        if _running() is not self._loop:
            self.call(coroutine)
            return
        self._last_words.add(task := self._loop.create_task(coroutine))
        task.add_done_callback(self._last_words.discard)

    def _claimed(self) -> bool:
        """Become the driver of an idle loop."""
        me = threading.get_ident()
        with self._lock:
            if self._closing or self._driver not in (None, me):
                return False
            self._driver = me
            return True

    def _drive(self, coroutine: Coroutine[Any, Any, T], interrupts: _Interrupts) -> T:
        """Run the loop here until the call is done."""
        task = self._loop.create_task(coroutine)
        interrupts.watch(task)
        self._run(task, interrupts)
        return _result(task)

    def _run(self, task: asyncio.Task[Any], interrupts: _Interrupts | None = None) -> None:
        task.add_done_callback(_stop)
        try:
            while not task.done():
                try:
                    self._loop.run_forever()
                except KeyboardInterrupt:
                    if interrupts is None or task.done():
                        raise
                    interrupts.count()
                if interrupts and interrupts.impatient:
                    raise KeyboardInterrupt
        except BaseException:
            if task.done() and not task.cancelled():
                task.exception()  # looked at: it is on its way to the caller
            raise
        finally:
            task.remove_done_callback(_stop)

    def _visit(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Hand the call to the thread that runs the loop, and wait."""
        context, ended = copy_context(), Future[asyncio.Task[T]]()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            if not tasks:
                tasks.append(task := self._loop.create_task(coroutine, context=context))
                self._visits.add(task)
                task.add_done_callback(end)

        def end(task: asyncio.Task[T]) -> None:
            self._visits.discard(task)
            ended.set_result(task)

        def cancel() -> None:
            begin()
            tasks[0].cancel()

        try:
            if not self._tell(begin):
                raise _closed(coroutine)
            return _result(ended.result())
        except KeyboardInterrupt:
            if self._tell(cancel):
                ended.result()
            raise

    def _tell(self, callback: Callable[[], None]) -> bool:
        """Have the driver call `callback`. False when the loop is about to close."""
        with self._lock:
            if self._closing:
                return False
            self._told.append(callback)
            self._loop.call_soon_threadsafe(self._listen)
            if self._driver is None:
                self._engage()
            return True

    def _listen(self) -> None:
        while self._told:
            self._told.popleft()()

    # Who runs the loop

    def _pass_on(self) -> None:
        """Give the loop up: to the daemon thread if there is work, to nobody if there is none."""
        with self._lock:
            if self._driver != threading.get_ident():
                return  # a finalizer has done so in between
            if not self._closing:
                self._driver = None
                # A visit whose task is done still has to be told so, by the loop.
                if self._told or self._visits or asyncio.all_tasks(self._loop):
                    self._engage()
                return
        self._shut()

    def _engage(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="diptych", daemon=True)
            self._thread.start()
        self._driver = self._thread.ident
        self._wake.release()

    def _serve(self) -> None:
        """The daemon thread: not one of a pool, which are joined when the interpreter exits."""
        self._wake.acquire()
        while not self._closed.is_set():
            if self._driver == threading.get_ident():
                self._run(self._loop.create_task(self._idle()))
                self._pass_on()
            self._wake.acquire()

    async def _idle(self) -> None:
        """Wait until this task is the only one."""
        self._listen()
        me = {asyncio.current_task()}
        while others := asyncio.all_tasks() - me:
            await asyncio.wait(others)

    # The end

    def close(self) -> None:
        with _Interrupts(self._loop) as interrupts:
            self._closing = True
            if interrupts.running is self._loop:
                return  # the driver shuts it, once its call is done
            with self._lock:
                me = threading.get_ident()
                idle = self._driver in (None, me)
                if self._closed.is_set():
                    pass  # a driver that was just done has seen that it is closing
                elif idle and interrupts.safe:
                    self._driver = me
                    self._shut()
                elif idle:
                    self._engage()
                else:
                    with suppress(RuntimeError):  # it is being shut at this moment
                        self._loop.call_soon_threadsafe(self._cancel_all)
        self._closed.wait()
        if self._thread is not None:
            self._thread.join()

    def _cancel_all(self) -> None:
        if not self._shutting:  # else they are being cancelled already
            for task in asyncio.all_tasks(self._loop):
                task.cancel()

    def _shut(self) -> None:
        loop, self._shutting = self._loop, True
        try:
            loop.run_until_complete(self._unwound())
            loop.run_until_complete(loop.shutdown_asyncgens())
            with suppress(RuntimeError):  # no thread can be started for it when Python exits
                loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()
            self._closed.set()  # before the loop looks idle to a thread that closes it
            self._driver = None
            self._wake.release()

    async def _unwound(self) -> None:
        """Cancel every other task but the last words, and wait for all of them."""
        self._listen()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others - self._last_words:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def disown(self) -> None:
        """Leave the loop to the parent process: its finalizer would unregister the parent's sockets."""
        self._loop.is_closed = lambda: True  # type: ignore[method-assign]


class _Interrupts:
    """While a thread runs the loop, Ctrl-C cancels its call instead of tearing through the loop.

    `running` is the loop that runs in this thread, `safe` whether the shared one may: no other does,
    and no handler of the application's own can raise in the midst of it.
    """

    __slots__ = ("_count", "_loop", "_own", "_raises", "_task", "running", "safe")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None
        self._own = False
        self._count = 0

    def __enter__(self) -> Self:
        self.running = _running()
        in_main_thread = threading.get_ident() == threading.main_thread().ident
        handler = signal.getsignal(signal.SIGINT) if in_main_thread else None
        self._raises = handler is signal.default_int_handler
        self.safe = self.running is None and (self._raises or not callable(handler))
        return self

    def __exit__(self, *_: object) -> None:
        if self._own:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._count:
            raise KeyboardInterrupt from None

    @property
    def impatient(self) -> bool:
        """Whether the person does not want to wait for the call to unwind either."""
        return self._count > 1

    def watch(self, task: asyncio.Task[Any]) -> None:
        """Cancel `task` upon an interrupt."""
        self._task = task
        if self._raises:
            with suppress(ValueError):  # the main thread of a subinterpreter gets no signals
                signal.signal(signal.SIGINT, self.count)
                self._own = True

    def count(self, *_: object) -> None:
        """One more interrupt."""
        self._count += 1
        if self._count > 2:
            raise KeyboardInterrupt  # the loop does not come round
        if self._count == 1 and self._task is not None:
            self._task.cancel()
        self._loop.call_soon_threadsafe(self._loop.stop)  # wakes it; who runs it looks and goes on


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _stop(task: asyncio.Task[Any]) -> None:
    task.get_loop().stop()


def _result(task: asyncio.Task[T]) -> T:
    if task.cancelled():
        raise Cancelled("the call was cancelled, because the client was closed meanwhile")
    return task.result()


def _closed(coroutine: Coroutine[Any, Any, Any]) -> ConfigurationError:
    coroutine.close()
    return ConfigurationError("the client is closed; make a new one")


PORTAL = Portal()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PORTAL.after_fork)
