"""The card of a checkpoint: `diptych.json`, what a folder says of itself beside its weights.

diptych reads "name", "defaults", "size", "known_words" and "sha256"; the rest is for people.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training import figures, world
from training.run import Run
from training.words import known_words

PACKAGE = Path(__file__).parents[1] / "src" / "diptych_pocket"
FOLDERS = (PACKAGE / "diffusion", PACKAGE / "autoregressive")
NAME = "diptych.json"


def write(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the card of `folder`: `facts`, and what can be read off the world and the weights.

    One line for each key, so that a difference between two cards can be read.
    """
    card = {**facts, **about(), "sha256": checksums(folder)}
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in card.items()]
    (folder / NAME).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def about() -> dict[str, Any]:
    """What there is to draw, and the words that say it."""
    objects = {world.GLYPH["book"], *world.BESIDE.tolist(), *world.ABOVE.tolist()}
    return {
        "size": world.SIZE,
        "styles": world.STYLES,
        "backgrounds": world.BACKGROUNDS,
        "subjects": [world.NAMES[glyph][0] for glyph in world.SUBJECTS],
        "objects": sorted(world.NAMES[glyph][0] for glyph in objects),
        "wearables": [world.NAMES[glyph][0] for glyph in world.WEAR],
        "known_words": known_words(),
    }


def checksums(folder: Path) -> dict[str, str]:
    files = sorted(folder.rglob("*.safetensors"))
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def read(folder: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((folder / NAME).read_text())
    return card


def main(run: Run) -> None:
    """Bring the cards of both folders and the README up to date with the grammar."""
    for folder in FOLDERS:
        write(folder, read(folder))
    figures.write(*map(read, FOLDERS))
