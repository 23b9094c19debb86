"""A loaded checkpoint: which of its two ways of drawing does a job, and with which adapters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from diptych.errors import UnsupportedOption

from .adapters import Adapters, Worn, worn
from .cards import Described, is_native
from .engine import Engine, Steps
from .job import Job
from .recipe import EXTRA
from .refusals import check
from .speed import Pace
from .stock import Stock

if TYPE_CHECKING:
    from .loading import Lease

__all__ = ["Model"]

SETS = 4
"""Sets of adapters for which a batch and the encoded prompts are kept."""


class Model:
    """The loop of our own, where the family has one, and the stock pipelines over the same parts.

    Requests with the same adapters share passes; `engine` makes the loop for one set of adapters.
    Everything happens on the thread of the device.
    """

    def __init__(
        self,
        described: Described,
        engine: Callable[[], Engine] | None,
        stock: Stock,
        lease: Lease,
        pace: Pace | None,
    ) -> None:
        self.described = described
        self.stock = stock
        self.adapters = Adapters(stock.parts, stock.any_pipeline, described.family.name)
        self.lease = lease
        self.pace = pace
        self._engine = engine
        self._engines: OrderedDict[Worn, Engine] = OrderedDict()

    def run(self, job: Job, *, streaming: bool) -> Steps:
        """Draw the pictures of `job`, in steps; the last event is the `Outcome`."""
        check(
            self.described,
            job.task,
            image=None if job.image is None else job.image.size,
            size=job.size,
            negative_prompt=job.negative_prompt,
            guidance=job.guidance,
            change=job.change,
            controls=job.controls,
            references=[each.get("weight") for each in job.references],
            adapters=[each["path"] for each in job.adapters],
            read=[each["image"].size for each in job.references],
            extra=job.extra,
        )
        wanted = worn(job.adapters)
        if wanted and self.pace is not None and self.pace.eight:
            raise UnsupportedOption(
                f'adapters cannot be put on weights in eight bits: use speed="exact" instead of '
                f'"{self.pace.speed}"',
                option="adapters",
            )
        self.lease.arrive()
        self.adapters.load(wanted)
        yield None
        steps = self._drawing(job, wanted, streaming)
        try:
            while True:
                self.lease.arrive()  # others may have been here in between
                self.adapters.wear(wanted)
                try:
                    event = next(steps)
                except StopIteration:
                    return
                finally:
                    if self.adapters.reach_others:
                        self.adapters.wear(())
                yield event
        finally:
            steps.close()

    def _drawing(self, job: Job, wanted: Worn, streaming: bool) -> Steps:
        beside = {"controls": bool(job.controls), "references": bool(job.references)}
        native = is_native(self.described.family, job.task, **beside)
        if self._engine is None or not native or not set(job.extra) <= EXTRA:
            return self.stock.run(job, streaming=streaming)
        if wanted not in self._engines:
            self._engines[wanted] = self._engine()
            if len(self._engines) > SETS:
                self._engines.popitem(last=False)
        self._engines.move_to_end(wanted)
        return self._engines[wanted].run(job, streaming=streaming)
