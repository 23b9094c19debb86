"""The diffusers plug-in: what the core calls. Planning needs no torch; running loads it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from diptych.cards import EditMode, ModelCard
from diptych.errors import ConfigurationError, DiptychError
from diptych.local import checkpoints, devices
from diptych.local.checkpoints import Checkpoint
from diptych.local.failures import stand_in, told
from diptych.local.worker import worker
from diptych.plan import Call, Plan, State
from diptych.provider import Outcome, Provider, RunContext, RunEvent, Settings
from diptych.request import Request

from .cards import card_of, cards, describe, for_mode
from .job import Job
from .parallel import check_divided, check_parallel
from .planning import plan_of

if TYPE_CHECKING:
    from .model import Model

__all__ = ["DiffusersProvider"]

SPEEDS = ("exact", "fast", "turbo")

RELIEF = "ask for a smaller size, or fewer pictures at once with max_batch=1"
"""What to do when memory does not suffice."""

Key = tuple[Path, str, str, str, int | None, int]


class DiffusersProvider(Provider):
    """Diffusion models of this machine, from diffusers folders and repositories of the Hub.

    `max_batch` is how many pictures share a forward pass: by default one on a CPU, and on a GPU as
    many as fill it. `parallel` is how many cards draw a picture together, that of `device` and the ones
    after it, for FLUX.1 and Qwen-Image.
    """

    name: ClassVar[str] = "diffusers"
    local: ClassVar[bool] = True
    settings: ClassVar[frozenset[str]] = frozenset({"max_batch", "parallel"})
    requires: ClassVar[str] = "diffusers>=0.42,<0.43"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        devices.check_settings(settings, SPEEDS)
        limit = settings.options.get("max_batch")
        if limit is not None and (type(limit) is not int or not 1 <= limit <= 64):
            raise ConfigurationError(f"max_batch={limit!r} must be a whole number from 1 to 64")
        self._parallel = check_parallel(settings.options.get("parallel", 1))
        self._held: set[Key] = set()

    def cards(self) -> Iterable[ModelCard]:
        return cards()

    def card(self, model: str) -> ModelCard:
        return card_of(checkpoints.find(self.name, model))

    def card_for(self, card: ModelCard, mode: EditMode | None) -> ModelCard:
        return for_mode(describe(self._checkpoint(card.ref)), mode)

    def plan(self, request: Request, card: ModelCard, state: State | None) -> Plan:
        described = describe(self._checkpoint(card.ref))
        plan = plan_of(request, described, self.config.speed)
        check_divided(described, self._parallel, plan.mode, request)
        return plan

    async def run(self, call: Call, context: RunContext) -> AsyncIterator[RunEvent]:
        job = await Job.of(call, context.load)
        checkpoint = self._checkpoint(call.target)
        check_divided(describe(checkpoint), self._parallel, job.task, job)
        try:
            device, engine = await self._engine(checkpoint)
            events: AsyncGenerator[RunEvent, None] = worker(device).stream(
                engine.run(job, streaming=context.streaming)
            )
            async with aclosing(events) as running:
                async for event in running:
                    if isinstance(event, Outcome):
                        engine.lease.confirm()
                        notices = (*event.notices, *engine.lease.placement.notices)
                        yield replace(event, model=call.target, notices=notices)
                    else:
                        yield event
        except DiptychError:
            raise
        except Exception as error:
            raise told(error, call.target, RELIEF) from stand_in(error)

    async def aclose(self) -> None:
        while self._held:
            _release(self._held.pop())

    def _checkpoint(self, ref: str) -> Checkpoint:
        return checkpoints.find(self.name, ref.partition("/")[2])

    async def _engine(self, checkpoint: Checkpoint) -> tuple[str, Model]:
        """The device's name and the loaded model, which others of this process may use too."""
        return await asyncio.to_thread(self._loaded, checkpoint)

    def _loaded(self, checkpoint: Checkpoint) -> tuple[str, Model]:
        from .loading import load

        folder = checkpoint.folder or checkpoints.fetch(checkpoint)
        device = devices.pick_device(self.config.device)
        dtype = devices.pick_dtype(self.config.dtype, device)
        limit = self.config.options.get("max_batch")
        speed, parallel = self.config.speed, self._parallel
        key = (folder.resolve(), device, str(dtype), speed, limit, parallel)
        with _LOADING:
            if key in _ENGINES and _ENGINES[key].lease.is_lost:
                _ENGINES.pop(key).lease.give_up()
            if key not in _ENGINES:
                found = replace(checkpoint, folder=folder)
                _ENGINES[key] = load(found, device, dtype, limit, speed, parallel)
            if key not in self._held:
                self._held.add(key)
                _USERS[key] = _USERS.get(key, 0) + 1
            return device, _ENGINES[key]


_LOADING = threading.Lock()
_ENGINES: dict[Key, Model] = {}
_USERS: dict[Key, int] = {}


def _release(key: Key) -> None:
    """One client less uses a model; the last one frees it."""
    with _LOADING:
        _USERS[key] -= 1
        if not _USERS[key]:
            del _USERS[key]
            if (model := _ENGINES.pop(key, None)) is not None:
                model.lease.give_up()
