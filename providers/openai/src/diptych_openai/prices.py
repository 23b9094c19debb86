"""List prices, and estimates as intervals that say what is known and no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from diptych.cost import Estimate
from diptych.pricing import Pricing
from diptych.request import Request

__all__ = ["PRICES", "estimate"]

_LIST = "developers.openai.com/api/docs/pricing, as in litellm 1.109.1; read 2026-11-23"
_FAL = "prices per picture of the same model at fal.ai, as in litellm 1.109.1; read 2026-11-23"
_PREVIEW_TOKENS = 100
_PER_TOKEN = Decimal(1_000_000)


def _tokens(
    text: str, image: str, out: str, cached: tuple[str, str], text_out: str | None = None
) -> Pricing:
    return Pricing(
        source=_LIST,
        text_in=Decimal(text),
        image_in=Decimal(image),
        image_out=Decimal(out),
        cached_text_in=Decimal(cached[0]),
        cached_image_in=Decimal(cached[1]),
        text_out=None if text_out is None else Decimal(text_out),
    )


_TWO = _tokens("5", "8", "30", ("1.25", "2"))
_ONE_AND_A_HALF = _tokens("5", "8", "32", ("1.25", "2"), "10")

PRICES: dict[str, Pricing] = {
    "gpt-image-2.5-sunburst": _TWO,
    "gpt-image-2.5-flare": _TWO,
    "gpt-image-2": _TWO,
    "gpt-image-1.5": _ONE_AND_A_HALF,
    "chatgpt-image-latest": _ONE_AND_A_HALF,
    "gpt-image-1-mini": _tokens("2", "2.5", "8", ("0.2", "0.25")),
}
"""USD per million tokens. No price of the 2.6 models was published where this was read."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The output of one picture in USD, by quality and size.

    `slack` is how far the published figures are rounded. `complete` tells that every size that the
    model makes is listed, so that the dearest bounds what "auto" may choose.
    """

    source: str
    rows: Mapping[str, Mapping[tuple[int, int], Decimal]]
    slack: Decimal = Decimal(0)
    complete: bool = False

    def bounds(
        self, quality: str | None, size: tuple[int, int] | None
    ) -> tuple[Decimal | None, Decimal | None]:
        """Cheapest and dearest output of one picture; None where nobody published it."""
        automatic = quality in (None, "auto")
        rows = list(self.rows.values()) if automatic else [self.rows.get(quality or "", {})]
        known = [row[each] for row in rows for each in row if size in (None, each)]
        if not known:
            return None, None
        high = max(known) + self.slack if size is not None or self.complete else None
        return min(known) - self.slack, high


def _rows(
    sizes: tuple[tuple[int, int], ...], **rows: tuple[str, ...]
) -> dict[str, dict[tuple[int, int], Decimal]]:
    return {
        quality: {size: Decimal(price) for size, price in zip(sizes, prices, strict=True)}
        for quality, prices in rows.items()
    }


_SQUARE, _WIDE, _TALL = (1024, 1024), (1536, 1024), (1024, 1536)
_SIZES = ((1024, 768), _SQUARE, _TALL, (1920, 1080), (2560, 1440), (3840, 2160))

# At 30 USD per million these are whole token counts (low 1024x1024: 196, as real answers report).
_FIGURES_2_5 = Figures(
    _FAL,
    _rows(
        _SIZES,
        low=("0.00402", "0.00588", "0.00474", "0.00441", "0.00615", "0.01113"),
        medium=("0.00903", "0.01317", "0.01029", "0.01029", "0.01434", "0.02595"),
        high=("0.03612", "0.05268", "0.04116", "0.0396", "0.05529", "0.10008"),
        xhigh=("0.0642", "0.09366", "0.07377", "0.07041", "0.09828", "0.1779"),
        max=("0.14445", "0.21072", "0.16464", "0.1584", "0.2211", "0.40026"),
    ),
)
_FIGURES: dict[str, Figures] = {
    "gpt-image-2.5-sunburst": _FIGURES_2_5,
    "gpt-image-2.5-flare": _FIGURES_2_5,
    "gpt-image-2": Figures(
        _FAL,
        _rows(
            _SIZES,
            low=("0.005", "0.006", "0.005", "0.005", "0.007", "0.012"),
            medium=("0.037", "0.053", "0.042", "0.04", "0.056", "0.101"),
            high=("0.145", "0.211", "0.165", "0.158", "0.222", "0.401"),
        ),
        slack=Decimal("0.001"),
    ),
    "gpt-image-1.5": Figures(
        _LIST,
        _rows(
            (_SQUARE, _TALL, _WIDE),
            low=("0.009", "0.013", "0.013"),
            medium=("0.034", "0.05", "0.05"),
            high=("0.133", "0.2", "0.2"),
        ),
        slack=Decimal("0.001"),
        complete=True,
    ),
    # From the tokens in recorded answers (272 and 4160); the published prices contradict them.
    "gpt-image-1-mini": Figures(
        "tokens reported in recorded answers of 2026, at list price",
        _rows((_SQUARE,), low=("0.002176",), high=("0.03328",)),
    ),
}


def estimate(name: str, request: Request, *, calls: int, chat: bool) -> Estimate:
    """What `calls` calls to model `name` for `request` may cost together.

    `name` is the undated model, `chat` tells that a chat model calls it. The upper end is None
    when a part of the bill has no published bound: pictures that go in, a chat model's tokens, the
    text that gpt-image-1.5 writes, sizes that nobody lists.
    """
    price, figures = PRICES.get(name), _FIGURES.get(name)
    if price is None or price.image_out is None or price.text_in is None:
        return Estimate(source=f"no published price of {name or 'this model'}")
    if figures is None or request.format in ("gif", "svg"):
        return Estimate(source=f"billed by the token, at an unpublished number; {price.source}")
    low, high = figures.bounds(request.quality, request.geometry.size)
    open_ended = chat or request.is_edit or bool(request.references) or price.text_out is not None
    if open_ended:
        high = None
    if high is not None:
        previews = _PREVIEW_TOKENS * (request.previews or 0) * price.image_out
        # A token stands for at least one byte of the prompt.
        prompt = len(request.prompt.encode()) * price.text_in * calls
        high = high * request.n + (previews * request.n + prompt) / _PER_TOKEN
    return Estimate(None if low is None else low * request.n, high, source=figures.source)
