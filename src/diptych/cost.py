"""Money: what a call may cost, what it did cost, and how much may be spent."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from .errors import BudgetExceeded, InvalidInput

__all__ = ["Budget", "Cost", "Estimate"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a result cost. An unknown cost is `amount=None`, never 0.

    `source`: "reported" by the provider, "computed" from reported usage and a dated price,
    "estimated" without reported usage, or "unknown". `price_version` names the price list used.
    """

    amount: Decimal | None = None
    currency: str = "USD"
    source: Literal["reported", "computed", "estimated", "unknown"] = "unknown"
    price_version: str | None = None

    def __str__(self) -> str:
        if self.amount is None:
            return "unknown"
        return f"{_money(self.amount)} {self.currency} ({self.source})"

    def __add__(self, other: Cost) -> Cost:
        """The sum of two calls: unknown if either is, and as weak as its weaker source."""
        if self.amount is None or other.amount is None or self.currency != other.currency:
            return Cost()
        weakest = max(self.source, other.source, key=_STRENGTH.index)
        return Cost(
            self.amount + other.amount,
            self.currency,
            weakest,
            self.price_version or other.price_version,
        )


_STRENGTH = ("reported", "computed", "estimated", "unknown")


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a plan may cost, as an interval. None at an end means that nobody knows that end."""

    low: Decimal | None = None
    high: Decimal | None = None
    currency: str = "USD"
    source: str = "no published price"

    def __str__(self) -> str:
        if self.low is None and self.high is None:
            return f"unknown ({self.source})"
        low = "?" if self.low is None else _money(self.low)
        high = "?" if self.high is None else _money(self.high)
        span = low if low == high else f"{low} to {high}"
        return f"{span} {self.currency} ({self.source})"

    def __mul__(self, times: int) -> Estimate:
        return Estimate(
            None if self.low is None else self.low * times,
            None if self.high is None else self.high * times,
            self.currency,
            self.source,
        )


FREE = Estimate(Decimal(0), Decimal(0), source="runs on this machine")


@dataclass(slots=True)
class Budget:
    """A spending limit that several clients and threads may share.

    Before each call the upper end of its estimate is reserved; afterwards the reservation is
    replaced by the actual cost, or kept when the actual cost is unknown. A call whose estimate has
    no upper end is refused, unless `unknown="allow"`.

    Raises `InvalidInput` for a limit that is negative or not a number.
    """

    limit: Decimal
    currency: str = "USD"
    unknown: Literal["refuse", "allow"] = "refuse"
    spent: Decimal = field(default=Decimal(0), init=False)
    _reserved: Decimal = field(default=Decimal(0), init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        given = self.limit
        try:
            self.limit = Decimal(given)
        except (ArithmeticError, TypeError, ValueError):
            self.limit = Decimal("NaN")
        if isinstance(given, bool) or not self.limit.is_finite() or self.limit < 0:
            raise InvalidInput(f"a budget is an amount of money, such as '0.50', not {given!r}")

    @property
    def left(self) -> Decimal:
        """What may still be spent, reservations of calls in flight taken off."""
        return self.limit - self.spent - self._reserved

    def reserve(self, estimate: Estimate) -> Decimal:
        """Set the estimate's upper end aside, or raise `BudgetExceeded`. Returns the amount."""
        if estimate.high is None:
            if self.unknown == "allow":
                return Decimal(0)
            raise BudgetExceeded(
                f"the cost of this call is unknown ({estimate.source}), so the budget of "
                f'{_money(self.limit)} {self.currency} cannot be kept; pass Budget(limit, unknown="allow") '
                "to send it all the same"
            )
        if estimate.currency != self.currency:
            raise BudgetExceeded(
                f"the estimate is in {estimate.currency} and the budget in {self.currency}; "
                f"make a Budget(limit, currency={estimate.currency!r})"
            )
        with self._lock:
            if estimate.high > self.left:
                raise BudgetExceeded(
                    f"the call may cost {_money(estimate.high)} {self.currency} and "
                    f"{_money(self.left)} of {_money(self.limit)} is left; raise the budget, or ask for "
                    "fewer, smaller or lower-quality pictures"
                )
            self._reserved += estimate.high
        return estimate.high

    def settle(self, reserved: Decimal, cost: Cost) -> None:
        """Replace a reservation by the actual cost; an unknown cost counts as the reservation."""
        known = cost.amount is not None and cost.currency == self.currency
        actual = cost.amount if known and cost.amount is not None else reserved
        with self._lock:
            self._reserved -= reserved
            self.spent += actual


def _money(amount: Decimal) -> str:
    """At least two decimals, at most six, no exponent."""
    text = f"{amount:.6f}".rstrip("0")
    whole, _, cents = text.partition(".")
    return f"{whole}.{cents.ljust(2, '0')}"
