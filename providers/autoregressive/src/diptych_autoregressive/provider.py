"""The autoregressive plug-in: what the core calls. Planning needs no torch; running loads it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, ClassVar

from diptych import plugins
from diptych.cards import ModelCard
from diptych.errors import ConfigurationError, DiptychError
from diptych.image import Image
from diptych.local import checkpoints, devices
from diptych.local.failures import stand_in, told
from diptych.local.pool import pool
from diptych.local.worker import worker
from diptych.plan import Call, Plan, State
from diptych.provider import Provider, RunContext, RunEvent, Settings
from diptych.request import Request

from .families import FAMILIES, family_of
from .family import Files
from .planning import plan_of

__all__ = ["AutoregressiveProvider"]

SPEEDS = ("exact", "fast")

RELIEF = "ask for a smaller size or fewer pictures at once"
"""What to do when memory does not suffice."""


class AutoregressiveProvider(Provider):
    """Models of this machine that draw token by token, from folders and repositories of the Hub.

    `weights` names the weight file of a repository that holds several ("var_d16.pth").
    """

    name: ClassVar[str] = "autoregressive"
    local: ClassVar[bool] = True
    settings: ClassVar[frozenset[str]] = frozenset({"weights"})
    requires: ClassVar[str] = "transformers>=5.17,<6"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        devices.check_settings(settings, SPEEDS)
        weights = settings.options.get("weights")
        if weights is not None and (not isinstance(weights, str) or not weights.strip()):
            raise ConfigurationError(f"weights={weights!r} must be the name of a weight file")
        self._weights: str | None = weights

    def cards(self) -> Iterable[ModelCard]:
        names = [name for family in FAMILIES for name in family.repositories()]
        if plugins.checkpoint(f"{self.name}.pocket") is not None:
            names.insert(0, "pocket")
        return [self.card(name) for name in names]

    def card(self, model: str) -> ModelCard:
        files = self._files(model)
        return family_of(files).card(files)

    def plan(self, request: Request, card: ModelCard, state: State | None) -> Plan:
        return plan_of(request, card, self._files(card.ref.partition("/")[2]), state)

    async def run(self, call: Call, context: RunContext) -> AsyncIterator[RunEvent]:
        # Importing torch takes seconds, which the event loop must not spend.
        device, steps = await asyncio.to_thread(self._prepared, call, context.streaming)
        payload = await _fetched(call.payload, context)
        seeds = call.seeds
        if not seeds:
            first = secrets.randbelow(2**31)
            seeds = tuple(first + k for k in range(call.images))
        events = worker(device).stream(steps(payload, seeds))
        try:
            async with aclosing(events) as running:
                async for event in running:
                    yield event
        except DiptychError:
            raise
        except Exception as error:
            raise told(error, call.target, RELIEF) from stand_in(error)

    async def aclose(self) -> None:
        pool().leave(self)

    def _files(self, model: str) -> Files:
        found = checkpoints.find(self.name, model)
        return Files.of(f"{self.name}/{model}", found, self._weights)

    def _prepared(self, call: Call, streaming: bool) -> tuple[str, Any]:
        """The device, and a function from payload and seeds to the steps that draw there."""
        from .engine import Engine

        device = devices.pick_device(self.config.device)
        files = self._files(call.target.partition("/")[2])
        engine = Engine(files, self.config, device, owner=self, streaming=streaming)
        return device, engine.run


async def _fetched(value: Any, context: RunContext) -> Any:
    """The payload with the bytes of every picture, fetched where the caller gave a URL."""
    if isinstance(value, Image):
        return await context.load(value)
    if isinstance(value, Mapping):
        return {name: await _fetched(each, context) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [await _fetched(each, context) for each in value]
    return value
