"""Parts of the tiny checkpoints: tokenizers of bytes, encoders of text, autoencoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImageTransformer2DModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

__all__ = [
    "BYTES",
    "SIZE",
    "WIDTH",
    "Parts",
    "Pictures",
    "clip",
    "flow",
    "qwen3",
    "qwen3_lm",
    "qwen_vl",
    "t5",
    "tokenizer",
    "vae",
    "z_image",
]

SIZE = 64
"""Side of the pictures that the checkpoints draw by default; steps by default are 2."""

BYTES = 256
WIDTH = 32

Parts = dict[str, Any]


def tokenizer(limit: int, *, kind: str = "clip", vocabulary: int = BYTES + 16) -> Any:
    """One token per byte, with the special tokens of CLIP, T5 or a chat model."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = {
        "clip": ["<|startoftext|>", "<|endoftext|>"],
        "t5": ["<pad>", "</s>"],
        "chat": [
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            "<|vision_start|>",
            "<|vision_end|>",
            "<|image_pad|>",
            "<|video_pad|>",
        ],
    }[kind]
    names = special + letters
    names += [f"<unused{each}>" for each in range(vocabulary - len(names))]
    core = Tokenizer(models.BPE({name: at for at, name in enumerate(names)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    ends = {"clip": "<|startoftext|> $A <|endoftext|>", "t5": "$A </s>"}
    if kind in ends:
        core.post_processor = processors.TemplateProcessing(
            single=ends[kind], special_tokens=[(each, names.index(each)) for each in special]
        )
    named = {
        "clip": {"bos_token": special[0], "eos_token": special[1], "pad_token": special[1]},
        "t5": {"eos_token": "</s>", "pad_token": "<pad>"},
        "chat": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    }[kind]
    made = PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=limit, **named)
    if kind == "chat":
        made.add_special_tokens({"additional_special_tokens": special[1:]})
        made.chat_template = CHAT
    return made


CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def clip(*, projected: bool = False, width: int = WIDTH) -> Any:
    config = CLIPTextConfig(
        vocab_size=BYTES + 16,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def t5(width: int = WIDTH, vocabulary: int = BYTES + 16) -> Any:
    config = T5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_ff=2 * width,
        d_kv=8,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config)


def flow(**settings: Any) -> Any:
    return FlowMatchEulerDiscreteScheduler(
        **{"shift": 3.0, "use_dynamic_shifting": True, "num_train_timesteps": 1000} | settings
    )


def vae(channels: int = 4, **settings: Any) -> Any:
    blocks = 4
    defaults = {
        "block_out_channels": [8] * blocks,
        "down_block_types": ["DownEncoderBlock2D"] * blocks,
        "up_block_types": ["UpDecoderBlock2D"] * blocks,
        "layers_per_block": 1,
        "latent_channels": channels,
        "norm_num_groups": 4,
        "sample_size": SIZE,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "scaling_factor": 0.9,
        "shift_factor": 0.05,
    }
    return AutoencoderKL(**defaults | settings)


class Pictures:
    """The files of a processor of class `kind`, which cannot be made without torchvision."""

    def __init__(self, words: Any, kind: str = "Qwen2_5_VLProcessor", **settings: Any) -> None:
        self.words, self.kind, self.settings = words, kind, settings

    def save_pretrained(self, folder: Path) -> None:
        self.words.save_pretrained(folder)
        sizes = {"min_pixels": 28 * 28, "max_pixels": 56 * 56}
        pictures = Qwen2VLImageProcessorPil(**sizes | self.settings)
        pictures.save_pretrained(folder)


def qwen_vl(words: Any) -> Any:
    at = words.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
            "rope_theta": 1e6,
            "max_position_embeddings": 4096,
            "bos_token_id": at("<|endoftext|>"),
            "eos_token_id": at("<|im_end|>"),
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "patch_size": 14,
            "fullatt_block_indexes": [0],
            "window_size": 28,
        },
        image_token_id=at("<|image_pad|>"),
        video_token_id=at("<|video_pad|>"),
        vision_start_token_id=at("<|vision_start|>"),
        vision_end_token_id=at("<|vision_end|>"),
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def qwen3(words: Any, layers: int = 2) -> Any:
    return Qwen3Model(
        Qwen3Config(
            vocab_size=len(words),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=16,
            max_position_embeddings=2048,
        )
    )


def qwen3_lm(words: Any, layers: int) -> Any:
    return Qwen3ForCausalLM(qwen3(words, layers).config)


def z_image(**settings: Any) -> Parts:
    """What all of Z-Image's family are made of; `settings` are its transformer's."""
    words = tokenizer(1024, kind="chat")
    return {
        "scheduler": flow(shift=6.0, use_dynamic_shifting=False),
        "text_encoder": qwen3(words),
        "tokenizer": words,
        "transformer": ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=WIDTH,
            axes_dims=[4, 6, 6],
            axes_lens=[1024, 128, 128],
            **settings,
        ),
        "vae": vae(),
    }
