"""LlamaGen: a plain llama predicts image tokens in raster order (arXiv:2406.06525).

From a class (`c2i`) or from 120 caption features of Flan-T5 (`t2i`). Three things are not as in a
language model: the rotary embedding has two dimensions, rows and columns; the positions of the
condition have no angle at all, not even the angle 0, so that their queries and keys are zero and they
attend evenly; and guidance runs as a second half of the batch that is fed the same tokens.

`LlamaGen.step` is one token: a function of static tensors whose only changing input is `position`, a
tensor, when `limit` is the whole length. So a CUDA graph of it serves every token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..sampling import fill

__all__ = ["Cache", "Config", "LlamaGen", "Options", "Token", "filtered", "sample"]

EPS = 1e-5
ROPE_BASE = 10000
HEADS = {768: 12, 1024: 16, 1280: 20, 1536: 24, 3200: 32}
"""Attention heads of the published models by width: B, L, XL, XXL, 3B."""


@dataclass(frozen=True, slots=True)
class Config:
    """Read from the tensors, but for the number of heads, which they do not tell.

    `classes` is None for text to image; `prefix` counts the positions of the condition.
    """

    classes: int | None
    prefix: int
    caption_width: int | None
    depth: int
    width: int
    heads: int
    hidden: int
    vocabulary: int

    @classmethod
    def of(cls, state: Mapping[str, Tensor], heads: int | None = None) -> Config:
        """Raises `KeyError` for a width that is not a published one and no `heads`."""
        vocabulary, width = state["tok_embeddings.weight"].shape
        table = state.get("cls_embedding.embedding_table.weight")
        blank = state.get("cls_embedding.uncond_embedding")
        return cls(
            classes=None if table is None else len(table) - 1,
            prefix=1 if blank is None else len(blank),
            caption_width=None if blank is None else blank.shape[1],
            depth=sum(name.endswith("attention.wo.weight") for name in state),
            width=width,
            heads=heads or HEADS[width],
            hidden=state["layers.0.feed_forward.w1.weight"].shape[0],
            vocabulary=vocabulary,
        )


@dataclass(frozen=True, slots=True)
class Options:
    """How to sample. The authors use cfg 4 and top_k 2000 for classes, cfg 7.5 and 1000 for text.

    Guidance is off where `cfg` is at most 1, and after the token `cfg_until` if that is not negative.
    """

    cfg: float = 4.0
    top_k: int = 2000
    top_p: float = 1.0
    temperature: float = 1.0
    cfg_until: int = -1


@dataclass(frozen=True, slots=True)
class Token:
    """One token of every picture: logits (B, V) after guidance, and the tokens (B, i + 1) so far."""

    index: int
    logits: Tensor
    tokens: Tensor


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        width, hidden = config.width, config.hidden
        self.heads = config.heads
        self.attention_norm = nn.RMSNorm(width, EPS)
        self.wqkv = nn.Linear(width, 3 * width, bias=False)
        self.wo = nn.Linear(width, width, bias=False)
        self.ffn_norm = nn.RMSNorm(width, EPS)
        self.w13 = nn.Linear(width, 2 * hidden, bias=False)
        self.w2 = nn.Linear(hidden, width, bias=False)

    def forward(
        self, x: Tensor, rope: Tensor, position: Tensor, seen: Tensor, kv: Tensor
    ) -> Tensor:
        """x (R, l, D) at `position` (l,); kv (2, R, H, n, Dh) of which `seen` (R or 1, 1, l, n) is read."""
        rows, length, _ = x.shape
        qkv = self.wqkv(self.attention_norm(x)).view(rows, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        kv[0].index_copy_(2, position, _rotated(k, rope))
        kv[1].index_copy_(2, position, v)
        mixed = F.scaled_dot_product_attention(_rotated(q, rope), kv[0], kv[1], attn_mask=seen)
        x = x + self.wo(mixed.transpose(1, 2).reshape(x.shape))
        gate, up = self.w13(self.ffn_norm(x)).chunk(2, dim=-1)
        out: Tensor = x + self.w2(F.silu(gate) * up)
        return out


def _rotated(x: Tensor, rope: Tensor) -> Tensor:
    """x (R, H, l, Dh) turned, in adjacent pairs, by the cosines and sines (2, l, Dh / 2)."""
    even, odd = x.float().view(*x.shape[:-1], -1, 2).unbind(-1)
    cos, sin = rope
    turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1)
    return turned.view(x.shape).to(x.dtype)


class LlamaGen(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.config = config
        if config.classes is not None:
            self.class_embedding = nn.Embedding(config.classes + 1, width)
        else:
            assert config.caption_width is not None
            self.uncond_embedding = nn.Parameter(torch.empty(config.prefix, config.caption_width))
            self.fc1 = nn.Linear(config.caption_width, width, bias=False)
            self.fc2 = nn.Linear(width, width, bias=False)
        self.tok_embeddings = nn.Embedding(config.vocabulary, width)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(width, EPS)
        self.output = nn.Linear(width, config.vocabulary, bias=False)

    @classmethod
    def load(cls, state: Mapping[str, Tensor], *, heads: int | None = None) -> Self:
        """From a published state dict (`c2i_*.pt`, `t2i_*.pt`); see `Config.of` for `heads`."""
        config = Config.of(state, heads)
        with torch.device("meta"):
            model = cls(config)
        ours = {
            name.replace("cls_embedding.embedding_table.", "class_embedding.")
            .replace("cls_embedding.cap_proj.", "")
            .replace("cls_embedding.", "")
            .replace(".attention.", ".")
            .replace(".feed_forward.", "."): tensor
            for name, tensor in state.items()
            # Tables and caches that the authors' code made while it ran.
            if name != "freqs_cis" and ".kv_cache." not in name
        }
        for layer in (f"layers.{index}." for index in range(config.depth)):
            gate, up = ours.pop(f"{layer}w1.weight"), ours.pop(f"{layer}w3.weight")
            ours[f"{layer}w13.weight"] = torch.cat([gate, up])
        model.load_state_dict(ours, strict=True, assign=True)
        return model.eval().requires_grad_(False)

    def classes(self, labels: Sequence[int], *, guided: bool) -> Tensor:
        """The condition (R, 1, D) of class numbers; with guidance, rows without a class follow."""
        assert self.config.classes is not None
        nothing = [self.config.classes] * (len(labels) if guided else 0)
        every = torch.tensor([*labels, *nothing], device=self.output.weight.device)
        out: Tensor = self.class_embedding(every)[:, None]
        return out

    def captions(self, features: Tensor, *, guided: bool) -> Tensor:
        """The condition (R, 120, D) of caption features (B, 120, C), padded on the left."""
        features = features.to(self.uncond_embedding)
        if guided:
            features = torch.cat([features, self.uncond_embedding.expand_as(features)])
        out: Tensor = self.fc2(F.gelu(self.fc1(features), approximate="tanh"))
        return out

    def step(self, x: Tensor, position: Tensor, cache: Cache, limit: int) -> Tensor:
        """Logits (R, V), in float32, after x (R, l, D) at `position` (l,).

        Positions from `limit` on are not read, so it must be beyond the last of `position`.
        """
        rope = cache.rope[:, position]
        seen = cache.seen[:, :, position, :limit]
        for layer, kv in zip(self.layers, cache.kv, strict=True):
            x = layer(x, rope, position, seen, kv[:, :, :, :limit])
        logits: Tensor = self.output(self.norm(x[:, -1])).float()
        return logits


@dataclass(slots=True)
class Cache:
    """The static tensors of one batch: angles, who sees whom, keys and values of every layer."""

    rope: Tensor
    seen: Tensor
    kv: Tensor

    @classmethod
    def of(cls, model: LlamaGen, rows: int, side: int) -> Self:
        """For `rows` sequences of a condition and side * side tokens."""
        config, like = model.config, model.output.weight
        length = config.prefix + side * side
        seen = torch.ones(length, length, dtype=torch.bool, device=like.device).tril()
        seen = seen.expand(1 if config.classes else rows, 1, -1, -1).clone()
        rope = torch.zeros(2, length, config.width // config.heads // 2, device=like.device)
        rope[:, config.prefix :] = _angles(side, rope.shape[2]).to(like.device)
        kv = like.new_zeros(
            config.depth, 2, rows, config.heads, length, config.width // config.heads
        )
        return cls(rope, seen, kv)

    def hide(self, mask: Tensor) -> None:
        """Set which captions' positions have features: `mask` (B, 120) is 1 there.

        The others are seen by themselves alone. Guided rows repeat those of the pictures.
        """
        length, device = self.seen.shape[2], self.seen.device
        shown = F.pad(mask.to(device) > 0, (0, length - mask.shape[1]), value=True)
        shown = shown.repeat(len(self.seen) // len(mask), 1)
        itself = torch.eye(length, dtype=torch.bool, device=device)
        causal = torch.ones_like(itself).tril()
        self.seen.copy_((causal & shown[:, None, None]) | itself)


def _angles(side: int, pairs: int) -> Tensor:
    """Cosines and sines (2, side * side, pairs): the first half of the pairs turns by row."""
    half = pairs // 2
    speed = ROPE_BASE ** (-torch.arange(half, dtype=torch.float32) / half)
    place = torch.arange(side, dtype=torch.float32)[:, None] * speed
    row, column = place[:, None].expand(-1, side, -1), place.expand(side, -1, -1)
    angles = torch.cat([row, column], -1).flatten(0, 1)
    return torch.stack([angles.cos(), angles.sin()])


def filtered(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Logits with -inf for all but the k largest (ties stay) and the nucleus of mass top_p.

    The nucleus is what precedes, in falling order, the point where the mass is exceeded.
    """
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    if 0 < top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        over = ordered.softmax(-1).cumsum(-1) > top_p
        drop = F.pad(over[..., :-1], (1, 0), value=False)
        logits = logits.masked_fill(drop.scatter(-1, order, drop), -math.inf)
    return logits


def sample(
    model: LlamaGen,
    condition: Tensor,
    generators: Sequence[torch.Generator],
    options: Options,
    *,
    side: int,
    mask: Tensor | None = None,
    cache: Cache | None = None,
    step: Callable[[LlamaGen, Tensor, Tensor, Cache, int], Tensor] = LlamaGen.step,
) -> Iterator[Token]:
    """Yield every token of a batch of pictures of side * side tokens, in raster order.

    `condition` comes from `model.classes` or `model.captions`, guided when `options.cfg` is above 1;
    `mask` (B, 120) is the captions'. `generators` is one per picture, or a single one for all, drawn
    in the order of the authors' code. `cache` of an earlier batch of the same size may be used again.
    """
    config, device = model.config, condition.device
    guided = options.cfg > 1
    batch = len(condition) // (2 if guided else 1)
    if cache is None:
        cache = Cache.of(model, len(condition), side)
    if mask is not None:
        cache.hide(mask)
    tokens = torch.empty(batch, side * side, dtype=torch.long, device=device)
    noise = torch.empty(batch, config.vocabulary, device=device)
    x, position = condition, torch.arange(config.prefix, device=device)
    for index in range(side * side):
        logits = step(model, x, position, cache, config.prefix + index)
        if guided:
            with_condition, without = logits.chunk(2)
            logits = with_condition
            if index == 0 or options.cfg_until < 0 or index - 1 <= options.cfg_until:
                logits = without + (with_condition - without) * options.cfg
        fill(noise, generators)
        warmed = logits / max(options.temperature, 1e-5)
        shares = filtered(warmed, options.top_k, options.top_p).softmax(-1)
        tokens[:, index] = (shares / noise).argmax(-1)
        yield Token(index, logits, tokens[:, : index + 1])
        x = model.tok_embeddings(tokens[:, index : index + 1].repeat(2 if guided else 1, 1))
        position = position[-1:] + 1
