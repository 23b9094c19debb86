"""Draw what people might type, outside the caption grammar, and have the judge say what is there."""

from __future__ import annotations

import collections
import tomllib
from pathlib import Path
from typing import Any

from PIL import Image

from diptych import ImageClient
from training import judge
from training.run import Run

TEXTS = Path(__file__).parents[1] / "tests" / "data" / "phrasings.toml"
MODELS = ("diffusers/pocket", "autoregressive/pocket")
COLUMNS = 10


def main(run: Run) -> None:
    """Print the shares drawn right, and write a sheet of all pictures for each model."""
    asked: list[dict[str, str]] = tomllib.loads(TEXTS.read_text())["phrasings"]
    for model in MODELS:
        with ImageClient(model) as client:
            pictures = [client.generate(a["text"], seed=run.seed).image.pil() for a in asked]
        report(model, asked, judge.read(pictures))
        sheet(pictures).save(run.outputs / f"phrasings-{model.split('/')[0]}.png")


def report(model: str, asked: list[dict[str, str]], seen: list[judge.Reading]) -> None:
    """What was wrong, then how much of what was asked for was right, and how many pictures wholly."""
    hits: collections.Counter[str] = collections.Counter()
    counts: collections.Counter[str] = collections.Counter()
    for index, (ask, reading) in enumerate(zip(asked, seen, strict=True)):
        wanted: dict[str, Any] = {key: value for key, value in ask.items() if key != "text"}
        right = {key: getattr(reading, key) == value for key, value in wanted.items()}
        counts.update([*wanted, "all"])
        hits.update(key for key, value in {**right, "all": all(right.values())}.items() if value)
        for key in (key for key, value in right.items() if not value):
            print(f"{index:3} {ask['text']}: {key} {getattr(reading, key) or 'none'}")
    for key, count in counts.items():
        print(f"{model} {key}: {hits[key]} of {count}")


def sheet(pictures: list[Image.Image]) -> Image.Image:
    """All pictures, ten in a row, in the order of the file."""
    width, height = pictures[0].size
    whole = Image.new("RGB", (width * COLUMNS, height * -(-len(pictures) // COLUMNS)))
    for index, picture in enumerate(pictures):
        whole.paste(picture, (index % COLUMNS * width, index // COLUMNS * height))
    return whole
