"""The shapes of every model, as stock classes of diffusers and transformers."""

from __future__ import annotations

import itertools

import torch
from diffusers import AutoencoderTiny, FluxTransformer2DModel
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    Emu3Config,
    Emu3ForConditionalGeneration,
    Emu3VQVAEConfig,
    T5Config,
    T5EncoderModel,
)

from training.words import BOS, EMU3, EOS, GRID, LENGTH, PAD, VOCABULARY, Words

LEVELS = 8  # of each of the tokenizer's four dimensions: 8 ** 4 = 4096 codes


def autoencoder() -> AutoencoderTiny:
    """Four times smaller each way, 8 channels; plain convolutions without normalisation."""
    return AutoencoderTiny(
        encoder_block_out_channels=(64, 64, 64), decoder_block_out_channels=(64, 64, 64),
        num_encoder_blocks=(0, 2, 3), num_decoder_blocks=(4, 3, 1), latent_channels=8,
    )  # fmt: skip


def transformer() -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        patch_size=1, in_channels=32, num_layers=1, num_single_layers=6, attention_head_dim=64, num_attention_heads=5,
        joint_attention_dim=256, pooled_projection_dim=128, guidance_embeds=False, axes_dims_rope=(16, 24, 24),
    )  # fmt: skip


def clip() -> CLIPTextModel:
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=512, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=LENGTH, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, projection_dim=128,
    ))  # fmt: skip


def t5() -> T5EncoderModel:
    return T5EncoderModel(T5Config(
        vocab_size=VOCABULARY, d_model=256, d_kv=64, d_ff=512, num_layers=3, num_heads=4, dropout_rate=0.0, feed_forward_proj="gated-gelu",
        relative_attention_num_buckets=32, relative_attention_max_distance=64, pad_token_id=PAD, eos_token_id=EOS,
    ))  # fmt: skip


class Flow(nn.Module):
    """The trained parts of the diffusion model."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer, self.text_encoder, self.text_encoder_2 = transformer(), clip(), t5()
        rows = torch.arange(GRID)
        place = torch.stack(
            [
                torch.zeros(GRID, GRID),
                rows[:, None].expand(GRID, GRID),
                rows[None].expand(GRID, GRID),
            ],
            -1,
        )
        self.register_buffer("image_places", place.reshape(-1, 3), persistent=False)
        self.register_buffer("text_places", torch.zeros(LENGTH, 3), persistent=False)

    def encode(
        self, clip_ids: torch.Tensor, t5_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        pooled = self.text_encoder(clip_ids).pooler_output
        return pooled, self.text_encoder_2(t5_ids).last_hidden_state

    def velocity(
        self, latents: torch.Tensor, time: torch.Tensor, text: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """Noise minus data at packed latents (N, 256, 32)."""
        pooled, states = text
        velocity: torch.Tensor = self.transformer(
            hidden_states=latents, timestep=time, pooled_projections=pooled, encoder_hidden_states=states,
            img_ids=self.image_places, txt_ids=self.text_places, return_dict=False,
        )[0]  # fmt: skip
        return velocity

    def forward(
        self,
        latents: torch.Tensor,
        noise: torch.Tensor,
        time: torch.Tensor,
        clip_ids: torch.Tensor,
        t5_ids: torch.Tensor,
    ) -> torch.Tensor:
        """The flow-matching loss."""
        mixed = torch.lerp(latents, noise, time[:, None, None])
        predicted = self.velocity(mixed, time, self.encode(clip_ids, t5_ids))
        return (predicted.float() - (noise - latents)).square().mean()


def pack(latents: torch.Tensor) -> torch.Tensor:
    """(N, 8, 32, 32) to (N, 256, 32), in FluxPipeline's order."""
    n, c, h, w = latents.shape
    return (
        latents.view(n, c, h // 2, 2, w // 2, 2)
        .permute(0, 2, 4, 1, 3, 5)
        .reshape(n, h * w // 4, c * 4)
    )


def unpack(packed: torch.Tensor) -> torch.Tensor:
    n, tokens, c = packed.shape
    side = int(tokens**0.5)
    return (
        packed.view(n, side, side, c // 4, 2, 2)
        .permute(0, 3, 1, 4, 2, 5)
        .reshape(n, c // 4, side * 2, side * 2)
    )


def emu3(words: Words) -> Emu3ForConditionalGeneration:
    """The joint model: a small Llama over text and visual tokens, and the tokenizer with a fixed grid as its codebook."""
    control = words.control
    text = {
        "vocab_size": words.size, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6,
        "num_key_value_heads": 2, "max_position_embeddings": 4096, "attention_dropout": 0.0, "pad_token_id": PAD, "bos_token_id": control["bos"],
        "eos_token_id": control["eos"], "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "tie_word_embeddings": True,
    }  # fmt: skip
    vision = Emu3VQVAEConfig(
        codebook_size=LEVELS**4, embed_dim=4, latent_channels=4, temporal_downsample_factor=1, base_channels=32,
        channel_multiplier=[1, 2, 4, 4], num_res_blocks=1, attn_resolutions=[], hidden_size=128,
    )  # fmt: skip
    vocabulary = words.emu3().get_vocab()
    assert all(vocabulary[token] == control[role] for role, token in EMU3.items())
    config = Emu3Config(
        text_config=text,
        vq_config=vision.to_dict(),
        vocabulary_map=vocabulary,
        tie_word_embeddings=True,
    )
    model = Emu3ForConditionalGeneration(config)
    model.model.vqmodel.quantize.embedding.weight.data.copy_(grid_codebook())
    return model


def grid_codebook() -> torch.Tensor:
    """Finite scalar quantisation written out as a codebook (4096, 4): every point of an 8 x 8 x 8 x 8 grid in [-1, 1]."""
    line = torch.linspace(-1, 1, LEVELS).tolist()
    return torch.tensor(list(itertools.product(line, repeat=4)))
