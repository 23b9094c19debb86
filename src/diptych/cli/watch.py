"""Following a job: a progress bar for whoever looks, and previews as files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled, DiptychError
from ..events import Completed, Event, Preview, Progress, Queued
from .files import Target, keep
from .terminal import clean, say, watched

if TYPE_CHECKING:
    from ..result import Result
    from ..sync import Job

__all__ = ["follow", "waiting"]


@dataclass
class _Watch:
    """What the events of a job do: move the bar, save previews."""

    bar: Any | None
    previews: Target | None
    saved: list[Path] = field(default_factory=list)

    def see(self, event: Event) -> None:
        if isinstance(event, Preview) and self.previews is not None:
            self._preview(event)
        elif self.bar is not None:
            self._move(event)

    def _preview(self, event: Preview) -> None:
        assert self.previews is not None
        stem = f"{self.previews.stem}-preview-{event.picture + 1}-{event.index + 1}"
        try:
            self.saved += keep([event.image], Target(self.previews.folder, stem))
        except (OSError, DiptychError) as error:  # the picture itself is still to come
            say(f"diptych: a preview was not saved: {error}")

    def _move(self, event: Event) -> None:
        assert self.bar is not None
        task = self.bar.task_ids[0]
        if isinstance(event, Queued):
            place = "" if event.position is None else f", {event.position} before it"
            self.bar.update(task, description=f"queued{place}")
        elif isinstance(event, Progress):
            if event.message:
                self.bar.update(task, description=clean(event.message, line=True)[:60])
            if event.done is not None:
                self.bar.update(task, completed=event.done, total=event.total)


@contextmanager
def waiting(title: str, *, quiet: bool) -> Iterator[Any | None]:
    """A progress bar on stderr while a person is watching, else None. rich is loaded only then."""
    if quiet or not watched():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    text = TextColumn("{task.description}", markup=False)
    console = Console(stderr=True)
    with Progress(text, BarColumn(), TimeElapsedColumn(), console=console, transient=True) as bar:
        bar.add_task(clean(title, line=True), total=None)
        yield bar


def follow(
    job: Job, title: str, *, quiet: bool, previews: Target | None = None
) -> tuple[Result, list[Path]]:
    """The result of `job` and the paths of its previews. An interrupt stops the job.

    Raises what the job raises, and `Cancelled` with the handle after an interrupt.
    """
    with waiting(title, quiet=quiet) as bar:
        watch = _Watch(bar, previews)
        try:
            for event in job.events():
                if isinstance(event, Completed):
                    return event.result, watch.saved
                watch.see(event)
        except KeyboardInterrupt:
            return _stopped(job), watch.saved
    raise AssertionError("a stream ends with Completed or raises")


def _stopped(job: Job) -> Result:
    """Stop the job; the result all the same when it had just come."""
    try:
        stopped, problem = job.cancel(), ""
    except DiptychError as error:
        stopped, problem = True, f" (which failed: {error})"
    if not stopped and job.status() == "completed":
        return job.result()
    if job.handle is None:
        raise Cancelled("interrupted; a request that had left already may be billed")
    cancelled = Cancelled(
        f"interrupted; the provider was asked to stop the job{problem}, which may be billed all the same"
    )
    cancelled.handle = job.handle
    raise cancelled
