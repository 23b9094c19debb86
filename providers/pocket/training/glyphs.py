"""Render the glyphs of Noto Color Emoji into a sprite bank; nothing of it is kept in the repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.world import CHARACTERS

FONT = Path(
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
)  # Debian package fonts-noto-color-emoji
STRIKE = 109  # the only pixel size that the font's bitmaps have
SIDE = 96


def render(font: Path = FONT) -> np.ndarray:
    """All glyphs as uint8 RGBA (N, 96, 96, 4), each fitted into the square."""
    face = ImageFont.truetype(str(font), STRIKE)
    return np.stack([_fit(_draw(character, face)) for character in CHARACTERS])


def _draw(character: str, face: ImageFont.FreeTypeFont) -> Image.Image:
    canvas = Image.new("RGBA", (180, 180))
    ImageDraw.Draw(canvas).text((20, 20), character, font=face, embedded_color=True)
    box = canvas.getbbox()
    if box is None or min(box[2] - box[0], box[3] - box[1]) < 20:
        raise ValueError(f"{face.getname()[0]} has no glyph for {character!r}")
    return canvas.crop(box)


def _fit(glyph: Image.Image) -> np.ndarray:
    scale = SIDE / max(glyph.size)
    glyph = glyph.resize(
        (max(1, round(glyph.width * scale)), max(1, round(glyph.height * scale))),
        Image.Resampling.LANCZOS,
    )
    square = Image.new("RGBA", (SIDE, SIDE))
    square.paste(glyph, ((SIDE - glyph.width) // 2, (SIDE - glyph.height) // 2))
    return np.asarray(square)


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, sprites=render())


def load(path: Path) -> np.ndarray:
    sprites: np.ndarray = np.load(path)["sprites"]
    return sprites
