"""A call that calls back, as a generator: how a stock pipeline takes turns with other work.

The pipeline runs on a thread of its own that is awake only while the generator is asked for its
next value, so that still no two steps run at once on a device.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

import torch

__all__ = ["stepwise"]

T = TypeVar("T")
R = TypeVar("R")


class _Closed(BaseException):
    """Raised inside the call when its generator was closed. No `except Exception` stops it."""


class _Turns(Generic[T, R]):
    """The call's thread and the caller's, of which one waits while the other runs."""

    def __init__(
        self,
        call: Callable[[Callable[[T], None]], R],
        around: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.call, self.around = call, around
        self.mine, self.theirs = threading.Semaphore(0), threading.Semaphore(0)
        self.closed = False
        self.value: T | None = None
        self.result: R | None = None
        self.error: BaseException | None = None
        self.ended = False
        self.thread = threading.Thread(target=self._run, name="diptych-pipeline", daemon=True)

    def _run(self) -> None:
        torch.set_grad_enabled(False)  # a setting of this thread alone
        try:
            self._context = self.around()
            self._context.__enter__()
            try:
                self.result = self.call(self._pause)
            finally:
                self._context.__exit__(None, None, None)
        except BaseException as error:
            self.error = error
        self.ended = True
        self.theirs.release()

    def _pause(self, value: T) -> None:
        """Hand `value` to the caller and wait for the next turn."""
        self.value = value
        self._context.__exit__(None, None, None)
        self.theirs.release()
        self.mine.acquire()
        self._context = self.around()
        self._context.__enter__()
        if self.closed:
            raise _Closed

    def turn(self) -> None:
        """Let the call run to its next value or its end."""
        if self.thread.ident is None:
            self.thread.start()
        else:
            self.mine.release()
        self.theirs.acquire()


def stepwise(
    call: Callable[[Callable[[T], None]], R], around: Callable[[], AbstractContextManager[None]]
) -> Generator[T, None, R]:
    """Run `call(report)`; what it reports is yielded, what it returns is returned.

    `around` makes the context in which the call runs; it is left while the call waits. Closing the
    generator ends the call at its next report.
    """
    turns = _Turns(call, around)
    try:
        while True:
            turns.turn()
            if turns.ended:
                if turns.error is not None:
                    raise turns.error
                return turns.result  # type: ignore[return-value]  # set when there is no error
            yield turns.value  # type: ignore[misc]  # set at every report
    finally:
        if turns.thread.ident is not None and not turns.ended:
            turns.closed = True
            turns.turn()
