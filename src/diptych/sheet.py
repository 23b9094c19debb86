"""Contact sheets: pictures in rows and columns, with captions under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import InvalidInput
from .image import Image, ImageSource

if TYPE_CHECKING:
    import PIL.Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

__all__ = ["Panel", "contact_sheet"]

_INK, _FAINT, _PAPER = (20, 20, 20), (200, 200, 200), (255, 255, 255)
_GAP = 16
_TITLE, _CAPTION = 18, 14


@dataclass(frozen=True, slots=True)
class Panel:
    """One place of a sheet: a picture, or None for one that did not come, and lines under it."""

    image: ImageSource | None = None
    caption: tuple[str, ...] = ()


def contact_sheet(
    rows: Sequence[Sequence[Panel]], *, titles: Sequence[str] = (), edge: int = 384
) -> PIL.Image.Image:
    """The pictures of `rows` on one RGB sheet, each scaled to fit `edge` x `edge` pixels.

    `titles` holds a line for above each row. Long lines are broken; letters that Pillow's built-in
    font lacks show as boxes. Raises `InvalidInput` for a sheet without panels, for an `edge` below
    64 and for what is no picture.
    """
    import PIL.Image
    from PIL.ImageDraw import Draw
    from PIL.ImageFont import load_default

    columns = max(map(len, rows), default=0)
    if not columns or edge < 64:
        raise InvalidInput(f"a sheet needs a panel and an edge of 64 or more, not {edge}")
    width = columns * (edge + _GAP) + _GAP
    fonts = load_default(_TITLE), load_default(_CAPTION)
    pen = Draw(PIL.Image.new("RGB", (1, 1)))
    bands = [
        _Band(pen, row, titles[place] if place < len(titles) else "", edge, width, fonts)
        for place, row in enumerate(rows)
    ]
    sheet = PIL.Image.new("RGB", (width, _GAP + sum(band.height for band in bands)), _PAPER)
    top = _GAP
    for band in bands:
        band.paint(sheet, top)
        top += band.height
    return sheet


class _Band:
    """One row with its title, measured before it is painted."""

    def __init__(
        self,
        pen: ImageDraw,
        row: Sequence[Panel],
        title: str,
        edge: int,
        width: int,
        fonts: tuple[Font, Font],
    ) -> None:
        self._edge = edge
        self._fonts = fonts
        self._pictures = [_fitted(panel.image, edge) for panel in row]
        self._title = _broken(pen, title, fonts[0], width - 2 * _GAP)
        self._captions = [
            [line for text in panel.caption for line in _broken(pen, text, fonts[1], edge)]
            for panel in row
        ]
        heights = [picture.height for picture in self._pictures if picture is not None]
        self._tall = max(heights, default=edge)
        self._above = _lines(self._title, _TITLE)
        self.height = (
            self._above
            + self._tall
            + max((_lines(each, _CAPTION) for each in self._captions), default=0)
            + _GAP
        )

    def paint(self, sheet: PIL.Image.Image, top: int) -> None:
        from PIL.ImageDraw import Draw

        pen = Draw(sheet)
        _write(pen, self._title, (_GAP, top), self._fonts[0], _TITLE)
        top += self._above
        for place, (picture, caption) in enumerate(
            zip(self._pictures, self._captions, strict=True)
        ):
            left = _GAP + place * (self._edge + _GAP)
            if picture is None:
                pen.rectangle(
                    (left, top, left + self._edge - 1, top + self._tall - 1), outline=_FAINT
                )
            else:
                sheet.paste(picture, (left + (self._edge - picture.width) // 2, top))
            _write(pen, caption, (left, top + self._tall + 6), self._fonts[1], _CAPTION)


def _fitted(source: ImageSource | None, edge: int) -> PIL.Image.Image | None:
    """The picture on white, its longer side `edge` pixels."""
    if source is None:
        return None
    from PIL.Image import Resampling
    from PIL.Image import new as blank

    picture = Image.of(source).pil().convert("RGBA")
    scale = edge / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    scaled = picture.resize(size, Resampling.LANCZOS if scale < 1 else Resampling.BICUBIC)
    paper = blank("RGBA", size, _PAPER)
    paper.alpha_composite(scaled)
    return paper.convert("RGB")


def _broken(pen: ImageDraw, text: str, font: Font, width: int) -> list[str]:
    """`text` in lines of at most `width` pixels; a word that is longer is cut."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and pen.textlength(longer, font) <= width:
            lines[-1] = longer
            continue
        while pen.textlength(word, font) > width:
            fits = next(
                n for n in range(len(word), 0, -1) if pen.textlength(word[:n], font) <= width
            )
            lines.append(word[:fits])
            word = word[fits:]
        lines.append(word)
    return lines


def _lines(lines: Sequence[str], size: int) -> int:
    """The height of some lines of text, in pixels, with the space after them."""
    return len(lines) * (size + 4) + (8 if lines else 0)


def _write(
    pen: ImageDraw, lines: Sequence[str], at: tuple[int, int], font: Font, size: int
) -> None:
    for number, line in enumerate(lines):
        pen.text((at[0], at[1] + number * (size + 4)), line, fill=_INK, font=font)
