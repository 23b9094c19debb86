"""What running must do: one outcome, paid once, ended when told to, and every error a known one."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from ..cards import EditMode
from ..engine import Run
from ..errors import (
    AuthenticationFailed,
    DeadlineExceeded,
    DiptychError,
    OutcomeUnknown,
    PermissionDenied,
    ProviderError,
    RateLimited,
    RequestError,
    Unavailable,
)
from ..provider import Handle, Outcome
from ..result import Result
from .cases import KEY, Case, Subject
from .effects import accepted
from .peers import Fault, Peer, reset, silence, status, truncated_json, unused_port
from .planning import leaked, offline

__all__ = ["RunningSuite"]

T = TypeVar("T")

PATIENCE = 200.0
"""Seconds that a call may take."""

FAILURES: dict[Fault, tuple[type[Exception], ...]] = {
    status(400): (ProviderError, RequestError),
    status(401): (AuthenticationFailed,),
    status(403): (PermissionDenied,),
    status(429): (RateLimited,),
    status(500): (ProviderError, OutcomeUnknown),
    truncated_json(): (ProviderError, OutcomeUnknown),
    reset(): (OutcomeUnknown,),
}
"""What goes wrong at a paid request, and the errors that say so."""


class RunningSuite(Subject):
    """Tests of `run` and `resume`, on a peer or on this machine."""

    @pytest.fixture
    def service(self) -> Iterator[Peer | None]:
        """The peer that calls are run on; None for a provider that runs here."""
        if self.provider.local:
            yield None
            return
        peer = type(self).peer
        if peer is None:
            pytest.skip("nothing to run on: set peer to a diptych.testing.peers.Peer")
        with peer(key=KEY) as running:
            yield running

    def test_a_run_ends_with_its_outcome(self, run_case: Case, service: Peer | None) -> None:
        """Events, then an `Outcome` with the pictures that were planned; others say what came so far."""

        async def played(case: Case) -> tuple[list[Any], int]:
            plan = case.plan()
            run = Run(case.provider, plan, timeout=PATIENCE, max_retries=2)
            run.listen(lambda _: None)
            running: Any = case.provider.run(plan.calls[0], run)
            async with aclosing(running) as events:
                return [event async for event in events], plan.calls[0].images

        events, planned = self.ran(played, run_case, service)
        outcome = events[-1] if events else None
        assert isinstance(outcome, Outcome), (
            f"{run_case}: run() ended with {type(outcome).__name__}, not with an Outcome"
        )
        brought = {image.sha256 for image in outcome.images}
        for event in events:
            assert not isinstance(event, Outcome) or brought.issuperset(
                image.sha256 for image in event.images
            ), f"{run_case}: an Outcome holds a picture that the last one lacks"
        assert len(outcome.images) == planned, (
            f"{run_case}: {planned} pictures were planned and {len(outcome.images)} came"
        )
        for image in outcome.images:
            image.verify()
        try:
            raw = json.dumps(outcome.raw)
        except TypeError as error:
            raise AssertionError(f"{run_case}: Outcome.raw is not JSON: {error}") from None
        assert self.provider.local or outcome.cost.amount != 0, (
            f"{run_case}: Outcome.cost is 0; a cost that nobody knows is Cost()"
        )
        for text in (repr(events), raw):
            assert not leaked(text), f"{run_case}: the key is in {leaked(text)}"

    def test_every_call_is_paid_once(self, run_case: Case, service: Peer | None) -> None:
        """Law 4: as many paid requests as the plan has calls; the seeds come back in order."""
        options = accepted(run_case, {"n": 2, "seed": 11})

        async def finished(case: Case) -> Result:
            return await _result(case, **options)

        result = self.ran(finished, run_case, service)
        if "seed" in options:
            seeds = [image.seed for image in result.images]
            assert seeds == list(range(11, 11 + options.get("n", 1))), (
                f"{run_case}: the pictures of seed=11 say that they have the seeds {seeds}"
            )
        _paid(service, result, run_case)

    def test_seeds_mean_the_same_in_any_batch(self, run_case: Case, service: Peer | None) -> None:
        """Law 2 on this machine: picture k of seed s is the picture of seed s + k alone."""
        if service is not None:
            pytest.skip("the pictures of a peer say nothing about the service")
        if len(accepted(run_case, {"n": 2, "seed": 7})) < 2:
            pytest.skip("it takes no seed")

        async def both(case: Case) -> tuple[Result, Result]:
            return await _result(case, n=2, seed=7), await _result(case, seed=8)

        pair, alone = self.ran(both, run_case, service)
        assert pair.images[1].numpy().tolist() == alone.image.numpy().tolist(), (
            f"{run_case}: the second picture of n=2, seed=7 is not the picture of seed=8"
        )

    def test_a_cancelled_run_ends(self, run_case: Case, service: Peer | None) -> None:
        """Cancelling the task ends the run and closes its connections."""
        if service is not None:
            service.fault(silence(), on=service.paid)

        async def cancelled(case: Case) -> None:
            task = asyncio.ensure_future(_result(case))
            if service is not None:
                await asyncio.to_thread(service.wait_for, *service.paid)
            else:
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=self.grace)
            assert done, f"{case}: run() goes on after it was cancelled"
            if service is None:
                return
            try:
                await asyncio.to_thread(service.wait_until_idle, self.grace)
            except TimeoutError as error:
                raise AssertionError(
                    f"{case}: a cancelled run leaves its connection: {error}"
                ) from None

        self.ran(cancelled, run_case, service)

    def test_the_deadline_holds(self, run_case: Case, service: Peer | None) -> None:
        """A service that falls silent costs the caller no more than the deadline."""
        if service is None:
            pytest.skip("this machine does not fall silent")
        service.fault(silence(), on=service.paid)

        async def late(case: Case) -> BaseException | None:
            run = Run(case.provider, case.plan(), timeout=0.3, max_retries=2)
            task = asyncio.ensure_future(run.execute())
            done, _ = await asyncio.wait([task], timeout=self.grace)
            assert done, f"{case}: run() outlives the deadline"
            return task.exception()

        error = self.ran(late, run_case, service)
        assert isinstance(error, DeadlineExceeded), f"{run_case}: the deadline ends in {error!r}"
        assert error.may_be_billed, (
            f"{run_case}: the request had been sent; call context.sent() just before it leaves"
        )

    @pytest.mark.parametrize("fault", FAILURES, ids=lambda fault: fault.name)
    def test_failures_are_known_errors(self, fault: Fault, service: Peer | None) -> None:
        """A failure is one of diptych's errors, without the key, and nothing is sent twice."""
        if service is None:
            pytest.skip("this machine has no statuses")
        service.fault(fault, on=service.paid)
        # What was refused for certain may be sent again, so only the rest is given the chance.
        self.fails(service, FAILURES[fault], retries=2 if fault.accepted else 0)
        sent = service.count(*service.paid)
        assert sent == 1, (
            f"{self.provider.name}: after {fault.name!r} the request was sent {sent} times; it may have "
            "been accepted and billed, so it must not be sent again and its error not be retryable"
        )

    def test_nobody_listens(self, service: Peer | None) -> None:
        """A refused connection is `Unavailable`, and safe to repeat."""
        if service is None:
            pytest.skip("this machine is always there")
        with unused_port() as port:
            nowhere = f"http://127.0.0.1:{port}"
            error = self.fails(service, (Unavailable,), base_url=nowhere)
        assert error.retryable, "nothing was accepted, so the error is retryable=True"

    def test_a_job_is_resumed(self, run_case: Case, service: Peer | None) -> None:
        """A job is found again by its handle, which holds no key, and is not paid again."""
        if not run_case.in_force.resumable:
            pytest.skip("it keeps no jobs")

        async def twice(case: Case) -> tuple[Result, Result, str]:
            run = Run(case.provider, case.plan(), timeout=PATIENCE, max_retries=2)
            first = await run.execute()
            assert run.handles, f"{case}: a resumable model calls context.accepted(Handle(...))"
            told = json.dumps([handle.to_dict() for handle in run.handles])
            handles = [Handle.from_dict(each) for each in json.loads(told)]
            later = Run(case.provider, case.plan(), timeout=PATIENCE, max_retries=2)
            return first, await later.resume(handles), told

        first, again, told = self.ran(twice, run_case, service)
        assert not leaked(told), f"{run_case}: the key is in the handle: {leaked(told)}"
        assert [image.sha256 for image in again.received] == [
            image.sha256 for image in first.received
        ], f"{run_case}: resuming the job brings other pictures"
        _paid(service, first, run_case)

    def test_a_conversation_goes_on(self, run_case: Case, service: Peer | None) -> None:
        """The state of a first turn makes a second turn that the service takes."""
        if run_case.mode is not None or EditMode.CONTINUE not in run_case.card.edits:
            pytest.skip("it carries on no conversation")

        async def turns(case: Case) -> None:
            first = await _result(replace(case, state={}))
            assert first.state, f"{case}: Outcome.state is empty after the first turn"
            state = json.loads(json.dumps(first.state))
            assert not leaked(repr(state)), f"{case}: the key is in the state"
            second = await _result(replace(case, mode=EditMode.CONTINUE, state=state))
            assert second.images, f"{case}: the second turn brings no picture"

        self.ran(turns, run_case, service)

    # How calls are run

    def ran(
        self,
        work: Callable[[Case], Awaitable[T]],
        case: Case,
        service: Peer | None,
        **settings: Any,
    ) -> T:
        """`work` with the case on a provider of its own, which is closed afterwards."""
        place = {} if service is None else {"base_url": service.base_url}

        async def whole() -> T:
            provider = self.made(**{**place, **settings})
            try:
                return await work(replace(case, provider=provider))
            finally:
                await provider.aclose()

        with offline(loopback=service is not None):
            return asyncio.run(whole())

    def fails(
        self, service: Peer, expected: tuple[type[Exception], ...], retries: int = 0, **more: Any
    ) -> Any:
        """The error of a call that must fail, after a look at all that can be printed of it."""
        case = next(iter(self.run_cases()))

        async def failing(case: Case) -> Exception:
            try:
                await _result(case, retries=retries)
            except Exception as error:
                return error
            raise AssertionError(f"{case}: the call succeeded although the service failed")

        error = self.ran(failing, case, service, **more)
        text = "".join(traceback.format_exception(error)) + repr(vars(error))
        assert isinstance(error, DiptychError), (
            f"{case}: {type(error).__name__} escaped from run(); map it to one of diptych.errors:\n"
            f"{text[-1500:]}"
        )
        assert isinstance(error, expected), (
            f"{case}: expected {' or '.join(each.__name__ for each in expected)}, not "
            f"{type(error).__name__}: {error}"
        )
        assert not leaked(text), f"{case}: the key is in the error: {leaked(text)}"
        return error


async def _result(case: Case, *, retries: int = 2, **options: Any) -> Result:
    run = Run(case.provider, case.plan(**options), timeout=PATIENCE, max_retries=retries)
    return await run.execute()


def _paid(service: Peer | None, result: Result, case: Case) -> None:
    """Fails unless the service was asked for exactly the calls of the plan."""
    if service is None or result.plan is None:
        return
    planned, paid = len(result.plan.calls), service.count(*service.paid)
    assert paid == planned, f"{case}: {planned} paid requests were planned and {paid} were sent"
