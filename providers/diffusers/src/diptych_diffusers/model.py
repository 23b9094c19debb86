"""A loaded checkpoint: which of its two ways of drawing does a job."""

from __future__ import annotations

from .cards import Described, is_native
from .engine import Engine, Steps
from .job import Job
from .recipe import EXTRA
from .refusals import check
from .stock import Stock

__all__ = ["Model"]


class Model:
    """The loop of our own, where the family has one, and the stock pipelines over the same parts."""

    def __init__(self, described: Described, engine: Engine | None, stock: Stock) -> None:
        self.described = described
        self.engine = engine
        self.stock = stock

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
            references=job.references,
            extra=job.extra,
        )
        beside = {"controls": bool(job.controls), "references": bool(job.references)}
        native = is_native(self.described.family, job.task, **beside)
        if self.engine is not None and native and set(job.extra) <= EXTRA:
            return self.engine.run(job, streaming=streaming)
        return self.stock.run(job, streaming=streaming)
