"""Models with one vocabulary for words and picture codes: drawing, conversations, unfinished pictures."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from math import ceil
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.image import Image
from diptych.local import tensors

from .cache import KVCache, KVStore, Tokens
from .family import Drawn, Event, Job
from .grammar import Grammar
from .knobs import Knobs
from .llama import Decoder
from .painting import one_by_one
from .raster import Raster, sampler_of
from .sequence import Segment, codes_of, mark, segment

__all__ = ["JointModel", "Layout", "Pictures", "Rules"]

KEPT = 1 / 16
"""The part of the free memory, when a model is loaded, that its conversations may keep."""


class Layout(Protocol):
    """How a family writes texts and pictures as one sequence.

    `codes` are the ids of the codes in the joint vocabulary, `fixed` those of the fixed tokens, in
    the order in which the grammar counts them.
    """

    @property
    def codes(self) -> Tensor: ...

    @property
    def fixed(self) -> Sequence[int]: ...

    def grammar(self, rows: int, columns: int) -> Grammar:
        """The tokens of a picture."""

    def prompt(
        self,
        before: Sequence[tuple[Segment, Sequence[int]]],
        text: str,
        rows: int,
        columns: int,
        *,
        is_empty: bool,
    ) -> Sequence[int]:
        """The ids up to the first code; `before` holds earlier segments and the ids of their pictures.

        With `is_empty` it is the branch of guidance whose earlier texts are left out.
        """


class Rules(Protocol):
    """What a family does where a payload leaves something open."""

    def knobs(self, payload: Mapping[str, Any]) -> Knobs:
        """The settings of sampling."""

    def size(self, payload: Mapping[str, Any]) -> tuple[int, int]:
        """Width and height to draw, before they are padded to whole codes."""

    def seen(self, image: Image, payload: Mapping[str, Any]) -> tuple[int, int]:
        """Width and height at which a picture from elsewhere is encoded."""


class Pictures(Protocol):
    """A tokenizer of pictures, `factor` pixels a code and side."""

    factor: int

    def encode(self, pixels: Tensor) -> Tensor:
        """Codes (h, w) of a picture (3, H, W) in -1..1."""

    def decode(self, codes: Tensor) -> Tensor:
        """The picture (3, H, W), about -1..1, of codes (h, w)."""


class JointModel:
    """A loaded model; the `Canvas` of its own decoder."""

    def __init__(
        self,
        decoder: Decoder,
        table: Tensor,
        head: Tensor,
        layout: Layout,
        pictures: Pictures,
        rules: Rules,
        *,
        kept: int,
        speed: str,
    ) -> None:
        """`kept` is how many bytes conversations may keep, 0 for a model that has none."""
        self.size = len(layout.codes)
        self._layout, self._pictures, self._rules, self._speed = layout, pictures, rules, speed
        self._table, self._store = table, KVStore(kept)
        self._raster = Raster(decoder, table, self, self._store)
        self._ids = torch.cat((layout.codes, torch.tensor(layout.fixed))).to(table.device)
        first = int(layout.codes[0])
        in_a_row = torch.equal(layout.codes, torch.arange(first, first + self.size))
        # A slice shares the memory of the whole head.
        self._head = head[first : first + self.size] if in_a_row else head[self._ids[: self.size]]

    def vectors(self, tokens: Tensor) -> Tensor:
        return F.embedding(self._ids[tokens], self._table)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self._head)

    def picture_bytes(self, payload: Mapping[str, Any]) -> int:
        width, height = self._rules.size(payload)
        rows, columns = self._grid((width, height))
        length = rows * (columns + 1) * (len(payload.get("before", ())) + 1) + 512
        kept = self._raster.bytes(length, sampler_of(payload, self._rules.knobs(payload)))
        # Widest activations of the decoder of pictures: some hundred channels at full size.
        return kept + width * height * 128 * 4

    def draw(self, job: Job) -> Generator[Event, None, Drawn]:
        return self._drawn(job) if self._speed == "fast" else one_by_one(self._drawn, job)

    def _drawn(self, job: Job) -> Generator[Event, None, Drawn]:
        payload, n = job.payload, len(job.seeds)
        drawn_at = self._rules.size(payload)
        size = payload.get("size") or payload.get("like") or drawn_at
        rows, columns = self._grid(drawn_at)
        grammar = self._layout.grammar(rows, columns)
        sampler = sampler_of(payload, self._rules.knobs(payload))
        before = [self._tokenised(each, payload) for each in payload.get("before", ())]
        prompts = [self._prompt(before, payload["prompt"], rows, columns, is_empty=False)]
        if sampler.branches == 2:
            negative = payload.get("negative_prompt", "")
            prompts.append(self._prompt(before, negative, rows, columns, is_empty=True))

        def paint(codes: Tensor) -> Image:
            return self._painted(codes, rows, columns, size)

        done = yield from self._raster.codes(prompts, grammar, sampler, job, paint)
        if self._store.limit:
            for branch, prompt in enumerate(prompts):
                self._remember(prompt, done.codes[0], grammar, done.cache, branch * n)
        drawn = segment(payload["prompt"], rows, columns, done.codes[0].cpu().numpy())
        sequence, pictures = [*before, drawn], []
        for each in done.codes:
            pictures.append(paint(each))
            yield None
        # By this the picture is recognised as the conversation's own, even in another format.
        pictures[0] = pictures[0].with_(provenance={"tokens": mark(sequence)})
        return Drawn(tuple(pictures), {"sequence": sequence}, done.codes.numel(), done.passes)

    def _grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of codes that cover a size."""
        return ceil(size[1] / self._pictures.factor), ceil(size[0] / self._pictures.factor)

    def _tokenised(self, each: Segment, payload: Mapping[str, Any]) -> dict[str, Any]:
        """A segment whose picture is codes: one from outside is encoded here."""
        if "image" not in each:
            codes_of(each, self.size)
            return dict(each)
        rows, columns = self._grid(self._rules.seen(each["image"], payload))
        factor = self._pictures.factor
        pixels = tensors.from_image(each["image"], (columns * factor, rows * factor))
        codes = self._pictures.encode(pixels.to(self._table.device))
        return segment(each["text"], rows, columns, codes.flatten().cpu().numpy())

    def _prompt(
        self, before: Sequence[Segment], text: str, rows: int, columns: int, *, is_empty: bool
    ) -> Tokens:
        earlier = []
        for each in before:
            codes = torch.from_numpy(codes_of(each, self.size))
            tokens = self._layout.grammar(each["rows"], each["columns"]).written(codes)
            earlier.append((each, self._ids.cpu()[tokens].tolist()))
        ids = self._layout.prompt(earlier, text, rows, columns, is_empty=is_empty)
        return np.array(ids, dtype=np.int32)

    def _remember(
        self, prompt: Tokens, codes: Tensor, grammar: Grammar, cache: KVCache, row: int
    ) -> None:
        """Keep what a row has read: the prompt and the picture without its last code."""
        picture = self._ids[grammar.written(codes)].cpu().numpy()[: grammar.body - 1]
        ids = np.concatenate((prompt, picture.astype(np.int32)))
        self._store.keep(ids, cache.row(row, len(ids)))

    def _painted(self, codes: Tensor, rows: int, columns: int, size: Sequence[int]) -> Image:
        """The picture of the rows that `codes` fill, mid-grey below them, at the size asked for."""
        done = len(codes)
        # The decoder normalises over the whole picture; what is under the grey is the last row again.
        rest = codes[-columns:].repeat(rows)[: rows * columns - done]
        pixels = self._pictures.decode(torch.cat((codes, rest)).view(rows, columns))
        pixels[:, done // columns * self._pictures.factor :] = 0
        return _fitted(pixels, (size[0], size[1]), self._pictures.factor)


def _fitted(pixels: Tensor, size: tuple[int, int], grid: int) -> Image:
    """The picture at `size`: cut where it was padded to the grid, resampled where it is another."""
    height, width = pixels.shape[1:]
    if 0 <= width - size[0] < grid and 0 <= height - size[1] < grid:
        return tensors.to_image(pixels[:, : size[1], : size[0]])
    from PIL import Image as pillow

    drawn = tensors.to_image(pixels).pil()
    return Image.of(drawn.resize(size, pillow.Resampling.LANCZOS))
