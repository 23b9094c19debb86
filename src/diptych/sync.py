"""The synchronous client: the asynchronous one, on the loop that all sync clients share."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterable, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any, Literal, Self, TypeVar, Unpack

from . import portal
from .cards import ModelCard
from .client import AsyncImageClient
from .conversation import Conversation
from .cost import Budget
from .errors import ConfigurationError, DiptychError
from .events import Event
from .image import ImageSource
from .job import AsyncJob, Status
from .mask import MaskSource
from .options import EditOptions, GenerateOptions
from .plan import Plan
from .planner import Rewriter
from .request import Request
from .result import Result

__all__ = ["ImageClient", "Job"]

T = TypeVar("T")


class ImageClient:
    """One client for every model, by "provider/model".

    The same settings as `AsyncImageClient`, and the same methods without `await`. A context manager,
    thread-safe and reusable: make one and keep it.

        client = ImageClient("openai/gpt-image-2")
        client.generate("a watercolor of a fox reading a book").image.save("fox.png")
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
        self._client = AsyncImageClient(
            model,
            api_key=api_key,
            base_url=base_url,
            timeout=timeout,
            max_retries=max_retries,
            budget=budget,
            rewriter=rewriter,
            device=device,
            dtype=dtype,
            speed=speed,
            **provider_settings,
        )
        self.model = self._client.model
        self._portal = portal.PORTAL
        self._portal.acquire()
        # Also for a client that nobody closes: its connections end with it, not with the process.
        self._close = weakref.finalize(self, _close, self._portal, self._client)

    def __repr__(self) -> str:
        return f"ImageClient({self.model!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close connections, or free the engine. The client cannot be used afterwards."""
        self._close()

    # Making pictures

    def generate(
        self, prompt: str, *, timeout: float | None = None, **options: Unpack[GenerateOptions]
    ) -> Result:
        """Pictures from a text.

        Raises `RequestError` or `ConfigurationError` before anything is sent, and `ProviderError`,
        `OutcomeUnknown` or `DeadlineExceeded` afterwards.
        """
        return self._call(self._client.generate(prompt, timeout=timeout, **options))

    def edit(
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
        return self._call(self._client.edit(image, prompt, timeout=timeout, **options))

    def stream_generate(
        self, prompt: str, *, timeout: float | None = None, **options: Unpack[GenerateOptions]
    ) -> Generator[Event, None, None]:
        """As `generate`, as events; the last is `Completed`. Leaving the loop early cancels."""
        return self._iterate(self._client.stream_generate(prompt, timeout=timeout, **options))

    def stream_edit(
        self,
        image: ImageSource,
        prompt: str,
        *,
        timeout: float | None = None,
        **options: Unpack[EditOptions],
    ) -> Generator[Event, None, None]:
        """As `edit`, as events; the last is `Completed`. Leaving the loop early cancels."""
        return self._iterate(self._client.stream_edit(image, prompt, timeout=timeout, **options))

    def stream(
        self, request: Request | Plan, *, timeout: float | None = None
    ) -> Generator[Event, None, None]:
        """Run a request or a plan, as events; the last is `Completed`. Leaving the loop cancels."""
        return self._iterate(self._client.stream(request, timeout=timeout))

    # Planning

    def plan(self, prompt: str, **options: Unpack[GenerateOptions]) -> Plan:
        """What `generate` would do: free, and without any network. `plan.run()` does it."""
        return self._bound(self._client.plan(prompt, **options))

    def plan_edit(self, image: ImageSource, prompt: str, **options: Unpack[EditOptions]) -> Plan:
        """What `edit` would do. A picture given by URL is not fetched; where its size is needed
        (mask, expand), call `Image.from_url(url).fetch()` first."""
        return self._bound(self._client.plan_edit(image, prompt, **options))

    # Jobs

    def submit(
        self, prompt: str, *, timeout: float | None = None, **options: Unpack[GenerateOptions]
    ) -> Job:
        """Start `generate` and return once the provider has accepted it."""
        return Job(self, self._call(self._client.submit(prompt, timeout=timeout, **options)))

    def submit_edit(
        self,
        image: ImageSource,
        prompt: str,
        *,
        timeout: float | None = None,
        **options: Unpack[EditOptions],
    ) -> Job:
        """Start `edit` and return once the provider has accepted it."""
        started = self._client.submit_edit(image, prompt, timeout=timeout, **options)
        return Job(self, self._call(started))

    def resume(
        self,
        handle: str,
        *,
        image: ImageSource | None = None,
        mask: MaskSource | None = None,
        preserve: Literal["exact", "model"] = "exact",
        timeout: float | None = None,
    ) -> Job:
        """Go on with a job from its handle, without submitting anything.

        A job that protects pixels needs the `image` and `mask` it was submitted with (the image
        alone after `expand`), or `preserve="model"`. Raises `InvalidInput` for a handle of another
        provider.
        """
        going = self._client.resume(
            handle, image=image, mask=mask, preserve=preserve, timeout=timeout
        )
        return Job(self, self._call(going))

    # Many

    def map(
        self,
        prompts: Iterable[str],
        *,
        concurrency: int = 8,
        on_error: Literal["raise", "return"] = "raise",
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Iterator[Result | DiptychError]:
        """`generate` for every prompt, at most `concurrency` at once, results in order.

        With `on_error="return"` an error takes its result's place; with "raise" the first one ends
        the iteration after the calls in flight have ended, since they may be paid for. Shows a
        progress bar in a terminal or a notebook.
        """
        texts = list(prompts)
        results = self._client.map(
            texts, concurrency=concurrency, on_error=on_error, timeout=timeout, **options
        )
        return _with_bar(self._iterate(results), len(texts), self.model)

    # Conversations and facts

    def conversation(self, *, image: ImageSource | None = None) -> Conversation:
        """A new conversation, beginning with `image` when one is given."""
        return Conversation(self, image=image)

    def load_conversation(self, text: str) -> Conversation:
        """A conversation from `Conversation.to_json`."""
        return Conversation.from_json(self, text)

    def describe(self) -> ModelCard:
        """The card of this client's model."""
        return self._client.describe()

    # Within

    def _bound(self, plan: Plan) -> Plan:
        return plan.but(runner=self._execute)

    def _planned(self, request: Request, history: Any = None) -> Plan:
        return self._bound(self._client._planned(request, history))

    def _materialised(self, request: Request) -> Request:
        return self._call(self._client._materialised(request))

    def _execute(self, plan: Plan, timeout: float | None = None) -> Result:
        return self._call(self._client._execute(plan, timeout))

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return self._portal.call(work)

    def _iterate(self, events: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        try:
            while True:
                try:
                    event = self._call(_following(events))
                except StopAsyncIteration:
                    return
                yield event
        finally:
            with suppress(ConfigurationError):  # the client is closed, and the events with it
                self._call(_closed(events))


class Job:
    """A submitted request of an `ImageClient`; see `submit` and `resume`."""

    def __init__(self, client: ImageClient, job: AsyncJob) -> None:
        self._client = client
        self._job = job

    @property
    def handle(self) -> str | None:
        """A string without secrets for `client.resume`, in any process.

        None for a provider that keeps no jobs.
        """
        return self._job.handle

    def status(self) -> Status:
        """The state: "running", "completed", "failed" or "cancelled", as far as this process knows."""
        return self._job.status()

    def events(self) -> Generator[Event, None, None]:
        """Every event from the first on; ends with `Completed`, or raises what the job raised."""
        return self._client._iterate(self._job.events())

    def result(self, timeout: float | None = None) -> Result:
        """The result, waiting at most `timeout` seconds (None: until the job's own deadline).

        Raises `DeadlineExceeded` when the wait ends first (the job goes on), `Cancelled` after
        `cancel()`, or whatever the job raised.
        """
        return self._client._call(self._job.result(timeout))

    def cancel(self) -> bool:
        """Stop the job here and ask the provider to stop it. False when it had already ended."""
        return self._client._call(self._job.cancel())


def _close(loop: portal.Portal, client: AsyncImageClient) -> None:
    loop.finish(client.aclose())
    loop.release()


async def _following(events: AsyncGenerator[T, None]) -> T:
    return await anext(events)


async def _closed(events: AsyncGenerator[Any, None]) -> None:
    if not getattr(events, "ag_running", False):  # else it unwinds already, without anybody waiting
        await events.aclose()


def _with_bar(results: Iterator[T], total: int, model: str) -> Iterator[T]:
    """`results`, with a progress bar while a person is watching."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not (console.is_terminal or console.is_jupyter)) as bar:
        task = bar.add_task(model, total=total)
        for result in results:
            bar.advance(task)
            yield result
