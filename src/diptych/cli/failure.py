"""Errors, as a paragraph or as JSON, and the exit code of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import typer

from ..errors import (
    Cancelled,
    ConfigurationError,
    ContentBlocked,
    DeadlineExceeded,
    DiptychError,
    OutcomeUnknown,
    ProviderError,
    RequestError,
)
from .terminal import clean, emit, mute, say

__all__ = ["INTERRUPTED", "USAGE", "Failed", "attempt", "exit_code", "tell"]

USAGE = 2
INTERRUPTED = 130

_CODES: tuple[tuple[type[DiptychError], int], ...] = (
    (RequestError, USAGE),
    (ConfigurationError, 3),
    (ContentBlocked, 5),
    (ProviderError, 4),
    (DeadlineExceeded, 6),
    (OutcomeUnknown, 7),
    (Cancelled, INTERRUPTED),
)


class Failed(Exception):
    """An error with what is left of the work: `facts` for JSON, `advice` for people, in lines."""

    def __init__(
        self, error: Exception, *, facts: Mapping[str, Any], advice: Sequence[str] = ()
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.facts = facts
        self.advice = tuple(advice)


def exit_code(error: BaseException) -> int:
    """What the process exits with after `error`; 1 for one that is not diptych's."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), 1)


def attempt(work: Callable[[], None], *, as_json: bool = False, traceback: bool = False) -> int:
    """Do `work`; tell of what it raises, and return the exit code."""
    try:
        work()
    except typer.Exit:
        raise
    except BrokenPipeError:
        mute()
        return 1
    except (Exception, KeyboardInterrupt) as raised:
        told = raised if isinstance(raised, Failed) else Failed(_plain(raised), facts={})
        if traceback:
            _show(raised)
        tell(told, as_json=as_json)
        return exit_code(told.error)
    return 0


def tell(failed: Failed, *, as_json: bool) -> None:
    """The error on stderr for a person, and on stdout for a program that asked for JSON."""
    error = failed.error
    if as_json:
        emit({"error": {**_fields(error), **failed.facts}}, indent=None)
    kind = type(error).__name__
    known = isinstance(error, DiptychError)
    what = str(error) if known else f"{kind}: {error}"
    told = f"{what} ({', '.join([kind, *_said(error)])})" if known else what
    say(f"diptych: {clean(told, line=True)}")
    for line in failed.advice:
        say(f"  {line}")


def _plain(raised: BaseException) -> Exception:
    """An interrupt as the error that stands for it."""
    if isinstance(raised, KeyboardInterrupt):
        return Cancelled("interrupted; a request that had left already may be billed")
    assert isinstance(raised, Exception)
    return raised


def _fields(error: Exception) -> dict[str, Any]:
    """Everything that the error holds, as JSON values."""
    held = {name: _json(value) for name, value in vars(error).items() if name != "partial"}
    return {
        "type": type(error).__name__,
        "message": str(error),
        "handle": getattr(error, "job", None),
        **{name: value for name, value in held.items() if not name.startswith("_")},
    }


def _json(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value


def _said(error: Exception) -> list[str]:
    """What support asks for first."""
    named = {"HTTP": "status", "code": "code", "request": "request_id"}
    facts = {label: getattr(error, name, None) for label, name in named.items()}
    return [f"{label} {fact}" for label, fact in facts.items() if fact is not None]


def _show(raised: BaseException) -> None:
    from traceback import format_exception

    say("".join(format_exception(raised)).rstrip())
