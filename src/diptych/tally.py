"""The progress of several calls, counted as that of one run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from .events import Progress

__all__ = ["Tally"]


class Tally:
    """Counts what calls have done. `pictures` is how many each of them makes.

    A call counts by its pictures, so calls of different lengths end at the total together. The total
    is that of the call that first reports in a unit, as if it made all pictures; a call that works
    in several units counts in each.
    """

    def __init__(self, pictures: Sequence[int]) -> None:
        self._pictures = pictures
        self._totals: dict[str, int] = {}
        self._done: dict[str, dict[int, Fraction]] = {}

    def told(self, index: int, event: Progress) -> Progress:
        """The event of call number `index` as one of the run; as it is where it has no numbers."""
        if len(self._pictures) < 2 or event.done is None or not event.total:
            return event
        own, all_of_them = self._pictures[index], sum(self._pictures)
        total = self._totals.setdefault(event.unit, math.ceil(event.total * all_of_them / own))
        done = self._done.setdefault(event.unit, {})
        done[index] = Fraction(min(event.done, event.total), event.total) * own
        return replace(event, done=int(sum(done.values()) * total / all_of_them), total=total)
