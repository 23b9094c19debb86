"""The styles as image filters on finished scenes (N, 3, H, W) in [0, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from training.world import SIZE

_TEXTURES = 32


class Filters:
    """Holds the kernels and paper textures of one device."""

    def __init__(self, device: torch.device | str, generator: torch.Generator) -> None:
        offsets = torch.arange(-4, 5, device=device).float()
        self.gauss = {
            sigma: _normalised(torch.exp(-(offsets**2) / (2 * sigma**2)))
            for sigma in (0.8, 1.5, 2.5)
        }
        self.sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=device) / 4
        self.luma = torch.tensor([0.299, 0.587, 0.114], device=device)[None, :, None, None]

        def rand(channels: int, cells: int) -> torch.Tensor:
            shape = (_TEXTURES, channels, cells, cells)
            coarse = torch.rand(shape, device=device, generator=generator)
            return F.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic")

        self.grain = rand(1, 96) - 0.5
        self.blotches = rand(1, 8) - 0.5
        self.flow = rand(2, 14).permute(0, 2, 3, 1) - 0.5
        line = torch.arange(SIZE, device=device)
        self.hatch = ((line[:, None] + line[None, :]) % 5 < 2).float()[None, None]
        self.lines = ((line[:, None] % 16 == 0) | (line[None, :] % 16 == 0)).float()[None, None]
        identity = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]], device=device)
        self.grid = F.affine_grid(identity, [1, 1, SIZE, SIZE], align_corners=False)

    def apply(self, style: str, picture: torch.Tensor, jitter: torch.Tensor) -> torch.Tensor:
        texture = (jitter * _TEXTURES).long()
        drawn: torch.Tensor = getattr(self, style.replace(" ", "_"))(picture, texture)
        return drawn

    def blur(self, picture: torch.Tensor, sigma: float) -> torch.Tensor:
        channels = picture.shape[1]
        kernel = self.gauss[sigma].expand(channels, 1, 9)
        picture = F.conv2d(
            F.pad(picture, (4, 4, 0, 0), mode="replicate"), kernel[:, :, None, :], groups=channels
        )
        return F.conv2d(
            F.pad(picture, (0, 0, 4, 4), mode="replicate"), kernel[:, :, :, None], groups=channels
        )

    def edges(self, picture: torch.Tensor) -> torch.Tensor:
        """Strength of the steepest channel, (N, 1, H, W)."""
        kernel = torch.stack([self.sobel, self.sobel.T])[:, None].repeat(3, 1, 1, 1)
        slopes = F.conv2d(F.pad(picture, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
        steepness = slopes.view(-1, 3, 2, *slopes.shape[2:]).square().sum(2).sqrt()
        return steepness.amax(1, keepdim=True)

    def watercolor(self, picture: torch.Tensor, texture: torch.Tensor) -> torch.Tensor:
        warped = F.grid_sample(
            picture,
            self.grid + 0.03 * self.flow[texture],
            padding_mode="border",
            align_corners=False,
        )
        soft = self.blur(warped, 0.8)
        rim = self.edges(self.blur(warped, 0.8))
        wash = 0.22 + 0.78 * soft + 0.2 * self.blotches[texture] + 0.07 * self.grain[texture]
        return wash - 0.5 * rim * (1 - 0.6 * soft)

    def pixel_art(self, picture: torch.Tensor, texture: torch.Tensor) -> torch.Tensor:
        blocks = F.avg_pool2d(picture, 4)
        return F.interpolate((blocks * 9).round() / 9, scale_factor=4.0, mode="nearest")

    def pencil_sketch(self, picture: torch.Tensor, texture: torch.Tensor) -> torch.Tensor:
        grey = (picture * self.luma).sum(1, keepdim=True)
        line = (self.edges(self.blur(picture, 0.8)) * 3.2).clamp(0, 1)
        shade = 1 - 0.22 * self.hatch * ((0.6 - grey) * 3).clamp(0, 1)
        paper = 0.6 + 0.26 * grey + 0.14 * (picture + 0.2 * self.grain[texture])
        return (paper * shade) * (1 - 0.85 * line)

    def neon_sign(self, picture: torch.Tensor, texture: torch.Tensor) -> torch.Tensor:
        line = (self.edges(self.blur(picture, 0.8)) * 3).clamp(0, 1)
        grey = (picture * self.luma).sum(1, keepdim=True)
        vivid = (grey + 2.2 * (picture - grey)).clamp(0, 1)
        vivid = vivid / vivid.amax(1, keepdim=True).clamp(min=0.25)
        glow = line * vivid
        return 0.22 * picture + 0.9 * glow + 1.1 * self.blur(glow, 2.5)

    def blueprint(self, picture: torch.Tensor, texture: torch.Tensor) -> torch.Tensor:
        line = (self.edges(self.blur(picture, 0.8)) * 3.2).clamp(0, 1)
        grey = (picture * self.luma).sum(1, keepdim=True)
        blue = picture.new_tensor([0.08, 0.25, 0.6])[None, :, None, None]
        sheet = blue + 0.06 * self.lines + 0.16 * (grey - 0.5) * (1 - 0.5 * self.lines)
        return sheet + line * (0.97 - sheet)


def _normalised(kernel: torch.Tensor) -> torch.Tensor:
    return kernel / kernel.sum()
