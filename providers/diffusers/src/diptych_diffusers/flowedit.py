"""FlowEdit: editing a picture between two descriptions with a text-to-image model, no inversion.

Kulikov, Kleiner, Huberman-Spiegelglas, Michaeli, "FlowEdit: Inversion-Free Text-Based Editing Using
Pre-Trained Flow Models", ICCV 2025, arXiv:2412.08629.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .flow import Prompted, Sampler, Step
from .native import Native

__all__ = ["Moved", "edit"]


@dataclass(eq=False)
class Moved:
    """How far an edit has moved each latent in all: |change of velocity| x |step|, summed."""

    total: Tensor | None = None

    def add(self, step: Tensor) -> None:
        self.total = step.abs() if self.total is None else self.total + step.abs()


def edit(
    model: Native,
    source: Tensor,
    sigmas: Sequence[float],
    before: Prompted,
    after: Prompted,
    grid: tuple[int, int],
    noise: Callable[[], Tensor],
    *,
    averages: int = 1,
    alone: int = 0,
    moved: Moved | None = None,
) -> Sampler:
    """Move the latents `source` from what `before` describes to what `after` describes.

    `sigmas` are the noise levels of the steps that are run, the first of them says how deep the
    edit goes, the last is 0. In each, the two velocities are compared at `averages` fresh draws of
    `noise`. In the last `alone` steps the target is sampled by itself, which suits a new style. With
    equal prompts and guidance the source comes back.
    """
    edited, sampled = source, None
    for left, (sigma, below) in zip(range(len(sigmas) - 1, 0, -1), pairwise(sigmas), strict=True):
        if left > alone:
            pairs = []
            for _ in range(averages):
                noisy = (1 - sigma) * source + sigma * noise()
                pairs.append((noisy, edited + noisy - source))
            asks = [
                ask
                for noisy, moving in pairs
                for ask in (*before.asks(noisy, sigma, grid), *after.asks(moving, sigma, grid))
            ]
            answers = yield Step(tuple(asks), edited)
            change = torch.zeros_like(source)
            each, split = len(asks) // averages, len(before.asks(source, sigma, grid))
            for first in range(0, len(asks), each):
                was = before.velocity(model, answers[first : first + split])
                becomes = after.velocity(model, answers[first + split : first + each])
                change = change + (becomes - was) / averages
            edited = edited + (below - sigma) * change
            if moved is not None:
                moved.add((below - sigma) * change)
        else:
            if sampled is None:
                sampled = edited + ((1 - sigma) * source + sigma * noise()) - source
            answers = yield Step(after.asks(sampled, sigma, grid), edited)
            sampled = sampled + (below - sigma) * after.velocity(model, answers)
    return edited if sampled is None else sampled
