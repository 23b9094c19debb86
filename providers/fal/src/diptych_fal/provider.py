"""The fal plug-in: what the core calls. Planning needs no SDK; running loads it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from diptych.cards import EditMode, ModelCard
from diptych.plan import Call, Plan, State
from diptych.provider import Handle, Provider, RunContext, RunEvent, Settings
from diptych.request import Request

from .arguments import plan_of
from .cards import card_of
from .endpoints import endpoint, known
from .hosts import KEY_HOSTS, Hosts

if TYPE_CHECKING:
    from .queue import Queue

__all__ = ["FalProvider"]


class FalProvider(Provider):
    """The image endpoints of fal, through its queue.

    Models are endpoint ids; "fal-ai/" may be left out. `base_url` names a server that speaks the
    same queue protocol (a gateway, a test peer): it then takes the place of every host of fal's.
    `cards()` leaves out the few endpoints that cannot be used by options alone; `card()` has them.
    A login that fal's own tools left on the machine (`~/.fal`) is never used.
    """

    name: ClassVar[str] = "fal"
    env: ClassVar[tuple[str, ...]] = ("FAL_KEY", "FAL_KEY_ID:FAL_KEY_SECRET")
    needs_key: ClassVar[bool] = True
    key_hosts: ClassVar[tuple[str, ...]] = KEY_HOSTS
    requires: ClassVar[str] = "fal-client>=1.0,<2"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._hosts = Hosts.of(settings.base_url)
        self._queue: Queue | None = None

    def cards(self) -> Iterable[ModelCard]:
        return [_card(row.id) for row in known() if row.is_plain]

    def card(self, model: str) -> ModelCard:
        return _card(model)

    def card_for(self, card: ModelCard, mode: EditMode | None) -> ModelCard:
        row = endpoint(_model(card))
        if mode is None or mode in row.takes or mode not in row.edits:
            return card
        return _card(row.edits[mode])

    def plan(self, request: Request, card: ModelCard, state: State | None) -> Plan:
        return plan_of(endpoint(_model(card)), request, self._hosts.queue)

    def run(self, call: Call, context: RunContext) -> AsyncIterator[RunEvent]:
        return self._open().run(call, context)

    def resume(self, handle: Handle, context: RunContext) -> AsyncIterator[RunEvent]:
        return self._open().resume(handle, context)

    async def cancel(self, handle: Handle) -> bool:
        return await self._open().cancel(handle)

    async def aclose(self) -> None:
        if self._queue is not None:
            await self._queue.aclose()
            self._queue = None

    def _open(self) -> Queue:
        """The connections, made when something is first sent."""
        if self._queue is None:
            from .queue import Queue

            self._queue = Queue(self.config.api_key, self._hosts)
        return self._queue


def _model(card: ModelCard) -> str:
    return card.ref.partition("/")[2]


@lru_cache(maxsize=512)
def _card(model: str) -> ModelCard:
    return card_of(endpoint(model))
