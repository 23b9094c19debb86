"""Make what all training reads: the sprites of the emoji font, and the text tokenizer."""

from __future__ import annotations

from training import glyphs, words
from training.run import Run


def main(run: Run) -> None:
    glyphs.save(run.outputs / "sprites.npz")
    words.train(run.outputs / "words.json")
