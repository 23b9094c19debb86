"""A tiny GLM-Image with random weights, as a diffusers folder: 48 codes, a painter of one block."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    GlmImagePipeline,
    GlmImageTransformer2DModel,
)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    ByT5Tokenizer,
    GenerationConfig,
    GlmImageConfig,
    GlmImageForConditionalGeneration,
    GlmImageProcessor,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)
from transformers.models.glm_image.image_processing_pil_glm_image import GlmImageImageProcessorPil

__all__ = ["CODES", "glm"]

CODES = 48
"""Codes; the two ids after them begin and end a picture, and the head has sixteen rows more."""

TEMPLATE = (
    "{% for message in messages %}{% for part in message.content %}{% if part.type == 'image' %}"
    "<|begin|><|image|><|end|>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
)
SPECIAL = ("<pad>", "<eos>", "<|image|>", "<sop>", "<eop>")


def glm(folder: Path) -> Path:
    """Write the folder. Sizes are those of the published model, made small."""
    torch.manual_seed(0)
    words = _words()
    config = GlmImageConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 1024,
            "vision_vocab_size": CODES + 16,
            "pad_token_id": words.pad_token_id,
            "eos_token_id": CODES + 1,
            "initializer_range": 0.3,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.5,
                "mrope_section": [1, 1, 2],
            },
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "num_heads": 2,
            "intermediate_size": 24,
            "image_size": 64,
            "patch_size": 16,
            "initializer_range": 0.3,
        },
        vq_config={"embed_dim": 8, "num_embeddings": CODES, "latent_channels": 16},
        image_token_id=words.convert_tokens_to_ids("<|image|>"),
        image_start_token_id=CODES,
        image_end_token_id=CODES + 1,
    )
    writer = GlmImageForConditionalGeneration(config).eval()
    writer.generation_config = GenerationConfig(
        do_sample=True, temperature=0.9, top_p=0.75, eos_token_id=CODES + 1
    )
    looks = GlmImageImageProcessorPil(
        patch_size=16, merge_size=1, temporal_patch_size=1, min_pixels=64 * 64, max_pixels=256 * 256
    )
    processor = GlmImageProcessor(looks, words, chat_template=TEMPLATE)
    text = T5Config(
        vocab_size=384, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    pipe = GlmImagePipeline(
        tokenizer=ByT5Tokenizer(),
        processor=processor,
        text_encoder=T5EncoderModel(text).eval(),
        vision_language_encoder=writer,
        vae=AutoencoderKL(
            latent_channels=4,
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=4,
            layers_per_block=1,
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ).eval(),
        transformer=GlmImageTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            text_embed_dim=16,
            time_embed_dim=16,
            condition_dim=8,
            prior_vq_quantizer_codebook_size=CODES,
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, time_shift_type="linear"
        ),
    )
    pipe.save_pretrained(folder)
    return folder


def _words() -> PreTrainedTokenizerFast:
    """A token for each code, for begin, end and padding rows of the head, then bytes."""
    first = [f"<|code_{number}|>" for number in range(CODES)] + ["<|begin|>", "<|end|>"]
    first += [f"<|spare_{number}|>" for number in range(14)]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*first, *letters, *SPECIAL]
    inner = Tokenizer(models.BPE({name: at for at, name in enumerate(names)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([*first, *SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<|begin|>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens={
            "image_token": "<|image|>",
            "grid_bos_token": "<sop>",
            "grid_eos_token": "<eop>",
        },
    )
