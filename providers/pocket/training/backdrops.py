"""Backgrounds with something in them, painted from noise and gradients: a bank of variants per place."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from training.world import SIZE


def paint(place: str, n: int, generator: torch.Generator) -> torch.Tensor:
    """`n` variants (N, 3, 128, 128) in [0, 1], float16."""
    return _PAINTERS[place](_Brush(n, generator)).clamp(0, 1).half()


class _Brush:
    """Random fields of one batch of backgrounds."""

    def __init__(self, n: int, generator: torch.Generator) -> None:
        self.n, self.generator, self.device = n, generator, generator.device
        line = (torch.arange(SIZE, device=self.device) + 0.5) / SIZE
        self.y, self.x = line[None, :, None], line[None, None, :]

    def uniform(self, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(
            self.n, 1, 1, device=self.device, generator=self.generator
        )

    def colour(self, *rgb: float, spread: float = 0.04) -> torch.Tensor:
        jitter = spread * (
            torch.rand(self.n, 3, 1, 1, device=self.device, generator=self.generator) - 0.5
        )
        return torch.tensor(rgb, device=self.device)[None, :, None, None] + jitter

    def gradient(self, *stops: tuple[float, float, float]) -> torch.Tensor:
        """From top to bottom through evenly spaced colours."""
        at = self.y[:, None] * (len(stops) - 1)
        shares = [(1 - (at - i).abs()).clamp(0, 1) for i in range(len(stops))]
        parts = [share * self.colour(*stop) for share, stop in zip(shares, stops, strict=True)]
        return torch.stack(parts).sum(0).expand(-1, -1, SIZE, SIZE)

    def noise(self, cells: int, channels: int = 1) -> torch.Tensor:
        coarse = torch.rand(
            self.n, channels, cells, cells, device=self.device, generator=self.generator
        )
        return F.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic")

    def dots(self, share: float, soft: bool) -> torch.Tensor:
        cells = SIZE // 2 if soft else SIZE
        lit = (
            torch.rand(self.n, 1, cells, cells, device=self.device, generator=self.generator)
            < share
        ).float()
        if not soft:
            return lit
        return F.interpolate(lit, size=(SIZE, SIZE), mode="bilinear")

    def hill(self, height: float, swing: float) -> torch.Tensor:
        """Mask of the ground below a wavy line."""
        wave = torch.sin(2 * math.pi * (self.x * self.uniform(0.5, 1.3) + self.uniform(0, 1)))
        return (((self.y - height - swing * wave - self.uniform(-0.03, 0.03)) * 40).sigmoid())[
            :, None
        ]

    def disc(self, x: torch.Tensor, y: torch.Tensor, radius: float) -> torch.Tensor:
        distance = ((self.x - x) ** 2 + (self.y - y) ** 2).sqrt()
        return ((radius - distance) * 90).sigmoid()[:, None]


def _meadow(b: _Brush) -> torch.Tensor:
    picture = b.gradient((0.45, 0.72, 0.96), (0.8, 0.92, 1.0), (0.85, 0.95, 1.0))
    cloud = ((b.noise(7) - 0.62) * 6).clamp(0, 0.8) * (1 - b.y[:, None] * 2).clamp(0, 1)
    picture = torch.lerp(picture, torch.ones_like(picture), cloud)
    picture = torch.lerp(picture, b.colour(0.5, 0.76, 0.38), b.hill(0.5, 0.05))
    near = b.hill(0.66, 0.04)
    picture = torch.lerp(picture, b.colour(0.36, 0.66, 0.28) + 0.06 * (b.noise(48) - 0.5), near)
    flowers = b.dots(0.012, soft=True) * near
    return torch.lerp(picture, b.noise(24, 3).round() * 0.3 + 0.7, flowers)


def _beach(b: _Brush) -> torch.Tensor:
    picture = b.gradient((0.36, 0.72, 0.97), (0.66, 0.87, 0.99), (0.8, 0.93, 1.0))
    sea = (((b.y - 0.46) * 60).sigmoid())[:, None]
    foam = 0.12 * (torch.sin(b.y * 130 + 2 * torch.sin(b.x * 9 + b.uniform(0, 6)))[:, None] > 0.93)
    picture = torch.lerp(picture, b.colour(0.1, 0.52, 0.74) + foam, sea)
    sand = b.hill(0.68, 0.025)
    return torch.lerp(picture, b.colour(0.94, 0.83, 0.58) + 0.08 * (b.noise(64) - 0.5), sand)


def _night(b: _Brush) -> torch.Tensor:
    picture = b.gradient((0.03, 0.04, 0.16), (0.07, 0.1, 0.3), (0.14, 0.18, 0.42))
    picture = picture + b.dots(0.006, soft=False) * 0.8
    x, y = b.uniform(0.12, 0.2), b.uniform(0.12, 0.2)
    moon = b.disc(x, y, 0.085) * (1 - b.disc(x + 0.05, y - 0.02, 0.075))
    picture = torch.lerp(picture, b.colour(0.98, 0.95, 0.75), moon)
    return torch.lerp(picture, b.colour(0.03, 0.07, 0.1), b.hill(0.8, 0.04))


def _snow(b: _Brush) -> torch.Tensor:
    picture = b.gradient((0.62, 0.74, 0.86), (0.78, 0.86, 0.93), (0.86, 0.92, 0.97))
    picture = torch.lerp(picture, b.colour(0.86, 0.91, 0.97, spread=0.02), b.hill(0.56, 0.05))
    picture = torch.lerp(picture, b.colour(0.97, 0.98, 1.0, spread=0.02), b.hill(0.7, 0.04))
    return torch.lerp(picture, torch.ones_like(picture), b.dots(0.035, soft=True))


def _space(b: _Brush) -> torch.Tensor:
    picture = b.gradient((0.02, 0.01, 0.06), (0.05, 0.02, 0.1), (0.02, 0.01, 0.06))
    cloud = ((b.noise(5) - 0.5) * 1.6).clamp(0, 0.7)
    picture = torch.lerp(picture, b.colour(0.42, 0.12, 0.55, spread=0.2), cloud)
    picture = picture + b.dots(0.014, soft=False) * (0.55 + 0.45 * b.noise(64, 3))
    x, y = b.uniform(0.8, 0.9), b.uniform(0.1, 0.2)
    ring = (b.disc(x, (b.y - y) * 3 + b.y, 0.15) - b.disc(x, (b.y - y) * 3 + b.y, 0.11)).clamp(0, 1)
    picture = torch.lerp(picture, b.colour(0.88, 0.6, 0.32, spread=0.2), b.disc(x, y, 0.085))
    return torch.lerp(picture, b.colour(0.95, 0.85, 0.6), ring * 0.9)


def _sunset(b: _Brush) -> torch.Tensor:
    picture = b.gradient((0.36, 0.2, 0.5), (0.86, 0.36, 0.44), (1.0, 0.62, 0.3), (1.0, 0.8, 0.45))
    picture = torch.lerp(
        picture, b.colour(1.0, 0.93, 0.6), b.disc(b.uniform(0.2, 0.8), b.uniform(0.5, 0.62), 0.14)
    )
    glint = 0.12 * (torch.sin(b.y * 150 + 3 * torch.sin(b.x * 7 + b.uniform(0, 6)))[:, None] > 0.8)
    return torch.lerp(
        picture, b.colour(0.3, 0.14, 0.3) + glint, (((b.y - 0.72) * 60).sigmoid())[:, None]
    )


_PAINTERS = {
    "meadow": _meadow,
    "beach": _beach,
    "night": _night,
    "snow": _snow,
    "space": _space,
    "sunset": _sunset,
}
