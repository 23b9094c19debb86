"""From `change`, the part of noise to begin with, to the steps and strength of a stock call."""

from __future__ import annotations

import math
from typing import Any, Literal

from .native import shift_of

__all__ = ["strength_of"]

MOST = 999
"""Steps that a schedule has at most: those of the training, but for the offset of some."""


def strength_of(
    rule: Literal["ceil", "floor", "all"],
    change: float,
    steps: int,
    scheduler: Any,
    size: tuple[int, int],
) -> tuple[int, float]:
    """(num_inference_steps, strength) with which a stock pipeline starts at noise `change`.

    `steps` steps are run, so that the work does not depend on `change`, unless so small a change
    has not that many. `rule` says how many of N steps the family runs at strength s: ceil(N s),
    floor(N s), or all N. `size` is (width, height) in pixels.
    """
    part = _unshifted(change, scheduler, size)
    if rule == "all":
        return steps, part
    if part >= 1:
        return steps, 1.0
    total = min(
        MOST, max(steps, math.floor(steps / part) if rule == "ceil" else math.ceil(steps / part))
    )
    run = min(steps, max(1, round(total * part)))
    # Half a step on the safe side of the rounding.
    return total, min(1.0, (run - 0.5 if rule == "ceil" else run + 0.5) / total)


def _unshifted(change: float, scheduler: Any, size: tuple[int, int]) -> float:
    """The place in the schedule, 0..1, at which its noise level is `change`.

    A flow scheduler moves its levels towards noise, the more the larger the picture is.
    """
    config = scheduler.config
    if "FlowMatch" not in type(scheduler).__name__ or not 0 < change < 1:
        return change
    if config.get("use_dynamic_shifting"):
        tokens = (size[0] // 16) * (size[1] // 16)
        shift = shift_of(scheduler, tokens)
        if config.get("time_shift_type", "exponential") == "exponential":
            shift = math.exp(shift)
    else:
        shift = config.get("shift", 1.0)
    return change / (shift * (1 - change) + change)
