"""Speed as presets that say what they trade.

"exact" changes nothing but the order in which floating-point numbers are added, "fast" multiplies
in eight bits where the chip can, "turbo" also skips steps. On a GPU the repeated blocks of a model
are compiled once it has drawn its first picture, so that the first one does not wait for that, and
a pass of a shape that comes again is one CUDA graph: launched kernel by kernel, the host is slower
than the device.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from diptych.local.graphs import Graph
from diptych.notices import Notice

from .flow import Sampler
from .fused import fuse
from .quantise import TRITON, eight_bits, format_for
from .skipping import computed, skipping

__all__ = ["Pace", "blocks"]

_BACKENDS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
_SHAPES = 64
"""Shapes that a block is compiled for before that is given up; the library's own 8 are soon used up."""

_GRAPHS = 8
"""Shapes of a pass that are kept as CUDA graphs, the least recently used goes."""

_UNLISTED = {"SD3Transformer2DModel": ("JointTransformerBlock",)}
"""Blocks of the models that do not list theirs."""


def blocks(transformer: nn.Module) -> list[nn.Module]:
    """The blocks of which a transformer is mostly made."""
    listed: Any = getattr(transformer, "_repeated_blocks", None)
    names = listed or _UNLISTED.get(type(transformer).__name__, ())
    return [module for module in transformer.modules() if type(module).__name__ in names]


class Pace:
    """What a preset does to one loaded transformer. Used on the thread of its device alone.

    `compiles` False leaves the blocks as they are, for a model whose parts come and go.
    """

    def __init__(
        self,
        transformer: nn.Module,
        speed: str,
        device: torch.device,
        *,
        compiles: bool = True,
    ) -> None:
        self.speed = speed
        self.eight = 0
        self.compiled = False
        self._transformer = transformer
        self._device = device
        self._compiles = compiles and TRITON and device.type == "cuda" and bool(blocks(transformer))
        self._told = False
        if speed != "exact" and (kind := format_for(device)) is not None:
            self.eight = eight_bits(blocks(transformer), kind, device)
            fuse(blocks(transformer))
        if device.type == "cuda":
            self._passes = _Passes(transformer)

    def notices(self) -> tuple[Notice, ...]:
        """What the plan could not know: that the device has no eight bits, and, once, that it compiled."""
        found: list[str] = []
        if self.compiled and not self._told:
            self._told = True
            found.append("the model was compiled during this request; the next ones are faster")
        if self.speed != "exact" and not self.eight:
            rest = (
                "only steps are skipped" if self.speed == "turbo" else 'this is what "exact" does'
            )
            found.append(f"{self._device.type} has no eight-bit matrix products: {rest}")
        return tuple(Notice("assumed", said, "speed") for said in found)

    def sampler(self, sampler: Sampler, steps: int) -> Sampler:
        """The sampler of one picture, with the steps that the preset leaves out."""
        return skipping(sampler, computed(steps)) if self.speed == "turbo" else sampler

    def passes(self, steps: int) -> int:
        """How many of `steps` run the model."""
        return sum(computed(steps)) if self.speed == "turbo" else steps

    def drawn(self) -> None:
        """A picture is done: from now on it pays to compile."""
        if not self._compiles or self.compiled:
            return
        self.compiled = True
        limit = torch._dynamo.config.recompile_limit
        torch._dynamo.config.recompile_limit = max(limit, _SHAPES)
        fuse(blocks(self._transformer))
        for block in blocks(self._transformer):
            block.compile(fullgraph=True)
        self._passes.captures = True

    def moved(self) -> bool:
        """Whether the weights left the places where graphs read them; if so, those are let go of."""
        return self.compiled and self._passes.moved()

    def forget(self) -> None:
        """Let go of the graphs: the next pass of each shape runs kernel by kernel again."""
        if self._device.type == "cuda":
            self._passes.forget()


class _Passes:
    """The passes of one transformer: cuDNN's attention where it can, else the next best kernel, and,
    once `captures` is set, a graph for every shape that comes a second time. A graph would not notice
    that adapters change, so there are none with adapters."""

    def __init__(self, transformer: nn.Module) -> None:
        self.captures = False
        self._transformer = transformer
        self._forward = transformer.forward
        self._seen: OrderedDict[Any, Graph | None] = OrderedDict()
        self._pool: Any = None
        self._places: tuple[int, ...] = ()

        @functools.wraps(self._forward)
        def forward(*values: Any, **named: Any) -> Any:
            return self._run(*values, **named)

        transformer.forward = forward

    def _run(self, *values: Any, **named: Any) -> Any:
        with sdpa_kernel(_BACKENDS, set_priority=True):
            if not self.captures or values or getattr(self._transformer, "peft_config", None):
                return self._forward(*values, **named)
            tensors = {name: each for name, each in named.items() if isinstance(each, Tensor)}
            rest = {name: each for name, each in named.items() if name not in tensors}
            if not all(isinstance(each, bool | int | float | str | None) for each in rest.values()):
                return self._forward(**named)
            self.moved()
            shapes = tuple((name, each.shape, each.dtype) for name, each in tensors.items())
            key = (shapes, tuple(rest.items()))
            if key not in self._seen:  # compiles, which cannot be done while capturing
                self._seen[key] = None
                if len(self._seen) > _GRAPHS:
                    self._seen.popitem(last=False)
                return self._forward(**named)
            self._seen.move_to_end(key)
            return self._replayed(key, tensors, rest)

    def moved(self) -> bool:
        """A graph reads the weights where they were when it was captured."""
        places = tuple(each.data_ptr() for each in self._transformer.parameters())
        if places == self._places:
            return False
        self._places = places
        self.forget()
        return True

    def forget(self) -> None:
        self._seen.clear()
        self._pool = None

    def _replayed(self, key: Any, tensors: dict[str, Tensor], rest: dict[str, Any]) -> Any:
        graph = self._seen[key]
        if graph is None:
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()

            def run(*inputs: Tensor) -> Any:
                return self._forward(**dict(zip(tensors, inputs, strict=True)), **rest)

            graph = self._seen[key] = Graph(run, tuple(tensors.values()), self._pool)
        outputs = graph(*tensors.values())
        if isinstance(outputs, tuple):
            return tuple(each.clone() for each in outputs)
        return outputs
