"""One picture by a stock pipeline, a step at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import torch
from PIL import Image as pillow
from torch import Tensor

from diptych.errors import ContentBlocked, Unavailable
from diptych.image import Image
from diptych.local.stepwise import stepwise

from .geometry import Canvas
from .logs import listening
from .previews import preview

__all__ = ["Drawing", "picture_of"]

Step = tuple[int, int, Tensor | None]
"""Steps taken, steps in all, and the latents after this one where the pipeline shows them."""


class Drawing:
    """A call of a pipeline: `steps` runs it; then `output` is its answer and `said` what it logged.

    `made` makes the pipeline, `arguments` are those of its call, of which it takes those named by
    `takes`. `count` is how many steps were asked for; `around` makes the context of every step.
    """

    output: Any

    def __init__(
        self,
        made: Callable[[], Any],
        arguments: Mapping[str, Any],
        takes: frozenset[str],
        count: int | None,
        around: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._logs = listening()
        with self._logs.around():
            self._pipe = made()
        self._arguments, self._takes = arguments, takes
        self._count, self._around = count, around
        self._previous: Tensor | None = None

    @property
    def said(self) -> list[str]:
        """What the libraries warned of."""
        return self._logs.said

    def steps(self) -> Iterator[Step]:
        """Run the call; closing the iterator ends it after the step it is in."""
        with closing(stepwise(self._call, self._listened)) as running:
            self.output = yield from self._remembered(running)

    def preview(self, latents: Tensor | None, canvas: Canvas) -> Image | None:
        """The picture after the step whose latents these are; None where they cannot be shown."""
        if latents is None:
            return None
        return preview(self._pipe, latents, self._previous, canvas)

    def _remembered(self, running: Generator[Step, None, Any]) -> Generator[Step, None, Any]:
        """The steps, of which the one before the last is remembered."""
        while True:
            try:
                step = next(running)
            except StopIteration as end:
                return end.value
            yield step
            self._previous = step[2]

    def _call(self, report: Callable[[Step], None]) -> Any:
        def after(pipe: Any, step: int, _: Any, values: dict[str, Any]) -> dict[str, Any]:
            report((step + 1, int(pipe.num_timesteps), values.get("latents")))
            return values

        def told(step: int, _: Any, latents: Tensor) -> None:
            report((step + 1, self._count or step + 1, latents))

        more: dict[str, Any] = {}
        if "callback_on_step_end" in self._takes:
            more["callback_on_step_end"] = after
        elif "callback" in self._takes:  # PixArt's, from before there was the other
            more["callback"] = told
        return self._pipe(**self._arguments, output_type="pt", **more)

    @contextmanager
    def _listened(self) -> Iterator[None]:
        with self._logs.around(), self._around():
            yield


def picture_of(output: Any, ref: str) -> pillow.Image:
    """The first picture of a pipeline's answer.

    Raises `ContentBlocked` when the checkpoint's safety checker found it unsafe, and `Unavailable`
    when it is not made of finite numbers.
    """
    if any(getattr(output, "nsfw_content_detected", None) or ()):
        raise ContentBlocked(
            "the checkpoint's safety checker found the picture unsafe",
            stage="output",
            provider="diffusers",
        )
    picture = output.images[0]
    if not torch.isfinite(picture).all():
        raise Unavailable(
            f"{ref} computed numbers that are not finite; use dtype='bfloat16' or 'float32'",
            provider="diffusers",
        )
    levels = (picture.float().clamp(0, 1) * 255).round().byte()
    return pillow.fromarray(levels.permute(1, 2, 0).contiguous().cpu().numpy())
