"""Sampling: guidance, temperature, top-k, top-p, and noise that belongs to a position.

`torch.multinomial` draws exponential noise and takes the largest probability-to-noise ratio. Drawing
that noise for each position of each picture from the picture's own generator gives the same tokens
bit for bit, whatever else is in the batch and in whichever order positions are decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.local.tensors import sent

__all__ = ["Noise", "Sampler", "fill"]


@dataclass(frozen=True, slots=True)
class Sampler:
    """From logits to tokens. `guidance` 1 is the conditional model alone; 0 switches top_k off.

    The order is transformers': guidance, temperature, top-k, top-p. Guidance on logits and on
    log-probabilities is the same, as both filters and the softmax ignore what is added to all.
    """

    guidance: float = 1.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    @property
    def branches(self) -> int:
        """Rows that each picture takes: with the text, and without it where guidance needs that."""
        return 1 if self.guidance == 1.0 else 2

    def __call__(self, logits: Tensor, noise: Tensor) -> Tensor:
        """Tokens (n, q) of logits (branches * n, q, V) and noise (n, q, V), in float32 or above.

        The rows with the text come first. Temperature 0 takes the most probable token.
        """
        scores = logits if logits.dtype == torch.float64 else logits.float()
        if self.branches == 2:
            text, empty = scores.chunk(2)
            scores = empty + self.guidance * (text - empty)
        if self.temperature == 0:
            return scores.argmax(-1)
        if self.temperature != 1.0:
            scores = scores / self.temperature
        if 0 < self.top_k < scores.shape[-1]:
            least = scores.topk(self.top_k).values[..., -1:]
            scores = scores.masked_fill(scores < least, -torch.inf)
        if self.top_p < 1.0:
            scores = _nucleus(scores, self.top_p)
        return (scores.softmax(-1) / noise).argmax(-1)


def _nucleus(scores: Tensor, top_p: float) -> Tensor:
    """Leave the most probable tokens that sum to `top_p`, at least one."""
    ordered, order = scores.sort(descending=False)
    unlikely = ordered.softmax(-1).cumsum(-1) <= 1 - top_p
    unlikely[..., -1] = False
    return scores.masked_fill(unlikely.scatter(-1, order, unlikely), -torch.inf)


class Noise:
    """Exponential noise (V,) of each picture and position, drawn on the CPU in order of position.

    What was taken can be taken again until `forget` is told that it is settled.
    """

    def __init__(self, seeds: Sequence[int], size: int, like: Tensor) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._drawn: list[list[Tensor]] = [[] for _ in seeds]
        self._first = [0 for _ in seeds]
        self._size, self._device = size, like.device
        self._dtype = torch.float64 if like.dtype == torch.float64 else torch.float32

    def take(self, starts: Sequence[int], count: int) -> Tensor:
        """The noise (n, count, V) of `count` positions of each picture, from `starts` on."""
        rows = []
        for picture, start in enumerate(starts):
            drawn, generator = self._drawn[picture], self._generators[picture]
            while len(drawn) < start - self._first[picture] + count:
                drawn.append(self._draw(generator))
            begin = start - self._first[picture]
            rows.append(torch.stack(drawn[begin : begin + count]))
        return _placed(torch.stack(rows), self._device, self._dtype)

    def _draw(self, generator: torch.Generator) -> Tensor:
        return _drawn((self._size,), generator, self._device, self._dtype)

    def forget(self, starts: Sequence[int]) -> None:
        """Drop the noise of the positions before `starts`."""
        for picture, start in enumerate(starts):
            del self._drawn[picture][: start - self._first[picture]]
            self._first[picture] = start


def fill(noise: Tensor, generators: Sequence[torch.Generator]) -> None:
    """Exponential noise into `noise` (B, ...), drawn on the CPU whatever device `noise` is on.

    One generator per picture, or one for all in the order of the authors' code.
    """
    rows = [noise] if len(generators) == 1 else noise
    for row, generator in zip(rows, generators, strict=True):
        drawn = _drawn(row.shape, generator, row.device, row.dtype)
        row.copy_(_placed(drawn, row.device, row.dtype))


def _drawn(
    shape: Sequence[int], generator: torch.Generator, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Noise on the CPU; for CUDA what the CPU makes it from, which takes a fifth of the time."""
    if device.type == "cuda":
        return torch.empty(shape, dtype=torch.float64).uniform_(generator=generator)
    return torch.empty(shape, dtype=dtype).exponential_(1, generator=generator)


def _placed(drawn: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The noise that was drawn for `device`, on it."""
    placed = sent(drawn, device)
    if device.type != "cuda":
        return placed
    return torch.log1p(placed.neg_()).neg_().to(dtype)
