"""The contract between the core and a provider plug-in.

The core validates, plans edits, budgets, retries, times out, composites masks, keeps conversations
and turns events into results. A provider translates a request into calls and runs one call at a
time. Everything here is for plug-in authors.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

from .cards import EditMode, ModelCard
from .cost import Cost
from .errors import InvalidInput
from .events import Preview, Progress, Queued, TextDelta
from .image import Image
from .keys import Secret
from .notices import Notice
from .plan import Call, Plan, State
from .request import Request
from .result import Usage

__all__ = ["Handle", "Outcome", "Provider", "RunContext", "Settings", "State"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a client was set up. `options` are the provider's own settings, already checked by name."""

    api_key: Secret | None = None
    base_url: str | None = None
    device: str | None = None
    dtype: str | None = None
    speed: str = "exact"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Handle:
    """A job that the provider holds: enough to find it again from another process, no secrets."""

    provider: str
    model: str
    id: str
    data: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "model": self.model,
            "id": self.id,
            "data": dict(self.data),
        }

    @classmethod
    def from_dict(cls, value: Any) -> Handle:
        try:
            data = {str(name): str(each) for name, each in value["data"].items()}
            return cls(str(value["provider"]), str(value["model"]), str(value["id"]), data)
        except (KeyError, TypeError, AttributeError):
            raise InvalidInput(f"not a job handle: {json.dumps(value)[:200]}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one call came to, or has so far; the last thing that `run` and `resume` yield.

    `images` are as received. `state` carries on the conversation, when there is one. `raw` is the
    answer as JSON values without picture bytes.
    """

    images: tuple[Image, ...]
    text: str = ""
    usage: Usage | None = None
    cost: Cost = field(default_factory=Cost)
    model: str | None = None
    request_id: str | None = None
    notices: tuple[Notice, ...] = ()
    state: State | None = None
    raw: Any = None


RunEvent = Queued | Progress | Preview | TextDelta | Outcome


class RunContext(Protocol):
    """What the core offers to a running call.

    `streaming` tells whether somebody is watching: without it, `Progress` and `Preview` need not
    be made.
    """

    streaming: bool

    def remaining(self) -> float:
        """Seconds left until the caller's deadline. The core ends the call there by itself."""

    def sent(self) -> None:
        """To be called just before the bytes of a paid request may leave."""

    def accepted(self, handle: Handle) -> None:
        """The provider took the job: whatever happens from here, the caller gets this handle."""

    async def retry(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run `attempt`, again after a retryable error. Only for what is free to repeat (GETs)."""

    async def load(self, image: Image) -> Image:
        """The picture with its bytes, fetched when the caller gave a URL."""


class Provider(ABC):
    """A family of models behind one SDK or engine.

    Class attributes are read before an instance is made: `spec` is the version of this contract,
    `env` the variables in which a key is looked for (first found wins), `needs_key` whether there
    must be one, `key_hosts` the hosts (or ".suffix") that a key from the environment may go to,
    `settings` the names of further settings that `ImageClient(...)` accepts, `local` whether it
    runs on this machine (then `device`, `dtype` and `speed` are accepted), and `requires` the
    pip requirement that provides the SDK.

    The constructor must be cheap: no network, no SDK import.
    """

    spec: ClassVar[int] = 1
    name: ClassVar[str]
    env: ClassVar[tuple[str, ...]] = ()
    needs_key: ClassVar[bool] = False
    key_hosts: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[frozenset[str]] = frozenset()
    local: ClassVar[bool] = False
    requires: ClassVar[str] = ""

    def __init__(self, settings: Settings) -> None:
        self.config = settings

    @abstractmethod
    def cards(self) -> Iterable[ModelCard]:
        """The models that are known, from local facts alone."""

    @abstractmethod
    def card(self, model: str) -> ModelCard:
        """The card of `model` (the reference without "provider/").

        A model that nobody has described gets a permissive card (`known=False`), or `UnknownModel`
        when that cannot work.
        """

    def card_for(self, card: ModelCard, mode: EditMode | None) -> ModelCard:
        """The card that is in force once the mode is known.

        Differs from `card` where a family edits through a sibling model (another endpoint, another
        price): options and sizes are then checked against the sibling, and the plan says so.
        """
        return card

    @abstractmethod
    def plan(self, request: Request, card: ModelCard, state: State | None) -> Plan:
        """Translate a resolved request into calls. Pure: no network, no SDK import.

        `request.mode` is resolved (None for text to image), the prompt rewritten where the mode
        needs a description, options checked against `card`, the geometry resolved. `state` is None
        outside a conversation, {} on the first turn of one, and else what the last `Outcome`
        carried; it is only given where the conversation was not interrupted.

        Every option in `request.given()` must change the payload, or be named in a notice, or be
        refused with `UnsupportedOption`. Image k must have seed `request.seed + k`.
        """

    @abstractmethod
    def run(self, call: Call, context: RunContext) -> AsyncIterator[RunEvent]:
        """Run one call of a plan. The only thing that spends.

        Yields events and, last, an `Outcome`. Others before it may tell what has come so far: the
        latest is what the caller gets should the call not come to its end, and none holds a picture
        that the last one lacks. `Preview.picture` and `Progress` count within the call. Raises
        diptych's errors only. A paid request is sent at most once; an error is `retryable` only if
        the request was certainly not accepted. Cancelling the task must close every connection it
        opened.
        """

    def resume(self, handle: Handle, context: RunContext) -> AsyncIterator[RunEvent]:
        """Go on with a job from its handle; as `run`, without submitting anything."""
        raise InvalidInput(f"{self.name} keeps no jobs, so there is nothing to resume")

    async def cancel(self, handle: Handle) -> bool:
        """Ask the provider to stop a job. False when it was too late or cannot be done."""
        return False

    async def aclose(self) -> None:  # noqa: B027  # most have nothing to close
        """Close connections and free engines. The provider is not used afterwards."""
