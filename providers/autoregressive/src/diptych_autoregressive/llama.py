"""The decoder that the raster models share: a Llama-shaped transformer over a static KV cache.

It takes the weights that transformers' Llama and Emu3 text models store, with the projections that
read the same input fused into one (query, key and value; gate and up). Heads may be grouped (GQA)
and queries and keys normalised (`q_norm`, `k_norm`), as the weights say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.errors import InvalidInput

from .cache import KVCache
from .weights import Weights

__all__ = ["Decoder", "Layer", "Shape"]


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a decoder. `context` is the longest sequence that it was made for."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    eps: float
    context: int

    @classmethod
    def of(cls, config: Any) -> Shape:
        """From the text part of a transformers config. Raises `InvalidInput` for another activation."""
        if config.hidden_act != "silu":
            raise InvalidInput(f"hidden_act={config.hidden_act!r}: only 'silu' is implemented")
        width, heads = config.hidden_size, config.num_attention_heads
        return cls(
            width=width,
            layers=config.num_hidden_layers,
            heads=heads,
            kv_heads=config.num_key_value_heads or heads,
            head=getattr(config, "head_dim", None) or width // heads,
            eps=config.rms_norm_eps,
            context=config.max_position_embeddings,
        )

    @property
    def token_numbers(self) -> int:
        """Numbers that one token takes in the cache."""
        return self.layers * 2 * self.kv_heads * self.head


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of one layer, fused; biases and head norms are None where there are none."""

    qkv: Tensor
    qkv_bias: Tensor | None
    out: Tensor
    out_bias: Tensor | None
    gate_up: Tensor
    down: Tensor
    before: Tensor
    between: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None


class Decoder:
    """Token vectors in, hidden vectors out; keys and values of every position go to a cache.

    The position of a token is its column in its row of the cache, so rows of different lengths
    share a batch without padding.
    """

    def __init__(
        self, shape: Shape, layers: Iterable[Layer], norm: Tensor, rotation: tuple[Tensor, Tensor]
    ) -> None:
        self.shape = shape
        self.layers = tuple(layers)
        self.norm = norm
        self.cos, self.sin = rotation

    @classmethod
    def of(cls, weights: Weights, prefix: str, config: Any) -> Decoder:
        """From the tensors whose names begin with `prefix`; `config` is a text config of transformers."""
        shape = Shape.of(config)

        def fused(layer: int, *names: str, kind: str = "weight") -> Tensor:
            stems = (f"{prefix}layers.{layer}.{name}.{kind}" for name in names)
            return torch.cat([weights[stem] for stem in stems])

        def maybe(layer: int, *names: str, kind: str) -> Tensor | None:
            stem = f"{prefix}layers.{layer}.{names[0]}.{kind}"
            return fused(layer, *names, kind=kind) if stem in weights else None

        attention = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        layers = (
            Layer(
                qkv=fused(layer, *attention),
                qkv_bias=maybe(layer, *attention, kind="bias"),
                out=fused(layer, "self_attn.o_proj"),
                out_bias=maybe(layer, "self_attn.o_proj", kind="bias"),
                gate_up=fused(layer, "mlp.gate_proj", "mlp.up_proj"),
                down=fused(layer, "mlp.down_proj"),
                before=fused(layer, "input_layernorm"),
                between=fused(layer, "post_attention_layernorm"),
                q_norm=maybe(layer, "self_attn.q_norm", kind="weight"),
                k_norm=maybe(layer, "self_attn.k_norm", kind="weight"),
            )
            for layer in range(shape.layers)
        )
        norm = weights[f"{prefix}norm.weight"]
        return cls(shape, layers, norm, rotation(config, shape, norm))

    def new_cache(self, rows: int, columns: int) -> KVCache:
        """An empty cache for `rows` sequences of up to `columns` tokens."""
        shape = self.shape
        numbers = (shape.layers, rows, columns, 2, shape.kv_heads, shape.head)
        return KVCache(torch.zeros(numbers, dtype=self.norm.dtype, device=self.norm.device))

    def __call__(self, vectors: Tensor, columns: Tensor, cache: KVCache, length: int) -> Tensor:
        """Hidden vectors (rows, q, width) of token vectors of that shape, the last norm applied.

        `columns` (rows, q) says where each token stands in its row. Every token sees the columns of
        its row up to its own; the cache is read up to `length`, which must be above every column.
        """
        shape = self.shape
        rows, q = columns.shape
        heads, kv_heads = shape.heads, shape.kv_heads
        cos, sin = self.cos[columns].unsqueeze(2), self.sin[columns].unsqueeze(2)
        places = cache.places(columns)
        seen = cache.seen(columns, length)
        hidden = vectors
        for index, layer in enumerate(self.layers):
            normed = self._normed(hidden, layer.before)
            heads_of = F.linear(normed, layer.qkv, layer.qkv_bias).view(rows, q, -1, shape.head)
            turned, value = heads_of.tensor_split((heads + kv_heads,), 2)
            if layer.q_norm is not None:
                query, key = turned.tensor_split((heads,), 2)
                turned = torch.cat(
                    (self._normed(query, layer.q_norm), self._normed(key, layer.k_norm)), 2
                )
            turned = turned * cos + turned.roll(shape.head // 2, -1) * sin
            query, key = turned.tensor_split((heads,), 2)
            keys, values = cache.write(index, places, key, value, length)
            mixed = F.scaled_dot_product_attention(
                query.transpose(1, 2), keys, values, attn_mask=seen, enable_gqa=heads != kv_heads
            )
            mixed = mixed.transpose(1, 2).reshape(rows, q, heads * shape.head)
            hidden = hidden + F.linear(mixed, layer.out, layer.out_bias)
            gate, up = F.linear(self._normed(hidden, layer.between), layer.gate_up).chunk(2, -1)
            hidden = hidden + F.linear(F.silu(gate) * up, layer.down)
        return self._normed(hidden, self.norm)

    def _normed(self, vectors: Tensor, weight: Tensor | None) -> Tensor:
        assert weight is not None
        return F.rms_norm(vectors, weight.shape, weight, self.shape.eps)


def rotation(config: Any, shape: Shape, like: Tensor) -> tuple[Tensor, Tensor]:
    """Tables (context, head) of the rotary embedding; the sine carries the sign of the first half.

    Scaled variants ("llama3", "linear", "yarn") are transformers' own; those whose angles depend on
    the length of the sequence are refused, as a cached key could not keep its angle.
    """
    settings = config.rope_parameters
    kind, scale = settings["rope_type"], 1.0
    if kind == "default":
        even = torch.arange(0, shape.head, 2, dtype=torch.float32)
        frequencies = 1.0 / (settings["rope_theta"] ** (even / shape.head))
    elif kind in ("linear", "llama3", "yarn"):
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

        frequencies, scale = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    else:
        raise InvalidInput(
            f"rope_type={kind!r}: the rotary embedding must not depend on the length"
        )
    angles = torch.arange(shape.context)[:, None].float() * frequencies[None]
    cos, sin = angles.cos() * scale, angles.sin() * scale
    cos, sin = torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)
    return cos.to(like), sin.to(like)
