"""Drawing with VAR: a loaded model, its static buffers and, on CUDA, a graph for every scale."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.errors import InvalidInput
from diptych.events import Preview, Progress
from diptych.image import Image
from diptych.local import checkpoints
from diptych.local.graphs import Graph
from diptych.local.tensors import from_image

from ..family import Drawn, Event, Files, Job, Runtime
from ..painting import fitting, generators, one_by_one, painted, preview_steps, weights
from ..vq import ScaleTokenizer
from ..weights import Weights, check_memory, converted
from .family import Layout, defaults
from .model import VAR, Buffers, Kept, Options, sample, step

__all__ = ["Graphs", "VARModel", "load"]


FULL = (".scale_mul_1H11", "pos_1LC", "lvl_embed.weight")
"""What is read in float32 whatever the model runs in: it is summed or exponentiated at loading."""


def load(files: Files, folder: Path, layout: Layout, runtime: Runtime) -> VARModel:
    if files.checkpoint.source == "hub":  # one transformer of the five
        checkpoints.fetch(files.checkpoint, [layout.transformer])
    path, tokens = folder / layout.transformer, folder / layout.tokenizer
    check_memory(files.ref, [converted(path)], runtime.device, runtime.dtype)
    with fitting(path, "a VAR transformer"):
        state = weights(path, runtime.device, runtime.dtype)
        exact = Weights([converted(path)], runtime.device, torch.float32)
        state |= {name: exact[name] for name in state if name.endswith(FULL)}
        model = VAR.load(state)
    with fitting(tokens, "VAR's tokenizer"):
        tokenizer = ScaleTokenizer.load(weights(tokens, runtime.device, torch.float32))
    tokenizer.place(runtime.device, runtime.dtype)
    side = model.config.patch_nums[-1] * tokenizer.factor
    if (side, model.config.classes) != (layout.size, layout.classes):
        raise InvalidInput(
            f"{path} draws {model.config.classes} classes at {side}x{side}; say so in a diptych.json "
            f'beside it: {{"size": {side}, "classes": {model.config.classes}}}'
        )
    return VARModel(model, tokenizer, side, runtime, defaults(files))


Key = tuple[int, Options, bool]
"""Pictures, how to sample, and whether an edit keeps tokens."""


class Graphs:
    """`step` as one CUDA graph per scale, captured when a scale first runs with these buffers."""

    def __init__(self) -> None:
        self._graphs: dict[int, Graph] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(
        self,
        model: VAR,
        tokenizer: ScaleTokenizer,
        buffers: Buffers,
        index: int,
        options: Options,
    ) -> tuple[Tensor, Tensor]:
        if index not in self._graphs:
            before = buffers.f_hat.clone()  # all else that a step writes, it writes again

            def run() -> tuple[Tensor, Tensor]:
                return step(model, tokenizer, buffers, index, options)

            self._graphs[index] = Graph(run, (), self._pool)
            buffers.f_hat.copy_(before)
        out: tuple[Tensor, Tensor] = self._graphs[index]()
        return out


class VARModel:
    """A loaded VAR. `own` is what it is drawn with where a payload says nothing."""

    def __init__(
        self,
        model: VAR,
        tokenizer: ScaleTokenizer,
        side: int,
        runtime: Runtime,
        own: Mapping[str, Any],
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._side, self._runtime, self._own = side, runtime, own
        self._spare: tuple[Key, Buffers, Any] | None = None

    def picture_bytes(self, payload: Mapping[str, Any]) -> int:
        config, side = self.model.config, self._side
        rows = 2 if self._options(payload).cfg else 1
        cache = 2 * config.depth * config.width * len(self.model.pos) * rows
        wide = config.patch_nums[-1] ** 2 * (config.hidden * rows + config.vocabulary * 6)
        return cache * self.model.pos.element_size() + wide * 4 + side * side * 160 * 4

    def draw(self, job: Job) -> Generator[Event, None, Drawn]:
        return self._drawn(job) if self._runtime.speed == "fast" else one_by_one(self._drawn, job)

    def _drawn(self, job: Job) -> Generator[Event, None, Drawn]:
        payload, count = job.payload, len(job.seeds)
        options = self._options(payload)
        label = payload["label"]
        labels = [self.model.config.classes if label is None else label] * count
        kept = self._kept(payload) if "image" in payload else None
        key = count, options, kept is not None
        buffers, run = self._lent(key)
        nums = self.model.config.patch_nums
        shown = preview_steps(job.previews, len(nums))
        try:
            scales = sample(
                self.model,
                self.tokenizer,
                labels,
                generators(job.seeds),
                options,
                kept=kept,
                buffers=buffers,
                step=run,
            )
            for scale in scales:
                done = scale.index + 1
                yield Progress(done, len(nums), "scales") if job.watched else None
                if done in shown:
                    for picture, image in enumerate(painted(self.tokenizer.picture, scale.f_hat)):
                        yield Preview(image, shown.index(done), picture)
            pictures: list[Image] = []
            for image in painted(self.tokenizer.picture, scale.f_hat):
                pictures.append(image)
                yield None
        finally:
            self._spare = key, buffers, run
        return Drawn(tuple(pictures), tokens=count * len(self.model.pos), passes=len(nums))

    def _options(self, payload: Mapping[str, Any]) -> Options:
        asked = {**self._own, **payload}
        guidance = 0.0 if payload["label"] is None else asked["guidance"]
        return Options(guidance, asked["top_k"], asked["top_p"], asked["more_smooth"])

    def _lent(self, key: Key) -> tuple[Buffers, Any]:
        """Buffers that no other job has, and their step: on CUDA with graphs, those of the last job
        if they fit. Jobs take turns, so each needs its own."""
        spare, self._spare = self._spare, None
        if spare is not None and spare[0] == key:
            return spare[1:]
        del spare  # freed before the next ones are made
        run = Graphs() if self._runtime.device.startswith("cuda") else step
        count, options, edits = key
        return Buffers.of(self.model, count, options, edits=edits), run

    def _kept(self, payload: Mapping[str, Any]) -> Kept:
        """The tokens of the picture that is edited, and which of them stay."""
        picture = from_image(payload["image"], (self._side, self._side))[None].to(
            self._runtime.device
        )
        tokens = self.tokenizer.encode(picture, self.model.config.patch_nums)
        rows = payload["tokens"]
        return Kept(tokens, torch.tensor([[each == "." for each in row] for row in rows]).float())
