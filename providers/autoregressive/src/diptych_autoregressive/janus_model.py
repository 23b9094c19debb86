"""Janus-Pro's tensors: the language model in our decoder, its VQ decoder through transformers."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.errors import InvalidInput
from diptych.image import Image
from diptych.local.tensors import to_image

from .cache import KVStore, Tokens
from .family import Drawn, Event, Files, Job, Runtime
from .grammar import Grammar
from .janus import OWN
from .llama import Decoder
from .painting import one_by_one
from .raster import Raster, sampler_of
from .weights import Weights, check_memory, converted, shards

__all__ = ["JanusModel"]


@dataclass(frozen=True, slots=True)
class Canvas:
    """The vectors (V, width) of the codes, made once, and the head that only pictures have."""

    table: Tensor
    out: tuple[Tensor, Tensor]
    head: tuple[Tensor, Tensor]

    @property
    def size(self) -> int:
        return len(self.table)

    def vectors(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.table)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(F.gelu(F.linear(hidden, *self.out)), *self.head)


@dataclass(frozen=True, slots=True)
class Words:
    """The tokenizer and the ids of the tokens that are not words."""

    tokenizer: Any
    begin: int
    open: int
    pad: int

    @classmethod
    def load(cls, folder: Path) -> Words:
        """From the tokenizer and, where it says more, generation_config.json.

        The id that opens a picture has been stored in three places by different versions.
        """
        from transformers import AutoTokenizer, GenerationConfig

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        said: dict[str, Any] = {}
        if (folder / "generation_config.json").is_file():
            said = GenerationConfig.from_pretrained(folder, local_files_only=True).to_dict()
        begin = _first(said.get("bos_token_id"), tokenizer.bos_token_id)
        nested = (said.get("generation_kwargs") or {}).get("boi_token_id")
        known = tokenizer.get_vocab()
        opening = getattr(tokenizer, "boi_token", None) or "<begin_of_image>"
        open_ = _first(nested, said.get("boi_token_id"), known.get(opening))
        pad = _first(said.get("pad_token_id"), tokenizer.pad_token_id)
        if begin is None or open_ is None or pad is None:
            raise InvalidInput(f"{folder}: the tokenizer has no begin, begin_of_image or pad token")
        return cls(tokenizer, begin, open_, pad)

    def prompt(self, text: str) -> Tokens:
        """The ids of a request to draw. Raises `InvalidInput` for a text with special tokens in it."""
        for token in self.tokenizer.get_added_vocab():
            if token in text:
                raise InvalidInput(f"the prompt has {token!r}, which means something to the model")
        ids = self.tokenizer(f"<|User|>: {text}\n\n<|Assistant|>:").input_ids
        return np.array([*ids, self.open], dtype=np.int32)

    def without_text(self, prompt: Tokens) -> Tokens:
        """The branch without text: pads, which the model does attend to, in place of every word."""
        kept = (prompt == self.begin) | (prompt == self.open)
        return np.where(kept, prompt, self.pad).astype(np.int32)


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


class JanusModel:
    """A loaded Janus."""

    def __init__(self, raster: Raster, words: Words, vq: Any, speed: str) -> None:
        self._raster, self._words, self._vq, self._speed = raster, words, vq, speed
        self._side: int = vq.quantize.quant_state_dims[0]

    @classmethod
    def load(cls, files: Files, folder: Path, runtime: Runtime) -> JanusModel:
        is_theirs = files.config["model_type"] == "multi_modality"
        paths = _paths(folder)
        check_memory(files.ref, paths, runtime.device, runtime.dtype)
        weights = Weights(
            paths, runtime.device, runtime.dtype, _from_deepseek if is_theirs else _from_hf
        )
        config = _config(files.config) if is_theirs else _read(folder)
        decoder = Decoder.of(weights, "text.", config.text_config)
        raster = Raster(decoder, weights["text.embed_tokens.weight"], _canvas(weights), KVStore(0))
        vq = _decoder_of_pictures(config.vq_config, weights)
        return cls(raster, Words.load(folder), vq, runtime.speed)

    def picture_bytes(self, payload: Mapping[str, Any]) -> int:
        kept = self._raster.bytes(self._side**2 + 512, sampler_of(payload, OWN))
        # Sixteen pixels a code and side, some hundred channels at full size.
        return kept + (16 * self._side) ** 2 * 128 * 4

    def draw(self, job: Job) -> Generator[Event, None, Drawn]:
        return self._drawn(job) if self._speed == "fast" else one_by_one(self._drawn, job)

    def _drawn(self, job: Job) -> Generator[Event, None, Drawn]:
        sampler = sampler_of(job.payload, OWN)
        grammar = Grammar(self._side, self._side, self._raster.canvas.size)
        prompts = [self._words.prompt(job.payload["prompt"])]
        if sampler.branches == 2:
            prompts.append(self._words.without_text(prompts[0]))
        done = yield from self._raster.codes(prompts, grammar, sampler, job, self._painted)
        pictures = []
        for each in done.codes:
            pictures.append(self._painted(each))
            yield None
        return Drawn(tuple(pictures), None, done.codes.numel(), done.passes)

    def _painted(self, codes: Tensor) -> Image:
        """The picture of the rows that `codes` fill, mid-grey below them."""
        done = len(codes)
        # The decoder takes whole pictures; what is under the grey is its last row again.
        rest = codes[-self._side :].repeat(self._side)[: self._side**2 - done]
        pixels = self._vq.decode(torch.cat((codes, rest))[None])[0]
        factor = pixels.shape[1] // self._side
        pixels[:, done // self._side * factor :] = 0
        return to_image(pixels)


def _canvas(weights: Weights) -> Canvas:
    vectors = weights["model.generation_embeddings.weight"]
    vectors = _linear(weights, "model.generation_aligner.fc1", vectors)
    layer = 0
    while f"model.generation_aligner.hidden_layers.{layer}.weight" in weights:
        name = f"model.generation_aligner.hidden_layers.{layer}"
        vectors = _linear(weights, name, F.gelu(vectors))
        layer += 1
    out, head = (
        (weights[f"{name}.weight"], weights[f"{name}.bias"])
        for name in ("model.generation_head.proj_out", "model.generation_head.vision_head")
    )
    return Canvas(vectors, out, head)


def _linear(weights: Weights, name: str, values: Tensor) -> Tensor:
    return F.linear(values, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _decoder_of_pictures(config: Any, weights: Weights) -> Any:
    from transformers.models.janus.modeling_janus import JanusVQVAE

    with torch.device("meta"):
        vq = JanusVQVAE(config)
    state = {name: tensor.float() for name, tensor in weights.under("model.vqmodel.").items()}
    try:
        vq.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise InvalidInput(f"the weights of the picture decoder do not fit: {error}") from None
    return vq.eval()


def _read(folder: Path) -> Any:
    from transformers.models.janus.configuration_janus import JanusConfig

    return JanusConfig.from_pretrained(folder, local_files_only=True)


def _config(theirs: Mapping[str, Any]) -> Any:
    """DeepSeek's config as transformers'; the VQ model is the one that they call VQ-16."""
    from transformers.models.janus.configuration_janus import JanusConfig
    from transformers.models.llama.configuration_llama import LlamaConfig

    parts = {
        part: theirs[f"{part}_config"].get("params", {})
        for part in ("vision", "gen_vision", "gen_aligner", "gen_head")
    }
    language = {
        name: value
        for name, value in theirs["language_config"].items()
        if name not in ("model_type", "torch_dtype", "_attn_implementation")
    }
    return JanusConfig(
        text_config=LlamaConfig(**language).to_dict(),
        vision_config={"image_size": parts["vision"].get("image_size", 384), "patch_size": 16},
        vq_config={
            "embed_dim": parts["gen_vision"]["n_embed"],
            "num_embeddings": parts["gen_vision"]["image_token_size"],
            "projection_dim": parts["gen_aligner"]["n_embed"],
            "image_token_embed_dim": parts["gen_head"]["image_token_embed"],
        },
    )


def _paths(folder: Path) -> list[Path]:
    """The weight files; DeepSeek's first checkpoints are pickled ones, which are converted once."""
    if any(folder.glob("*.safetensors")):
        return shards(folder)
    pickled = sorted(folder.glob("pytorch_model*.bin"))
    return [converted(path) for path in pickled] or shards(folder)


def _from_hf(name: str) -> str | None:
    """Names of transformers' layout; the part that looks at pictures is left out."""
    if name.startswith("model.language_model."):
        return "text." + name.removeprefix("model.language_model.")
    return name if name.startswith(("model.vqmodel.", "model.generation_")) else None


_THEIRS = (
    (r"^language_model\.model\.", "text."),
    (r"^gen_aligner\.layers\.0\.", "model.generation_aligner.fc1."),
    (r"^gen_aligner\.layers\.2\.", "model.generation_aligner.hidden_layers.0."),
    (r"^gen_embed\.", "model.generation_embeddings."),
    (r"^gen_head\.output_mlp_projector\.", "model.generation_head.proj_out."),
    (r"^gen_head\.", "model.generation_head."),
    (r"^(gen_vision_model\..*)\.mid\.0\.", r"\1.mid.block_1."),
    (r"^(gen_vision_model\..*)\.mid\.1\.", r"\1.mid.attn_1."),
    (r"^(gen_vision_model\..*)\.mid\.2\.", r"\1.mid.block_2."),
    (r"^(gen_vision_model\.decoder)\.conv_blocks\.", r"\1.up."),
    (r"^(gen_vision_model\.encoder)\.conv_blocks\.", r"\1.down."),
    (r"^(gen_vision_model\..*)\.res\.", r"\1.block."),
    (r"^gen_vision_model\.", "model.vqmodel."),
)


def _from_deepseek(name: str) -> str | None:
    """DeepSeek's names as transformers'."""
    if name.endswith("codebook_used"):
        return None
    for theirs, ours in _THEIRS:
        name = re.sub(theirs, ours, name)
    return name if name.startswith(("text.", "model.vqmodel.", "model.generation_")) else None
