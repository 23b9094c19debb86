"""What the tests share: a loopback peer, a provider on it, and a way to run what it plans."""

from __future__ import annotations

import asyncio
import io
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import PIL.Image
import pytest
from diptych_openai import OpenAIProvider

from diptych.errors import DiptychError
from diptych.events import Preview, Progress, Queued, TextDelta
from diptych.image import Image
from diptych.keys import Secret
from diptych.plan import Call, Plan, State
from diptych.planner import History, make_plan
from diptych.provider import Handle, Outcome, Settings
from diptych.request import Request
from diptych.testing.peers import OpenAIPeer

T = TypeVar("T")
Event = Queued | Progress | Preview | TextDelta | Outcome


@dataclass
class Context:
    """A `RunContext` that retries nothing and writes down what it was told."""

    streaming: bool = True
    told: list[str] = field(default_factory=list)

    def remaining(self) -> float:
        return 30.0

    def sent(self) -> None:
        self.told.append("sent")

    def accepted(self, handle: Handle) -> None:
        self.told.append("accepted")

    async def retry(self, attempt: Callable[[], Awaitable[T]]) -> T:
        return await attempt()

    async def load(self, image: Image) -> Image:
        return image if image.is_fetched else await image.afetch(timeout=10)


@dataclass
class Bench:
    """A provider, and the core's planner before it."""

    provider: OpenAIProvider

    def plan(
        self, model: str, prompt: str = "a fox", *, state: State | None = None, **options: Any
    ) -> Plan:
        history = None if state is None else History(options.get("image"), None, state)
        return make_plan(
            self.provider,
            self.provider.card(model),
            Request.build(prompt, **options),
            history=history,
        )

    def events(self, call: Call, context: Context | None = None) -> list[Event]:
        """Everything that one call yields, on a loop of its own."""

        async def run() -> list[Event]:
            try:
                async with aclosing(self.provider.run(call, context or Context())) as events:
                    return [event async for event in events]
            finally:
                await self.provider.aclose()

        return asyncio.run(run())

    def run(self, call: Call, context: Context | None = None) -> Outcome:
        last = self.events(call, context)[-1]
        assert isinstance(last, Outcome)
        return last

    def fails(self, call: Call, *secrets: str) -> Any:
        """The error of a call that must fail, after a look at all that can be printed of it."""
        with pytest.raises(DiptychError) as caught:
            self.run(call)
        error = caught.value
        printed = "".join(traceback.format_exception(error)) + repr(vars(error))
        for secret in secrets:
            assert secret not in printed
        return error


@pytest.fixture
def peer() -> Iterator[OpenAIPeer]:
    with OpenAIPeer(key="sk-peer-0123456789") as running:
        yield running


@pytest.fixture
def bench() -> Callable[..., Bench]:
    """Make a bench; `peer=` puts it on a peer, everything else is a setting."""

    def make(peer: OpenAIPeer | None = None, **options: Any) -> Bench:
        base_url = options.pop("base_url", None if peer is None else peer.base_url)
        key = options.pop("api_key", "sk-none" if peer is None else peer.key)
        secret = None if key is None else Secret(key)
        return Bench(OpenAIProvider(Settings(api_key=secret, base_url=base_url, options=options)))

    return make


@pytest.fixture
def picture() -> Callable[..., Image]:
    """Make a picture: a plain one of a size, in a format, perhaps with an EXIF orientation."""

    def make(
        size: tuple[int, int] = (64, 48), kind: str = "png", *, orientation: int | None = None
    ) -> Image:
        data = io.BytesIO()
        drawn = PIL.Image.new("RGB", size, "teal")
        exif = PIL.Image.Exif()
        if orientation is not None:
            exif[0x0112] = orientation
        drawn.save(data, kind, exif=exif)
        return Image.of(data.getvalue())

    return make
