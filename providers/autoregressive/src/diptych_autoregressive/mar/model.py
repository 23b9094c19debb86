"""MAR, masked autoregression without vector quantisation (arXiv:2406.11838), class to image.

A picture is a grid of continuous tokens, the latents of a KL autoencoder, predicted in a random order:
few at first, more with every pass, by a cosine schedule. An encoder reads the tokens that are known, a
decoder gives every position a condition vector z, and a small MLP denoises the latents of the chosen
positions from z (see `head`). Any order is allowed, so any mask can be inpainted.

The numbers of tokens are known before the first pass (`counts`), so every pass has shapes that can be
planned. `sample(..., denoise=...)` takes a stand-in for `Head.denoise`, such as a CUDA graph of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .head import Denoise, Head, Steps

__all__ = ["MAR", "Config", "Options", "Pass", "counts", "inpaint_orders", "orders", "sample"]

EPS = 1e-6
HEADS = {768: 12, 1024: 16, 1280: 16}
"""Attention heads of the published models by width: base, large, huge."""


@dataclass(frozen=True, slots=True)
class Config:
    """Read from the tensors, but for the number of heads, which they do not tell."""

    classes: int
    width: int
    heads: int
    hidden: int
    encoder_depth: int
    decoder_depth: int
    tokens: int
    buffer: int
    channels: int
    head_width: int
    head_depth: int

    @classmethod
    def of(cls, state: Mapping[str, Tensor], heads: int | None = None) -> Config:
        """Raises `KeyError` for a width that is not a published one and no `heads`."""
        classes, width = state["class_emb.weight"].shape
        tokens = state["diffusion_pos_embed_learned"].shape[1]

        def deep(part: str) -> int:
            names = (name for name in state if name.startswith(part))
            return 1 + max(int(name[len(part) :].partition(".")[0]) for name in names)

        return cls(
            classes=classes,
            width=width,
            heads=heads or HEADS[width],
            hidden=state["encoder_blocks.0.mlp.fc1.weight"].shape[0],
            encoder_depth=deep("encoder_blocks."),
            decoder_depth=deep("decoder_blocks."),
            tokens=tokens,
            buffer=state["encoder_pos_embed_learned"].shape[1] - tokens,
            channels=state["z_proj.weight"].shape[1],
            head_width=state["diffloss.net.input_proj.weight"].shape[0],
            head_depth=deep("diffloss.net.res_blocks."),
        )


@dataclass(frozen=True, slots=True)
class Options:
    """How to sample. The authors show pictures made with 64 passes, cfg 4 and a constant schedule.

    `steps` are the diffusion steps of a token; `temperature` scales their noise.
    """

    passes: int = 64
    cfg: float = 4.0
    schedule: Literal["constant", "linear"] = "constant"
    temperature: float = 1.0
    steps: int = 100


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass, done. `positions` (B, n) were predicted, ascending; `latents` (B * n, C) are theirs.

    `z` (B * n, D), or (2 * B * n, D) with guidance, conditioned them; `tokens` (B, L, C) is the picture
    so far, with zeros where `known` (B, L) is False.
    """

    index: int
    positions: Tensor
    z: Tensor
    cfg: float
    latents: Tensor
    tokens: Tensor
    known: Tensor


class Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, EPS)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(mixed.transpose(1, 2).reshape(x.shape))
        out: Tensor = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return out


class MAR(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        width, length = config.width, config.buffer + config.tokens
        self.config = config
        self.class_emb = nn.Embedding(config.classes, width)
        self.fake_latent = nn.Parameter(torch.empty(1, width))
        self.z_proj = nn.Linear(config.channels, width)
        self.z_proj_ln = nn.LayerNorm(width, EPS)
        self.encoder_pos_embed_learned = nn.Parameter(torch.empty(1, length, width))
        self.encoder_blocks = self._blocks(config.encoder_depth)
        self.encoder_norm = nn.LayerNorm(width, EPS)
        self.decoder_embed = nn.Linear(width, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.decoder_pos_embed_learned = nn.Parameter(torch.empty(1, length, width))
        self.decoder_blocks = self._blocks(config.decoder_depth)
        self.decoder_norm = nn.LayerNorm(width, EPS)
        self.diffusion_pos_embed_learned = nn.Parameter(torch.empty(1, config.tokens, width))
        self.head = Head(config.channels, width, config.head_width, config.head_depth)

    def _blocks(self, depth: int) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(Block(config.width, config.heads, config.hidden) for _ in range(depth))

    @classmethod
    def load(cls, state: Mapping[str, Tensor], *, heads: int | None = None) -> Self:
        """From `model_ema` of a published `checkpoint-last.pth`; see `Config.of` for `heads`."""
        config = Config.of(state, heads)
        with torch.device("meta"):
            model = cls(config)
        ours = {
            name.replace(".attn.", ".")
            .replace(".mlp.fc", ".fc")
            .replace("diffloss.net.", "head."): value
            for name, value in state.items()
        }
        model.load_state_dict(ours, strict=True, assign=True)
        return model.eval().requires_grad_(False)

    def place(self, device: str | torch.device, dtype: torch.dtype) -> Self:
        """Move to `device`; the transformer to `dtype`, while the head stays in float32.

        Its first steps divide by 5e-5, which would turn the rounding of bfloat16 into noise.
        """
        self.to(device, dtype)
        self.head.float()
        return self

    def conditions(self, labels: Sequence[int | None]) -> Tensor:
        """Condition vectors (B, D) of class numbers; None is no class."""
        fake = self.fake_latent[0]
        return torch.stack(
            [fake if each is None else self.class_emb.weight[each] for each in labels]
        )

    def forward(self, tokens: Tensor, known: Tensor, condition: Tensor) -> Tensor:
        """z (R, L, D) of every position, from the tokens (R, L, C) at positions `known` (R, n)."""
        buffer, width = self.config.buffer, self.config.width
        rows = len(tokens)
        index = known[:, :, None].expand(-1, -1, width)
        x = self.z_proj(tokens.gather(1, known[:, :, None].expand(-1, -1, tokens.shape[2])))
        places = self.encoder_pos_embed_learned.expand(rows, -1, -1)
        x = x + places[:, buffer:].gather(1, index)
        front = condition[:, None] + places[:, :buffer]
        x = self.z_proj_ln(torch.cat([front, x], 1))
        for block in self.encoder_blocks:
            x = block(x)
        x = self.decoder_embed(self.encoder_norm(x))
        whole = self.mask_token.expand(rows, places.shape[1], -1).clone()
        whole[:, :buffer] = x[:, :buffer]
        whole[:, buffer:].scatter_(1, index, x[:, buffer:])
        x = whole + self.decoder_pos_embed_learned
        for block in self.decoder_blocks:
            x = block(x)
        z: Tensor = self.decoder_norm(x)[:, buffer:] + self.diffusion_pos_embed_learned
        return z


def counts(masked: int, passes: int) -> list[int]:
    """How many tokens are unknown before every pass, and 0 at the end; `passes` at most `masked`."""
    left = [masked]
    for index in range(passes - 1):
        wanted = math.floor(masked * math.cos(math.pi / 2 * (index + 1) / passes))
        left.append(max(1, min(left[-1] - 1, wanted)))
    return [*left, 0]


def orders(tokens: int, seeds: Sequence[int], per_seed: int = 1) -> Tensor:
    """Random orders (B, tokens): `per_seed` of each seed in a row.

    numpy's legacy generator is the one that the authors' code draws from.
    """
    rows = []
    for seed in seeds:
        high, low = divmod(seed, 2**32)
        random = np.random.RandomState([low, high] if high else low)
        for _ in range(per_seed):
            row = np.arange(tokens)
            random.shuffle(row)
            rows.append(torch.from_numpy(row))
    return torch.stack(rows)


def inpaint_orders(orders: Tensor, unknown: Tensor) -> Tensor:
    """`orders` (B, L) with the positions that are `unknown` (L,) moved to the front."""
    return orders.gather(1, (~unknown[orders]).long().argsort(dim=1, stable=True))


def sample(
    model: MAR,
    labels: Sequence[int | None],
    generators: Sequence[torch.Generator],
    orders: Tensor,
    options: Options = Options(),
    *,
    source: Tensor | None = None,
    masked: int | None = None,
    denoise: Denoise | None = None,
) -> Iterator[Pass]:
    """Yield every pass over a batch of pictures; the last one's `tokens` (B, L, C) are whole.

    `generators` is one per picture, or a single one for all, drawn in the order of the authors' code.
    Row b of `orders` (B, L) is the order in which tokens are unmasked, last entry first. To inpaint,
    `source` (B, L, C) are the tokens of the picture and the first `masked` entries of every order
    are to be made; `options.passes` may not exceed that number. `denoise` stands in for the head's.
    """
    config, device = model.config, model.z_proj.weight.device
    batch, length, channels = len(labels), config.tokens, config.channels
    masked = length if masked is None else masked
    left = counts(masked, options.passes)
    guided = options.cfg != 1
    orders = orders.to(device)
    condition = model.conditions(list(labels) + [None] * (batch if guided else 0))
    steps, denoise = Steps.of(options.steps, device), denoise or model.head.denoise
    tokens = torch.zeros(batch, length, channels, device=device)
    if source is not None:
        tokens.scatter_(1, *_at(orders[:, masked:], source))
    for index, (before, after) in enumerate(pairwise(left)):
        known = orders[:, before:].sort(dim=1).values
        positions = orders[:, after:before].sort(dim=1).values
        count = positions.shape[1]
        rows = 2 if guided else 1
        z = model(
            tokens.to(model.z_proj.weight.dtype).repeat(rows, 1, 1),
            known.repeat(rows, 1),
            condition,
        )
        chosen = positions.repeat(rows, 1)[:, :, None].expand(-1, -1, z.shape[2])
        z = z.gather(1, chosen).flatten(0, 1)
        cfg = options.cfg
        if options.schedule == "linear":
            cfg = 1 + (cfg - 1) * (length - max(after, 1)) / length  # the papers' code never says 0
        start, noise = _noise(generators, batch, (options.steps, rows, count, channels))
        strength = torch.full((), cfg, device=device)
        latents = denoise(
            z, start.to(device), noise.to(device), strength, steps, options.temperature
        )
        made = latents.view(batch, count, channels)
        tokens = tokens.scatter(1, positions[:, :, None].expand(-1, -1, channels), made)
        done = torch.ones(batch, length, dtype=torch.bool, device=device)
        done.scatter_(1, orders[:, :after], False)
        yield Pass(index, positions, z, cfg if guided else 1.0, latents, tokens, done)


def _at(positions: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    index = positions[:, :, None].expand(-1, -1, source.shape[2])
    return index, source.gather(1, index)


def _noise(
    generators: Sequence[torch.Generator], batch: int, shape: tuple[int, int, int, int]
) -> tuple[Tensor, Tensor]:
    """The start (N, C) and the noise of every step (steps, N, C) of one pass, batch-major.

    The authors' code draws for both halves of a guided batch and uses the first.
    """
    steps, rows, count, channels = shape
    each = batch // len(generators)
    starts, noises = [], []
    for generator in generators:
        start = torch.empty(each * count, channels)
        noise = torch.empty(steps, rows * each * count, channels)
        starts.append(start.normal_(generator=generator))
        for one in noise:
            one.normal_(generator=generator)
        noises.append(noise[:, : each * count])
    return torch.cat(starts), torch.cat(noises, 1)
