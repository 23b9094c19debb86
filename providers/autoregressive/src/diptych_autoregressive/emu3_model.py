"""Emu3's files: the text model for our decoder, the tokenizer of pictures through transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.errors import InvalidInput
from diptych.local import devices

from .family import Files, Runtime
from .grammar import Grammar
from .joint import KEPT, JointModel, Rules
from .llama import Decoder
from .sequence import Segment
from .weights import Weights, check_memory, shards

__all__ = ["load"]


def load(
    files: Files, folder: Path, runtime: Runtime, rules: Rules, *, is_conversational: bool
) -> JointModel:
    """An Emu3 folder as transformers writes it. Raises `InvalidInput` for weights that do not fit."""
    from transformers.models.emu3.configuration_emu3 import Emu3Config

    paths = shards(folder)
    check_memory(files.ref, paths, runtime.device, runtime.dtype)
    weights = Weights(paths, runtime.device, runtime.dtype, _renamed)
    config = Emu3Config.from_pretrained(folder, local_files_only=True)
    table = weights["text.embed_tokens.weight"]
    is_tied = "head.weight" not in weights
    return JointModel(
        Decoder.of(weights, "text.", config.text_config),
        table,
        table if is_tied else weights["head.weight"],
        Emu3Layout.load(folder, files.config),
        Emu3Pictures(config.vq_config, Weights(paths, runtime.device, torch.float32, _renamed)),
        rules,
        kept=int(devices.free_memory(runtime.device) * KEPT) if is_conversational else 0,
        speed=runtime.speed,
    )


@dataclass(frozen=True, slots=True)
class Emu3Layout:
    """Begin, then for each picture its text, its opening and its tokens; see `Layout`."""

    tokenizer: Any
    codes: Tensor
    fixed: tuple[int, int, int]
    begin: int
    open: int
    wrap: int

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any]) -> Emu3Layout:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        names: Mapping[str, int] = config["vocabulary_map"]
        codes = {int(name[-8:-2]): at for name, at in names.items() if "<|visual token" in name}
        if sorted(codes) != list(range(len(codes))) or not codes:
            raise InvalidInput(f"{folder}: the vocabulary has no complete set of visual tokens")
        return cls(
            tokenizer,
            torch.tensor([codes[code] for code in range(len(codes))]),
            (names["<|extra_200|>"], names[tokenizer.eof_token], names[tokenizer.eoi_token]),
            begin=tokenizer.bos_token_id,
            open=names[tokenizer.boi_token],
            wrap=names[tokenizer.image_wrapper_token],
        )

    def grammar(self, rows: int, columns: int) -> Grammar:
        line = len(self.codes)
        return Grammar(rows, columns, line, line=(line,), close=(line + 1, line + 2))

    def prompt(
        self,
        before: Sequence[tuple[Segment, Sequence[int]]],
        text: str,
        rows: int,
        columns: int,
        *,
        is_empty: bool,
    ) -> list[int]:
        ids = [self.begin]
        for each, picture in before:
            ids += [] if is_empty else self._text(each["text"])
            ids += [*self._opening(each["rows"], each["columns"]), *picture]
        return ids + self._text(text) + self._opening(rows, columns)

    def _text(self, text: str) -> list[int]:
        """A text as ids; what looks like a special token in it is text."""
        if not text:
            return []
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        ids: list[int] = encoded.input_ids
        return ids

    def _opening(self, rows: int, columns: int) -> list[int]:
        return [self.open, *self._text(f"{rows}*{columns}"), self.wrap]


class Emu3Pictures:
    """Emu3's VQ model in float32, as a rounded distance picks other codes; see `Pictures`."""

    def __init__(self, config: Any, weights: Weights) -> None:
        from transformers.models.emu3.modeling_emu3 import Emu3VQVAE

        with torch.device("meta"):
            vq = Emu3VQVAE(config)
        try:
            vq.load_state_dict(weights.under("vq."), strict=True, assign=True)
        except RuntimeError as error:
            raise InvalidInput(
                f"the weights of the picture tokenizer do not fit: {error}"
            ) from None
        self._vq: Any = vq.eval()
        self.factor: int = self._vq.spatial_scale_factor

    def encode(self, pixels: Tensor) -> Tensor:
        (codes,) = self._vq.encode(pixels[None], torch.tensor([pixels.shape[1:]])).image_tokens
        found: Tensor = codes
        return found

    def decode(self, codes: Tensor) -> Tensor:
        pixels: Tensor = self._vq.decode(codes[None])[0]
        return pixels


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
