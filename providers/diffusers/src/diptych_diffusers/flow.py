"""Samplers of flow-matching models, as generators that ask for velocities.

A sampler yields `Step`s: the velocities that it needs next, and the clean picture as far as it can
be told. It is sent the velocities and returns the final latents. Whoever drives it decides which
samplers share a forward pass.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from .native import Ask, Native, Text

__all__ = ["Known", "Prompted", "Sampler", "Step", "denoise"]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What a sampler needs for its next step; `clean` is its present idea of the final latents."""

    asks: tuple[Ask, ...]
    clean: Tensor | None = None


Sampler = Generator[Step, Sequence[Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Prompted:
    """Words and guidance. `negative` is None without classifier-free guidance; `embedded` is the
    guidance that a distilled model is told."""

    text: Text
    negative: Text | None = None
    scale: float = 1.0
    embedded: float | None = None

    def asks(self, latents: Tensor, sigma: float, grid: tuple[int, int]) -> tuple[Ask, ...]:
        """One ask, or two with guidance."""
        texts = (self.text,) if self.negative is None else (self.text, self.negative)
        return tuple(Ask(latents, sigma, text, grid, self.embedded) for text in texts)

    def velocity(self, model: Native, answers: Sequence[Tensor]) -> Tensor:
        """The guided velocity from the answers to `asks`."""
        if self.negative is None:
            return answers[0]
        return model.guided(answers[0], answers[1], self.scale)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What inpainting keeps: `latents` where `free` is 0, noised by `noise` to the level at hand."""

    latents: Tensor
    noise: Tensor
    free: Tensor

    def put_back(self, latents: Tensor, sigma: float) -> Tensor:
        """`latents` with what is known at noise level `sigma` in place; soft masks blend."""
        kept = (1 - sigma) * self.latents + sigma * self.noise
        return self.free * latents + (1 - self.free) * kept


def denoise(
    model: Native,
    latents: Tensor,
    sigmas: Sequence[float],
    prompted: Prompted,
    grid: tuple[int, int],
    known: Known | None = None,
) -> Sampler:
    """Euler steps from `latents` at sigmas[0] down to sigmas[-1]."""
    clean = None
    for sigma, below in pairwise(sigmas):
        answers = yield Step(prompted.asks(latents, sigma, grid), clean)
        velocity = prompted.velocity(model, answers)
        clean = latents - sigma * velocity
        latents = latents + (below - sigma) * velocity
        if known is not None:
            latents, clean = known.put_back(latents, below), known.put_back(clean, 0.0)
    return latents
