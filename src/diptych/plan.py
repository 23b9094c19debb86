"""Plans: what will be sent, why, and what it may cost, before anything is spent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .conditioning import Expand
from .cost import Estimate
from .image import Image
from .mask import Mask
from .notices import Notice
from .request import Request

__all__ = ["Call", "Finish", "Plan", "State"]

State = Mapping[str, Any]
"""What a provider needs to carry on a conversation, as JSON values. Opaque to everybody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One thing that will be run: a paid HTTP request, or a run of a local model.

    `operation` is the provider's own name for it, `target` a URL or a pipeline. `payload` holds
    JSON values, and an `Image` wherever picture bytes go in; it is what the provider sends, not a
    description of it. `images` is how many pictures are expected, `seeds` the seed of each where
    it is known.
    """

    operation: str
    method: str
    target: str
    payload: Mapping[str, Any]
    images: int = 1
    seeds: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "operation": self.operation,
            "method": self.method,
            "target": self.target,
            "payload": shown(self.payload),
            "images": self.images,
            "seeds": list(self.seeds),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """What is done here with the pictures that come back.

    With `mask`, the pixels of `original` that it protects are put back; `convert` is the format to
    encode in. `expand` tells that original and mask were made by padding the caller's picture.
    """

    original: Image | None = field(default=None, repr=False)
    mask: Mask | None = field(default=None, repr=False)
    convert: str | None = None
    expand: Expand | None = None

    def but(self, **changes: Any) -> Finish:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def steps(self) -> tuple[str, ...]:
        """What will be done, in words."""
        if self.mask is not None:
            return (f"put the original back where the mask protects it, encode as {self.convert}",)
        return (f"encode as {self.convert}",) if self.convert else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a request becomes. Pure data: making one is free and touches no network.

    `mode` is "generate" or an `EditMode`; `why` says in a sentence how it was chosen. `request` is
    the request as the planner resolved it: rewritten prompt, geometry, mode. `run()` executes
    exactly the calls shown and returns a `Result` (an awaitable of one from an async client).
    """

    model: str
    mode: str
    calls: tuple[Call, ...]
    request: Request = field(repr=False)
    why: str = ""
    notices: tuple[Notice, ...] = ()
    estimate: Estimate = field(default_factory=Estimate)
    finish: Finish = field(default_factory=Finish)
    state: State | None = field(default=None, repr=False)
    runner: Callable[[Plan], Any] | None = field(default=None, repr=False, compare=False)

    def run(self) -> Any:
        """Execute exactly what is shown. Raises as `ImageClient.generate` does."""
        if self.runner is None:
            raise RuntimeError("this plan was made without a client; use client.plan(...)")
        return self.runner(self)

    def but(self, **changes: Any) -> Plan:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, stable across releases, without secrets and without picture bytes."""
        return {
            "model": self.model,
            "mode": str(self.mode),
            "why": self.why,
            "prompt": self.request.prompt,
            "calls": [call.to_dict() for call in self.calls],
            "then": list(self.finish.steps()),
            "notices": [notice.to_dict() for notice in self.notices],
            "estimate": {
                "low": None if self.estimate.low is None else str(self.estimate.low),
                "high": None if self.estimate.high is None else str(self.estimate.high),
                "currency": self.estimate.currency,
                "source": self.estimate.source,
            },
        }

    def __str__(self) -> str:
        lines = [f"{self.model}: {self.mode}"]
        if self.why:
            lines.append(f"  why   {self.why}")
        for call in self.calls:
            lines.append(f"  call  {call.method} {call.target} ({call.operation})")
            lines += [
                f"          {name} = {_brief(shown(value))}" for name, value in call.payload.items()
            ]
        lines += [f"  then  {step}" for step in self.finish.steps()]
        lines += [f"  note  {notice}" for notice in self.notices]
        lines.append(f"  cost  {self.estimate}")
        return "\n".join(lines)


def shown(value: Any) -> Any:
    """A payload value with every picture replaced by what can be said of it."""
    if isinstance(value, Image):
        if not value.is_fetched:
            return {"url": value.url}
        width, height = value.size
        return {
            "media_type": value.media_type,
            "size": [width, height],
            "bytes": len(value.bytes),
            "sha256": value.sha256,
        }
    if isinstance(value, Mapping):
        return {name: shown(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [shown(each) for each in value]
    return value


def _brief(value: Any) -> str:
    if isinstance(value, dict) and "sha256" in value:
        width, height = value["size"]
        return f"<{value['media_type']} {width}x{height}, {value['bytes']:,} bytes>"
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return "[" + ", ".join(_brief(each) for each in value) + "]"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
