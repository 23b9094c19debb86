"""Tiny checkpoints of the families whose readers of text are seen nowhere else: language models
that read pictures, Gemma, GLM, UMT5."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diffusers import (
    AuraFlowTransformer2DModel,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage21,
    CogView4Transformer2DModel,
    DPMSolverMultistepScheduler,
    Flux2Transformer2DModel,
    GlmImageTransformer2DModel,
    Lumina2Transformer2DModel,
    PixArtTransformer2DModel,
    QwenImage21Transformer2DModel,
)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    ByT5Tokenizer,
    Gemma2Config,
    Gemma2Model,
    GenerationConfig,
    GlmConfig,
    GlmImageConfig,
    GlmImageForConditionalGeneration,
    GlmImageProcessor,
    GlmModel,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.models.glm_image.image_processing_pil_glm_image import GlmImageImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from .tinyparts import BYTES, SIZE, WIDTH, Parts, Pictures, flow, t5, tokenizer, vae, z_image

__all__ = ["FAMILIES"]

CODES = 48
"""Codes of GLM-Image's writer; the two ids after them begin and end a picture."""


def flux2_dev() -> tuple[str, Parts]:
    words = tokenizer(1024, kind="chat")
    config = Mistral3Config(
        text_config={
            "model_type": "mistral",
            "vocab_size": len(words),
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 30,  # of which the 10th, 20th and 30th are read
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "head_dim": 16,
        },
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "head_dim": 16,
            "image_size": 28,
            "patch_size": 14,
        },
    )
    return "Flux2Pipeline", {
        "scheduler": flow(),
        "text_encoder": Mistral3ForConditionalGeneration(config),
        "tokenizer": Pictures(words, "PixtralProcessor"),
        "transformer": Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
        ),
        "vae": AutoencoderKLFlux2(
            block_out_channels=[8, 8, 8, 8],
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=SIZE,
        ),
    }


def qwen21() -> tuple[str, Parts]:
    words = tokenizer(1024, kind="chat")
    at = words.convert_tokens_to_ids
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": WIDTH,
            "intermediate_size": WIDTH,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [2, 3, 3],
            },
            "max_position_embeddings": 4096,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "patch_size": 16,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=at("<|image_pad|>"),
        video_token_id=at("<|video_pad|>"),
        vision_start_token_id=at("<|vision_start|>"),
        vision_end_token_id=at("<|vision_end|>"),
    )
    return "QwenImage21Pipeline", {
        "scheduler": flow(shift_terminal=0.02, max_shift=0.9),
        "text_encoder": Qwen3VLForConditionalGeneration(config),
        "processor": Pictures(words, "Qwen3VLProcessor", patch_size=16, max_pixels=128 * 128),
        "transformer": QwenImage21Transformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            context_in_dim=WIDTH,
            axes_dims_rope=(4, 6, 6),
        ),
        "vae": AutoencoderKLQwenImage21(
            base_dim=4,
            decoder_base_dim=4,
            z_dim=4,
            dim_mult=[1, 1, 1, 1, 1],
            num_res_blocks=1,
            latents_mean=[0.1, -0.1, 0.2, 0.0],
            latents_std=[1.1, 0.9, 1.0, 1.2],
        ),
    }


def z_image_omni() -> tuple[str, Parts]:
    return "ZImageOmniPipeline", {
        **z_image(siglip_feat_dim=16),
        "siglip": Siglip2VisionModel(
            Siglip2VisionConfig(
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_patches=16,
                patch_size=16,
            )
        ),
        "siglip_processor": Siglip2ImageProcessorPil(patch_size=16, max_num_patches=16),
    }


def glm() -> tuple[str, Parts]:
    words = _codes()
    config = GlmImageConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "max_position_embeddings": 1024,
            "vision_vocab_size": CODES,
            "initializer_range": 0.3,  # so that words matter
            "pad_token_id": words.pad_token_id,
            "eos_token_id": CODES + 1,
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
            "intermediate_size": 16,
            "image_size": 64,
            "patch_size": 16,
        },
        vq_config={"embed_dim": 8, "num_embeddings": CODES, "latent_channels": 16},
        image_token_id=words.convert_tokens_to_ids("<|image|>"),
        image_start_token_id=CODES,
        image_end_token_id=CODES + 1,
    )
    writer = GlmImageForConditionalGeneration(config)
    writer.generation_config = GenerationConfig(do_sample=True, eos_token_id=CODES + 1)
    looks = GlmImageImageProcessorPil(
        patch_size=16, merge_size=1, temporal_patch_size=1, min_pixels=96 * 96, max_pixels=512 * 512
    )
    return "GlmImagePipeline", {
        "scheduler": flow(time_shift_type="linear"),
        "tokenizer": ByT5Tokenizer(),
        "processor": GlmImageProcessor(looks, words, chat_template=PICTURES_FIRST),
        "text_encoder": t5(vocabulary=384),
        "vision_language_encoder": writer,
        "transformer": GlmImageTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            text_embed_dim=WIDTH,
            time_embed_dim=16,
            condition_dim=8,
            prior_vq_quantizer_codebook_size=CODES,
        ),
        "vae": vae(latents_mean=[0.1, 0.0, 0.0, 0.1], latents_std=[1.0, 0.9, 1.1, 1.0]),
    }


PICTURES_FIRST = (
    "{% for message in messages %}{% for part in message.content %}{% if part.type == 'image' %}"
    "<|begin|><|image|><|end|>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
)


def _codes() -> Any:
    """A token for each code, for the beginning and the end of a picture, then for bytes."""
    first = [f"<|code_{each}|>" for each in range(CODES)] + ["<|begin|>", "<|end|>"]
    marks = {"image_token": "<|image|>", "grid_bos_token": "<sop>", "grid_eos_token": "<eop>"}
    special = [*first, "<pad>", *marks.values()]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = {name: at for at, name in enumerate([*special, *letters])}
    core = Tokenizer(models.BPE(names, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<pad>",
        extra_special_tokens=marks,
    )


def pixart(pipeline: str = "PixArtAlphaPipeline") -> tuple[str, Parts]:
    return pipeline, {
        "scheduler": DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02),
        "text_encoder": t5(),
        "tokenizer": tokenizer(300, kind="t5"),
        "transformer": PixArtTransformer2DModel(
            num_attention_heads=3,
            attention_head_dim=16,
            in_channels=4,
            out_channels=8,
            num_layers=1,
            cross_attention_dim=48,
            caption_channels=WIDTH,
            # As the models for 1024 pixels are, whose transformer is told the size.
            sample_size=128 if "Alpha" in pipeline else 8,
            use_additional_conditions="Alpha" in pipeline,
        ),
        "vae": vae(use_quant_conv=True, use_post_quant_conv=True, shift_factor=None),
    }


def lumina2() -> tuple[str, Parts]:
    words = tokenizer(1024, kind="t5")
    config = Gemma2Config(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
    )
    return "Lumina2Pipeline", {
        "scheduler": flow(),
        "text_encoder": Gemma2Model(config),
        "tokenizer": words,
        "transformer": Lumina2Transformer2DModel(
            sample_size=8,
            in_channels=4,
            hidden_size=24,
            num_layers=1,
            num_refiner_layers=1,
            num_attention_heads=1,
            num_kv_heads=1,
            multiple_of=8,
            axes_dim_rope=(8, 8, 8),
            axes_lens=(300, 64, 64),
            cap_feat_dim=WIDTH,
        ),
        "vae": vae(),
    }


def cogview4() -> tuple[str, Parts]:
    words = tokenizer(1024, kind="t5")
    config = GlmConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        pad_token_id=0,
        eos_token_id=0,
    )
    return "CogView4Pipeline", {
        "scheduler": flow(time_shift_type="linear"),
        "text_encoder": GlmModel(config),
        "tokenizer": words,
        "transformer": CogView4Transformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            text_embed_dim=WIDTH,
            time_embed_dim=16,
            condition_dim=8,
            sample_size=8,
            rope_axes_dim=(16, 16),
        ),
        "vae": vae(shift_factor=None),
    }


def auraflow() -> tuple[str, Parts]:
    config = UMT5Config(
        vocab_size=BYTES + 16,
        d_model=WIDTH,
        d_ff=WIDTH,
        d_kv=8,
        num_layers=1,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    return "AuraFlowPipeline", {
        "scheduler": flow(shift=1.73, use_dynamic_shifting=False),
        "text_encoder": UMT5EncoderModel(config),
        "tokenizer": tokenizer(256, kind="t5"),
        "transformer": AuraFlowTransformer2DModel(
            sample_size=8,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            caption_projection_dim=32,
            pos_embed_max_size=64,
        ),
        "vae": vae(use_quant_conv=True, use_post_quant_conv=True, shift_factor=None),
    }


FAMILIES: Mapping[str, Callable[[], tuple[str, Parts]]] = {
    "flux2": flux2_dev,
    "qwen-image-2-1": qwen21,
    "z-image-omni": z_image_omni,
    "glm-image": glm,
    "pixart": pixart,
    "pixart-sigma": lambda: pixart("PixArtSigmaPipeline"),
    "lumina2": lumina2,
    "cogview4": cogview4,
    "auraflow": auraflow,
}
