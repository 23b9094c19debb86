"""Step caching: on some steps the velocity is extrapolated from the last two that were computed.

Which steps are skipped depends on the number of steps alone, and a picture's velocities on its own
history alone: the same seed gives the same picture whatever runs beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .flow import Sampler
from .native import Ask

__all__ = ["computed", "skipping"]

LEAST = 12
"""With fewer steps than this none is skipped."""


def computed(steps: int) -> tuple[bool, ...]:
    """For every step whether the model runs: the first fifth (at least four), the last two, between
    them every third. Of 28 steps 14 are computed.
    """
    lead = max(4, steps // 5)
    return tuple(
        steps < LEAST or step < lead or step >= steps - 2 or (step - lead) % 3 == 2
        for step in range(steps)
    )


def skipping(sampler: Sampler, runs: Sequence[bool]) -> Sampler:
    """The same sampler, which asks for velocities where `runs` says so and makes the others itself."""
    history: list[tuple[Ask, ...]] = []
    known: list[Sequence[Tensor]] = []
    step = next(sampler)
    for run in runs:
        if run or len(known) < 2:
            answers: Sequence[Tensor] = yield step
            history, known = [*history[-1:], step.asks], [*known[-1:], answers]
        else:
            answers = _ahead(step.asks, history, known)
        try:
            step = sampler.send(answers)
        except StopIteration as end:
            latents: Tensor = end.value
            return latents
    raise AssertionError("the sampler takes more steps than were planned")


def _ahead(
    asks: Sequence[Ask], history: Sequence[Sequence[Ask]], known: Sequence[Sequence[Tensor]]
) -> list[Tensor]:
    """Velocities on the straight line, over the noise level, through the last two that are known."""
    answers = []
    for ask, before, last, old, new in zip(asks, *history, *known, strict=True):
        reach = (ask.sigma - last.sigma) / (last.sigma - before.sigma)
        answers.append(new + reach * (new - old))
    return answers
