"""Drawing with LlamaGen: a loaded model, its tokenizer, and on CUDA a graph of one token."""

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

from ..family import Drawn, Event, Files, Job, Runtime
from ..painting import fitting, generators, one_by_one, painted, preview_steps, weights
from ..vq import GridTokenizer
from ..weights import check_memory, converted
from .captions import Captions
from .family import ENCODER, Layout, defaults
from .model import HEADS, Cache, LlamaGen, Options, sample

__all__ = ["LlamaGenModel", "TokenGraph", "load"]

PARTS = ("model", "module", "state_dict")
"""Under which of these names a checkpoint holds its tensors depends on how it was trained."""


def load(files: Files, folder: Path, layout: Layout, runtime: Runtime) -> LlamaGenModel:
    if files.checkpoint.source == "hub":  # one transformer of several
        checkpoints.fetch(files.checkpoint, [layout.transformer, layout.tokenizer])
    path, codes = folder / layout.transformer, folder / layout.tokenizer
    check_memory(files.ref, [converted(path)], runtime.device, runtime.dtype)
    state = weights(path, runtime.device, runtime.dtype, *PARTS)
    with fitting(path, "a LlamaGen transformer"):
        width = state["tok_embeddings.weight"].shape[1]
        if layout.heads is None and width not in HEADS:
            raise InvalidInput(
                f"{path} is {width} wide, which none of the published models is; say how many attention "
                'heads it has in a diptych.json beside it: {"heads": 16}'
            )
        model = LlamaGen.load(state, heads=layout.heads)
    with fitting(codes, "LlamaGen's tokenizer"):
        tokenizer = GridTokenizer.load(weights(codes, runtime.device, torch.float32, *PARTS))
    tokenizer.place(runtime.device, runtime.dtype)
    classes = model.config.classes
    if (classes is not None) != (layout.kind == "c2i"):
        raise InvalidInput(f"{path} is named {layout.kind}, but its tensors are of the other kind")
    if classes is not None and classes != layout.classes:
        raise InvalidInput(
            f"{path} draws {classes} classes; say so in a diptych.json beside it: "
            f'{{"classes": {classes}}}'
        )
    captions = None
    if classes is None:
        captions = _captions(folder, layout, runtime)
        if captions.width != model.config.caption_width:
            raise InvalidInput(
                f"the text encoder is {captions.width} wide and {path} was made for one that is "
                f"{model.config.caption_width} wide (Flan-T5-XL is 2048)"
            )
    own = defaults(files, layout.kind)
    return LlamaGenModel(model, tokenizer, captions, layout.side, runtime, own)


def _captions(folder: Path, layout: Layout, runtime: Runtime) -> Captions:
    if layout.encoder is not None:
        return Captions.load(folder / layout.encoder, runtime.device, runtime.dtype)
    found = checkpoints.fetch(checkpoints.find("autoregressive", ENCODER))
    return Captions.load(found, runtime.device, runtime.dtype)


class TokenGraph:
    """`LlamaGen.step` of a single token as a CUDA graph over one cache; longer inputs run eagerly."""

    def __init__(self) -> None:
        self._graph: Graph | None = None

    def __call__(
        self, model: LlamaGen, x: Tensor, position: Tensor, cache: Cache, limit: int
    ) -> Tensor:
        if x.shape[1] > 1:
            return model.step(x, position, cache, limit)
        if self._graph is None:
            whole = cache.seen.shape[2]

            def run(x: Tensor, position: Tensor) -> Tensor:
                return model.step(x, position, cache, whole)

            self._graph = Graph(run, (x, position))
        logits: Tensor = self._graph(x, position)
        return logits


class LlamaGenModel:
    """A loaded LlamaGen. `own` is what it is drawn with where a payload says nothing."""

    def __init__(
        self,
        model: LlamaGen,
        tokenizer: GridTokenizer,
        captions: Captions | None,
        side: int,
        runtime: Runtime,
        own: Mapping[str, Any],
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._captions, self._side, self._runtime, self._own = captions, side, runtime, own
        self._spare: tuple[Cache, Any] | None = None

    def picture_bytes(self, payload: Mapping[str, Any]) -> int:
        config, side = self.model.config, self._side
        rows = 2 if self._options(payload).cfg > 1 else 1
        length = config.prefix + side * side
        cache = 2 * config.depth * config.width * length * rows
        seen = 0 if self._captions is None else length * length * rows
        pixels: int = (side * self.tokenizer.factor) ** 2
        return cache * self.model.output.weight.element_size() + seen * 3 + pixels * 128 * 4

    def draw(self, job: Job) -> Generator[Event, None, Drawn]:
        return self._drawn(job) if self._runtime.speed == "fast" else one_by_one(self._drawn, job)

    def _drawn(self, job: Job) -> Generator[Event, None, Drawn]:
        payload, count = job.payload, len(job.seeds)
        options = self._options(payload)
        condition, mask = self._condition(payload, count, guided=options.cfg > 1)
        yield None
        cache, step = self._lent(len(condition))
        total = self._side**2
        shown = preview_steps(job.previews, total)
        try:
            tokens = sample(
                self.model,
                condition,
                generators(job.seeds),
                options,
                side=self._side,
                mask=mask,
                cache=cache,
                step=step,
            )
            for token in tokens:
                done = token.index + 1
                yield Progress(done, total, "tokens") if job.watched else None
                if done in shown:
                    begun = torch.full((count, total), -1, device=condition.device)
                    begun[:, :done] = token.tokens
                    for picture, image in enumerate(painted(self.tokenizer.decode, begun)):
                        yield Preview(image, shown.index(done), picture)
            pictures: list[Image] = []
            for image in painted(self.tokenizer.decode, token.tokens):
                pictures.append(image)
                yield None
        finally:
            self._spare = cache, step
        return Drawn(tuple(pictures), tokens=count * total, passes=total)

    def _options(self, payload: Mapping[str, Any]) -> Options:
        asked = {**self._own, **payload}
        unguided = self._captions is None and payload["label"] is None
        return Options(
            1.0 if unguided else asked["guidance"],
            asked["top_k"],
            asked["top_p"],
            asked["temperature"],
            asked["cfg_interval"],
        )

    def _condition(
        self, payload: Mapping[str, Any], count: int, *, guided: bool
    ) -> tuple[Tensor, Tensor | None]:
        if self._captions is None:
            classes, label = self.model.config.classes, payload["label"]
            assert classes is not None
            labels = [classes if label is None else label] * count
            return self.model.classes(labels, guided=guided), None
        features, mask = self._captions([payload["prompt"]])
        features, mask = features.expand(count, -1, -1), mask.expand(count, -1)
        return self.model.captions(features, guided=guided), mask

    def _lent(self, rows: int) -> tuple[Cache, Any]:
        """A cache that no other job has, and its step: on CUDA with a graph, those of the last job
        if they fit. Jobs take turns, so each needs its own."""
        spare, self._spare = self._spare, None
        if spare is not None and spare[0].kv.shape[2] == rows:
            return spare
        del spare  # freed before the next one is made
        step = TokenGraph() if self._runtime.device.startswith("cuda") else LlamaGen.step
        return Cache.of(self.model, rows, self._side), step
