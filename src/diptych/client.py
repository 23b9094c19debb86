"""The asynchronous client: everything that diptych does, on the caller's event loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Iterable
from decimal import Decimal
from typing import Any, Literal, Self, Unpack
from weakref import WeakKeyDictionary

from .cards import ModelCard
from .conversation import AsyncConversation
from .cost import Budget
from .engine import Run
from .errors import Cancelled, ConfigurationError, DiptychError, InvalidInput
from .events import Completed, Event
from .image import Image, ImageSource
from .job import AsyncJob
from .mask import Mask, MaskSource
from .options import EditOptions, GenerateOptions
from .plan import Plan
from .planner import History, Rewriter, make_plan
from .plugins import configure, default_model, split
from .provider import Provider
from .request import Request
from .result import Result
from .ticket import Ticket

__all__ = ["AsyncImageClient"]


class AsyncImageClient:
    """One client for every model, by "provider/model".

    `timeout` is the deadline of a whole call in seconds, queueing and downloads included; a call's
    own `timeout=` overrides it. `max_retries` counts repeats of what was certainly not accepted;
    nothing else is repeated. `budget` is a `Budget`, or an amount in USD. `rewriter` is asked for
    the new description when an instruction is beyond the built-in rewriter. `device`, `dtype` and
    `speed` are for local models. Further settings are the provider's own.

    Raises `UnknownModel`, `ProviderNotInstalled`, `MissingCredentials`, `NoDefaultModel` or
    `ConfigurationError`. Making a client touches no network and imports no vendor SDK.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float = 300.0,
        max_retries: int = 2,
        budget: Budget | Decimal | int | str | None = None,
        rewriter: Rewriter | None = None,
        device: str | None = None,
        dtype: str | None = None,
        speed: str = "exact",
        **provider_settings: Any,
    ) -> None:
        self.model = default_model() if model is None else model
        name, self._name_of_model = split(self.model)
        self._kind, self._settings = configure(
            name,
            api_key=api_key,
            base_url=base_url,
            device=device,
            dtype=dtype,
            speed=speed,
            options=provider_settings,
        )
        self._timeout = _seconds(timeout)
        if isinstance(max_retries, bool) or not isinstance(max_retries, int) or max_retries < 0:
            raise ConfigurationError(
                f"max_retries={max_retries!r} must be a whole number, 0 or more"
            )
        self._max_retries = max_retries
        self._budget = _limit(budget)
        self._rewriter = rewriter
        self._planning = self._kind(self._settings)
        self._card = self._planning.card(self._name_of_model)
        self._running: WeakKeyDictionary[asyncio.AbstractEventLoop, Provider] = WeakKeyDictionary()
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close this loop's connections, or free the engine. The client cannot be used afterwards."""
        self._closed = True
        provider = self._running.pop(asyncio.get_running_loop(), None)
        if provider is not None:
            await provider.aclose()

    # Making pictures

    async def generate(
        self, prompt: str, *, timeout: float | None = None, **options: Unpack[GenerateOptions]
    ) -> Result:
        """Pictures from a text.

        Raises `RequestError` or `ConfigurationError` before anything is sent, and `ProviderError`,
        `OutcomeUnknown` or `DeadlineExceeded` afterwards.
        """
        return await self._execute(self.plan(prompt, **options), timeout)

    async def edit(
        self,
        image: ImageSource,
        prompt: str,
        *,
        timeout: float | None = None,
        **options: Unpack[EditOptions],
    ) -> Result:
        """A picture changed by a text, in the mode that the planner chooses (see `plan_edit`).

        `prompt` may be an instruction or a description; the plan says how it was read. With a mask,
        the pixels outside it come back bit-identical unless `preserve="model"`. Raises as
        `generate` does.
        """
        request = await self._materialised(Request.build(prompt, image=image, **options))
        return await self._execute(self._planned(request), timeout)

    def stream_generate(
        self, prompt: str, *, timeout: float | None = None, **options: Unpack[GenerateOptions]
    ) -> AsyncGenerator[Event, None]:
        """As `generate`, as events; the last is `Completed`. Close it to cancel."""
        return self.stream(Request.build(prompt, **options), timeout=timeout)

    def stream_edit(
        self,
        image: ImageSource,
        prompt: str,
        *,
        timeout: float | None = None,
        **options: Unpack[EditOptions],
    ) -> AsyncGenerator[Event, None]:
        """As `edit`, as events; the last is `Completed`. Close it to cancel."""
        return self.stream(Request.build(prompt, image=image, **options), timeout=timeout)

    async def stream(
        self, request: Request | Plan, *, timeout: float | None = None
    ) -> AsyncGenerator[Event, None]:
        """Run a request or a plan, as events; the last is `Completed`. Close it to cancel."""
        plan = (
            request
            if isinstance(request, Plan)
            else self._planned(await self._materialised(request))
        )
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        run = self._run(plan, timeout)
        run.listen(events.put_nowait)
        task = asyncio.ensure_future(run.execute())
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            yield Completed(task.result())
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    # Planning

    def plan(self, prompt: str, **options: Unpack[GenerateOptions]) -> Plan:
        """What `generate` would do: free, and without any network. `await plan.run()` does it."""
        return self._planned(Request.build(prompt, **options))

    def plan_edit(self, image: ImageSource, prompt: str, **options: Unpack[EditOptions]) -> Plan:
        """What `edit` would do. A picture given by URL is not fetched; where its size is needed
        (mask, expand), call `Image.from_url(url).fetch()` first."""
        return self._planned(Request.build(prompt, image=image, **options))

    # Jobs

    async def submit(
        self, prompt: str, *, timeout: float | None = None, **options: Unpack[GenerateOptions]
    ) -> AsyncJob:
        """Start `generate` and return once the provider has accepted it."""
        return await self._submitted(Request.build(prompt, **options), timeout)

    async def submit_edit(
        self,
        image: ImageSource,
        prompt: str,
        *,
        timeout: float | None = None,
        **options: Unpack[EditOptions],
    ) -> AsyncJob:
        """Start `edit` and return once the provider has accepted it."""
        return await self._submitted(Request.build(prompt, image=image, **options), timeout)

    async def resume(
        self,
        handle: str,
        *,
        image: ImageSource | None = None,
        mask: MaskSource | None = None,
        preserve: Literal["exact", "model"] = "exact",
        timeout: float | None = None,
    ) -> AsyncJob:
        """Go on with a job from its handle, without submitting anything.

        A job that protects pixels needs the `image` and `mask` it was submitted with (the image
        alone after `expand`), or `preserve="model"`. Raises `InvalidInput` for a handle of another
        provider.
        """
        ticket = Ticket.decode(handle)
        for each in ticket.handles:
            if each.provider != self._kind.name:
                raise InvalidInput(
                    f"this job is {each.provider}'s; resume it with a client of that provider"
                )
        finish = ticket.finish(
            None if image is None else Image.of(image),
            None if mask is None else Mask.of(mask),
            preserve,
        )
        plan = ticket.plan(finish)
        run = self._run(plan, timeout)
        return AsyncJob(run, lambda: run.resume(ticket.handles))

    # Many

    async def map(
        self,
        prompts: Iterable[str],
        *,
        concurrency: int = 8,
        on_error: Literal["raise", "return"] = "raise",
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> AsyncGenerator[Result | DiptychError, None]:
        """`generate` for every prompt, at most `concurrency` at once, results in order.

        With `on_error="return"` an error takes its result's place; with "raise" the first one ends
        the iteration after the calls in flight have ended, since they may be paid for.
        """
        texts = list(prompts)
        if not isinstance(concurrency, int) or concurrency < 1:
            raise InvalidInput(f"concurrency={concurrency!r} must be a whole number, 1 or more")
        if on_error not in ("raise", "return"):
            raise InvalidInput(f"on_error={on_error!r} must be 'raise' or 'return'")
        plans = [_unseen(self.plan(text, **options)) for text in texts]
        gate, failed = asyncio.Semaphore(concurrency), asyncio.Event()

        async def one(plan: Plan) -> Result | DiptychError:
            async with gate:
                if failed.is_set():
                    return Cancelled("not sent: an earlier prompt failed")
                try:
                    return await self._execute(plan, timeout)
                except DiptychError as error:
                    if on_error == "raise":
                        failed.set()
                    return error

        tasks = [asyncio.ensure_future(one(plan)) for plan in plans]
        try:
            for task in tasks:
                result = await task
                if isinstance(result, DiptychError) and on_error == "raise":
                    await asyncio.wait(tasks)
                    raise next(
                        error
                        for each in tasks
                        if isinstance(error := each.result(), DiptychError)
                        and not isinstance(error, Cancelled)
                    )
                yield result
        finally:
            for task in tasks:
                task.cancel()

    # Conversations and facts

    def conversation(self, *, image: ImageSource | None = None) -> AsyncConversation:
        """A new conversation, beginning with `image` when one is given."""
        return AsyncConversation(self, image=image)

    def load_conversation(self, text: str) -> AsyncConversation:
        """A conversation from `Conversation.to_json`."""
        return AsyncConversation.from_json(self, text)

    def describe(self) -> ModelCard:
        """The card of this client's model."""
        return self._card

    # Within

    def _planned(self, request: Request, history: History | None = None) -> Plan:
        plan = make_plan(
            self._planning, self._card, request, history=history, rewriter=self._rewriter
        )
        return plan.but(runner=self._execute)

    async def _materialised(self, request: Request) -> Request:
        """Fetch the picture to edit where planning needs its size."""
        image = request.image
        if image is None or image.is_fetched or (request.mask is None and request.expand is None):
            return request
        return request.but(image=await image.afetch(timeout=self._timeout))

    def _run(self, plan: Plan, timeout: float | None) -> Run:
        return Run(
            self._provider(),
            plan,
            timeout=self._timeout if timeout is None else _seconds(timeout),
            max_retries=self._max_retries,
            budget=self._budget,
        )

    async def _execute(self, plan: Plan, timeout: float | None = None) -> Result:
        return await self._run(_unseen(plan), timeout).execute()

    async def _submitted(self, request: Request, timeout: float | None) -> AsyncJob:
        plan = self._planned(await self._materialised(request))
        run = self._run(plan, timeout)
        job = AsyncJob(run, run.execute)
        if self._card.resumable:
            await job.accepted()
        return job

    def _provider(self) -> Provider:
        """This loop's provider: connections belong to the loop that opened them."""
        if self._closed:
            raise ConfigurationError("the client is closed; make a new one")
        loop = asyncio.get_running_loop()
        provider = self._running.get(loop)
        if provider is None:
            provider = self._running[loop] = self._kind(self._settings)
        return provider


def _seconds(timeout: float) -> float:
    if (
        isinstance(timeout, bool)
        or not isinstance(timeout, int | float)
        or not math.isfinite(timeout)
        or timeout <= 0
    ):
        raise InvalidInput(
            f"timeout={timeout!r} must be seconds above 0; every wait has a deadline, so None is not one"
        )
    return float(timeout)


def _limit(budget: Budget | Decimal | int | str | None) -> Budget | None:
    if budget is None or isinstance(budget, Budget):
        return budget
    try:
        return Budget(budget)  # type: ignore[arg-type]  # which checks it
    except InvalidInput as error:
        raise ConfigurationError(f"budget={budget!r}: {error}") from None


def _unseen(plan: Plan) -> Plan:
    """Previews are streamed; what streams nothing must not pay for them."""
    if plan.request.previews is not None:
        raise InvalidInput(
            "previews= is for streams, nothing else shows them: use stream_generate, stream_edit, "
            "stream(plan) or a conversation's stream, or leave previews= out"
        )
    return plan
