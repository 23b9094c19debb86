"""Emu3's tensors: the text model in our decoder, the tokenizer of pictures through transformers."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.errors import InvalidInput
from diptych.image import Image
from diptych.local import devices, tensors

from .cache import KVCache, KVStore, Tokens
from .family import Drawn, Event, Files, Job, Runtime
from .grammar import Grammar
from .llama import Decoder
from .painting import one_by_one
from .raster import Raster, sampler_of
from .sequence import Segment, codes_of, mark, segment
from .weights import Weights, check_memory, shards

__all__ = ["Emu3Model"]

KEPT = 1 / 16
"""The part of the free memory, when the model is loaded, that conversations may keep."""


@dataclass(frozen=True, slots=True)
class Words:
    """The vocabulary that pictures need: ids of codes and of the fixed tokens around them."""

    tokenizer: Any
    codes: Tensor
    begin: int
    open: int
    wrap: int
    line: int
    close: tuple[int, int]

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any]) -> Words:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        names: Mapping[str, int] = config["vocabulary_map"]
        codes = {int(name[-8:-2]): at for name, at in names.items() if _is_code(name)}
        if sorted(codes) != list(range(len(codes))) or not codes:
            raise InvalidInput(f"{folder}: the vocabulary has no complete set of visual tokens")
        return cls(
            tokenizer,
            torch.tensor([codes[code] for code in range(len(codes))]),
            begin=tokenizer.bos_token_id,
            open=names[tokenizer.boi_token],
            wrap=names[tokenizer.image_wrapper_token],
            line=names["<|extra_200|>"],
            close=(names[tokenizer.eof_token], names[tokenizer.eoi_token]),
        )

    def of(self, text: str) -> list[int]:
        """A text as ids; what looks like a special token in it is text."""
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        ids: list[int] = encoded.input_ids
        return ids


def _is_code(name: str) -> bool:
    return name.startswith("<|visual token")


class Emu3Model:
    """A loaded Emu3; the `Canvas` of its own decoder."""

    def __init__(
        self,
        decoder: Decoder,
        words: Words,
        table: Tensor,
        head: Tensor,
        vq: Any,
        store: KVStore,
        speed: str,
    ) -> None:
        self.words = words
        self.size = len(words.codes)
        self._raster = Raster(decoder, table, self, store)
        self._table, self._vq, self._store, self._speed = table, vq, store, speed
        fixed = torch.tensor([words.line, *words.close])
        self._ids = torch.cat((words.codes, fixed)).to(table.device)
        first = int(words.codes[0])
        in_a_row = torch.equal(words.codes, torch.arange(first, first + self.size))
        # A slice shares the memory of the whole head.
        self._head = head[first : first + self.size] if in_a_row else head[self._ids[: self.size]]

    @classmethod
    def load(
        cls, files: Files, folder: Path, runtime: Runtime, *, is_conversational: bool
    ) -> Emu3Model:
        from transformers.models.emu3.configuration_emu3 import Emu3Config

        paths = shards(folder)
        check_memory(files.ref, paths, runtime.device, runtime.dtype)
        weights = Weights(paths, runtime.device, runtime.dtype, _renamed)
        config = Emu3Config.from_pretrained(folder, local_files_only=True)
        decoder = Decoder.of(weights, "text.", config.text_config)
        table = weights["text.embed_tokens.weight"]
        is_tied = "head.weight" not in weights
        head = table if is_tied else weights["head.weight"]
        vq = _tokenizer_of_pictures(config.vq_config, weights)
        limit = int(devices.free_memory(runtime.device) * KEPT) if is_conversational else 0
        words = Words.load(folder, files.config)
        return cls(decoder, words, table, head, vq, KVStore(limit), runtime.speed)

    def vectors(self, tokens: Tensor) -> Tensor:
        return F.embedding(self._ids[tokens], self._table)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self._head)

    def grammar(self, rows: int, columns: int) -> Grammar:
        line, close = self.size, (self.size + 1, self.size + 2)
        return Grammar(rows, columns, self.size, line=(line,), close=close)

    def picture_bytes(self, payload: Mapping[str, Any]) -> int:
        rows, columns = int(payload["rows"]), int(payload["columns"])
        width, height = map(int, payload["size"])
        length = rows * (columns + 1) * (len(payload.get("before", ())) + 1) + 512
        kept = self._raster.bytes(length, sampler_of(payload))
        # Widest activations of the decoder of pictures: some hundred channels at full size.
        return kept + width * height * 128 * 4

    def draw(self, job: Job) -> Generator[Event, None, Drawn]:
        return self._drawn(job) if self._speed == "fast" else one_by_one(self._drawn, job)

    def _drawn(self, job: Job) -> Generator[Event, None, Drawn]:
        payload, n = job.payload, len(job.seeds)
        rows, columns = payload["rows"], payload["columns"]
        grammar, sampler = self.grammar(rows, columns), sampler_of(payload)
        before = [self._tokenised(each, rows, columns) for each in payload.get("before", ())]
        prompts = [self._prompt(before, payload["prompt"], rows, columns, is_empty=False)]
        if sampler.branches == 2:
            negative = payload.get("negative_prompt", "")
            prompts.append(self._prompt(before, negative, rows, columns, is_empty=True))

        def paint(codes: Tensor) -> Image:
            return self._painted(codes, rows, columns, payload["size"])

        done = yield from self._raster.codes(prompts, grammar, sampler, job, paint)
        codes = done.codes
        if self._store.limit:
            for branch, prompt in enumerate(prompts):
                self._remember(prompt, codes[0], grammar, done.cache, branch * n)
        segments = [*before, segment(payload["prompt"], rows, columns, codes[0].cpu().numpy())]
        pictures = []
        for each in codes:
            pictures.append(paint(each))
            yield None
        # By this the picture is recognised as the conversation's own, even in another format.
        pictures[0] = pictures[0].with_(provenance={"tokens": mark(segments)})
        return Drawn(tuple(pictures), {"sequence": segments}, codes.numel(), done.passes)

    def _tokenised(self, each: Segment, rows: int, columns: int) -> dict[str, Any]:
        """A segment whose picture is codes: one from outside is encoded here."""
        if "image" not in each:
            codes_of(each, self.size)
            return dict(each)
        side = (columns * self._factor, rows * self._factor)
        pixels = tensors.from_image(each["image"], side)[None].to(self._table.device)
        sizes = torch.tensor([[side[1], side[0]]])
        (codes,) = self._vq.encode(pixels, sizes).image_tokens
        return segment(each["text"], rows, columns, codes.flatten().cpu().numpy())

    @property
    def _factor(self) -> int:
        factor: int = self._vq.spatial_scale_factor
        return factor

    def _prompt(
        self, before: Sequence[Segment], text: str, rows: int, columns: int, *, is_empty: bool
    ) -> Tokens:
        """The ids up to the first code. The branch without text has no earlier texts either."""
        words, ids = self.words, [self.words.begin]
        for each in before:
            codes = codes_of(each, self.size)
            ids += [] if is_empty else words.of(each["text"])
            ids += self._opening(each["rows"], each["columns"])
            picture = self.grammar(each["rows"], each["columns"]).written(torch.from_numpy(codes))
            ids += self._ids.cpu()[picture].tolist()
        ids += words.of(text) if text else []
        return np.array(ids + self._opening(rows, columns), dtype=np.int32)

    def _opening(self, rows: int, columns: int) -> list[int]:
        return [self.words.open, *self.words.of(f"{rows}*{columns}"), self.words.wrap]

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
        pixels = self._vq.decode(torch.cat((codes, rest)).view(1, rows, columns))[0]
        pixels[:, done // columns * self._factor :] = 0
        return fitted(pixels, (size[0], size[1]), self._factor)


def fitted(pixels: Tensor, size: tuple[int, int], grid: int) -> Image:
    """The picture at `size`: cut where it was padded to the grid, resampled where it is another."""
    height, width = pixels.shape[1:]
    if 0 <= width - size[0] < grid and 0 <= height - size[1] < grid:
        return tensors.to_image(pixels[:, : size[1], : size[0]])
    from PIL import Image as pillow

    drawn = tensors.to_image(pixels).pil()
    return Image.of(drawn.resize(size, pillow.Resampling.LANCZOS))


_NAMES = (
    ("text_model.model.", "text."),
    ("model.text_model.", "text."),
    ("text_model.lm_head.", "head."),
    ("lm_head.", "head."),
    ("model.vqmodel.", "vq."),
    ("vqmodel.", "vq."),
)


def _renamed(name: str) -> str | None:
    for theirs, ours in _NAMES:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return None


def _tokenizer_of_pictures(config: Any, weights: Weights) -> Any:
    """Emu3's VQ model in float32, as a rounded codebook distance picks other codes."""
    from transformers.models.emu3.modeling_emu3 import Emu3VQVAE

    state = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in weights.under("vq.").items()
    }
    with torch.device("meta"):
        vq = Emu3VQVAE(config)
    try:
        vq.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise InvalidInput(f"the weights of the picture tokenizer do not fit: {error}") from None
    return vq.eval()
