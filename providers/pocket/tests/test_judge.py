"""The judge reads pictures that it has not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training import evaluate, glyphs, judge, world
from training.canvas import Canvas
from training.classifier import SCORED, score

SHEETS = Path(__file__).parents[1] / "docs"


@pytest.mark.skipif(not glyphs.FONT.exists(), reason="fonts-noto-color-emoji is not installed")
def test_true_pictures_are_read_right():
    torch.manual_seed(0)
    scenes = world.sample(100, np.random.default_rng(9), held_back=True)
    pictures = Canvas(glyphs.render(), "cpu", seed=9, variants=4).draw(scenes)
    shares = score(judge.load().numbers(pictures), scenes)
    assert all(shares[key] >= 95 for key in SCORED), shares


@pytest.mark.parametrize("model", ["diffusion", "autoregressive"])
def test_the_sample_sheet_shows_the_first_prompts_of_the_evaluation(model):
    sheet = Image.open(SHEETS / f"{model}.jpg")
    boxes = [(x, y, x + 128, y + 128) for y in range(0, 512, 128) for x in range(0, 1536, 128)]
    seen = judge.read([sheet.crop(box) for box in boxes])
    scenes = world.sample(evaluate.PROMPTS, np.random.default_rng(evaluate.SEED), held_back=True)
    asked = judge.readings(world.take(scenes, slice(0, len(boxes))))
    for key in ("subject", "item", "style"):
        right = [getattr(s, key) == getattr(a, key) for s, a in zip(seen, asked, strict=True)]
        assert np.mean(right) >= 0.9, key


def test_pictures_of_other_sizes_and_modes_are_read():
    tile = Image.open(SHEETS / "diffusion.jpg").crop((0, 0, 128, 128)).resize((256, 256))
    assert [r.subject for r in judge.read([tile.convert("RGBA"), tile])] == ["plane", "plane"]
