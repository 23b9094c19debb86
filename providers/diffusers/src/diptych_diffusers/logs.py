"""What diffusers and transformers log while a pipeline runs: told to the caller, not to a terminal."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Logs", "listening"]

_THREAD = threading.local()
_EXPECTED = (
    "truncated because",  # counted and told by ourselves
    "will be resized accordingly",
    "safety checker",
    "is not in the range",
    "longer than the specified maximum",
    "should be kept in float32",
    "have to be in `processor_kwargs`",  # how diffusers calls transformers
)


class _Filter(logging.Filter):
    """Keeps the records of listening threads off the terminal, and notes the warnings."""

    def filter(self, record: logging.LogRecord) -> bool:
        said: list[str] | None = getattr(_THREAD, "said", None)
        if said is None:
            return True
        text = record.getMessage()
        if record.levelno >= logging.WARNING and not any(each in text for each in _EXPECTED):
            said.append(text)
        return False


_FILTER = _Filter()


class Logs:
    """What one pipeline said. `around` is the context in which it runs, entered on its thread."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @contextmanager
    def around(self) -> Iterator[None]:
        """Listen to this thread; Python's own warnings are about code that the caller did not write."""
        _THREAD.said = self.said
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            del _THREAD.said


def listening() -> Logs:
    """A new listener; the libraries' handlers are told of listening threads once."""
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers, transformers):
        library.utils.logging.get_logger()
        for handler in logging.getLogger(library.__name__).handlers:
            if _FILTER not in handler.filters:
                handler.addFilter(_FILTER)
    return Logs()
