"""VAR, visual autoregressive modelling by next-scale prediction (arXiv:2404.02905), class to image.

A picture is a pyramid of token maps, 1x1 to 16x16 (or 32x32). One pass of the transformer predicts
all tokens of a scale at once, given those of the smaller scales; the tokenizer sums the scales up
to f_hat, from which the input of the next scale is pooled and the picture is decoded.

`step` is one scale. It reads and writes the static tensors of `Buffers` alone, takes shapes from the
scale's number, and neither allocates generators nor looks at values, so one CUDA graph per scale can
be captured around it: fill `buffers.noise` and, for an edit, `buffers.kept` and `buffers.keep`, then
replay. `sample(..., step=...)` takes the wrapped function; `draw.Graphs` is it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..sampling import fill
from ..vq import ScaleTokenizer

__all__ = ["VAR", "Buffers", "Config", "Kept", "Options", "Scale", "sample", "step"]

EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Config:
    """Read from the tensors. Row `classes` of the class embedding means "no class"."""

    classes: int
    depth: int
    width: int
    heads: int
    hidden: int
    vocabulary: int
    channels: int
    patch_nums: tuple[int, ...]
    shared: bool

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Config:
        rows, width = state["class_emb.weight"].shape
        counts = state["lvl_1L"].flatten().bincount().tolist()
        return cls(
            classes=rows - 1,
            depth=sum(name.endswith("attn.proj.weight") for name in state),
            width=width,
            heads=state["blocks.0.attn.scale_mul_1H11"].shape[1],
            hidden=state["blocks.0.ffn.fc1.weight"].shape[0],
            vocabulary=state["head.weight"].shape[0],
            channels=state["word_embed.weight"].shape[1],
            patch_nums=tuple(math.isqrt(count) for count in counts),
            shared="shared_ada_lin.1.weight" in state,
        )


@dataclass(frozen=True, slots=True)
class Options:
    """How to sample. `cfg` grows from 0 at the first scale to its value at the last one.

    The paper's figures use cfg 1.5, top_k 900 and top_p 0.96; cfg 4 looks better than it scores.
    `more_smooth` mixes codes by a Gumbel softmax: smoother pictures, tokens that no longer say it
    all.
    """

    cfg: float = 4.0
    top_k: int = 900
    top_p: float = 0.95
    more_smooth: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """What an edit keeps: `tokens` (B, n * n) of every scale and `keep` (P, P), 1 = keep."""

    tokens: Sequence[Tensor]
    keep: Tensor


@dataclass(frozen=True, slots=True)
class Scale:
    """One scale, done: logits (B, n * n, V) after guidance, tokens (B, n * n) as drawn, f_hat so far.

    `next_map` (B, C, m, m) is what the next scale reads, None after the last one. `logits` and
    `next_map` may be overwritten by the next step; `f_hat` (B, C, P, P) is the caller's.
    """

    index: int
    logits: Tensor
    tokens: Tensor
    next_map: Tensor | None
    f_hat: Tensor


class Block(nn.Module):
    """Attention and MLP under adaptive layer norm, whose six vectors depend on the class alone."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.empty(config.heads, 1, 1))
        self.fc1 = nn.Linear(width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, width)
        self.ada: nn.Linear | None = None
        if config.shared:
            self.ada_gss = nn.Parameter(torch.empty(1, 1, 6, width))
        else:
            self.ada = nn.Linear(width, 6 * width)

    def modulation(self, c: Tensor, shared: Tensor | None) -> Tensor:
        """The gains, scales (with 1 added) and shifts (6, R, 1, D) of attention and MLP."""
        if self.ada is not None:
            six = self.ada(F.silu(c)).unflatten(1, (6, -1))
        else:
            assert shared is not None
            six = shared + self.ada_gss[0]
        six[:, 2:4] += 1
        out: Tensor = six.transpose(0, 1).unsqueeze(2).contiguous()
        return out

    def forward(self, x: Tensor, six: Tensor, keys: Tensor, values: Tensor, begin: int) -> Tensor:
        """x (R, l, D) of one scale; keys and values (R, H, L, Dh) hold the scales before `begin`."""
        rows, length, width = x.shape
        gain1, gain2, scale1, scale2, shift1, shift2 = six
        h = F.layer_norm(x, (width,), eps=EPS) * scale1 + shift1
        q, k, v = self.qkv(h).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        end = begin + length
        # In float32, as the scale goes up to 100 and multiplies every rounding.
        q = (F.normalize(q.float(), dim=-1) * self.scale).to(x.dtype)
        keys[:, :, begin:end] = F.normalize(k.float(), dim=-1)
        values[:, :, begin:end] = v
        mixed = F.scaled_dot_product_attention(q, keys[:, :, :end], values[:, :, :end], scale=1.0)
        x = x + gain1 * self.proj(mixed.transpose(1, 2).reshape(x.shape))
        h = F.layer_norm(x, (width,), eps=EPS) * scale2 + shift2
        out: Tensor = x + gain2 * self.fc2(F.gelu(self.fc1(h), approximate="tanh"))
        return out


class VAR(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        width, length = config.width, sum(n * n for n in config.patch_nums)
        self.config = config
        self.class_emb = nn.Embedding(config.classes + 1, width)
        self.pos_start = nn.Parameter(torch.empty(1, 1, width))
        self.pos = nn.Parameter(torch.empty(length, width))
        self.word_embed = nn.Linear(config.channels, width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.shared_ada = nn.Linear(width, 6 * width) if config.shared else None
        self.head_ada = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, config.vocabulary)

    @classmethod
    def load(cls, state: Mapping[str, Tensor]) -> Self:
        """From a published state dict (`var_d16.pth` to `var_d36.pth`)."""
        config = Config.of(state)
        with torch.device("meta"):
            model = cls(config)
        model.load_state_dict(_renamed(state, config), strict=True, assign=True)
        return model.eval().requires_grad_(False)

    def scale_input(self, index: int, features: Tensor) -> Tensor:
        """The input (R, l, D) of a scale: the class vectors (R, D), or the pooled map (B, C, n, n)."""
        begin = sum(n * n for n in self.config.patch_nums[:index])
        if index == 0:
            return features[:, None] + self.pos_start + self.pos[0]
        x = self.word_embed(features.to(self.pos.dtype).flatten(2).mT)
        out: Tensor = x + self.pos[begin : begin + x.shape[1]]
        return out

    def logits(self, x: Tensor, head: Tensor) -> Tensor:
        """Logits (R, l, V) in float32 of the last block's output."""
        h = F.layer_norm(x, x.shape[-1:], eps=EPS) * head[0] + head[1]
        out: Tensor = self.head(h).float()
        return out


def _renamed(state: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Under the names of this file: biases of q, k and v joined, positions and levels summed."""
    ours = {
        name.replace("attn.mat_qkv.", "qkv.")
        .replace("attn.proj.", "proj.")
        .replace("ffn.", "")
        .replace("shared_ada_lin.1.", "shared_ada.")
        .replace("head_nm.ada_lin.1.", "head_ada.")
        .replace("ada_lin.1.", "ada."): tensor
        for name, tensor in state.items()
        if name not in ("attn_bias_for_masking", "lvl_1L")  # a mask for training; read already
    }
    for block in (f"blocks.{index}." for index in range(config.depth)):
        bias = [ours.pop(f"{block}attn.{name}") for name in ("q_bias", "zero_k_bias", "v_bias")]
        ours[f"{block}qkv.bias"] = torch.cat(bias)
        scale = ours.pop(f"{block}attn.scale_mul_1H11")[0]
        ours[f"{block}scale"] = scale.float().clamp(max=math.log(100)).exp()
    levels = ours.pop("lvl_embed.weight")[state["lvl_1L"].flatten()]
    summed = levels.float() + ours.pop("pos_1LC")[0]
    ours["pos"] = summed.to(ours["word_embed.weight"].dtype)
    return ours


@dataclass(slots=True)
class Buffers:
    """The static tensors of one batch: what the steps read, and what they carry on.

    Rows are B with the class and, where there is guidance, B without. `noise` and `smooth` have
    room for the largest scale; `draw` puts a scale's draws at their front.
    """

    c: Tensor
    six: list[Tensor]
    head: Tensor
    keys: Tensor
    values: Tensor
    f_hat: Tensor
    next_map: list[Tensor]
    noise: Tensor
    smooth: Tensor | None
    kept: list[Tensor] | None
    keep: list[Tensor] | None

    @classmethod
    def of(cls, model: VAR, batch: int, options: Options, *, edits: bool = False) -> Self:
        """Empty ones for a batch; `start` fills in the classes."""
        config, like = model.config, model.pos
        rows = batch * 2 if options.cfg else batch
        nums, side = config.patch_nums, config.patch_nums[-1]
        length, width = model.pos.shape
        cache = (config.depth, rows, config.heads, length, width // config.heads)
        draws = batch * side * side * config.vocabulary

        def plain(*shape: int) -> Tensor:
            return torch.zeros(shape, device=like.device)

        def maps(each: Sequence[int]) -> list[Tensor]:
            return [plain(batch, config.channels, n, n) for n in each]

        return cls(
            c=like.new_empty(rows, width),
            six=[like.new_empty(6, rows, 1, width) for _ in range(config.depth)],
            head=like.new_empty(2, rows, 1, width),
            keys=like.new_empty(cache),
            values=like.new_empty(cache),
            f_hat=plain(batch, config.channels, side, side),
            next_map=maps(nums[1:]),
            noise=plain(draws),
            smooth=plain(draws) if options.more_smooth else None,
            kept=maps(nums) if edits else None,
            keep=[plain(1, 1, n, n) for n in nums] if edits else None,
        )

    def start(self, model: VAR, labels: Tensor) -> None:
        """Set the classes (B,), and what of every block depends on them alone."""
        nothing = torch.full_like(labels, model.config.classes)
        every = labels if len(self.c) == len(labels) else torch.cat([labels, nothing])
        self.c.copy_(model.class_emb(every))
        shared = None
        if model.shared_ada is not None:
            shared = model.shared_ada(F.silu(self.c)).unflatten(1, (6, -1))
        for buffer, block in zip(self.six, model.blocks, strict=True):
            assert isinstance(block, Block)
            buffer.copy_(block.modulation(self.c, shared))
        scale, shift = model.head_ada(F.silu(self.c)).chunk(2, dim=1)
        self.head.copy_(torch.stack([scale + 1, shift])[:, :, None])
        self.f_hat.zero_()

    def hold(self, tokenizer: ScaleTokenizer, kept: Kept) -> None:
        """Set what an edit keeps. The first scales, of at most three tokens, are always kept."""
        assert self.kept is not None
        assert self.keep is not None
        keep = kept.keep.to(self.f_hat)[None, None]
        for codes, mask, tokens in zip(self.kept, self.keep, kept.tokens, strict=True):
            codes.copy_(tokenizer.maps(tokens))
            n = mask.shape[-1]
            small = F.interpolate(keep, (n, n), mode="bilinear") > 0.5
            mask.copy_(small if n * n > 3 else torch.ones_like(small))

    def draw(self, length: int, vocabulary: int, generators: Sequence[torch.Generator]) -> None:
        """Draw the exponential noise of a scale of `length` tokens, image by image."""
        for buffer in (self.noise, self.smooth):
            if buffer is not None:
                front = buffer[: len(self.f_hat) * length * vocabulary]
                fill(front.view(len(self.f_hat), length, vocabulary), generators)


def step(
    model: VAR, tokenizer: ScaleTokenizer, buffers: Buffers, index: int, options: Options
) -> tuple[Tensor, Tensor]:
    """Run scale `index`: its logits (B, l, V) after guidance and its tokens (B, l).

    Adds to `buffers.f_hat` and writes the next scale's input. For a given index every shape is
    fixed, and nothing waits for the device.
    """
    config, nums = model.config, model.config.patch_nums
    n, last = nums[index], len(nums) - 1
    batch, begin = len(buffers.f_hat), sum(n * n for n in nums[:index])
    x = model.scale_input(index, buffers.next_map[index - 1] if index else buffers.c)
    if index and len(buffers.c) != batch:
        x = torch.cat([x, x])
    for block, six, keys, values in zip(
        model.blocks, buffers.six, buffers.keys, buffers.values, strict=True
    ):
        x = block(x, six, keys, values, begin)
    logits = model.logits(x, buffers.head)
    if len(logits) != batch:
        t = options.cfg * (index / last)
        logits = (1 + t) * logits[:batch] - t * logits[batch:]
    shape = (batch, n * n, config.vocabulary)
    noise = buffers.noise[: math.prod(shape)].view(shape)
    possible = filtered(logits, options.top_k, options.top_p)
    tokens = (possible.softmax(-1) / noise).argmax(-1)
    if buffers.smooth is None:
        codes = tokenizer.maps(tokens)
    else:
        ratio = index / last
        tau = max(0.27 * (1 - 0.95 * ratio), 0.005)
        gumbel = -buffers.smooth[: math.prod(shape)].view(shape).log()
        mix = ((possible * (1 + ratio) + gumbel) / tau).softmax(-1)
        codes = (mix @ tokenizer.codebook).mT.reshape(batch, -1, n, n)
    if buffers.keep is not None and buffers.kept is not None:
        codes = torch.where(buffers.keep[index] > 0, buffers.kept[index], codes)
    buffers.f_hat += tokenizer.refine(codes, index, len(nums), nums[-1])
    if index < last:
        pooled = F.adaptive_avg_pool2d(buffers.f_hat, nums[index + 1])
        buffers.next_map[index].copy_(pooled)
    return logits, tokens


def filtered(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Logits with -inf for all but the k largest (ties stay) and the nucleus of mass top_p."""
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    if 0 < top_p < 1:
        ordered, order = logits.sort(dim=-1)
        drop = ordered.softmax(-1).cumsum(-1) <= 1 - top_p
        drop[..., -1] = False
        logits = logits.masked_fill(drop.scatter(-1, order, drop), -math.inf)
    return logits


def sample(
    model: VAR,
    tokenizer: ScaleTokenizer,
    labels: Sequence[int],
    generators: Sequence[torch.Generator],
    options: Options = Options(),
    *,
    kept: Kept | None = None,
    buffers: Buffers | None = None,
    step: Callable[[VAR, ScaleTokenizer, Buffers, int, Options], Any] = step,
) -> Iterator[Scale]:
    """Yield every scale of a batch of pictures, coarse to fine.

    `labels` are class numbers, `model.config.classes` for none. `generators` is one per picture, so
    that a picture does not depend on its batch, or a single one for all, drawn in the order of the
    authors' code; for a batch of one the two are the same. The last scale's
    `tokenizer.picture(f_hat)` is the picture. `buffers` of an earlier batch of the same size and
    options may be used again.
    """
    if buffers is None:
        buffers = Buffers.of(model, len(labels), options, edits=kept is not None)
    buffers.start(model, torch.tensor(labels, device=model.pos.device))
    if kept is not None:
        buffers.hold(tokenizer, kept)
    nums = model.config.patch_nums
    for index, n in enumerate(nums):
        buffers.draw(n * n, model.config.vocabulary, generators)
        logits, tokens = step(model, tokenizer, buffers, index, options)
        next_map = buffers.next_map[index] if index + 1 < len(nums) else None
        yield Scale(index, logits, tokens, next_map, buffers.f_hat.clone())
