"""fal's queue: one paid submit, then status, result and cancel, which are free to repeat."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from fal_client.client import AppId

from diptych.errors import DiptychError, InvalidInput, ProviderError
from diptych.events import Progress, Queued
from diptych.keys import Secret
from diptych.notices import Notice
from diptych.plan import Call
from diptych.provider import Handle, Outcome, RunContext, RunEvent

from .endpoints import Endpoint, endpoint
from .errors import malformed, refusal, unlearned
from .hosts import Hosts
from .results import Job, outcome_of
from .uploads import Uploads
from .wire import Answer, Wire, host_of

__all__ = ["Queue"]

FIRST, LAST, GROWTH = 0.1, 1.5, 1.4
"""Seconds between two questions for the status: the first pause, the longest, and the factor.

The fastest models answer within half a second; a job of a minute is asked after some 45 times.
"""

_ID = re.compile(r"[\w.:-]{1,200}")
_ADDRESSES = ("status_url", "response_url", "cancel_url")


class Queue:
    """fal's queue behind one connection pool; many calls may run in it at once."""

    def __init__(self, key: Secret | None, hosts: Hosts) -> None:
        self._wire = Wire(key, hosts)
        self._uploads = Uploads(self._wire)

    async def aclose(self) -> None:
        await self._wire.aclose()

    async def run(self, call: Call, context: RunContext) -> AsyncGenerator[RunEvent, None]:
        """Submit a call, once, and follow it to its outcome."""
        row = endpoint(call.operation)
        arguments = await self._uploads.filled(call.payload, context)
        context.sent()
        answer = await self._wire.send("submit", "POST", call.target, data=arguments)
        job = self._accepted(row, call, answer)
        context.accepted(self._handle(job))
        yield Queued(position=job.position)
        async for event in self._followed(job, context):
            yield event

    async def resume(self, handle: Handle, context: RunContext) -> AsyncGenerator[RunEvent, None]:
        """Follow a job that was submitted before."""
        async for event in self._followed(self._known(handle), context):
            yield event

    async def cancel(self, handle: Handle) -> bool:
        """Ask fal to drop a job; False when it is done already, or gone."""
        answer = await self._wire.send("cancel", "PUT", self._known(handle).cancel_url)
        if 200 <= answer.status < 300:
            return True
        if answer.status in (400, 404):
            return False
        raise refusal(answer, "cancel", self._wire.key, request_id=handle.id)

    # The job

    def _accepted(self, row: Endpoint, call: Call, answer: Answer) -> Job:
        """The job that a submit was answered with."""
        if not 200 <= answer.status < 300:
            raise refusal(answer, "submit", self._wire.key)
        named = answer.headers.get("x-fal-request-id")
        body = _object(answer)
        id = None if body is None else body.get("request_id", named)
        if body is None or not isinstance(id, str) or not _ID.fullmatch(id):
            told = (
                "the submit with something that names no job: it may have been accepted and billed, so "
                "it is not sent again; look at fal's request history"
            )
            raise malformed(told, key=self._wire.key, request_id=named)
        return self._job(row, id, body, call.payload)

    def _known(self, handle: Handle) -> Job:
        if not _ID.fullmatch(handle.id):
            raise InvalidInput(f"{handle.id!r} is not the id of a job of fal's")
        return self._job(endpoint(handle.model), handle.id, handle.data, None)

    def _job(
        self, row: Endpoint, id: str, named: Mapping[str, Any], payload: Mapping[str, Any] | None
    ) -> Job:
        """The job under the addresses that fal named, as far as the key may go there."""
        addresses = self._addresses(row, id)
        foreign = []
        for name in _ADDRESSES:
            url = named.get(name)
            if not isinstance(url, str):
                continue
            if self._wire.may_have_key(url):
                addresses[name] = url
            else:
                foreign.append(host_of(url))
        notices = tuple(
            Notice(
                "mismatch", f"fal named {host} for this job; the key stayed with fal's own address"
            )
            for host in sorted(set(foreign))
        )
        position = _position(named)
        return Job(row, id, **addresses, payload=payload, position=position, notices=notices)

    def _addresses(self, row: Endpoint, id: str) -> dict[str, str]:
        """Where fal keeps the job: under the owner and the name of the endpoint, without its path."""
        app = AppId.from_endpoint_id(row.id)
        space = f"{app.namespace}/" if app.namespace else ""
        base = f"{self._wire.hosts.queue}/{space}{app.owner}/{app.alias}/requests/{id}"
        return {
            "status_url": f"{base}/status",
            "response_url": base,
            "cancel_url": f"{base}/cancel",
        }

    def _handle(self, job: Job) -> Handle:
        """Without the addresses that follow from the id anyhow."""
        usual = self._addresses(job.row, job.id)
        data = {name: url for name in _ADDRESSES if (url := getattr(job, name)) != usual[name]}
        return Handle("fal", job.row.name, job.id, data)

    # Following it

    async def _followed(self, job: Job, context: RunContext) -> AsyncGenerator[RunEvent, None]:
        failure: DiptychError
        try:
            async for event in self._events(job, context):
                yield event
            return
        except ProviderError as error:
            failure = unlearned(error, job.id)
        raise failure

    async def _events(self, job: Job, context: RunContext) -> AsyncGenerator[RunEvent, None]:
        """Ask for the status until the job is done. States may come late, twice or unheard of."""
        pause, place, lines = FIRST, job.position, set[tuple[str, str]]()
        while True:
            state = await context.retry(lambda: self._state(job, context.streaming))
            if state.get("status") == "IN_QUEUE" and _position(state) != place:
                place = _position(state)
                yield Queued(position=place)
            for message in _unseen(state.get("logs"), lines):
                yield Progress(unit="log", message=message)
            if state.get("status") == "COMPLETED":
                break
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  # jitter, no secret
            pause = min(pause * GROWTH, LAST)
        yield await self._outcome(job, context)

    async def _state(self, job: Job, watched: bool) -> dict[str, Any]:
        url = _with_logs(job.status_url) if watched else job.status_url
        answer = await self._wire.send("status", "GET", url)
        if not 200 <= answer.status < 300:
            raise refusal(answer, "status", self._wire.key, request_id=job.id)
        body = _object(answer)
        if body is None:
            told = "the question for a status with something that is not a JSON object"
            raise malformed(told, request_id=job.id, retryable=True)
        return body

    async def _outcome(self, job: Job, context: RunContext) -> Outcome:
        """Completed is not success: the response has the model's own status."""
        answer, body = await context.retry(lambda: self._response(job))
        return await outcome_of(job, answer, body, self._wire, context)

    async def _response(self, job: Job) -> tuple[Answer, dict[str, Any]]:
        answer = await self._wire.send("result", "GET", job.response_url)
        if not 200 <= answer.status < 300:
            raise refusal(answer, "result", self._wire.key, request_id=job.id)
        body = _object(answer)
        if body is None:
            told = "a finished job with something that is not a JSON object"
            raise malformed(told, request_id=job.id, retryable=True)
        return answer, body


def _position(body: Mapping[str, Any]) -> int | None:
    """Jobs ahead of this one."""
    position = body.get("queue_position")
    return position if isinstance(position, int) and not isinstance(position, bool) else None


def _with_logs(url: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}logs=true"


def _object(answer: Answer) -> dict[str, Any] | None:
    try:
        body = answer.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _unseen(logs: Any, seen: set[tuple[str, str]]) -> list[str]:
    """The log lines that were not seen before; a status repeats those of the ones before it."""
    fresh = []
    for line in logs if isinstance(logs, list) else ():
        message = line.get("message") if isinstance(line, dict) else None
        if not isinstance(message, str) or not message.strip():
            continue
        mark = (str(line.get("timestamp")), message)
        if mark not in seen:
            seen.add(mark)
            fresh.append(message)
    return fresh
