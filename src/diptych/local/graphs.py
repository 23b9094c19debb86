"""CUDA graphs: one launch from the host for a thousand kernels. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Graph", "Pace"]


class Graph:
    """A function of tensors, captured. Calling it copies the inputs to fixed places and replays.

    `function` is run once before that, and must not wait for the device. What it returns is
    overwritten by the next call. Graphs of one `pool` share their scratch memory, so only one of
    them may be running, and its results used before the next one runs.
    """

    def __init__(
        self, function: Callable[..., Any], inputs: Sequence[Tensor], pool: Any = None
    ) -> None:
        self._inputs = [each.clone() for each in inputs]
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function(*self._inputs)  # compiles kernels, which cannot be done while capturing
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._outputs = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Any:
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._outputs


class Pace:
    """Keeps the host one pass ahead of the device and no further, so that cancelling is prompt."""

    def __init__(self) -> None:
        self._last: torch.cuda.Event | None = None

    def keep(self) -> None:
        """Wait for the pass before the one just launched."""
        before, self._last = self._last, torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._last.record()
        if before is not None:
            before.synchronize()
