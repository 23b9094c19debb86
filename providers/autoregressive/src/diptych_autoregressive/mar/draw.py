"""Drawing with MAR: a loaded model and its autoencoder."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.errors import InvalidInput
from diptych.events import Preview, Progress
from diptych.image import Image
from diptych.local.graphs import Graph
from diptych.local.tensors import from_image

from ..family import Drawn, Event, Files, Job, Runtime
from ..kl import Autoencoder
from ..painting import fitting, generators, one_by_one, painted, preview_steps, weights
from .family import Layout, defaults
from .head import Head, Steps
from .model import HEADS, MAR, Options, inpaint_orders, orders, sample

__all__ = ["MARModel", "load"]


def load(files: Files, folder: Path, layout: Layout, runtime: Runtime) -> MARModel:
    path, pixels = folder / layout.transformer, folder / layout.autoencoder
    state = weights(path, runtime.device, torch.float32, "model_ema", "model")
    with fitting(path, "a MAR model"):
        width = state["class_emb.weight"].shape[1]
        if layout.heads is None and width not in HEADS:
            raise InvalidInput(
                f"{path} is {width} wide, which is not base (768), large (1024) or huge (1280); say how "
                'many attention heads it has in a diptych.json beside it: {"heads": 16}'
            )
        model = MAR.load(state, heads=layout.heads)
    model.place(runtime.device, runtime.dtype)
    with fitting(pixels, "MAR's autoencoder"):
        autoencoder = Autoencoder.load(weights(pixels, runtime.device, torch.float32, "model"))
    autoencoder.to(runtime.device, runtime.dtype)
    side = round(model.config.tokens**0.5) * autoencoder.factor
    if (side, model.config.classes) != (layout.size, layout.classes):
        raise InvalidInput(
            f"{path} draws {model.config.classes} classes at {side}x{side}; say so in a diptych.json "
            f'beside it: {{"size": {side}, "classes": {model.config.classes}}}'
        )
    return MARModel(model, autoencoder, side, runtime, defaults(files))


class HeadGraphs:
    """`Head.denoise` as CUDA graphs, one for each number of tokens that a pass predicts."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._graphs: dict[tuple[object, ...], Graph] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(
        self,
        z: Tensor,
        start: Tensor,
        noise: Tensor,
        cfg: Tensor,
        steps: Steps,
        temperature: float,
    ) -> Tensor:
        key = (z.shape, noise.shape, temperature)
        if key not in self._graphs:

            def run(z: Tensor, start: Tensor, noise: Tensor, cfg: Tensor) -> Tensor:
                return self._head.denoise(z, start, noise, cfg, steps, temperature)

            self._graphs[key] = Graph(run, (z, start, noise, cfg), self._pool)
        latents: Tensor = self._graphs[key](z, start, noise, cfg)
        return latents


class MARModel:
    """A loaded MAR. `own` is what it is drawn with where a payload says nothing."""

    def __init__(
        self,
        model: MAR,
        autoencoder: Autoencoder,
        side: int,
        runtime: Runtime,
        own: Mapping[str, Any],
    ) -> None:
        self.model, self.autoencoder = model, autoencoder
        self._side, self._runtime, self._own = side, runtime, own
        on_cuda = runtime.device.startswith("cuda")
        self._denoise = HeadGraphs(model.head) if on_cuda else None

    def picture_bytes(self, payload: Mapping[str, Any]) -> int:
        config, options = self.model.config, self._options(payload, self.model.config.tokens)
        rows = 1 if options.cfg == 1 else 2
        length = config.tokens + config.buffer
        wide = length * (config.hidden * 2 + config.heads * length) * rows
        noise = config.tokens * rows * config.channels * options.steps
        return (wide + noise + self._side * self._side * 160) * 4

    def draw(self, job: Job) -> Generator[Event, None, Drawn]:
        return self._drawn(job) if self._runtime.speed == "fast" else one_by_one(self._drawn, job)

    def _drawn(self, job: Job) -> Generator[Event, None, Drawn]:
        payload, tokens = job.payload, self.model.config.tokens
        order, source, masked = orders(tokens, job.seeds), None, tokens
        if "image" in payload:
            unknown = torch.tensor([each == "#" for row in payload["tokens"] for each in row])
            order = inpaint_orders(order, unknown)
            source, masked = self._source(payload, len(job.seeds)), int(unknown.sum())
        options = self._options(payload, masked)
        shown = preview_steps(job.previews, options.passes)
        passes = sample(
            self.model,
            [payload["label"]] * len(job.seeds),
            generators(job.seeds),
            order,
            options,
            source=source,
            masked=masked,
            denoise=self._denoise,
        )
        for each in passes:
            done = each.index + 1
            yield Progress(done, options.passes, "passes") if job.watched else None
            if done in shown:
                for picture, image in enumerate(painted(self._decode, each.tokens)):
                    yield Preview(image, shown.index(done), picture)
        pictures: list[Image] = []
        for image in painted(self._decode, each.tokens):
            pictures.append(image)
            yield None
        return Drawn(tuple(pictures), tokens=len(job.seeds) * masked, passes=options.passes)

    def _options(self, payload: Mapping[str, Any], masked: int) -> Options:
        """How to sample `masked` tokens: in no more passes, each of which makes at least one."""
        asked = {**self._own, **payload}
        return Options(
            min(asked["passes"], masked),
            1.0 if payload["label"] is None else asked["guidance"],
            asked["schedule"],
            asked["temperature"],
            asked["diffusion_steps"],
        )

    def _source(self, payload: Mapping[str, Any], count: int) -> Tensor:
        """The tokens (B, L, C) of the picture that is edited."""
        weight = self.autoencoder.quant_conv.weight
        picture = from_image(payload["image"], (self._side, self._side))[None].to(weight)
        return self.autoencoder.encode(picture).float().flatten(2).mT.repeat(count, 1, 1)

    def _decode(self, tokens: Tensor) -> Tensor:
        """A picture (B, 3, S, S) of tokens (B, L, C)."""
        side = round(tokens.shape[1] ** 0.5)
        latent = tokens.mT.reshape(len(tokens), -1, side, side)
        return self.autoencoder.decode(latent.to(self.autoencoder.quant_conv.weight.dtype))
