"""The rows of a table: seconds, figures and peaks of memory, told as they come."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

__all__ = ["Figures"]


class Figures:
    """What was measured on the device of this machine; `digits` of every figure are in its row."""

    def __init__(self, digits: int) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.rows: list[tuple[str, str, str]] = []
        self.figures: dict[str, float] = {}
        self._digits = digits

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, function: Callable[[], object]) -> float:
        self.wait()
        began = time.perf_counter()
        function()
        self.wait()
        return time.perf_counter() - began

    def note(self, what: str, figure: float, unit: str, bar: str = "") -> None:
        self.figures[what] = figure
        self.rows.append((what, f"{figure:.{self._digits}f} {unit}", bar))
        print(f"{what}: {figure:.3f} {unit}  {bar}", flush=True)

    def peak(self, what: str) -> None:
        if self.device.type == "cuda":
            self.note(f"{what}, peak memory", torch.cuda.max_memory_allocated() / 1e9, "GB")
            torch.cuda.reset_peak_memory_stats()
