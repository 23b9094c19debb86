"""Estimates are intervals that hold, and costs are known only when every part of them is."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from diptych_openai.prices import PRICES
from diptych_openai.usage import cost_of, image_usage

from diptych.image import Image

TWO = PRICES["gpt-image-2"]
OLD = PRICES["gpt-image-1.5"]


@pytest.mark.parametrize("model", ["gpt-image-2", "gpt-image-2.5-sunburst", "gpt-image-2.5-flare"])
def test_the_estimate_holds_a_cost_that_was_recorded(bench: Callable[..., Any], model: str) -> None:
    # A recorded low 1024x1024 picture: 17 text tokens in, 196 image tokens out.
    recorded = (Decimal(5) * 17 + Decimal(30) * 196) / 1_000_000
    prompt = "A single kiwi fruit on a white plate, studio light."
    estimate = bench().plan(model, prompt, size="1024x1024", quality="low").estimate
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low <= recorded <= estimate.high


def test_more_pictures_and_previews_cost_more(bench: Callable[..., Any]) -> None:
    options = {"size": "1024x1024", "quality": "low"}
    one = bench().plan("gpt-image-2", **options).estimate
    four = bench().plan("gpt-image-2", n=4, **options).estimate
    shown = bench().plan("gpt-image-2", previews=3, **options).estimate
    assert four.low == 4 * one.low
    assert shown.high == one.high + Decimal(30) * 300 / 1_000_000
    assert shown.low == one.low


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("gpt-image-2.6-sunburst", {"size": "1024x1024", "quality": "low"}),
        ("gpt-image-2", {"size": "1600x1200", "quality": "low"}),
        ("gpt-image-2", {"quality": "low"}),
        ("gpt-image-1.5", {"size": "1024x1024", "quality": "low"}),
        ("gpt-image-2.5-flare", {"format": "gif"}),
        ("gpt-image-7", {"size": "1024x1024"}),
        ("gpt-image-2", {"size": "1024x1024", "quality": "low", "state": {}}),
    ],
)
def test_an_upper_end_that_nobody_published_is_unknown(
    bench: Callable[..., Any], model: str, options: dict[str, Any]
) -> None:
    assert bench().plan(model, **options).estimate.high is None


def test_what_goes_in_by_picture_has_no_published_bound(
    bench: Callable[..., Any], picture: Callable[..., Image]
) -> None:
    made = bench().plan(
        "gpt-image-2", "make it red", image=picture(), size="1024x1024", quality="low"
    )
    assert made.estimate.low is not None
    assert made.estimate.high is None


def usage(**more: Any) -> dict[str, Any]:
    return {
        "input_tokens": 110,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 100},
        "output_tokens": 200,
        "total_tokens": 310,
        **more,
    }


def test_kinds_of_tokens_have_their_own_prices() -> None:
    cost = cost_of(image_usage(usage(), TWO), TWO)
    assert cost.amount == Decimal(10 * 5 + 100 * 8 + 200 * 30) / 1_000_000


def test_cached_tokens_are_cheaper() -> None:
    cached = {"cached_text_tokens": 4, "cached_image_tokens": 50}
    cost = cost_of(image_usage(usage(cached_tokens_details=cached), TWO), TWO)
    paid = 6 * 5 + 50 * 8 + 4 * Decimal("1.25") + 50 * 2 + 200 * 30
    assert cost.amount == paid / 1_000_000


def test_text_that_the_model_wrote_is_billed_as_text() -> None:
    split = {"image_tokens": 150, "text_tokens": 50}
    cost = cost_of(image_usage(usage(output_tokens_details=split), OLD), OLD)
    assert cost.amount == Decimal(10 * 5 + 100 * 8 + 150 * 32 + 50 * 10) / 1_000_000


@pytest.mark.parametrize(
    ("value", "price"),
    [
        (None, TWO),
        ({}, TWO),
        (usage(), None),
        (usage(), OLD),  # it writes text too, and the answer does not say how much of it
        (usage(input_tokens_details=None), TWO),
        (usage(output_tokens="many"), TWO),
        (usage(output_tokens_details={"image_tokens": 150, "text_tokens": 50}), TWO),
    ],
)
def test_a_cost_that_cannot_be_computed_is_none(value: Any, price: Any) -> None:
    assert cost_of(image_usage(value, price), price).amount is None
