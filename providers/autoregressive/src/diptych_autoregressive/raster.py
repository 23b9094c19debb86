"""A batch on a raster model: read the prompts, decode row by row, show what is done so far."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.errors import InvalidInput
from diptych.events import Preview, Progress
from diptych.image import Image

from .cache import KVCache, KVStore, Tokens
from .decode import Begun, Canvas, sequential
from .family import Event, Job
from .grammar import Grammar
from .graphs import Steps
from .jacobi import parallel
from .knobs import Knobs
from .llama import Decoder
from .sampling import Noise, Sampler

__all__ = ["Decoded", "Raster", "sampler_of"]

Paint = Callable[[Tensor], Image]
"""From the codes (k,) of whole rows, the first ones of a picture, to the picture."""


def sampler_of(payload: Mapping[str, Any], own: Knobs) -> Sampler:
    """The sampler that a payload asks for (see `knobs.sampling`), else the model's own settings."""
    names = ("guidance", "temperature", "top_k", "top_p")
    return Sampler(**{name: payload.get(name, getattr(own, name)) for name in names})


_FINE = (torch.float32, torch.float64)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Codes (n, rows * columns), and the cache that has read all but the last code of each.

    The rows of the cache are all pictures of the first branch, then all of the second. It is lent:
    it must be read before the next step.
    """

    codes: Tensor
    cache: KVCache
    passes: int


@dataclass(frozen=True, slots=True)
class Raster:
    """A decoder, the vectors (V, width) of its words, and how it sees picture tokens.

    `store` remembers what conversations have read; it may be one that keeps nothing.
    """

    decoder: Decoder
    words: Tensor
    canvas: Canvas
    store: KVStore
    steps: Steps = field(default_factory=Steps)

    def codes(
        self,
        prompts: Sequence[Tokens],
        grammar: Grammar,
        sampler: Sampler,
        job: Job,
        paint: Paint,
    ) -> Generator[Event, None, Decoded]:
        """Decode a batch: `prompts` are the ids of each branch of guidance, up to the first code.

        Raises `InvalidInput` when text and picture do not fit in the model's context.
        """
        n = len(job.seeds)
        longest, context = max(map(len, prompts)) + grammar.body, self.decoder.shape.context
        if longest > context:
            raise InvalidInput(
                f"the text and the picture are {longest:,} tokens, and the model reads {context:,}; say "
                "it in fewer words, or ask for a smaller size"
            )
        rows = n * len(prompts)
        with self.steps.lent(self.decoder, self.canvas, sampler, rows, longest) as (cache, step):
            begun = self._read(prompts, n, cache)
            yield None
            noise = Noise(job.seeds, self.canvas.size, begun.logits)
            if n == 1 and self._is_fine:
                loop = parallel(self.decoder, self.canvas, cache, begun, grammar, sampler, noise)
            else:
                loop = sequential(step, begun, grammar, sampler, noise, n)
            due = _previews(job.previews, grammar)
            passes = shown = 0
            while True:
                try:
                    codes = next(loop)
                except StopIteration as end:
                    return Decoded(end.value, cache, passes)
                passes += 1
                done = codes.shape[1]
                yield Progress(done, grammar.codes, "tokens") if job.watched else None
                while shown < len(due) and done >= due[shown]:
                    for picture in range(n):
                        yield Preview(paint(codes[picture, : due[shown]]), shown, picture)
                    shown += 1

    @property
    def _is_fine(self) -> bool:
        """Whether a pass over several tokens gives what passes over one give.

        It does but for the last bits of float32. Coarser numbers round otherwise, and on CUDA a
        captured pass over one token is the faster way.
        """
        return self.words.dtype in _FINE and self.words.device.type != "cuda"

    def _read(self, prompts: Sequence[Tokens], n: int, cache: KVCache) -> Begun:
        """Read the prompts, from where the store knows them on, into rows of the cache."""
        logits, columns = [], []
        device = self.words.device
        for branch, ids in enumerate(prompts):
            own = self.decoder.new_cache(1, len(ids))
            known = self.store.find(ids[:-1])
            start = 0 if known is None else known.shape[2]
            if known is not None:
                own.put(slice(0, 1), known)
            fed = torch.from_numpy(ids[start:].astype(np.int64)).to(device)[None]
            at = torch.arange(start, len(ids), device=device)[None]
            hidden = self.decoder(F.embedding(fed, self.words), at, own, len(ids))
            cache.put(slice(branch * n, (branch + 1) * n), own.row(0, len(ids)))
            logits.append(self.canvas.logits(hidden[:, -1:]).expand(n, -1, -1))
            columns += [len(ids)] * n
        longest = max(map(len, prompts))
        return Begun(torch.tensor(columns, device=device), longest, torch.cat(logits))

    def bytes(self, tokens: int, sampler: Sampler) -> int:
        """What the keys and values of one picture take with `tokens` tokens in each branch."""
        kept = tokens * self.decoder.shape.token_numbers * self.words.element_size()
        return kept * sampler.branches


def _previews(count: int, grammar: Grammar) -> list[int]:
    """After how many codes an unfinished picture is shown: `count` times, at the ends of rows."""
    rows = {max(1, round(grammar.rows * (k + 1) / (count + 1))) for k in range(count)}
    return sorted(row * grammar.columns for row in rows if row < grammar.rows)
