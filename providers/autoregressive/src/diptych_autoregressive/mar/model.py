"""MAR, masked autoregression without vector quantisation (arXiv:2406.11838), class to image.

A picture is a grid of continuous tokens, the latents of a KL autoencoder, predicted in a random order:
few at first, more with every pass, by a cosine schedule. An encoder reads the tokens that are known, a
decoder gives every position a condition vector z, and a small MLP denoises the latents of the chosen
positions from z (Improved DDPM, arXiv:2102.09672). Any order is allowed, so any mask can be inpainted.

The numbers of tokens are known before the first pass (`counts`), so every pass has shapes that can be
planned; `Head.denoise` is the part that is bound by launches (100 steps of a few small layers): a function
of static tensors, with the time embeddings of all steps made once.
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

__all__ = ["MAR", "Config", "Options", "Pass", "counts", "inpaint_orders", "orders", "sample"]

EPS = 1e-6
TRAINING_STEPS = 1000
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
        self.head = Head(config)

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


class HeadBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_ln = nn.LayerNorm(width, EPS)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        shift, scale, gate = self.adaLN_modulation(y).chunk(3, dim=-1)
        out: Tensor = h + gate * self.mlp(self.in_ln(h) * (1 + scale) + shift)
        return out


class FinalLayer(nn.Module):
    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(y).chunk(2, dim=-1)
        h = F.layer_norm(h, h.shape[-1:], eps=EPS)
        out: Tensor = self.linear(h * (1 + scale) + shift)
        return out


class TimeEmbed(nn.Module):
    """Sinusoids of a training step's number, then two layers."""

    FREQUENCIES = 128

    def __init__(self, width: int) -> None:
        super().__init__()
        inputs = 2 * self.FREQUENCIES
        self.mlp = nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        number = torch.arange(self.FREQUENCIES, dtype=torch.float32, device=t.device)
        angles = t[:, None] * (-math.log(10000) * number / self.FREQUENCIES).exp()
        out: Tensor = self.mlp(torch.cat([angles.cos(), angles.sin()], 1))
        return out


class Head(nn.Module):
    """The diffusion head: latents of single tokens from their condition vectors."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.head_width
        self.time_embed = TimeEmbed(width)
        self.cond_embed = nn.Linear(config.width, width)
        self.input_proj = nn.Linear(config.channels, width)
        self.res_blocks = nn.ModuleList(HeadBlock(width) for _ in range(config.head_depth))
        self.final_layer = FinalLayer(width, 2 * config.channels)

    def net(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Noise and variance (N, 2 * C) of x (N, C), given embeddings of the step and of z."""
        y = time + condition
        h = self.input_proj(x)
        for block in self.res_blocks:
            h = block(h, y)
        out: Tensor = self.final_layer(h, y)
        return out

    def denoise(
        self, z: Tensor, start: Tensor, noise: Tensor, cfg: float, steps: Steps, temperature: float
    ) -> Tensor:
        """Latents (N, C), from z (N, D), or (2 * N, D) whose second half has no class.

        `start` (N, C) is pure noise, `noise` (steps, N, C) what every step adds. With guidance
        both halves see the x of the first one.
        """
        count, channels = start.shape
        condition = self.cond_embed(z.float())
        times = self.time_embed(steps.t)
        guided = len(condition) != count
        x = start
        for i in reversed(range(len(steps.t))):
            out = self.net(torch.cat([x, x]) if guided else x, times[i], condition)
            eps, v = out[:count].chunk(2, dim=1)
            if guided:
                nothing = out[count:, :channels]
                eps = nothing + cfg * (eps - nothing)
            x0 = steps.recip[i] * x - steps.recip_minus[i] * eps
            mean: Tensor = steps.of_x0[i] * x0 + steps.of_x[i] * x
            if i == 0:
                return mean
            share = (v + 1) / 2
            log_variance = share * steps.log_beta[i] + (1 - share) * steps.log_posterior[i]
            x = mean + (0.5 * log_variance).exp() * noise[len(steps.t) - 1 - i] * temperature
        raise AssertionError("a schedule has at least one step")


@dataclass(frozen=True, slots=True)
class Steps:
    """The respaced cosine schedule, lowest noise first: t and the coefficients (n,) of each step."""

    t: Tensor
    recip: Tensor
    recip_minus: Tensor
    of_x0: Tensor
    of_x: Tensor
    log_beta: Tensor
    log_posterior: Tensor

    @classmethod
    def of(cls, steps: int, device: torch.device) -> Self:
        """`steps` of the 1000 steps of training, evenly spaced, first and last among them."""

        def level(u: float) -> float:
            return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

        every = range(TRAINING_STEPS)
        ratio = [level((i + 1) / TRAINING_STEPS) / level(i / TRAINING_STEPS) for i in every]
        trained = np.cumprod(1 - np.minimum(1 - np.array(ratio), 0.999))
        t = [round(i * (TRAINING_STEPS - 1) / max(steps - 1, 1)) for i in range(steps)]
        kept = trained[t]
        beta = 1 - kept / np.append(1.0, kept[:-1])
        total = np.cumprod(1 - beta)
        before = np.append(1.0, total[:-1])
        posterior = beta * (1 - before) / (1 - total)
        posterior[0] = (
            posterior[1] if steps > 1 else beta[0]
        )  # of the first one, 0 has no logarithm

        def table(values: object) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        return cls(
            t=table(t),
            recip=table(np.sqrt(1 / total)),
            recip_minus=table(np.sqrt(1 / total - 1)),
            of_x0=table(beta * np.sqrt(before) / (1 - total)),
            of_x=table((1 - before) * np.sqrt(1 - beta) / (1 - total)),
            log_beta=table(np.log(beta)),
            log_posterior=table(np.log(posterior)),
        )


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
) -> Iterator[Pass]:
    """Yield every pass over a batch of pictures; the last one's `tokens` (B, L, C) are whole.

    `generators` is one per picture, or a single one for all, drawn in the order of the authors' code.
    Row b of `orders` (B, L) is the order in which tokens are unmasked, last entry first. To inpaint,
    `source` (B, L, C) are the tokens of the picture and the first `masked` entries of every order
    are to be made; `options.passes` may not exceed that number.
    """
    config, device = model.config, model.z_proj.weight.device
    batch, length, channels = len(labels), config.tokens, config.channels
    masked = length if masked is None else masked
    left = counts(masked, options.passes)
    guided = options.cfg != 1
    orders = orders.to(device)
    condition = model.conditions(list(labels) + [None] * (batch if guided else 0))
    steps = Steps.of(options.steps, device)
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
        latents = model.head.denoise(
            z, start.to(device), noise.to(device), cfg, steps, options.temperature
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
        start = torch.empty(each * count, channels, device=generator.device)
        noise = torch.empty(steps, rows * each * count, channels, device=generator.device)
        starts.append(start.normal_(generator=generator))
        for one in noise:
            one.normal_(generator=generator)
        noises.append(noise[:, : each * count])
    return torch.cat(starts), torch.cat(noises, 1)
