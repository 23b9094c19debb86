"""Running plans: deadlines, retries, several calls at once, and what is done with the outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TypeVar

from .composite import composite
from .cost import Budget, Cost
from .errors import (
    DeadlineExceeded,
    DiptychError,
    InvalidInput,
    MalformedResponse,
    ProviderError,
)
from .events import Event, Preview, Progress, Queued
from .image import Image
from .notices import Notice
from .plan import Call, Plan
from .provider import Handle, Outcome, Provider, RunEvent
from .result import OutsideChange, Result, Timings
from .retry import retrying
from .sniff import is_whole_png
from .tally import Tally
from .ticket import Ticket

__all__ = ["Run"]

T = TypeVar("T")
Emit = Callable[[Event], None]

CONCURRENCY = 8
"""Calls of one plan that are in flight at once."""


class Run:
    """One execution of a plan, or the continuation of a job; the `RunContext` of its calls."""

    def __init__(
        self,
        provider: Provider,
        plan: Plan,
        *,
        timeout: float,
        max_retries: int,
        budget: Budget | None = None,
    ) -> None:
        self.provider = provider
        self.plan = plan
        self.timeout = timeout
        self.max_retries = max_retries
        self.budget = budget
        self.streaming = False
        self.handles: list[Handle] = []
        self.paid = False
        self._done: dict[int, Outcome] = {}
        self._early: dict[int, Outcome] = {}
        self._tally = Tally([call.images for call in plan.calls])
        self._emit: Emit | None = None
        self._told_accepted: Callable[[], None] | None = None
        self._began = time.perf_counter()
        self._first_sent: float | None = None

    # What a provider sees (RunContext)

    def remaining(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(0.0, self._began + self.timeout - time.perf_counter())

    def sent(self) -> None:
        self.paid = True
        if self._first_sent is None:
            self._first_sent = time.perf_counter()

    def accepted(self, handle: Handle) -> None:
        self.handles.append(handle)
        if self._told_accepted is not None:
            self._told_accepted()

    async def retry(self, attempt: Callable[[], Awaitable[T]]) -> T:
        return await retrying(attempt, max_retries=self.max_retries, remaining=self.remaining)

    async def load(self, image: Image) -> Image:
        return image if image.is_fetched else await image.afetch(timeout=self.remaining())

    # What a client calls

    def listen(self, emit: Emit, accepted: Callable[[], None] | None = None) -> None:
        """Send events to `emit` from now on; call `accepted` whenever the provider took a job."""
        self._emit, self.streaming, self._told_accepted = emit, True, accepted

    @property
    def handle(self) -> str | None:
        """The job as a string for `client.resume`, once the provider has accepted it."""
        return Ticket.of(self.plan, self.handles).encode() if self.handles else None

    async def execute(self) -> Result:
        """Run every call of the plan. Raises diptych's errors, with what was obtained attached."""
        if self.budget is None:
            return await self._calls()
        reserved = self.budget.reserve(self.plan.estimate)
        cost = Cost()  # an unknown outcome counts as the whole reservation
        try:
            result = await self._calls()
            cost = result.cost
        except ProviderError as error:
            if not isinstance(error, MalformedResponse):
                cost = Cost(Decimal(0)) if error.partial is None else error.partial.cost
            raise
        finally:
            self.budget.settle(reserved, cost if self.paid else Cost(Decimal(0)))
        return result

    async def _calls(self) -> Result:
        jobs, first = [], 0
        for index, call in enumerate(self.plan.calls):
            jobs.append(partial(self._attempt, index, call, first))
            first += call.images
        return await self._until_deadline(jobs)

    async def resume(self, handles: Sequence[Handle]) -> Result:
        """Wait for jobs that were submitted before."""
        self.handles, self.paid = list(handles), True
        self._tally = Tally([1] * len(handles))
        return await self._until_deadline(
            [
                partial(self._follow, index, self.provider.resume(handle, self))
                for index, handle in enumerate(handles)
            ]
        )

    async def _until_deadline(self, jobs: Sequence[Callable[[], Awaitable[Outcome]]]) -> Result:
        scope = asyncio.timeout(self.remaining())
        failure: DiptychError | None
        try:
            async with scope:
                failure = await self._all(jobs)
        except TimeoutError:
            if not scope.expired():
                raise
            failure = self._late()
        if failure is not None:
            await self._keep_early()
        outcomes = [self._done[index] for index in sorted(self._done)]
        if failure is None:
            return await self._finish(outcomes)
        if outcomes:
            failure.partial = await self._finish(outcomes)
        if failure.handle is None:
            failure.handle = self.handle
        raise failure

    def _late(self) -> DeadlineExceeded:
        if self.handles:
            advice = "the job goes on at the provider: wait for it with client.resume(error.job)"
        elif self.paid:
            advice = "the request had been sent and may be billed; allow more time with timeout="
        else:
            advice = "nothing had been sent"
        return DeadlineExceeded(
            f"{self.plan.model} did not finish within {self.timeout:g} s; {advice}",
            job=self.handle,
            may_be_billed=self.paid,
        )

    async def _keep_early(self) -> None:
        """Count what had come of calls that did not end: it is paid for."""
        for index in self._early.keys() - self._done.keys():
            with suppress(MalformedResponse):
                await self._checked(self._early[index])
                self._done[index] = self._early[index]

    async def _attempt(self, index: int, call: Call, first: int) -> Outcome:
        """Run call number `index`, whose first picture is number `first` of the result."""
        return await self.retry(
            lambda: self._follow(index, self.provider.run(call, self), call, first)
        )

    async def _follow(
        self,
        index: int,
        events: AsyncIterator[RunEvent],
        call: Call | None = None,
        first: int = 0,
    ) -> Outcome:
        """Pass events on until the outcome."""
        outcome: Outcome | None = None
        async with aclosing(events) as running:  # type: ignore[type-var]  # generators have aclose
            async for event in running:
                if isinstance(event, Outcome):
                    outcome = self._early[index] = _seeded(event, call)
                elif isinstance(event, Queued):
                    self._pass_on(replace(event, handle=event.handle or self.handle))
                elif isinstance(event, Preview):
                    self._pass_on(replace(event, picture=first + event.picture))
                elif isinstance(event, Progress):
                    self._pass_on(self._tally.told(index, event))
                else:
                    self._pass_on(event)
        if outcome is None:
            raise MalformedResponse(
                f"{self.plan.model} ended without an outcome", provider=self.provider.name
            )
        await self._checked(outcome)
        return outcome

    async def _checked(self, outcome: Outcome) -> None:
        """Raise for a picture that is broken. A PNG tells by its checksums; others are decoded."""
        for image in outcome.images:
            try:
                if image.format != "png":
                    await asyncio.to_thread(image.verify)
                elif not is_whole_png(image.bytes):
                    raise InvalidInput("its checksums do not agree with its data")
            except InvalidInput as error:
                raise MalformedResponse(
                    f"{self.plan.model} answered with a picture that cannot be used: {error}",
                    provider=self.provider.name,
                    request_id=outcome.request_id,
                ) from None

    def _pass_on(self, event: Event) -> None:
        if self._emit is not None:
            self._emit(event)

    async def _all(self, jobs: Sequence[Callable[[], Awaitable[Outcome]]]) -> DiptychError | None:
        """Run every job; the first error. A failure does not stop the others: they may be paid."""
        gate = asyncio.Semaphore(CONCURRENCY)

        async def kept(index: int, job: Callable[[], Awaitable[Outcome]]) -> DiptychError | None:
            async with gate:
                try:
                    self._done[index] = await job()
                except DiptychError as error:
                    return error
            return None

        if len(jobs) == 1:
            return await kept(0, jobs[0])
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(kept(index, job)) for index, job in enumerate(jobs)]
        return next(filter(None, (task.result() for task in tasks)), None)

    async def _finish(self, outcomes: Sequence[Outcome]) -> Result:
        plan, notices = self.plan, list(self.plan.notices)
        received = tuple(image for outcome in outcomes for image in outcome.images)
        for outcome in outcomes:
            notices += outcome.notices
        images, outside = received, None
        if plan.finish.mask is not None or plan.finish.convert is not None:
            # Pixel work would block the loop for tens of milliseconds.
            images, outside, noticed = await asyncio.to_thread(_finished, plan, received)
            notices += noticed
        notices += _mismatches(plan, images)
        first, last = outcomes[0], outcomes[-1]
        usages = [outcome.usage for outcome in outcomes if outcome.usage is not None]
        cost = first.cost
        for outcome in outcomes[1:]:
            cost += outcome.cost
        now = time.perf_counter()
        return Result(
            images=tuple(_signed(image, plan, first) for image in images),
            text="\n".join(filter(None, (outcome.text for outcome in outcomes))),
            usage=sum(usages[1:], usages[0]) if usages else None,
            cost=cost,
            notices=tuple(notices),
            plan=plan,
            model=first.model or plan.model,
            request_id=first.request_id,
            timings=Timings(now - self._began, now - (self._first_sent or now)),
            outside_change=outside,
            received=received,
            state=last.state,
            raw=first.raw if len(outcomes) == 1 else [outcome.raw for outcome in outcomes],
        )


def _seeded(outcome: Outcome, call: Call | None) -> Outcome:
    """Give the pictures the seeds that the call named, where the provider reported none."""
    if call is None or not call.seeds:
        return outcome
    known = zip(outcome.images, call.seeds, strict=False)
    seeded = tuple(
        image if image.seed is not None else image.with_(seed=seed) for image, seed in known
    )
    return replace(outcome, images=seeded + outcome.images[len(seeded) :])


def _finished(
    plan: Plan, received: Sequence[Image]
) -> tuple[tuple[Image, ...], OutsideChange | None, list[Notice]]:
    """Composite or convert the pictures, as the plan said."""
    finish = plan.finish
    notices: list[Notice] = []
    if finish.mask is None or finish.original is None:
        assert finish.convert is not None
        return tuple(image.convert(finish.convert) for image in received), None, notices
    images, means, worst = [], [], 0
    for image in received:
        done = composite(finish.original, image, finish.mask, format=finish.convert or "png")
        images.append(done.image.with_(seed=image.seed))
        means.append(done.outside_mean)
        worst = max(worst, done.outside_max)
        if done.resized_from is not None:
            width, height = done.resized_from
            notices.append(
                Notice(
                    "mismatch",
                    f"the model answered with {width}x{height}; it was resized to the original's size",
                    "size",
                )
            )
    outside = OutsideChange(sum(means) / len(means), worst) if means else None
    return tuple(images), outside, notices


def _mismatches(plan: Plan, images: Sequence[Image]) -> list[Notice]:
    """What was asked exactly and came back otherwise."""
    notices = []
    expected = sum(call.images for call in plan.calls)
    if plan.calls and len(images) != expected:
        notices.append(
            Notice("mismatch", f"{expected} pictures were asked for, {len(images)} came", "n")
        )
    size = plan.request.geometry.size
    if size is None or plan.finish.mask is not None:
        return notices
    asked = f"{size[0]}x{size[1]} was asked for"
    return notices + [
        Notice("mismatch", f"{asked}, {image.size[0]}x{image.size[1]} came", "size")
        for image in images
        if image.format != "svg" and image.size != size
    ]


def _signed(image: Image, plan: Plan, outcome: Outcome) -> Image:
    """Note where a picture came from, beside its bytes: embedding would break a C2PA signature."""
    return image.with_(
        provenance={
            **image.provenance,
            "model": outcome.model or plan.model,
            "mode": str(plan.mode),
            "prompt": plan.request.prompt,
            "request_id": outcome.request_id,
        }
    )
