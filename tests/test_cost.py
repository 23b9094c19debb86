"""Money: unknown is never 0, and a budget is kept under any interleaving."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.cost import FREE, Budget, Cost, Estimate
from diptych.errors import BudgetExceeded, InvalidInput
from diptych.pricing import Pricing
from diptych.result import Usage


def upto(high: str) -> Estimate:
    return Estimate(Decimal(0), Decimal(high), source="a test price")


def test_an_unknown_cost_stays_unknown_when_summed():
    known = Cost(Decimal("0.04"), source="computed")
    assert (known + Cost()).amount is None
    assert (known + Cost(Decimal("0.04"), currency="EUR")).amount is None
    total = known + Cost(Decimal("0.01"), source="estimated")
    assert (total.amount, total.source) == (Decimal("0.05"), "estimated")


def test_amounts_are_readable():
    assert str(Cost(Decimal("0.040"), source="reported")) == "0.04 USD (reported)"
    assert str(Cost()) == "unknown"
    assert (
        str(Estimate(Decimal("0.003"), Decimal("0.5"), source="list")) == "0.003 to 0.50 USD (list)"
    )
    assert str(Estimate(Decimal(1), Decimal(1), source="list")) == "1.00 USD (list)"
    assert str(Estimate(low=Decimal(1), source="list")) == "1.00 to ? USD (list)"
    assert str(Estimate()) == "unknown (no published price)"


def test_a_budget_refuses_what_might_not_fit():
    budget = Budget(Decimal("0.10"))
    reserved = budget.reserve(upto("0.08"))
    with pytest.raises(BudgetExceeded, match=r"0\.08 USD and 0\.02 of 0\.10 is left"):
        budget.reserve(upto("0.08"))
    budget.settle(reserved, Cost(Decimal("0.01"), source="computed"))
    assert budget.left == Decimal("0.09")
    budget.reserve(upto("0.08"))


def test_an_unknown_actual_cost_counts_as_the_reservation():
    budget = Budget(Decimal(1))
    budget.settle(budget.reserve(upto("0.4")), Cost())
    assert budget.spent == Decimal("0.4")


def test_an_unknown_estimate_is_refused_unless_allowed():
    with pytest.raises(BudgetExceeded, match='unknown="allow"'):
        Budget(Decimal(1)).reserve(Estimate())
    lenient = Budget(Decimal(1), unknown="allow")
    lenient.settle(lenient.reserve(Estimate()), Cost(Decimal("0.3")))
    assert lenient.spent == Decimal("0.3")


def test_another_currency_is_refused():
    with pytest.raises(BudgetExceeded, match="EUR"):
        Budget(Decimal(1)).reserve(Estimate(Decimal(0), Decimal(0), "EUR", "list"))


@pytest.mark.parametrize("limit", ["-1", "NaN", "Infinity"])
def test_a_limit_must_be_a_number(limit):
    with pytest.raises(InvalidInput):
        Budget(Decimal(limit))


def test_threads_never_overspend_together():
    budget, taken = Budget(Decimal(10)), []

    def spend() -> None:
        for _ in range(50):
            try:
                reserved = budget.reserve(upto("0.3"))
            except BudgetExceeded:
                return
            budget.settle(reserved, Cost(Decimal("0.25")))
            taken.append(1)

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.spent == Decimal("0.25") * len(taken)
    assert Decimal("9.7") < budget.spent <= 10


def test_what_runs_here_costs_nothing_and_says_so():
    assert FREE.high == 0
    assert "this machine" in str(FREE)


MEGAPIXEL = Pricing(source="a list", per_megapixel=Decimal("0.025"))


def test_megapixels_are_rounded_up_a_picture():
    cost = MEGAPIXEL.cost(sizes=[(1024, 1024), (1025, 1024)])
    assert cost.amount == Decimal("0.075")
    assert cost.source == "estimated"


def test_an_estimate_needs_to_know_the_size():
    assert MEGAPIXEL.estimate(images=2, pixels=None).high is None
    assert MEGAPIXEL.estimate(images=2, pixels=(1, 2**20 + 1)).high == Decimal("0.10")


def test_a_price_span_cannot_say_what_a_picture_did_cost():
    span = Pricing(source="a list", per_image=Decimal("0.01"), per_image_high=Decimal("0.20"))
    assert span.estimate(images=2, pixels=None) == Estimate(
        Decimal("0.02"), Decimal("0.40"), source="a list"
    )
    assert span.cost(sizes=[(8, 8)]).amount is None


TOKENS = Pricing(
    source="a list",
    text_in=Decimal(5),
    image_in=Decimal(8),
    cached_text_in=Decimal("1.25"),
    image_out=Decimal(30),
)


def test_text_and_image_tokens_have_their_own_prices():
    usage = Usage(input_text_tokens=100, input_image_tokens=1000, output_image_tokens=272)
    cost = TOKENS.cost(sizes=[], usage=usage)
    assert cost.amount == (100 * Decimal(5) + 1000 * Decimal(8) + 272 * Decimal(30)) / 1_000_000
    assert (cost.source, cost.price_version) == ("computed", "a list")


def test_cached_tokens_are_not_billed_twice():
    usage = Usage(input_text_tokens=100, cached_text_tokens=100, output_image_tokens=1)
    assert TOKENS.cost(sizes=[], usage=usage).amount == Decimal("155e-6")


def test_a_token_kind_without_a_price_makes_the_cost_unknown():
    usage = Usage(output_image_tokens=272, output_text_tokens=10)
    assert TOKENS.cost(sizes=[(8, 8)], usage=usage).amount is None


def test_no_reported_usage_is_not_a_cost_of_zero():
    assert TOKENS.cost(sizes=[(8, 8)], usage=None).amount is None
    assert TOKENS.cost(sizes=[(8, 8)], usage=Usage()).amount is None


counts = st.none() | st.integers(0, 10**6)
usages = st.builds(Usage, input_text_tokens=counts, output_image_tokens=counts, units=counts)


@given(usages, usages)
def test_usage_adds_up_and_unreported_stays_unreported(one, other):
    total = one + other
    for name in ("input_text_tokens", "output_image_tokens", "units"):
        parts = [getattr(each, name) for each in (one, other) if getattr(each, name) is not None]
        assert getattr(total, name) == (sum(parts) if parts else None)
    assert None not in total.to_dict().values()
