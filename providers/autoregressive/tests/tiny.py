"""Tiny models with random weights, saved as transformers saves the real ones."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Emu3Config,
    Emu3ForConditionalGeneration,
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    PreTrainedTokenizerFast,
)

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
CODES = 128
IMAGE = ("image_placeholder", "begin_of_image", "end_of_image")


def tokenizer(special: list[str], **names: str) -> PreTrainedTokenizerFast:
    """Every byte is a token; `names` are the roles of special tokens (bos_token, boi_token, ...)."""
    inner = Tokenizer(models.BPE(vocab={byte: at for at, byte in enumerate(BYTES)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(special)
    roles = {name: names.pop(name) for name in ("bos_token", "eos_token", "pad_token")}
    return PreTrainedTokenizerFast(tokenizer_object=inner, extra_special_tokens=names, **roles)


def emu3(folder: Path, *, context: int = 512, seed: int = 0) -> Path:
    """Emu3 with 128 codes of 8x8 pixels, two layers, grouped heads."""
    visual = [f"<|visual token {code:06d}|>" for code in range(CODES)]
    control = ["<|extra_203|>", "<|extra_204|>", "<pad>", "<image>", "<|image start|>"]
    control += ["<|image end|>", "<|image token|>", "<|extra_200|>", "<|extra_201|>"]
    words = tokenizer(
        control + visual,
        bos_token="<|extra_203|>",
        eos_token="<|extra_204|>",
        pad_token="<pad>",
        image_token="<image>",
        boi_token="<|image start|>",
        eoi_token="<|image end|>",
        image_wrapper_token="<|image token|>",
        eof_token="<|extra_201|>",
    )
    words.save_pretrained(folder)
    torch.manual_seed(seed)
    config = Emu3Config(
        text_config={
            "vocab_size": len(words),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": context,
            "bos_token_id": words.bos_token_id,
            "eos_token_id": words.eos_token_id,
            "pad_token_id": words.pad_token_id,
            "initializer_range": 0.3,
        },
        vq_config={
            "codebook_size": CODES,
            "embed_dim": 4,
            "latent_channels": 4,
            "base_channels": 32,
            "channel_multiplier": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "hidden_size": 32,
            "attn_resolutions": [],
        },
        vocabulary_map=words.get_vocab(),
    )
    Emu3ForConditionalGeneration(config).eval().save_pretrained(folder)
    return folder


def janus(folder: Path, *, seed: int = 0) -> Path:
    """Janus that draws 32x32 pixels as 4x4 codes out of 64."""
    words = tokenizer(
        [f"<{name}>" for name in ("bos", "eos", "pad", "|User|", "|Assistant|", *IMAGE)],
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        image_token="<image_placeholder>",
        boi_token="<begin_of_image>",
        eoi_token="<end_of_image>",
    )
    words.save_pretrained(folder)
    torch.manual_seed(seed)
    config = JanusConfig(
        text_config={
            "model_type": "llama",
            "vocab_size": len(words),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "bos_token_id": words.bos_token_id,
            "eos_token_id": words.eos_token_id,
            "pad_token_id": words.pad_token_id,
            "initializer_range": 0.3,
        },
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "projection_dim": 64,
            "num_image_tokens": 16,
        },
        vq_config={
            "embed_dim": 8,
            "num_embeddings": 64,
            "latent_channels": 32,
            "base_channels": 32,
            "channel_multiplier": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "projection_dim": 64,
            "image_token_embed_dim": 64,
        },
        image_token_id=words.convert_tokens_to_ids("<image_placeholder>"),
    )
    model = JanusForConditionalGeneration(config).eval()
    model.generation_config = GenerationConfig(
        generation_kwargs={"boi_token_id": words.convert_tokens_to_ids("<begin_of_image>")},
        bos_token_id=words.bos_token_id,
        pad_token_id=words.pad_token_id,
        guidance_scale=5,
    )
    model.save_pretrained(folder)
    return folder
