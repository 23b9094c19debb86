"""GLM-Image's tensors: codes from our decoder, pixels from diffusers' pipeline.

The published pipeline lets the language model sample any of its tokens, seeds torch for the whole
process and draws one set of codes for all pictures of a prompt. Here codes alone can be sampled,
exactly as many as the picture has, each picture from a generator of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diptych.errors import InvalidInput, ProviderNotInstalled
from diptych.events import Progress
from diptych.image import Image
from diptych.local import tensors
from diptych.local.components import component
from diptych.local.stepwise import stepwise

from .decode import Begun, sequential
from .family import Drawn, Event, Files, Job, Runtime
from .glm import FACTOR, WRITER, Traits
from .glm_decoder import GlmDecoder, Grid, positions
from .grammar import Grammar
from .graphs import Steps
from .jacobi import parallel
from .painting import fitting, one_by_one
from .raster import sampler_of
from .sampling import Noise, Sampler
from .weights import Weights, check_memory, shards

__all__ = ["GlmModel"]

PARTS = ("tokenizer", "text_encoder", "vae", "transformer", "scheduler")
"""What the pipeline needs once the codes are there."""

CLASSES = {
    "AutoencoderKL": "diffusers.models.autoencoders.autoencoder_kl",
    "ByT5Tokenizer": "transformers",
    "FlowMatchEulerDiscreteScheduler": "diffusers.schedulers.scheduling_flow_match_euler_discrete",
    "GlmImageProcessor": "transformers",
    "GlmImageTransformer2DModel": "diffusers.models.transformers.transformer_glm_image",
    "T5EncoderModel": "transformers",
}
"""The classes that its parts may name, and where they live."""

FITS = 3
"""Times that a picture is brought to a size that the processor leaves as it is."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the language model reads.

    `pictures` are those that it sees, `codes` (rows * columns) theirs; `grids` those of the pictures
    that it sees and then of those that it writes.
    """

    ids: list[int]
    grids: list[Grid]
    pictures: list[Image]
    codes: list[Tensor]


class Canvas:
    """Codes are the first ids of the vocabulary; see `Canvas` of the loop."""

    def __init__(self, table: Tensor, head: Tensor, size: int) -> None:
        self.size = size
        self.table = table
        # A copy, so that the rows of begin, end and padding need not be kept.
        self._head = head[:size].clone()

    def vectors(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.table)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self._head)


class Writer:
    """The language model: from a prompt to codes."""

    def __init__(
        self, decoder: GlmDecoder, canvas: Canvas, eye: Eye, processor: Any, config: Any
    ) -> None:
        self.decoder, self.canvas, self._eye = decoder, canvas, eye
        self._processor = processor
        self._marks = config.image_start_token_id, config.image_end_token_id
        self._image = config.image_token_id
        self._steps = Steps()

    @classmethod
    def load(cls, folder: Path, runtime: Runtime, processor: Any) -> Writer:
        """Raises `InvalidInput` for weights that do not fit."""
        from transformers.models.glm_image.configuration_glm_image import GlmImageConfig

        config = GlmImageConfig.from_pretrained(folder, local_files_only=True)
        weights = Weights(shards(folder), runtime.device, runtime.dtype)
        text = "model.language_model."
        return cls(
            GlmDecoder.of(weights, text, config.text_config),
            Canvas(
                weights[f"{text}embed_tokens.weight"],
                weights["lm_head.weight"],
                config.vq_config.num_embeddings,
            ),
            Eye(config, weights, folder),
            processor,
            config,
        )

    def prompt(self, text: str, pictures: Sequence[Image], grid: Grid) -> Prompt:
        """Read a text and pictures; `grid` is that of the picture to draw."""
        control = [word for word in self._processor.tokenizer.get_added_vocab() if word in text]
        if control:
            raise InvalidInput(
                f"the prompt contains {control[0]!r}, which controls the model; leave it out"
            )
        shown = [self._placed(picture) for picture in pictures]
        content = [{"type": "image", "image": picture.pil()} for picture in shown]
        read = self._processor.apply_chat_template(
            [[{"role": "user", "content": [*content, {"type": "text", "text": text}]}]],
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"target_h": grid[0] * FACTOR, "target_w": grid[1] * FACTOR},
        )
        ids: Tensor = read["input_ids"][0]
        grids = [(rows, columns) for _, rows, columns in read["image_grid_thw"].tolist()]
        codes: list[Tensor] = []
        if shown:
            codes = self._eye(read["pixel_values"], read["image_grid_thw"][: len(shown)])
            ids[ids == self._image] = torch.cat(codes).cpu()
        else:
            # Grids are written in reverse: the small one, though it comes last in the prompt.
            grids.reverse()
        return Prompt(ids.tolist(), grids, shown, codes)

    def _placed(self, picture: Image) -> Image:
        """The picture at a size of which every 32x32 pixels become one code.

        The painter looks at the same pixels, so the two grids must agree.
        """
        sides = tuple(max(1, round(side / FACTOR)) * FACTOR for side in picture.size)
        for _ in range(FITS):
            scaled = _resized(picture, (sides[0], sides[1]))
            found = self._processor.image_processor(images=[scaled.pil()], return_tensors="pt")
            _, rows, columns = found["image_grid_thw"][0].tolist()
            if (columns * FACTOR, rows * FACTOR) == sides:
                return scaled
            sides = columns * FACTOR, rows * FACTOR
        width, height = picture.size
        raise InvalidInput(
            f"a picture of {width}x{height} does not fit the model's grid; crop it to a shape below 4:1"
        )

    def codes(
        self, prompt: Prompt, sampler: Sampler, job: Job
    ) -> Generator[Event, None, tuple[Tensor, int]]:
        """The codes (n, count) of the pictures of a job, and passes; the last ones are the large grid."""
        n, length = len(job.seeds), len(prompt.ids)
        total = sum(rows * columns for rows, columns in prompt.grids[len(prompt.codes) :])
        if length + total > self.decoder.shape.context:
            raise InvalidInput(
                f"the text and the pictures are {length + total:,} tokens, and the model reads "
                f"{self.decoder.shape.context:,}; say it in fewer words, or ask for a smaller size"
            )
        where = positions(prompt.ids, self._marks, prompt.grids)
        device = self.canvas.table.device
        own = self.decoder.new_cache(1, length)
        self.decoder.place(own, where[:, :length])
        ids = torch.tensor([prompt.ids], device=device)
        at = torch.arange(length, device=device)[None]
        hidden = self.decoder(self.canvas.vectors(ids), at, own, length)
        yield None
        first = self.canvas.logits(hidden[:, -1:]).expand(n, -1, -1)
        grammar = Grammar(1, total, self.canvas.size)
        noise = Noise(job.seeds, self.canvas.size, first)
        lent = self._steps.lent(self.decoder, self.canvas, sampler, n, length + total)
        with lent as (cache, step):
            self.decoder.place(cache, where)
            cache.put(slice(0, n), own.row(0, length))
            begun = Begun(torch.full((n,), length, device=device), length, first)
            is_fine = first.dtype in (torch.float32, torch.float64) and device.type != "cuda"
            if n == 1 and is_fine:
                loop = parallel(self.decoder, self.canvas, cache, begun, grammar, sampler, noise)
            else:
                loop = sequential(step, begun, grammar, sampler, noise, n)
            passes = 0
            while True:
                try:
                    codes = next(loop)
                except StopIteration as end:
                    return end.value, passes
                passes += 1
                yield Progress(codes.shape[1], total, "tokens") if job.watched else None


class Eye:
    """Pictures to codes, by transformers' nets."""

    def __init__(self, config: Any, weights: Weights, folder: Path) -> None:
        from transformers.models.glm_image.modeling_glm_image import (
            GlmImageVisionModel,
            GlmImageVQVAE,
        )

        with torch.device("meta"):
            self._vision: Any = GlmImageVisionModel(config.vision_config)
            self._vq: Any = GlmImageVQVAE(config.vq_config)
        for net, name in ((self._vision, "visual"), (self._vq, "vqmodel")):
            with fitting(folder, "the nets with which GLM-Image looks at pictures"):
                net.load_state_dict(weights.under(f"model.{name}."), strict=True, assign=True)
            net.eval().requires_grad_(False)

    def __call__(self, pixels: Tensor, grids: Tensor) -> list[Tensor]:
        """The codes (rows * columns) of each picture; `grids` are (1, rows, columns) each."""
        device = self._vq.quant_conv.weight.device
        seen = self._vision(
            pixels.to(device, self._vq.quant_conv.weight.dtype), grid_thw=grids.to(device)
        ).last_hidden_state
        found = []
        for each, (_, rows, columns) in zip(
            seen.split(grids.prod(-1).tolist()), grids.tolist(), strict=True
        ):
            features = each.view(rows, columns, -1).permute(2, 0, 1)[None].contiguous()
            found.append(self._vq.encode(features).image_tokens)
        return found


class GlmModel:
    """A loaded GLM-Image. Steps of the painter are yielded one by one, as those of the writer are."""

    def __init__(
        self,
        writer: Writer,
        pipeline: Callable[[], Any],
        own: Traits,
        speed: str,
    ) -> None:
        self._writer, self._pipeline = writer, pipeline
        self._own, self._speed = own, speed

    @classmethod
    def load(cls, files: Files, folder: Path, runtime: Runtime) -> GlmModel:
        """Raises `ProviderNotInstalled` without diffusers, `InvalidInput` for weights that do not fit."""
        try:
            from diffusers import GlmImagePipeline
        except ModuleNotFoundError as error:
            raise ProviderNotInstalled(
                f"{files.ref} paints with a diffusion transformer; run: "
                "pip install 'diptych-autoregressive[glm]'"
            ) from error
        paths = [
            path for part in (WRITER, *PARTS) for path in (folder / part).glob("*.safetensors")
        ]
        check_memory(files.ref, paths, runtime.device, runtime.dtype)
        writer = Writer.load(
            folder / WRITER, runtime, component(folder, "processor", runtime.dtype, CLASSES)
        )
        parts = {name: component(folder, name, runtime.dtype, CLASSES) for name in PARTS}
        for part in parts.values():
            if isinstance(part, nn.Module):
                part.to(runtime.device)

        def pipeline() -> Any:
            # Pipelines and schedulers count their steps, and pictures are drawn in turns.
            scheduler = copy.deepcopy(parts["scheduler"])
            fresh = {**parts, "scheduler": scheduler, "processor": None}
            pipe = GlmImagePipeline(**fresh, vision_language_encoder=None)
            pipe.set_progress_bar_config(disable=True)
            return pipe

        return cls(writer, pipeline, Traits.of(files), runtime.speed)

    def picture_bytes(self, payload: Mapping[str, Any]) -> int:
        rows, columns = _grid(self._own.size(payload))
        tokens = rows * columns * (1 + len(payload.get("pictures", ()))) + FACTOR * FACTOR
        kept = tokens * self._writer.decoder.shape.token_numbers
        pixels = rows * columns * FACTOR * FACTOR
        # The widest activations of the VAE: some hundred channels at full size.
        return kept * self._writer.decoder.norm.element_size() + pixels * 128 * 4

    def draw(self, job: Job) -> Generator[Event, None, Drawn]:
        return self._drawn(job) if self._speed == "fast" else one_by_one(self._drawn, job)

    def _drawn(self, job: Job) -> Generator[Event, None, Drawn]:
        payload = job.payload
        grid = _grid(self._own.size(payload))
        # Guidance is the painter's; the writer reads one branch.
        sampler = replace(sampler_of(payload, self._own.knobs), guidance=1.0)
        prompt = self._writer.prompt(payload["prompt"], payload.get("pictures", ()), grid)
        yield None
        codes, passes = yield from self._writer.codes(prompt, sampler, job)
        large = codes[:, codes.shape[1] - grid[0] * grid[1] :]
        pictures = []
        for number in range(len(job.seeds)):
            prior = _doubled(large[number], grid)
            picture = yield from self._painted(job, prompt, prior, number)
            pictures.append(picture)
        return Drawn(tuple(pictures), None, codes.numel(), passes)

    def _painted(
        self, job: Job, prompt: Prompt, prior: Tensor, number: int
    ) -> Generator[Event, None, Image]:
        """Picture `number` of the batch from its codes, by the pipeline's own loop."""
        payload, pictures = job.payload, len(job.seeds)
        steps, (width, height) = payload.get("steps", self._own.steps), self._own.size(payload)
        rows, columns = _grid((width, height))
        options: dict[str, Any] = {}
        if prompt.codes:
            seen = zip(prompt.codes, prompt.grids, strict=False)
            options = {
                "image": [each.pil() for each in prompt.pictures],
                "prior_token_image_ids": [torch.cat([_doubled(*each) for each in seen])],
                "source_image_grid_thw": [
                    torch.tensor(
                        [[1, 2 * rows, 2 * columns] for rows, columns in prompt.grids[:-1]]
                    )
                ],
            }

        def call(report: Callable[[int], None]) -> Tensor:
            def after(pipe: Any, step: int, sigma: Any, values: dict[str, Any]) -> dict[str, Any]:
                report(step + 1)
                return values

            images: Tensor = self._pipeline()(
                prompt=payload["prompt"],
                prior_token_ids=prior[None],
                height=rows * FACTOR,
                width=columns * FACTOR,
                num_inference_steps=steps,
                guidance_scale=payload.get("guidance", self._own.knobs.guidance),
                generator=torch.Generator().manual_seed(job.seeds[number]),
                output_type="pt",
                callback_on_step_end=after,
                **options,
            ).images
            return images[0]

        around: Callable[[], AbstractContextManager[None]] = nullcontext
        with closing(stepwise(call, around)) as running:
            while True:
                try:
                    step = next(running)
                except StopIteration as end:
                    pixels: Tensor = end.value * 2 - 1
                    return tensors.to_image(pixels[:, :height, :width])
                done = number * steps + step
                yield Progress(done, pictures * steps) if job.watched else None


def _grid(size: tuple[int, int]) -> Grid:
    """Rows and columns of codes for pictures of (width, height)."""
    return ceil(size[1] / FACTOR), ceil(size[0] / FACTOR)


def _doubled(codes: Tensor, grid: Grid) -> Tensor:
    """The codes (rows * columns) with each twice in both directions: the painter's grid is finer."""
    plane = codes.view(grid)
    return plane.repeat_interleave(2, 0).repeat_interleave(2, 1).flatten()


def _resized(picture: Image, size: tuple[int, int]) -> Image:
    return tensors.to_image(tensors.from_image(picture, size))
