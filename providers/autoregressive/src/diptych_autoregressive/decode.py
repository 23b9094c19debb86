"""The loop: one token after another, every picture of a batch at once.

Rows of a batch are all pictures with their text, then all without (the branches of guidance). One
pass is a function of tensors, `Step`, so that it can be captured: see `eager_step`.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .cache import KVCache
from .grammar import Grammar
from .llama import Decoder
from .sampling import Noise, Sampler

__all__ = ["Begun", "Canvas", "Step", "eager_step", "sequential"]


class Canvas(Protocol):
    """How a family turns picture tokens into vectors and hidden vectors into logits of codes."""

    @property
    def size(self) -> int:
        """How many codes there are."""

    def vectors(self, tokens: Tensor) -> Tensor:
        """Vectors (..., width) of picture tokens: codes, then fixed tokens from `size` on."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., size) of hidden vectors (..., width)."""


class Step(Protocol):
    """One pass: feed tokens (rows, q) at `columns` (rows, q), sample the code after each q-th one.

    `noise` is (n, k, V) for the last k of the q positions; the answer is codes (n, k). `length` is
    how far the cache is read, above every column.
    """

    def __call__(self, tokens: Tensor, columns: Tensor, noise: Tensor, length: int) -> Tensor: ...


def eager_step(decoder: Decoder, canvas: Canvas, cache: KVCache, sampler: Sampler) -> Step:
    """The step as plain calls, for which any shape will do."""

    def step(tokens: Tensor, columns: Tensor, noise: Tensor, length: int) -> Tensor:
        hidden = decoder(canvas.vectors(tokens), columns, cache, length)
        return sampler(canvas.logits(hidden[:, -noise.shape[1] :]), noise)

    return step


@dataclass(frozen=True, slots=True)
class Begun:
    """A batch whose prompts are in the cache: where each row goes on, and its first logits.

    `columns` (rows,) is the next free column of each row, `longest` the highest of them, and
    `logits` (rows, 1, V) are those of the first code.
    """

    columns: Tensor
    longest: int
    logits: Tensor


def sequential(
    step: Step, begun: Begun, grammar: Grammar, sampler: Sampler, noise: Noise, n: int
) -> Generator[Tensor, None, Tensor]:
    """Decode the codes (n, rows * columns) of a batch; yields those decided so far, pass by pass.

    Fixed tokens ride along with the code before them, so there is one pass for each code.
    """
    device = begun.columns.device
    codes = torch.zeros(n, grammar.codes, dtype=torch.long, device=device)
    codes[:, :1] = sampler(begun.logits, noise.take([0] * n, 1))
    yield codes[:, :1]
    columns, longest = begun.columns[:, None], begun.longest
    fixed = torch.tensor(grammar.line, device=device).expand(n, -1)
    for done in range(1, grammar.codes):
        fed = codes[:, done - 1 : done]
        if grammar.after(done - 1):
            fed = torch.cat((fed, fixed), 1)
        q = fed.shape[1]
        at = columns + torch.arange(q, device=device)
        rows = fed.repeat(sampler.branches, 1)
        longest += q
        codes[:, done : done + 1] = step(rows, at, noise.take([done] * n, 1), longest)
        noise.forget([done + 1] * n)
        columns = columns + q
        yield codes[:, : done + 1]
    return codes
