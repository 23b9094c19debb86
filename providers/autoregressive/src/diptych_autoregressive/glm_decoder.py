"""GLM-Image's text model: a Llama with norms behind its parts and positions in a plane.

Heads turn by time, row and column of a token (mrope), and only in a part of their width. Where tokens
stand depends on the pictures that are asked for, so it belongs to a batch's cache and not to the
weights: two pictures of different shapes can be drawn in turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.errors import InvalidInput

from .cache import KVCache
from .llama import Decoder, Shape
from .weights import Weights

__all__ = ["GlmDecoder", "Placed", "positions"]

Grid = tuple[int, int]
"""Rows and columns of codes."""


def positions(ids: Sequence[int], marks: tuple[int, int], grids: Sequence[Grid]) -> Tensor:
    """Time, row and column (3, n) of the tokens of a prompt and of what is drawn after it.

    `marks` begin and end a picture. `grids` are those of the pictures in the prompt, then those to
    draw, in the order in which they are. A picture takes as many steps of time as its longer side.
    """
    begin, end = marks
    parts: list[Tensor] = []
    now = done = shown = 0
    for at, token in enumerate(ids):
        if token != end:
            continue
        grid = grids[shown]
        words = at - grid[0] * grid[1] - done
        parts += [_line(now, words), _plane(now + words, grid)]
        now += words + max(grid)
        done, shown = at, shown + 1
    if ids[-1] != begin:
        raise InvalidInput("the prompt of the language model does not end where a picture begins")
    parts.append(_line(now, len(ids) - done))
    now += len(ids) - done
    for grid in grids[shown:]:
        parts.append(_plane(now, grid))
        now += max(grid)
    return torch.cat(parts, 1)


def _line(start: int, length: int) -> Tensor:
    return torch.arange(start, start + length).expand(3, -1)


def _plane(start: int, grid: Grid) -> Tensor:
    rows, columns = grid
    row = torch.arange(rows).repeat_interleave(columns)
    column = torch.arange(columns).repeat(rows)
    return torch.stack((torch.zeros_like(row), row, column)) + start


class Placed(KVCache):
    """A cache whose columns have angles (columns, turned) of their own."""

    def __init__(self, numbers: Tensor, turned: int) -> None:
        super().__init__(numbers)
        self.cos = numbers.new_zeros(self.columns, turned)
        self.sin = numbers.new_zeros(self.columns, turned)


@dataclass(frozen=True, slots=True)
class GlmLayer:
    """The weights of one layer; `after_attention` and `after_mlp` norm what is added."""

    qkv: Tensor
    qkv_bias: Tensor | None
    out: Tensor
    gate_up: Tensor
    down: Tensor
    before: Tensor
    after_attention: Tensor
    between: Tensor
    after_mlp: Tensor


class GlmDecoder(Decoder):
    """Token vectors in, hidden vectors out; see `Decoder`. Its caches are `Placed` before use."""

    def __init__(self, shape: Shape, layers: Sequence[GlmLayer], norm: Tensor, config: Any) -> None:
        self.shape, self.glm_layers, self.norm = shape, tuple(layers), norm
        rope = config.rope_parameters
        if rope["rope_type"] != "default":
            raise InvalidInput(f"rope_type={rope['rope_type']!r}: only 'default' is implemented")
        self.turned = int(shape.head * rope.get("partial_rotary_factor", 1.0))
        even = torch.arange(0, self.turned, 2, dtype=torch.float32)
        self._frequencies = 1.0 / (rope["rope_theta"] ** (even / self.turned))
        sections = rope.get("mrope_section", [8, 12, 12])
        if sum(sections) * 2 != self.turned:
            raise InvalidInput(f"mrope_section={sections} does not sum to {self.turned // 2}")
        axes = [torch.full((size,), at % 3) for at, size in enumerate(sections)]
        self._axes = torch.cat(axes)

    @classmethod
    def of(cls, weights: Weights, prefix: str, config: Any) -> GlmDecoder:
        """From the tensors whose names begin with `prefix`; `config` is the text config."""
        shape = Shape.of(config)

        def named(layer: int, *names: str, kind: str = "weight") -> Tensor:
            stems = (f"{prefix}layers.{layer}.{name}.{kind}" for name in names)
            return torch.cat([weights[stem] for stem in stems])

        attention = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        layers = [
            GlmLayer(
                qkv=named(layer, *attention),
                qkv_bias=named(layer, *attention, kind="bias") if config.attention_bias else None,
                out=named(layer, "self_attn.o_proj"),
                gate_up=named(layer, "mlp.gate_up_proj"),
                down=named(layer, "mlp.down_proj"),
                before=named(layer, "input_layernorm"),
                after_attention=named(layer, "post_self_attn_layernorm"),
                between=named(layer, "post_attention_layernorm"),
                after_mlp=named(layer, "post_mlp_layernorm"),
            )
            for layer in range(shape.layers)
        ]
        return cls(shape, layers, weights[f"{prefix}norm.weight"], config)

    def new_cache(self, rows: int, columns: int) -> Placed:
        shape = self.shape
        numbers = (shape.layers, rows, columns, 2, shape.kv_heads, shape.head)
        return Placed(
            torch.zeros(numbers, dtype=self.norm.dtype, device=self.norm.device), self.turned
        )

    def place(self, cache: KVCache, where: Tensor) -> None:
        """Set the angles of the first columns of `cache` from positions (3, n) on the CPU."""
        assert isinstance(cache, Placed)
        angles = where[self._axes].T.float() * self._frequencies
        cos, sin = angles.cos(), angles.sin()
        # In place: a captured graph reads these very tensors.
        cache.cos[: len(angles)] = torch.cat((cos, cos), -1)
        cache.sin[: len(angles)] = torch.cat((-sin, sin), -1)

    def __call__(self, vectors: Tensor, columns: Tensor, cache: KVCache, length: int) -> Tensor:
        assert isinstance(cache, Placed)
        shape = self.shape
        rows, q = columns.shape
        heads, kv_heads = shape.heads, shape.kv_heads
        cos, sin = cache.cos[columns].unsqueeze(2), cache.sin[columns].unsqueeze(2)
        places = cache.places(columns)
        seen = cache.seen(columns, length)
        hidden = vectors
        for index, layer in enumerate(self.glm_layers):
            normed = self._normed(hidden, layer.before)
            heads_of = F.linear(normed, layer.qkv, layer.qkv_bias).view(rows, q, -1, shape.head)
            both, value = heads_of.tensor_split((heads + kv_heads,), 2)
            turned, still = both.tensor_split((self.turned,), -1)
            turned = turned * cos + turned.roll(self.turned // 2, -1) * sin
            query, key = torch.cat((turned, still), -1).tensor_split((heads,), 2)
            keys, values = cache.write(index, places, key, value, length)
            mixed = F.scaled_dot_product_attention(
                query.transpose(1, 2), keys, values, attn_mask=seen, enable_gqa=heads != kv_heads
            )
            mixed = mixed.transpose(1, 2).reshape(rows, q, heads * shape.head)
            hidden = hidden + self._normed(F.linear(mixed, layer.out), layer.after_attention)
            gate, up = F.linear(self._normed(hidden, layer.between), layer.gate_up).chunk(2, -1)
            down = F.linear(F.silu(gate) * up, layer.down)
            hidden = hidden + self._normed(down, layer.after_mlp)
        return self._normed(hidden, self.norm)
