"""Prices: dated facts, and the arithmetic that turns them into estimates and costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from typing import Any

from .cost import Cost, Estimate
from .result import Usage

__all__ = ["Pricing"]

_MEGAPIXEL = 1024 * 1024
_PER_TOKEN = Decimal(1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """A model's list price in `currency`, as read from `source`.

    Either `per_image`, or `per_megapixel` (each picture rounded up to whole megapixels of
    1024 x 1024), or prices per million tokens. `per_image_high` is the upper end when the price
    per picture depends on settings that the list does not break down.
    """

    source: str
    currency: str = "USD"
    per_image: Decimal | None = None
    per_image_high: Decimal | None = None
    per_megapixel: Decimal | None = None
    text_in: Decimal | None = None
    image_in: Decimal | None = None
    cached_text_in: Decimal | None = None
    cached_image_in: Decimal | None = None
    text_out: Decimal | None = None
    image_out: Decimal | None = None

    def estimate(self, *, images: int, pixels: tuple[int, int] | None) -> Estimate:
        """Estimate for `images` pictures of between `pixels[0]` and `pixels[1]` pixels each."""
        low = high = None
        if self.per_image is not None:
            low, high = self.per_image, self.per_image_high or self.per_image
        elif self.per_megapixel is not None and pixels is not None:
            low = self.per_megapixel * _megapixels(pixels[0])
            high = self.per_megapixel * _megapixels(pixels[1])
        if low is None or high is None:
            return Estimate(currency=self.currency, source=self.source)
        return Estimate(low * images, high * images, self.currency, self.source)

    def cost(self, *, sizes: Iterable[tuple[int, int]], usage: Usage | None = None) -> Cost:
        """Cost of pictures really received, from reported tokens or from their sizes."""
        amount = self._token_cost(usage)
        if amount is not None:
            return Cost(amount, self.currency, "computed", self.source)
        shapes = list(sizes)
        if self.per_image is not None and self.per_image_high in (None, self.per_image):
            return Cost(self.per_image * len(shapes), self.currency, "estimated", self.source)
        if self.per_megapixel is not None:
            whole = sum(_megapixels(width * height) for width, height in shapes)
            return Cost(self.per_megapixel * whole, self.currency, "estimated", self.source)
        return Cost()

    def _token_cost(self, usage: Usage | None) -> Decimal | None:
        """Sum over token kinds, or None when a kind that was used has no price."""
        if usage is None or self.image_out is None:
            return None
        cached_text, cached_image = usage.cached_text_tokens or 0, usage.cached_image_tokens or 0
        lines = (
            ((usage.input_text_tokens or 0) - cached_text, self.text_in),
            ((usage.input_image_tokens or 0) - cached_image, self.image_in),
            (cached_text, self.cached_text_in or self.text_in),
            (cached_image, self.cached_image_in or self.image_in),
            (usage.output_text_tokens or 0, self.text_out),
            (usage.output_image_tokens or 0, self.image_out),
        )
        if not any(count for count, _ in lines):
            return None
        total = Decimal(0)
        for count, price in lines:
            if count and price is None:
                return None
            total += count * (price or 0)
        return total / _PER_TOKEN

    def to_dict(self) -> dict[str, Any]:
        prices = {
            name: str(value)
            for name in self.__slots__
            if isinstance(value := getattr(self, name), Decimal)
        }
        return {"source": self.source, "currency": self.currency, **prices}


def _megapixels(pixels: int) -> Decimal:
    return (Decimal(pixels) / _MEGAPIXEL).to_integral_value(ROUND_UP)
