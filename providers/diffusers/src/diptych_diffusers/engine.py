"""A loaded model of a family with a loop of our own: from a job to pictures.

`Engine.run` is a generator for the worker thread of the device; each of its steps is at most one
forward pass of the transformer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator
from decimal import Decimal

from diptych.cost import Cost
from diptych.events import Preview, Progress
from diptych.image import Image
from diptych.provider import Outcome

from .batch import Batch
from .cards import Described
from .job import Job
from .native import Native, Text
from .speed import Pace
from .work import Work

__all__ = ["Engine"]

Steps = Generator[Progress | Preview | Outcome | None, None, None]

REMEMBERED = 64
"""Prompts whose encodings are kept."""

PREVIEWS = 3
"""Previews of a picture when somebody watches and did not say how many."""


class Engine:
    """One loaded model. Everything happens on the thread of its device.

    `limit` is how many pictures share a forward pass, None as many as are worth while.
    """

    def __init__(
        self, model: Native, described: Described, *, limit: int | None, pace: Pace
    ) -> None:
        self.model = model
        self.described = described
        self.pace = pace
        self.batch = Batch(model, limit)
        self._texts: OrderedDict[tuple[str, int], Text] = OrderedDict()

    def run(self, job: Job, *, streaming: bool) -> Steps:
        """Draw the pictures of `job`. The last event is the `Outcome`."""
        work = Work(self, job)
        images: list[Image] = []
        if work.is_kept:
            images = [work.kept(seed) for seed in job.seeds]
        else:
            for _ in work.prepare():
                yield None
            for first in range(0, len(job.seeds), self.batch.room(work.grid)):
                yield from self._wave(work, first, images, streaming)
        notices = (*work.notices, *self.pace.notices())
        self.pace.drawn()
        yield Outcome(
            images=tuple(images),
            cost=Cost(Decimal(0), source="computed"),
            notices=notices,
            raw=work.facts(),
        )

    def _wave(self, work: Work, first: int, images: list[Image], streaming: bool) -> Steps:
        """The pictures from the one numbered `first` that run side by side; appended to `images`."""
        job, steps, limit = work.job, work.passes, self.batch.room(work.grid)
        waves = -(-len(job.seeds) // limit)
        shown = _when(steps, PREVIEWS * streaming if job.previews is None else job.previews)
        drawings = [work.begin(seed) for seed in job.seeds[first : first + limit]]
        rows = [drawing.row for drawing in drawings]
        for row in rows:
            self.batch.join(row)
        try:
            for step in range(1, steps + 1):
                self.batch.advance(rows)
                yield Progress(first // limit * steps + step, waves * steps)
                if step in shown:
                    for number, drawing in enumerate(drawings, first):
                        yield Preview(work.preview(drawing), shown.index(step), number)
            for drawing in drawings:
                images.append(work.finish(drawing))
                yield None
        finally:
            for row in rows:
                self.batch.leave(row)

    def text(self, prompt: str, length: int) -> Text:
        """The encoded prompt, remembered."""
        key = (prompt, length)
        if key not in self._texts:
            self._texts[key] = self.model.encode(prompt, length)
            if len(self._texts) > REMEMBERED:
                self._texts.popitem(last=False)
        self._texts.move_to_end(key)
        return self._texts[key]


def _when(steps: int, count: int) -> list[int]:
    """After which steps previews are made: evenly, never after the last one."""
    count = min(count, steps - 1)
    return [steps * each // (count + 1) for each in range(1, count + 1)]
