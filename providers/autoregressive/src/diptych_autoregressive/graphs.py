"""Decoding as CUDA graphs: one launch from the host for a whole pass, sampling included.

A pass of a large model is hundreds of kernels that each take microseconds; launched one by one, the
host cannot keep up. A graph is captured for each shape of pass when it is first wanted.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .cache import KVCache
from .decode import Canvas, Step, eager_step
from .llama import Decoder
from .sampling import Sampler

__all__ = ["Steps", "graph_step", "lean"]

_BUCKET = 256
"""Columns of the cache by which its length, and how far a graph reads it, are rounded up."""

_SPARE = 2
"""Caches that are kept with their graphs for the next batches."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps and the caches that they write, used again by later batches of the same shape."""

    _spare: list[tuple[tuple[int, int, Sampler], KVCache, Step]] = field(default_factory=list)

    @contextmanager
    def lent(
        self, decoder: Decoder, canvas: Canvas, sampler: Sampler, rows: int, columns: int
    ) -> Iterator[tuple[KVCache, Step]]:
        """A cache of at least `columns`, and the step that writes it; nobody else has them meanwhile."""
        if decoder.norm.device.type != "cuda":
            cache = decoder.new_cache(rows, columns)
            yield cache, eager_step(decoder, canvas, cache, sampler)
            return
        key = (rows, -(-columns // _BUCKET) * _BUCKET, sampler)
        found = next((each for each in self._spare if each[0] == key), None)
        if found is None:
            del self._spare[: len(self._spare) - _SPARE + 1]
            cache = decoder.new_cache(rows, key[1])
            found = key, cache, graph_step(decoder, canvas, cache, sampler)
        else:
            self._spare.remove(found)
        try:
            yield found[1:]
        finally:
            self._spare.append(found)


def graph_step(decoder: Decoder, canvas: Canvas, cache: KVCache, sampler: Sampler) -> Step:
    """The step on a CUDA device, as one graph for each shape of pass."""
    from diptych.local.graphs import Graph, Pace

    graphs: dict[tuple[Any, ...], Graph] = {}
    pool = torch.cuda.graph_pool_handle()
    pace = Pace()

    def step(tokens: Tensor, columns: Tensor, noise: Tensor, length: int) -> Tensor:
        few = takes(decoder, tokens.numel())
        reach = min(-(-length // _BUCKET) * _BUCKET, cache.columns)
        key = (tokens.shape, noise.shape, 0 if few else reach)
        if key not in graphs:

            def run(tokens: Tensor, columns: Tensor, noise: Tensor) -> Tensor:
                vectors = canvas.vectors(tokens)
                if few:
                    hidden = lean(decoder, vectors, columns, cache)
                else:
                    hidden = decoder(vectors, columns, cache, reach)
                return sampler(canvas.logits(hidden[:, -noise.shape[1] :]), noise)

            graphs[key] = Graph(run, (tokens, columns, noise), pool)
        codes: Tensor = graphs[key](tokens, columns, noise)
        pace.keep()
        return codes

    return step


def takes(decoder: Decoder, tokens: int) -> bool:
    """Whether `lean` can do a pass over so many tokens."""
    if type(decoder) is not Decoder:  # layers of another shape
        return False
    if decoder.norm.dtype not in (torch.bfloat16, torch.float16):
        return False
    if importlib.util.find_spec("triton") is None:
        return False
    from .kernels import ROWS

    side = decoder.shape.head
    plain = all(layer.q_norm is None for layer in decoder.layers)
    return tokens <= ROWS and plain and side >= 16 and side & (side - 1) == 0


def lean(decoder: Decoder, vectors: Tensor, columns: Tensor, cache: KVCache) -> Tensor:
    """What `decoder` computes, by kernels that read every weight once at the speed of the memory."""
    from .kernels import attend, gated, linear

    rows, q = columns.shape
    eps = decoder.shape.eps
    hidden = vectors.reshape(rows * q, -1).clone()
    flat = columns.reshape(-1)
    for index, layer in enumerate(decoder.layers):
        qkv = linear(hidden, layer.qkv, norm=layer.before, eps=eps, bias=layer.qkv_bias)
        mixed = attend(qkv, (decoder.cos, decoder.sin), flat, cache.numbers[index])
        linear(mixed, layer.out, bias=layer.out_bias, residual=hidden)
        risen = gated(hidden, layer.gate_up, norm=layer.between, eps=eps)
        linear(risen, layer.down, residual=hidden)
    normed = F.rms_norm(hidden, decoder.norm.shape, decoder.norm, eps)
    return normed.view(rows, q, -1)
