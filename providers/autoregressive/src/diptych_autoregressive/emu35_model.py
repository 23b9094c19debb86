"""Emu3.5's files: its language model, the tiktoken vocabulary, and IBQ, the tokenizer of pictures."""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diptych.errors import InvalidInput
from diptych.local import checkpoints, devices

from .convnet import ConvNet, Shape, canonical
from .emu35 import NO_RANKS, PICTURES, RANKS
from .family import Files, Runtime
from .grammar import Grammar
from .joint import KEPT, JointModel, Rules
from .llama import Decoder
from .sequence import Segment
from .weights import Weights, check_memory, converted, shards

__all__ = ["IBQ", "load"]

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *(f"<|extra_{number}|>" for number in range(205)),
    "<|image token|>",
    "<|image start|>",
    "<|image end|>",
)
"""The special tokens in the order of their ids, which follow the words; the codes follow them."""

WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def load(files: Files, folder: Path, runtime: Runtime, rules: Rules) -> JointModel:
    """Emu3.5 from a folder, its tokenizer of pictures beside it or from its own repository."""
    from transformers.models.llama.configuration_llama import LlamaConfig

    paths = shards(folder)
    check_memory(files.ref, paths, runtime.device, runtime.dtype)
    # What is small comes first, so that what is missing is said before the large files are read.
    ibq = IBQ.load(_pictures(folder), runtime.device)
    layout = Emu35Layout.load(folder, len(ibq.codebook))
    first, vocabulary = int(layout.codes[0]), files.config.get("vocab_size")
    if first + len(ibq.codebook) != vocabulary:
        raise InvalidInput(
            f"{folder}: {first:,} words and {len(ibq.codebook):,} picture codes are not the "
            f"{vocabulary:,} of the model; the files belong to different models"
        )
    weights = Weights(paths, runtime.device, runtime.dtype)
    known = set(LlamaConfig().to_dict()) | {"head_dim", "rope_theta", "rope_scaling"}
    kept = {name: value for name, value in files.config.items() if name in known}
    config = LlamaConfig(**{**kept, "model_type": "llama"})
    _check_names(weights, config.num_hidden_layers, folder)
    return JointModel(
        Decoder.of(weights, "model.", config),
        weights["model.embed_tokens.weight"],
        weights["lm_head.weight"],
        layout,
        ibq,
        rules,
        kept=int(devices.free_memory(runtime.device) * KEPT),
        speed=runtime.speed,
    )


_LAYER = (
    *(f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")),
    *(f"mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")),
    "input_layernorm",
    "post_attention_layernorm",
)


def _check_names(weights: Weights, layers: int, folder: Path) -> None:
    """Raise `InvalidInput` with the names of tensors that are missing and of unknown ones."""
    wanted = {f"model.layers.{n}.{name}.weight" for n in range(layers) for name in _LAYER}
    wanted |= {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    missing = sorted(wanted - set(weights))
    unknown = sorted(name for name in set(weights) - wanted if not name.endswith("inv_freq"))
    if missing or unknown:
        raise InvalidInput(
            f"{folder} does not hold Emu3.5's tensors: missing {_some(missing)}; unknown "
            f"{_some(unknown)}"
        )


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + rest if names else "none"


def _pictures(folder: Path) -> Path:
    """The file of the tokenizer of pictures: in the folder or one below it, else from the Hub."""
    here = [*folder.glob("model.ckpt"), *folder.glob("*/model.ckpt")]
    if here:
        return here[0]
    fetched = checkpoints.fetch(checkpoints.find("autoregressive", PICTURES), ("*.ckpt", "*.yaml"))
    return fetched / "model.ckpt"


@dataclass(frozen=True, slots=True)
class Emu35Layout:
    """The published templates; see `Layout`. `tokenizer` has the words, `first` is the first special id."""

    tokenizer: Any
    codes: Tensor
    first: int

    @classmethod
    def load(cls, folder: Path, codes: int) -> Emu35Layout:
        found = sorted(folder.glob(f"**/{RANKS}"))
        if not found:
            raise InvalidInput(f"{folder} {NO_RANKS}")
        tokenizer, words = _tokenizer(found[0])
        first = words + len(SPECIAL)
        return cls(tokenizer, torch.arange(first, first + codes), words)

    def id(self, token: str) -> int:
        """The id of a special token."""
        return self.first + SPECIAL.index(token)

    @property
    def fixed(self) -> tuple[int, ...]:
        return self.id("<|extra_200|>"), self.id("<|image end|>")

    def grammar(self, rows: int, columns: int) -> Grammar:
        # Unlike Emu3's, the last row has no line end.
        line = len(self.codes)
        return Grammar(rows, columns, line, line=(line,), last_line=False, close=(line + 1,))

    def prompt(
        self,
        before: Sequence[tuple[Segment, Sequence[int]]],
        text: str,
        rows: int,
        columns: int,
        *,
        is_empty: bool,
    ) -> list[int]:
        task = "" if is_empty else f" for {'x2i' if before else 't2i'} task"
        head = f"You are a helpful assistant{task}. USER: "
        tail = ("" if is_empty else text) + " ASSISTANT: "
        ids = [self.id("<|extra_203|>")]
        if before:
            ids += self._text(head)
            for each, picture in before:
                ids += [*self._opening(each["rows"], each["columns"]), *picture]
            ids += self._text(tail)
        else:  # words may span what stands on both sides of the text
            ids += self._text(head + tail)
        return [*ids, self.id("<|extra_100|>"), *self._opening(rows, columns)]

    def _text(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(
            unicodedata.normalize("NFC", text), add_special_tokens=False
        ).ids
        return ids

    def _opening(self, rows: int, columns: int) -> list[int]:
        start, wrap = self.id("<|image start|>"), self.id("<|image token|>")
        return [start, *self._text(f"{rows}*{columns}"), wrap]


def _tokenizer(path: Path) -> tuple[Any, int]:
    """The words of a tiktoken file as a tokenizer without special tokens, and how many there are."""
    from transformers.convert_slow_tokenizer import TikTokenConverter

    converter = TikTokenConverter(str(path), pattern=WORDS)
    converter.load_tiktoken_bpe = _ranks  # its own needs another package
    tokenizer = converter.converted()
    return tokenizer, tokenizer.get_vocab_size()


def _ranks(path: str) -> dict[bytes, int]:
    """A tiktoken file: on each line a word as base64, and its id."""
    try:
        lines = Path(path).read_bytes().splitlines()
        pairs = (line.split() for line in lines if line)
        return {base64.b64decode(word): int(rank) for word, rank in pairs}
    except ValueError:
        raise InvalidInput(f"{path} is not a tiktoken file") from None


class IBQ(nn.Module):
    """Index backpropagation quantisation (arXiv:2412.02692): the code of largest inner product.

    Widths are read from the state dict, whose names are those of "Taming Transformers".
    """

    def __init__(self, encoder: Shape, decoder: Shape, codes: Sequence[int]) -> None:
        super().__init__()
        self.encoder = ConvNet(encoder, up=False)
        self.decoder = ConvNet(decoder, up=True)
        self.quant_conv = nn.Conv2d(encoder.outputs, codes[1], 1)
        self.post_quant_conv = nn.Conv2d(codes[1], decoder.inputs, 1)
        self.codebook = nn.Parameter(torch.empty(tuple(codes)))
        self.factor = 2 ** (len(decoder.levels) - 1)

    @classmethod
    def load(cls, path: Path, device: str) -> IBQ:
        """From the published `model.ckpt`, in float32."""
        if not path.is_file():
            raise InvalidInput(f"there is no {path}: the tokenizer of pictures is a model.ckpt")
        weights = Weights([converted(path)], device, torch.float32, _bare)
        parts = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "quantize.embedding.")
        state = canonical({name: weights[name] for name in weights if name.startswith(parts)})
        try:
            state["codebook"] = state.pop("quantize.embedding.weight")
            shapes = Shape.of(state, "encoder"), Shape.of(state, "decoder")
            with torch.device("meta"):
                model = cls(*shapes, state["codebook"].shape)
            model.load_state_dict(state, strict=True, assign=True)
        except (KeyError, RuntimeError) as error:
            raise InvalidInput(f"{path} is not Emu3.5's tokenizer of pictures: {error}") from None
        return model.eval()

    def encode(self, pixels: Tensor) -> Tensor:
        features = self.quant_conv(self.encoder(pixels[None]))[0]
        codes: Tensor = (features.permute(1, 2, 0) @ self.codebook.T).argmax(-1)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        vectors = F.embedding(codes, self.codebook).permute(2, 0, 1)[None]
        pixels: Tensor = self.decoder(self.post_quant_conv(vectors))[0]
        return pixels


def _bare(name: str) -> str:
    """A name without what a training framework puts before it."""
    return name.removeprefix("state_dict.").removeprefix("model.")
