"""One job on one engine: prompts, guidance, sizes and pictures, as samplers need them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from diptych.composite import composite
from diptych.image import Image
from diptych.local import tensors
from diptych.notices import Notice

from .batch import Row
from .flow import Known, Prompted, denoise
from .flowedit import Moved, edit
from .geometry import canvas
from .job import Job
from .locate import located
from .native import Text
from .recipe import Recipe

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Drawing", "Work"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """One picture on its way. `moved` is how far an edit between two descriptions has gone."""

    seed: int
    row: Row
    moved: Moved | None = None


class Work:
    """One job on one engine: what its pictures share."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self.engine, self.job = engine, job
        self.model, self.recipe = engine.model, Recipe.of(engine.described, job.extra)
        self.notices: list[Notice] = []
        self.canvas = canvas(self._size(), self.recipe)
        self.grid = self.model.grid(self.canvas.drawn)
        steps, change = self.recipe.steps, 1.0
        if job.task == "invert":
            steps, change = self.recipe.flowedit.steps or steps, self.recipe.flowedit.change
        self.steps = steps if job.steps is None else job.steps
        self.passes = self.steps if job.task == "invert" else engine.pace.passes(self.steps)
        self.change = change if job.change is None else job.change

    def _size(self) -> tuple[int, int]:
        if self.job.size is not None:
            return self.job.size
        return (self.recipe.side,) * 2 if self.job.image is None else self.job.image.size

    @property
    def is_kept(self) -> bool:
        """Whether nothing is to be changed: `change` 0 keeps the picture."""
        return self.job.image is not None and self.change == 0

    def kept(self, seed: int) -> Image:
        assert self.job.image is not None
        return _sized(self.job.image, self.canvas.asked).with_(seed=seed)

    def prepare(self) -> Iterator[None]:
        """Encode the prompts and the picture, in steps."""
        self.sigmas = self.model.schedule(self.steps, self.canvas.drawn, self.change)
        edit, inverts = self.recipe.flowedit, self.job.task == "invert"
        self.prompted = self._prompted(self.job.prompt, edit.guidance if inverts else None)
        yield
        if inverts:
            assert self.job.source_prompt is not None
            self.before = self._prompted(self.job.source_prompt, None, edit.source_guidance)
            yield
        if self.job.image is not None:
            self.source = self.model.latents(self._framed(tensors.from_image, self.job.image))
            yield
        if self.job.mask is not None:
            self.free = self.model.mask(
                self._framed(tensors.from_mask, self.job.mask), self.canvas.drawn
            )
        self.group = self.model.group(self.prompted.asks(torch.empty(0), 1.0, self.grid)[0])

    def _framed(self, read: Callable[[T, tuple[int, int]], Tensor], value: T) -> Tensor:
        """A picture or mask as a tensor of the size that is drawn; its edges fill the padding."""
        inner = read(value, self.canvas.inner)
        left, top, right, bottom = self.canvas.box
        width, height = self.canvas.drawn
        sides = (left, width - right, top, height - bottom)
        return torch.nn.functional.pad(inner[None], sides, mode="replicate")[0]

    def _prompted(
        self, prompt: str, default: float | None = None, fixed: float | None = None
    ) -> Prompted:
        """A prompt with its guidance: `fixed`, else the caller's, else `default` or the recipe's."""
        job, recipe = self.job, self.recipe
        guidance = recipe.guidance if default is None else default
        if fixed is not None or job.guidance is not None:
            guidance = fixed if fixed is not None else job.guidance  # type: ignore[assignment]
        scale, embedded = guidance, None
        if recipe.kind != "cfg":
            scale, embedded = 1.0, guidance
            if job.negative_prompt is not None:
                scale = recipe.true_cfg
        text = self._read(prompt)
        if not self.model.has_guidance(scale):
            return Prompted(text, embedded=embedded)
        negative = recipe.negative if job.negative_prompt is None else job.negative_prompt
        return Prompted(text, self._read(negative), scale, embedded)

    def _read(self, prompt: str) -> Text:
        text = self.engine.text(prompt, self.recipe.length)
        if text.cut:
            told = (
                f"the model reads {self.recipe.length} tokens of a prompt; {text.cut!r} was cut off"
            )
            self._tell(Notice("mismatch", told, "prompt"))
        return text

    def begin(self, seed: int) -> Drawing:
        """Begin one picture."""
        generator = torch.Generator().manual_seed(seed)
        noise = self.model.noise(self.canvas.drawn, generator)
        if self.job.task == "invert":
            return self._edited(seed, noise, generator)
        latents, known, sigma = noise, None, self.sigmas[0]
        if self.job.image is not None:
            latents = (1 - sigma) * self.source + sigma * noise
        if self.job.mask is not None:
            known = Known(self.source, noise, self.free)
        sampler = denoise(self.model, latents, self.sigmas, self.prompted, self.grid, known)
        sampler = self.engine.pace.sampler(sampler, self.steps)
        return Drawing(seed, Row(sampler, self.group))

    def _edited(self, seed: int, first: Tensor, generator: torch.Generator) -> Drawing:
        settings, moved = self.recipe.flowedit, Moved()

        def noise() -> Tensor:
            return torch.randn(first.shape, generator=generator).to(first.device)

        sampler = edit(
            self.model,
            self.source,
            self.sigmas,
            self.before,
            self.prompted,
            self.grid,
            noise,
            averages=settings.averages,
            alone=settings.alone,
            moved=moved,
        )
        return Drawing(seed, Row(sampler, self.group), moved)

    def preview(self, drawing: Drawing) -> Image:
        """The picture as far as it can be told."""
        assert drawing.row.clean is not None
        return self._decoded(drawing.row.clean)

    def finish(self, drawing: Drawing) -> Image:
        """The picture of a drawing whose last step was taken."""
        assert drawing.row.result is not None
        image = self._decoded(drawing.row.result)
        composes = not self.job.whole and self.job.preserve != "model"
        if drawing.moved is not None and composes:
            image = self._put_back(image, drawing.moved)
        return image.with_(seed=drawing.seed)

    def _put_back(self, edited: Image, moved: Moved) -> Image:
        """The edit where it took place and the original elsewhere, pixel for pixel."""
        assert self.job.image is not None
        assert moved.total is not None
        mask = located(self.model.planes(moved.total, self.canvas.drawn), self.canvas)
        if mask is None:
            told = (
                "the edit changed the picture everywhere, so nothing of the original was put back"
            )
            self._tell(Notice("assumed", told, "preserve"))
            return edited
        original = _sized(self.job.image, self.canvas.asked)
        if mask.is_empty:
            return original
        done = composite(original, edited, mask)
        told = (
            f"the edit has a place: {1 - mask.coverage:.0%} of the picture is the original's, where the "
            f"model had changed it by {done.outside_mean:.1f} of 255 on average"
        )
        self._tell(Notice("assumed", told, "preserve"))
        return done.image

    def _tell(self, notice: Notice) -> None:
        if notice not in self.notices:
            self.notices.append(notice)

    def facts(self) -> dict[str, Any]:
        """What was run, for `Result.raw`."""
        return {
            "steps": 0 if self.is_kept else self.steps,
            "passes": 0 if self.is_kept else self.passes,
            "change": self.change,
            "size": list(self.canvas.drawn),
        }

    def _decoded(self, latents: Tensor) -> Image:
        """The picture of latents, at the size that was asked for."""
        picture = self.model.picture(latents, self.canvas.drawn)
        left, top, right, bottom = self.canvas.box
        return _sized(tensors.to_image(picture[:, top:bottom, left:right]), self.canvas.asked)


def _sized(image: Image, size: tuple[int, int]) -> Image:
    if image.size == size:
        return image
    from PIL import Image as pillow

    return Image.of(image.pil().resize(size, pillow.Resampling.LANCZOS))
