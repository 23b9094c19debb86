"""Jacobi decoding with fixed noise: the very tokens of the sequential loop, in fewer passes.

A pass reads a window of guesses and samples the code after each of them, with the noise that
belongs to its position. What follows a right guess is right itself, so a pass settles at least one
code, and as many more as guesses held; the others are the next pass's guesses. (Jacobi iteration as
in arXiv:2410.01699, but since noise is fixed per position, nothing is accepted by chance: the result
is that of sequential sampling for the same seed.)
"""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from .cache import KVCache
from .decode import Begun, Canvas
from .grammar import Grammar
from .llama import Decoder
from .sampling import Noise, Sampler

__all__ = ["WINDOW", "parallel"]

WINDOW = 16
"""Codes that are read at once. On a CPU a pass over 8 to 16 costs two or three passes over one."""


def parallel(
    decoder: Decoder,
    canvas: Canvas,
    cache: KVCache,
    begun: Begun,
    grammar: Grammar,
    sampler: Sampler,
    noise: Noise,
    window: int = WINDOW,
) -> Generator[Tensor, None, Tensor]:
    """Decode the codes (1, rows * columns) of one picture; yields those settled so far, pass by pass.

    The rows of the cache are the branches of guidance. The arguments are those of `sequential`.
    """
    device = begun.columns.device
    codes = torch.zeros(1, grammar.codes, dtype=torch.long, device=device)
    codes[:, :1] = sampler(begun.logits, noise.take([0], 1))
    yield codes[:, :1]
    done = guessed = 1
    while done < grammar.codes:
        first, last = done - 1, min(done - 1 + window, grammar.codes - 1)
        guessed = _guess(codes, guessed, last + 1, grammar.columns)
        start, end = grammar.position(first), grammar.position(last)
        tokens = grammar.written(codes)[:, start:end].expand(sampler.branches, -1)
        columns = begun.columns[:, None] + torch.arange(start, end, device=device)
        hidden = decoder(canvas.vectors(tokens), columns, cache, begun.longest + end)
        # Only what stands before a code says something of one.
        outputs = [grammar.position(code) - 1 - start for code in range(done, last + 1)]
        drawn = sampler(canvas.logits(hidden[:, outputs]), noise.take([done], last - first))
        right = (drawn[0, :-1] == codes[0, done:last]).cumprod(0).sum()
        codes[:, done : last + 1] = drawn
        done += 1 + int(right)
        noise.forget([done])
        yield codes[:, :done]
    return codes


def _guess(codes: Tensor, known: int, end: int, columns: int) -> int:
    """Fill in first guesses up to `end`: what stands above, or before where nothing does."""
    for code in range(known, end):
        codes[:, code] = codes[:, code - columns if code >= columns else code - 1]
    return max(known, end)
