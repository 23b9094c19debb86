"""MAR's diffusion head: a small MLP that denoises single tokens, by Improved DDPM (arXiv:2102.09672).

`Head.denoise` is all steps of one pass: a function of tensors that waits for nothing. On a GPU it is bound
by launches (100 steps of a few small layers), so that one CUDA graph for each number of tokens pays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Denoise", "Head", "Steps"]

EPS = 1e-6
TRAINING_STEPS = 1000


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

    def __init__(self, channels: int, condition: int, width: int, depth: int) -> None:
        super().__init__()
        self.time_embed = TimeEmbed(width)
        self.cond_embed = nn.Linear(condition, width)
        self.input_proj = nn.Linear(channels, width)
        self.res_blocks = nn.ModuleList(HeadBlock(width) for _ in range(depth))
        self.final_layer = FinalLayer(width, 2 * channels)

    def net(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Noise and variance (N, 2 * C) of x (N, C), given embeddings of the step and of z."""
        y = time + condition
        h = self.input_proj(x)
        for block in self.res_blocks:
            h = block(h, y)
        out: Tensor = self.final_layer(h, y)
        return out

    def denoise(
        self, z: Tensor, start: Tensor, noise: Tensor, cfg: Tensor, steps: Steps, temperature: float
    ) -> Tensor:
        """Latents (N, C), from z (N, D), or (2 * N, D) whose second half has no class.

        `start` (N, C) is pure noise, `noise` (steps, N, C) what every step adds, `cfg` () the
        guidance. With guidance both halves see the x of the first one.
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


Denoise = Callable[[Tensor, Tensor, Tensor, Tensor, Steps, float], Tensor]
"""`Head.denoise`, or the same as a graph."""
