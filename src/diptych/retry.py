"""Retries: only what was certainly not accepted, with jitter, within the deadline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_random_exponential

from .errors import ProviderError, RateLimited

__all__ = ["retrying"]

T = TypeVar("T")

_BACKOFF = wait_random_exponential(multiplier=0.5, max=8.0)


async def retrying(
    attempt: Callable[[], Awaitable[T]], *, max_retries: int, remaining: Callable[[], float]
) -> T:
    """Run `attempt`, at most `max_retries` times more after errors that are `retryable`.

    An error is raised at once when the wait that the provider asks for would outlast the deadline.
    """

    def worth(error: BaseException) -> bool:
        if not isinstance(error, ProviderError) or not error.retryable:
            return False
        asked = error.retry_after if isinstance(error, RateLimited) else None
        return (asked or 0.0) < remaining()

    def pause(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        asked = error.retry_after if isinstance(error, RateLimited) else None
        return _BACKOFF(state) if asked is None else asked

    try:
        return await attempt()
    except ProviderError as error:
        if not worth(error) or max_retries == 0:
            raise
        failed = [error]

    async def again() -> T:
        if failed:
            raise failed.pop()  # the attempt above, which tenacity counts as its first
        return await attempt()

    # Made only now: its bookkeeping keeps a result alive in a reference cycle, pictures and all.
    policy = AsyncRetrying(
        retry=retry_if_exception(worth),
        wait=pause,
        stop=stop_after_attempt(max_retries + 1),
        reraise=True,
    )
    return await policy(again)
