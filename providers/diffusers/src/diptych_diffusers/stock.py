"""Families without a loop of our own, and tasks that it does not do: the stock pipelines.

What a caller means is turned into the arguments of a stock call here, so that nothing is stretched,
ignored or misread: pictures are RGB and on the model's grid, masks are planes in which white is
painted, every size is given, and every picture is drawn by a call of its own with its own generator,
so that it equals the one that its seed gives alone.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from functools import partial
from typing import Any

import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from diptych.cost import Cost
from diptych.errors import UnsupportedOption
from diptych.events import Preview, Progress
from diptych.image import Image
from diptych.notices import Notice
from diptych.provider import Outcome

from .cards import Described, task_of
from .control import canny, check_image, check_paints, controlnet, union_mode
from .drawing import Drawing, picture_of
from .families import Task, takes
from .files import found
from .geometry import Canvas, canvas
from .job import Job
from .logs import listening
from .pipelines import arguments_of, pipeline, sampler
from .placing import blank, crop, grown, place, place_mask
from .recipe import Recipe
from .references import References
from .strength import strength_of
from .words import cut_off

__all__ = ["Stock"]

Steps = Generator[Progress | Preview | Outcome | None, None, None]

NETS = 4
"""ControlNets that stay loaded."""

PREVIEWS = 3
"""Previews of a picture when somebody watches and did not say how many."""


class Stock:
    """One loaded checkpoint, run by diffusers' own pipelines on the thread of its device.

    `parts` are its components; pipelines of several classes share them.
    """

    def __init__(
        self, parts: Mapping[str, Any], described: Described, device: str, dtype: torch.dtype
    ) -> None:
        self.parts = dict(parts)
        self.described = described
        self.device = device
        self.dtype = dtype
        self.references = References(self.parts, device, dtype)
        self._nets: OrderedDict[str, Any] = OrderedDict()

    def run(self, job: Job, *, streaming: bool) -> Steps:
        """Draw the pictures of `job`. The last event is the `Outcome`."""
        work = _Work(self, job)
        yield None
        for each in job.controls:
            if (path := each.get("path")) is not None:
                self.controlnet(path)
                yield None
        work.prepare()
        images: list[Image] = []
        for number, seed in enumerate(job.seeds):
            if work.is_kept:
                images.append(work.kept().with_(seed=seed))
                continue
            picture = yield from work.draw(seed, number, streaming)
            images.append(picture.with_(seed=seed))
            yield None
        yield Outcome(
            images=tuple(images),
            cost=Cost(Decimal(0), source="computed"),
            notices=tuple(dict.fromkeys(work.notices)),
            raw=work.facts(),
        )

    def controlnet(self, path: str) -> Any:
        """The ControlNet at `path`, loaded once and kept for a while."""
        if path not in self._nets:
            folder = found(path, "controls")
            kind = self.described.family.controlnet
            denoiser = self.parts.get("transformer", self.parts.get("unet"))
            self._nets[path] = controlnet(folder, kind, self.dtype, self.device, denoiser)
            if len(self._nets) > NETS:
                self._nets.popitem(last=False)
        self._nets.move_to_end(path)
        return self._nets[path]

    def any_pipeline(self) -> Any:
        """A pipeline of the checkpoint, whatever its task."""
        tasks = self.described.family.tasks
        return self.pipeline(
            next(
                name
                for task, name in tasks.items()
                if "control" not in task or self.described.family.concat
            ),
            {},
        )

    def pipeline(self, name: str, extra: Mapping[str, Any]) -> Any:
        """A pipeline of class `name` over the loaded parts, with a scheduler of its own.

        The class is one that our table names, or one that diffusers itself exports.
        """
        assert self.described.facts is not None
        return pipeline(name, {**self.parts, **extra}, self.described.facts.settings)


class _Work:
    """One job: what its pictures share."""

    def __init__(self, stock: Stock, job: Job) -> None:
        self.stock, self.job = stock, job
        self.model = stock.described
        self.family = self.model.family
        self.recipe = Recipe.of(self.model, job.extra)
        self.notices: list[Notice] = []
        self.task: Task = task_of(self.family, job.task, bool(job.controls))
        self.name = self.family.tasks[self.task] or self._exported()
        self.takes = takes(self.name) or arguments_of(self.name)
        self.steps = job.steps or self.model.defaults.get("steps")
        self.canvas = self._canvas()
        self.parts: dict[str, Any] = {}
        self.arguments: dict[str, Any] = {}
        if (wanted := job.extra.get("scheduler")) is not None:
            self.parts["scheduler"] = sampler(wanted, stock.parts["scheduler"])
        self.around: Callable[[], AbstractContextManager[None]] = nullcontext
        if self.name == "GlmImagePipeline":
            # Its writer draws from the random numbers of the whole process, and sets their seed.
            own = [torch.device(stock.device)] if stock.device.startswith("cuda") else []
            self.around = partial(torch.random.fork_rng, devices=own)

    def prepare(self) -> None:
        """Turn the job into arguments. ControlNets are loaded."""
        if not self.is_kept:
            self.arguments = self._arguments()
            self._count_words()

    def _exported(self) -> str:
        """The class that the checkpoint names, when diffusers itself has it."""
        import diffusers

        facts = self.model.facts
        assert facts is not None
        if facts.pipeline not in diffusers._import_structure.get("pipelines", ()):
            raise UnsupportedOption(
                f"{self.model.card.ref} is a {facts.pipeline}, which this diffusers does not have",
                option="model",
            )
        return facts.pipeline

    # From what was asked for to arguments

    def _canvas(self) -> Canvas:
        size = self.job.size or (self.job.image.size if self.job.image is not None else None)
        return canvas(size or (self.model.side, self.model.side), self.recipe)

    def _arguments(self) -> dict[str, Any]:
        """The arguments of the stock call, but for the generator and the callback."""
        job, takes = self.job, self.takes
        width, height = self.canvas.drawn
        sizes = {
            "height": height,
            "width": width,
            "max_area": width * height,
            "output_resolution": self.model.side,  # at which pictures are read; not the size drawn
        }
        values: dict[str, Any] = {"prompt": job.prompt}
        values |= {name: value for name, value in sizes.items() if name in takes}
        values |= {name: value for name, value in self.family.always.items() if name in takes}
        if "max_sequence_length" in takes and self.family.text:
            values["max_sequence_length"] = self.recipe.length
        values |= {name: value for name, value in job.extra.items() if name in takes}
        if self.steps is not None:
            values["num_inference_steps"] = self.steps
            if self.steps != len(self.model.sigmas or ()) and self.model.sigmas:
                # The checkpoint's own noise levels are of another number and would win.
                values["sigmas"] = [1 - each / self.steps for each in range(self.steps)]
        values |= self._guidance() | self._pictures() | self._controls()
        if job.references and not self.family.native_references:
            values |= self._adapted()
            if "prompt_embeds" in values:
                del values["prompt"]
        if "intermediate_timesteps" in takes and values["num_inference_steps"] != 2:
            values["intermediate_timesteps"] = None  # one is between two steps and no others
        return values

    def _count_words(self) -> None:
        """Tell what of a prompt the model does not read; no tokenizer that reads more may save it."""
        parts = self.stock.parts
        limits = {
            name: self.recipe.length if limit > 77 else limit
            for name, limit in self.family.text.items()
            if parts.get(name) is not None
        }
        if not limits:
            return
        name, limit = max(limits.items(), key=lambda each: each[1])
        with listening().around():
            pipe = self.stock.pipeline(self.name, self.parts)
            for option in ("prompt", "negative_prompt"):
                words, negative = getattr(self.job, option) or "", option == "negative_prompt"
                if cut := cut_off(pipe, parts[name], words, limit, negative=negative):
                    told = f"the model reads {limit} tokens of a prompt; {cut!r} was cut off"
                    self.notices.append(Notice("mismatch", told, option))

    def _guidance(self) -> dict[str, Any]:
        """Guidance and negative prompt, so that both act or one is refused."""
        job, kind = self.job, self.family.guidance
        argument = self.family.guidance_argument()
        number = self.model.defaults.get("guidance") if job.guidance is None else job.guidance
        values: dict[str, Any] = {}
        if argument in self.takes and number is not None:
            values[argument] = number
        elif job.guidance is not None:
            raise UnsupportedOption(f"{self.name} takes no guidance", option="guidance")
        words = job.negative_prompt
        if words is None:
            if kind == "true_cfg" and "negative_prompt" in self.takes and (number or 0) > 1:
                # Without one, true guidance is skipped; a blank one names nothing to avoid.
                values["negative_prompt"] = self.recipe.negative or " "
            return values
        if "negative_prompt" not in self.takes:
            raise UnsupportedOption(
                f"{self.name} takes no negative prompt", option="negative_prompt"
            )
        if kind == "embedded":
            values["true_cfg_scale"] = self.recipe.true_cfg
        return values | {"negative_prompt": words}

    def _pictures(self) -> dict[str, Any]:
        """The picture, the mask, the references, and how far to depart from the picture."""
        job, task = self.job, self.task
        values: dict[str, Any] = {}
        references = [
            grown(blank(each["image"], alpha=self.family.alpha)) for each in job.references
        ]
        if task in ("img2img", "inpaint", "control_img2img", "control_inpaint"):
            assert job.image is not None
            values["image"] = place(job.image, self.canvas)
            values |= self._depth()
            if task.endswith("inpaint"):
                assert job.mask is not None
                values["mask_image"] = place_mask(job.mask, self.canvas)
        elif task == "instruct":
            assert job.image is not None
            own = canvas(job.image.size, self.recipe)
            picture = place(job.image, own, alpha=self.family.alpha)
            values["image"] = (
                [grown(picture), *references] if self.family.native_references else picture
            )
        elif references and self.family.native_references:
            values["image"] = references
        return values

    def _adapted(self) -> dict[str, Any]:
        """A reference through an IP-Adapter, which is worn while this job runs, or through Redux."""
        (reference,), extra = self.job.references, self.job.extra
        picture, weight = blank(reference["image"]), reference.get("weight")
        made = self.stock.references
        if "redux" in extra:
            tokens, pooled = made.redux(extra["redux"], picture, self.job.prompt)
            return {"prompt_embeds": tokens, "pooled_prompt_embeds": pooled}
        adapter = made.ip_adapter(extra["ip_adapter"], extra.get("image_encoder"))
        self.around = partial(adapter.worn, 1.0 if weight is None else float(weight))
        self.parts["image_encoder"] = adapter.encoder
        if self.stock.parts.get("feature_extractor") is None:
            side = adapter.encoder.config.image_size
            self.parts["feature_extractor"] = CLIPImageProcessorPil(
                size={"shortest_edge": side}, crop_size={"height": side, "width": side}
            )
        return {"ip_adapter_image": picture}

    def _controls(self) -> dict[str, Any]:
        """Control images, and how strongly and when they act."""
        job = self.job
        argument = "control_image" if "control_image" in self.takes else "image"
        if job.task == "control":
            assert job.image is not None
            return {argument: place(canny(job.image), self.canvas)}
        controls = job.controls
        if not controls:
            return {}
        for each in controls:
            check_image(each["kind"], each["image"])
        images = [place(each["image"], self.canvas) for each in controls]
        if self.family.concat:
            return {argument: images[0]}
        nets = [self.stock.controlnet(each["path"]) for each in controls]
        if self.name == "ZImageControlNetInpaintPipeline":
            check_paints(nets[0], self.stock.parts["transformer"], controls[0]["path"])
        values: dict[str, list[Any]] = {
            argument: images,
            "controlnet_conditioning_scale": [float(each["strength"]) for each in controls],
            "control_guidance_start": [float(each["start"]) for each in controls],
            "control_guidance_end": [float(each["end"]) for each in controls],
            "control_mode": [
                union_mode(net, each["kind"]) for net, each in zip(nets, controls, strict=True)
            ],
        }
        self.parts["controlnet"] = nets if len(nets) > 1 else nets[0]
        return {
            name: value if len(nets) > 1 else value[0]
            for name, value in values.items()
            if name in self.takes and (name != "control_mode" or value != [None] * len(nets))
        }

    def _depth(self) -> dict[str, Any]:
        if "strength" not in self.takes:
            return {}
        change = 1.0 if self.job.change is None else self.job.change
        assert self.steps is not None
        steps, strength = strength_of(
            self.family.steps_run,
            change,
            self.steps,
            self.parts.get("scheduler", self.stock.parts["scheduler"]),
            self.canvas.drawn,
        )
        values: dict[str, Any] = {"num_inference_steps": steps, "strength": strength}
        if "original_inference_steps" in self.takes:
            # The steps are chosen among those of a longer schedule, of which only a part is used.
            longer = self.job.extra.get("original_inference_steps", 50)
            values["original_inference_steps"] = max(longer, math.ceil(steps / strength) + 1)
        return values

    # A picture that is kept, and one that is drawn

    @property
    def is_kept(self) -> bool:
        """Nothing is to change, so nothing is run."""
        return self.job.change == 0 and "strength" in self.takes

    def kept(self) -> Image:
        assert self.job.image is not None
        return crop(place(self.job.image, self.canvas), self.canvas)

    def draw(
        self, seed: int, number: int, streaming: bool
    ) -> Generator[Progress | Preview | None, None, Image]:
        """One picture, a step at a time."""
        shown = self.job.previews if self.job.previews is not None else PREVIEWS * streaming
        drawing = Drawing(
            partial(self.stock.pipeline, self.name, self.parts),
            self.arguments | {"generator": [torch.Generator().manual_seed(seed)]},
            self.takes,
            self.steps,
            self.around,
        )
        many = len(self.job.seeds)
        seen = 0
        for step, total, latents in drawing.steps():
            yield Progress(number * total + step, many * total)
            if step in _when(total, shown):
                image = drawing.preview(latents, self.canvas)
                if image is not None:
                    yield Preview(image, seen, number)
                    seen += 1
        self.notices += [Notice("unverified", f"diffusers: {each}") for each in drawing.said]
        return crop(picture_of(drawing.output, self.model.card.ref), self.canvas)

    def facts(self) -> dict[str, Any]:
        """What was run, for `Result.raw`."""
        return {
            "pipeline": self.name,
            "steps": 0 if self.is_kept else self.steps,
            "change": self.job.change,
            "size": list(self.canvas.drawn),
        }


def _when(steps: int, count: int) -> list[int]:
    """After which steps previews are made: evenly, never after the last one."""
    count = min(count, steps - 1)
    return [steps * each // (count + 1) for each in range(1, count + 1)]
