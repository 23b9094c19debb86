"""Draw scenes on the GPU: sprites placed by affine sampling over prepared backgrounds, then one style filter each."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from training import backdrops, filters
from training.world import (
    BACKGROUNDS,
    COLOURS,
    FACES,
    GLYPH,
    HOLDING,
    NEXT_TO,
    NONE,
    NOTHING,
    READING,
    SIZE,
    STYLES,
    UNDER,
    Scenes,
)

_SMALL_HAT = {GLYPH["crown"]: 0.85, GLYPH["bow"]: 0.7}
_EYES = (GLYPH["glasses"], GLYPH["sunglasses"])


class Canvas:
    """Holds the sprite bank and the backgrounds on one device; `draw` turns scenes into pictures."""

    def __init__(
        self, sprites: np.ndarray, device: torch.device | str, seed: int = 0, variants: int = 48
    ) -> None:
        rgba = torch.from_numpy(sprites).permute(0, 3, 1, 2).float().div(255)
        rgba = torch.cat(
            [rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], 1
        )  # premultiplied, so that edges blend without a fringe
        self.large = rgba.to(device)
        self.small = F.avg_pool2d(rgba, 2).to(device)  # drawn without aliasing at half the size
        self.heads = np.array([_head(sprite[..., 3]) for sprite in sprites], dtype=np.float32)
        self.device = torch.device(device)
        generator = torch.Generator(device).manual_seed(seed)
        self.places = torch.stack(
            [backdrops.paint(place, variants, generator) for place in BACKGROUNDS[len(COLOURS) :]]
        )
        self.colours = torch.tensor(list(COLOURS.values()), device=device).float().div(255)
        self.filters = filters.Filters(device, generator)

    @torch.no_grad()
    def draw(self, scenes: Scenes) -> torch.Tensor:
        """Pictures (N, 3, 128, 128) in [-1, 1]."""
        picture = self._backdrop(scenes)
        for bank, glyph, transform in self._layers(scenes):
            rows = np.flatnonzero(glyph != NOTHING)
            if len(rows):
                self._paste(picture, bank, rows, glyph[rows], transform[rows])
        for style in range(1, len(STYLES)):
            rows = np.flatnonzero(scenes["style"] == style)
            if len(rows):
                at = self._send(rows)
                picture[at] = self.filters.apply(
                    STYLES[style], picture[at], self._send(scenes["jitter"][rows, 10])
                )
        return picture.clamp(0, 1).mul(2).sub(1)

    def _send(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return (
            tensor.pin_memory().to(self.device, non_blocking=True)
            if self.device.type == "cuda"
            else tensor
        )

    def _backdrop(self, scenes: Scenes) -> torch.Tensor:
        background, jitter = scenes["background"], scenes["jitter"]
        place = np.maximum(background - len(COLOURS), 0)
        variant = (jitter[:, 8] * self.places.shape[1]).astype(np.int64)
        picture = self.places[self._send(place), self._send(variant)].float()
        plain = self._send((background < len(COLOURS)).astype(np.float32))[:, None, None, None]
        colour = self.colours[self._send(np.minimum(background, len(COLOURS) - 1))][
            :, :, None, None
        ]
        shade = torch.linspace(0.03, -0.03, SIZE, device=self.device)[None, None, :, None]
        return torch.lerp(picture, (colour + shade).expand_as(picture), plain)

    def _paste(
        self,
        picture: torch.Tensor,
        bank: torch.Tensor,
        rows: np.ndarray,
        glyph: np.ndarray,
        transform: np.ndarray,
    ) -> None:
        """Blend sprites over the pictures `rows`; `transform` has centre x, centre y, size in pixels and angle."""
        x, y, size, angle = transform.T
        scale = SIZE / np.maximum(size, 1)
        cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
        dx, dy = 2 * x / SIZE - 1, 2 * y / SIZE - 1
        theta = np.stack(
            [cos, sin, -cos * dx - sin * dy, -sin, cos, sin * dx - cos * dy], 1
        ).reshape(-1, 2, 3)
        grid = F.affine_grid(
            self._send(theta.astype(np.float32)), [len(rows), 4, SIZE, SIZE], align_corners=False
        )
        layer = F.grid_sample(bank[self._send(glyph)], grid, align_corners=False)
        at = self._send(rows)
        picture[at] = picture[at] * (1 - layer[:, 3:]) + layer[:, :3]

    def _layers(self, scenes: Scenes) -> list[tuple[torch.Tensor, np.ndarray, np.ndarray]]:
        subject, relation, item, wear = (
            scenes[key] for key in ("subject", "relation", "item", "wear")
        )
        jitter = scenes["jitter"] - 0.5
        centre_x = np.choose(relation, [64, 64, 58, 46, 64]) + 8 * jitter[:, 0]
        centre_y = np.choose(relation, [72, 66, 68, 72, 84]) + 6 * jitter[:, 1]
        size = np.choose(relation, [80, 80, 80, 74, 72]) * (1 + 0.14 * jitter[:, 2])
        angle = 0.12 * jitter[:, 3]
        body = np.stack([centre_x, centre_y, size, angle], 1)

        item_x = (
            np.select([relation == HOLDING, relation == NEXT_TO], [94, 100], 64) + 6 * jitter[:, 4]
        )
        item_y = np.choose(relation, [0, 106, 94, 88, 26]) + 5 * jitter[:, 5]
        item_size = np.choose(relation, [1, 50, 48, 52, 50]) * (1 + 0.12 * jitter[:, 6])
        thing = np.stack(
            [item_x, item_y, item_size, np.where(relation == READING, 0.1, 0.3) * jitter[:, 7]], 1
        )
        item = np.where(relation == NONE, NOTHING, item)
        above = relation == UNDER
        return [
            (self.small, np.where(above, item, NOTHING), thing),
            (self.large, subject, body),
            (self.small, wear, self._worn(wear, subject, body)),
            (self.small, np.where(above, NOTHING, item), thing),
        ]

    def _worn(self, wear: np.ndarray, subject: np.ndarray, body: np.ndarray) -> np.ndarray:
        """Where a worn glyph sits: hats on the head that the sprite's outline suggests, glasses on the eyes."""
        head_x, head_y, head_width = self.heads[subject].T
        face = FACES[subject]
        x, y, size, angle = body.T
        width = np.clip(head_width, 0.42, 0.62)
        grow = np.array([_SMALL_HAT.get(glyph, 1.0) for glyph in wear])
        hat = np.stack([head_x, head_y - 0.22 * width * grow, width * grow, 0 * x], 1)
        eyes = np.stack(
            [
                np.where(face, 0, head_x),
                np.where(face, -0.04, head_y + 0.14),
                np.where(face, 0.66, 0.4),
                0 * x,
            ],
            1,
        )
        ears = np.stack(
            [
                np.where(face, 0, head_x),
                np.where(face, -0.14, head_y + 0.1),
                np.where(face, 1.02, 0.5),
                0 * x,
            ],
            1,
        )
        neck = np.stack(
            [
                np.where(face, 0, head_x),
                np.where(face, 0.4, head_y + 0.38),
                np.where(face, 0.6, 0.42),
                0 * x,
            ],
            1,
        )
        kind = [np.isin(wear, _EYES), wear == GLYPH["headphones"], wear == GLYPH["scarf"]]
        place = np.select([k[:, None] for k in kind], [eyes, ears, neck], hat)
        return np.stack(
            [x + place[:, 0] * size, y + place[:, 1] * size, place[:, 2] * size, angle], 1
        )


def _head(alpha: np.ndarray) -> tuple[float, float, float]:
    """Centre, top and width of a sprite's head in units of its size, the origin in the middle of the square."""
    solid = alpha > 128
    top = int(np.flatnonzero(solid.any(1))[0])
    side = len(alpha)
    columns = np.flatnonzero(solid[top : top + side // 4].sum(0) > 2)
    middle = columns.mean()
    near = solid[:, max(0, int(middle) - 3) : int(middle) + 4].any(1)
    head_top = int(np.flatnonzero(near)[0]) if near.any() else top
    return middle / side - 0.5, head_top / side - 0.5, len(columns) / side
