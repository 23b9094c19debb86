"""The judge: a small residual network that reads what is in a picture of the pocket world.

It scores the models and serves tests; it is not shipped. `judge.safetensors` beside this file was
made by `python -m training classifier`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from training import world

WEIGHTS = Path(__file__).with_name("judge.safetensors")
NOTHING = [world.NOTHING]
ITEMS = sorted({world.GLYPH["book"], *world.BESIDE.tolist(), *world.ABOVE.tolist()})
CLASSES = {
    "subject": world.SUBJECTS,
    "wear": np.array([*NOTHING, *world.WEAR]),
    "relation": np.arange(len(world.RELATIONS)),
    "item": np.array([*NOTHING, *ITEMS]),
    "background": np.arange(len(world.BACKGROUNDS)),
    "style": np.arange(len(world.STYLES)),
}
_WIDTHS = (32, 48, 96, 128, 144)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a picture shows, in the world's words; "" for no object and for nothing worn."""

    subject: str
    item: str
    relation: str
    wear: str
    background: str
    style: str


class _Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outside) for _ in range(2))
        self.skip = nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(inner)) + self.skip(x))


class Judge(nn.Module):
    """Logits of every attribute for pictures (N, 3, 128, 128) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        pairs = itertools.pairwise(_WIDTHS)
        stem = nn.Conv2d(3, _WIDTHS[0], 5, 2, 2)
        self.body = nn.Sequential(stem, nn.ReLU(), *(_Block(a, b, 2) for a, b in pairs))
        # Four quarters of the picture: what is worn is above, what is held is to the right.
        self.heads = nn.ModuleDict(
            {key: nn.Linear(_WIDTHS[-1] * 4, len(values)) for key, values in CLASSES.items()}
        )

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        features = F.adaptive_avg_pool2d(self.body(pictures), 2).flatten(1)
        return {key: head(features) for key, head in self.heads.items()}

    @torch.inference_mode()
    def numbers(self, pictures: torch.Tensor) -> dict[str, np.ndarray]:
        """The most likely attributes, in `world`'s numbers."""
        parts = [self(part) for part in torch.split(pictures.float().clamp(-1, 1), 128)]
        best = {key: torch.cat([part[key] for part in parts]).argmax(1).cpu() for key in CLASSES}
        return {key: CLASSES[key][best[key].numpy()] for key in CLASSES}


def targets(scenes: world.Scenes) -> dict[str, np.ndarray]:
    """The classes of `scenes`, as indices into CLASSES."""
    return {key: np.searchsorted(values, scenes[key]) for key, values in CLASSES.items()}


@lru_cache
def load(path: Path = WEIGHTS) -> Judge:
    """The trained judge, on the CPU."""
    model = Judge()
    model.load_state_dict(load_file(path))
    return model.eval().requires_grad_(False)


def read(images: Sequence[Image.Image]) -> list[Reading]:
    """What each picture shows; pictures of another size are resized to 128 x 128."""
    return readings(load().numbers(_tensor(images)))


@torch.inference_mode()
def certainty(images: Sequence[Image.Image], asked: Mapping[str, str]) -> list[float]:
    """How sure the judge is, from 0 to 1, that each picture shows what was asked for.

    `asked` maps attributes of `Reading` to words; the result is the geometric mean of their
    probabilities.
    """
    logits = load()(_tensor(images))
    logs = []
    for key, wanted in asked.items():
        words = [word(key, int(value)) for value in CLASSES[key]]
        logs.append(logits[key].log_softmax(1)[:, words.index(wanted)])
    sure: list[float] = torch.stack(logs).mean(0).exp().tolist()
    return sure


def _tensor(images: Sequence[Image.Image]) -> torch.Tensor:
    size = (world.SIZE, world.SIZE)
    pixels = [np.asarray(image.convert("RGB").resize(size)) for image in images]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 127.5 - 1


def readings(numbers: world.Scenes) -> list[Reading]:
    """Attributes in `world`'s numbers as words."""
    columns = {key: [word(key, int(value)) for value in numbers[key]] for key in CLASSES}
    return [
        Reading(**dict(zip(columns, row, strict=True)))
        for row in zip(*columns.values(), strict=True)
    ]


def word(key: str, value: int) -> str:
    if key in ("subject", "item", "wear"):
        return "" if value == world.NOTHING else world.NAMES[value][0]
    table = {"relation": world.RELATIONS, "background": world.BACKGROUNDS, "style": world.STYLES}
    return table[key][value]
