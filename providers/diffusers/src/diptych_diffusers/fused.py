"""Blocks with fewer trips over memory: a GELU leaves with the product before it, nothing wide is
copied to lie side by side, and the norm and rotation of queries and keys are one kernel.

The arithmetic is that of the stock blocks but for where it is rounded to the format of the weights.
Layers that adapters have wrapped are called as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.activations import GELU
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import (
    FluxAttnProcessor,
    FluxSingleTransformerBlock,
)
from torch import Tensor, nn

from .quantise import Eight, has_kernels

__all__ = ["fuse"]


def fuse(blocks: Iterable[Any]) -> None:
    """Change what `blocks` run, in place; once is enough."""
    for block in blocks:
        for module in block.modules():
            if type(module) is GELU and module.approximate == "tanh":
                vars(module)["forward"] = MethodType(_risen, module)
        if type(getattr(getattr(block, "attn", None), "processor", None)) is FluxAttnProcessor:
            block.attn.set_processor(_Attention())
        if type(block) is FluxSingleTransformerBlock:
            if type(block.proj_out) is Eight:
                block.proj_out.gelu = True
            vars(block)["forward"] = MethodType(_single, block)


def _risen(module: Any, x: Tensor) -> Tensor:
    """What diffusers' `GELU` does: a linear layer and its activation."""
    layer = module.proj
    fits = type(layer) is nn.Linear and layer.bias is not None
    risen: Tensor = gelu_linear(x, layer.weight, layer.bias) if fits else module.gelu(layer(x))
    return risen


def _single(
    block: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    temb: Tensor,
    image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    joint_attention_kwargs: dict[str, Any] | None = None,
) -> tuple[Tensor, Tensor]:
    """FLUX's block of one stream; without the copy of text, attention and activation side by side."""
    length = encoder_hidden_states.shape[1]
    x = torch.cat([encoder_hidden_states, hidden_states], dim=1)
    normed, gate = block.norm(x, emb=temb)
    attention = block.attn(
        hidden_states=normed, image_rotary_emb=image_rotary_emb, **(joint_attention_kwargs or {})
    )
    x = x + gate.unsqueeze(1) * _projected(block, normed, attention)
    if x.dtype == torch.float16:
        x = x.clip(-65504, 65504)
    return x[:, :length], x[:, length:]


def _projected(block: Any, normed: Tensor, attention: Tensor) -> Tensor:
    first, last = block.proj_mlp, block.proj_out
    projected: Tensor
    if type(last) is Eight:
        projected = last(first(normed), attention)
    elif type(first) is type(last) is nn.Linear and first.bias is not None:
        # One product for each half of the input: side by side they would have to be copied.
        width = attention.shape[-1]
        risen = gelu_linear(normed, first.weight, first.bias).flatten(0, 1)
        partial = F.linear(attention, last.weight[:, :width], last.bias).flatten(0, 1)
        both = torch.addmm(partial, risen, last.weight[:, width:].T)
        projected = both.reshape(attention.shape)
    else:
        projected = last(torch.cat([attention, block.act_mlp(first(normed))], dim=2))
    return projected


class _Attention(FluxAttnProcessor):  # type: ignore[misc]
    """FLUX's attention, with norm and rotation of queries and keys in one kernel each."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Any:
        if image_rotary_emb is None or attn.fused_projections:
            return super().__call__(
                attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb
            )
        query, key, value = (
            layer(hidden_states).unflatten(-1, (-1, attn.head_dim))
            for layer in (attn.to_q, attn.to_k, attn.to_v)
        )
        text: tuple[Any, Any] = (None, None)
        if encoder_hidden_states is not None:
            text_query, text_key, text_value = (
                layer(encoder_hidden_states).unflatten(-1, (-1, attn.head_dim))
                for layer in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
            )
            text = (text_query, attn.norm_added_q), (text_key, attn.norm_added_k)
            value = torch.cat([text_value, value], dim=1)
        found = dispatch_attention_fn(
            _rotated(query, attn.norm_q, image_rotary_emb, text[0]),
            _rotated(key, attn.norm_k, image_rotary_emb, text[1]),
            value,
            attn_mask=attention_mask,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        found = found.flatten(2, 3)
        if encoder_hidden_states is None:
            return found
        length = encoder_hidden_states.shape[1]
        return (
            attn.to_out[0](found[:, length:].contiguous()),
            attn.to_add_out(found[:, :length].contiguous()),
        )


def _rotated(
    x: Tensor, norm: Any, angles: tuple[Tensor, Tensor], ahead: tuple[Tensor, Any] | None
) -> Tensor:
    """Queries or keys (B, S, H, D), normed and rotated, after those of the text if there are any."""
    width = x.shape[-1]
    turned: Tensor
    if width & (width - 1) == 0 and has_kernels(x.device):
        from .kernels import rotated

        text, text_norm = ahead if ahead is not None else (None, None)
        weight = None if text_norm is None else text_norm.weight
        turned = rotated(x, norm.weight, *angles, norm.eps, text, weight)
    else:
        x = norm(x)
        if ahead is not None:
            x = torch.cat([ahead[1](ahead[0]), x], dim=1)
        turned = apply_rotary_emb(x, angles, sequence_dim=1)
    return turned


@torch.library.custom_op("diptych::gelu_linear", mutates_args=())
def gelu_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU (tanh) of a linear layer, (..., K) to (..., N). Opaque to the compiler, which would take
    the two apart.
    """
    rows = x.reshape(-1, x.shape[-1])
    risen = torch._addmm_activation(bias, rows, weight.T, use_gelu=True)
    return risen.reshape(*x.shape[:-1], -1)


@gelu_linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(weight))
