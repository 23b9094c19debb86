"""A loaded model of a family with a loop of our own: from a job to pictures.

`Engine.run` is a generator for the worker thread of the device; each of its steps is at most one
forward pass of the transformer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import torch
from torch import Tensor

from diptych.cost import Cost
from diptych.events import Preview, Progress
from diptych.image import Image
from diptych.local import tensors
from diptych.notices import Notice
from diptych.provider import Outcome

from .batch import Batch, Row
from .flow import Prompted, Sampler, denoise
from .geometry import Canvas, canvas
from .job import Job
from .native import Native, Text
from .recipe import Recipe

__all__ = ["Engine"]

Steps = Generator[Progress | Preview | Outcome | None, None, None]

REMEMBERED = 64
"""Prompts whose encodings are kept."""

PREVIEWS = 3
"""Previews of a picture when somebody watches and did not say how many."""


class Engine:
    """One loaded model. Everything happens on the thread of its device."""

    def __init__(self, model: Native, recipe: Recipe, *, limit: int) -> None:
        self.model = model
        self.recipe = recipe
        self.batch = Batch(model, limit)
        self._texts: OrderedDict[tuple[str, int], Text] = OrderedDict()

    def run(self, job: Job, *, streaming: bool) -> Steps:
        """Draw the pictures of `job`. The last event is the `Outcome`."""
        work = Work(self, job)
        yield from work.prepare()
        steps = work.steps
        waves = [
            job.seeds[first : first + self.batch.limit]
            for first in range(0, len(job.seeds), self.batch.limit)
        ]
        shown = _when(steps, job.previews if job.previews is not None else PREVIEWS * streaming)
        images: list[Image] = []
        for number, seeds in enumerate(waves):
            rows = [Row(work.sampler(seed), work.group) for seed in seeds]
            for row in rows:
                self.batch.join(row)
            try:
                for step in range(steps):
                    self.batch.advance(rows)
                    yield Progress(number * steps + step + 1, len(waves) * steps)
                    for index in (at for at, each in enumerate(shown) if each == step + 1):
                        for picture, row in enumerate(rows, len(images)):
                            yield Preview(work.finished(row.clean), index, picture)
                for seed, row in zip(seeds, rows, strict=True):
                    images.append(work.finished(row.result).with_(seed=seed))
                    yield None
            finally:
                for row in rows:
                    self.batch.leave(row)
        yield Outcome(
            images=tuple(images),
            cost=Cost(Decimal(0), source="computed"),
            notices=tuple(work.notices),
            raw={"steps": steps, "drawn_at": list(work.canvas.drawn)},
        )

    def text(self, prompt: str) -> Text:
        """The encoded prompt, remembered."""
        key = (prompt, self.recipe.length)
        if key not in self._texts:
            self._texts[key] = self.model.encode(*key)
            if len(self._texts) > REMEMBERED:
                self._texts.popitem(last=False)
        self._texts.move_to_end(key)
        return self._texts[key]


class Work:
    """One job on one engine: what its pictures share."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self.engine, self.job = engine, job
        self.model, self.recipe = engine.model, engine.recipe
        self.notices: list[Notice] = []
        self.steps = job.steps or self.recipe.steps
        self.canvas = self._canvas()

    def _canvas(self) -> Canvas:
        side = self.recipe.side
        size = self.job.size or (
            self.job.image.size if self.job.image is not None else (side, side)
        )
        return canvas(size, self.model.multiple, self.recipe.least, self.recipe.most)

    def prepare(self) -> Steps:
        """Encode the prompts and the picture, in steps."""
        self.prompted = self._prompted()
        yield None
        self.sigmas = self.model.schedule(self.steps, self.canvas.drawn)
        grid = self.model.grid(self.canvas.drawn)
        self.group = self.model.group(self.prompted.asks(torch.empty(0), 1.0, grid)[0])

    def _prompted(self) -> Prompted:
        """The words and the guidance of the job."""
        job, recipe = self.job, self.recipe
        text = self._read(job.prompt)
        guidance = recipe.guidance if job.guidance is None else job.guidance
        if recipe.kind == "cfg":
            scale, embedded = guidance, None
        else:
            scale = recipe.true_cfg if job.negative_prompt is not None else 1.0
            embedded = guidance
        if not self.model.has_guidance(scale):
            return Prompted(text, embedded=embedded)
        negative = recipe.negative if job.negative_prompt is None else job.negative_prompt
        return Prompted(text, self._read(negative), scale, embedded)

    def _read(self, prompt: str) -> Text:
        text = self.engine.text(prompt)
        if text.cut:
            self.notices.append(
                Notice(
                    "mismatch",
                    f"the model reads {self.recipe.length} tokens of a prompt; {text.cut!r} was cut off",
                    "prompt",
                )
            )
        return text

    def sampler(self, seed: int) -> Sampler:
        """The sampler of one picture."""
        generator = torch.Generator().manual_seed(seed)
        size = self.canvas.drawn
        noise = self.model.noise(size, generator)
        return denoise(self.model, noise, self.sigmas, self.prompted, self.model.grid(size))

    def finished(self, latents: Tensor | None) -> Image:
        """The picture of latents, at the size that was asked for."""
        assert latents is not None
        picture = self.model.picture(latents, self.canvas.drawn)
        left, top, right, bottom = self.canvas.box
        return _sized(tensors.to_image(picture[:, top:bottom, left:right]), self.canvas.asked)


def _sized(image: Image, size: tuple[int, int]) -> Image:
    if image.size == size:
        return image
    from PIL import Image as pillow

    return Image.of(image.pil().resize(size, pillow.Resampling.LANCZOS))


def _when(steps: int, count: int) -> list[int]:
    """After which steps previews are made: evenly, never after the last one."""
    return (
        [max(1, steps * each // (count + 1)) for each in range(1, count + 1)] if steps > 1 else []
    )
