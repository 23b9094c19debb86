"""Progress that a user watches: one run to the end, however many calls it is split over."""

from __future__ import annotations

import asyncio
import io

import PIL.Image
import pytest

from diptych import Event, Image, Progress
from diptych.cards import ModelCard, Option, Paradigm
from diptych.engine import Run
from diptych.plan import Call, Plan
from diptych.planner import make_plan
from diptych.provider import Outcome, Provider, Settings
from diptych.request import Request
from diptych.sizes import Sizes

CARD = ModelCard(
    ref="dots/plain",
    paradigm=Paradigm.UNKNOWN,
    options={"n": Option()},
    sizes=Sizes(kind="free", max_edge=64),
    source="this file",
)


class Dots(Provider):
    """Two pictures a call, `steps[images]` steps of each unit for a call; the calls run in turns."""

    name = "dots"
    local = True
    steps = (0, 4, 4)
    units: tuple[str, ...] = ("steps",)

    def cards(self):
        return [CARD]

    def card(self, model):
        return CARD

    def plan(self, request, card, state):
        counts = [min(2, request.n - first) for first in range(0, request.n, 2)]
        calls = [
            Call(operation="dot", method="local", target="dots", payload={}, images=count)
            for count in counts
        ]
        return Plan(model=card.ref, mode="generate", calls=tuple(calls), request=request)

    async def run(self, call, context):
        total = self.steps[call.images]
        for unit in self.units:
            for step in range(total):
                await asyncio.sleep(0)
                yield Progress(step + 1, total, unit)
        yield Outcome(images=(dot(),) * call.images)


class Dashes(Dots):
    """A picture alone takes fewer steps than two."""

    steps = (0, 3, 8)


class Drafts(Dots):
    """Tokens first, then steps, as GLM-Image does."""

    units = ("tokens", "steps")


def dot():
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return Image.of(file.getvalue())


def watched(provider, n):
    """The progress that a user sees of `n` pictures."""
    plan = make_plan(provider, CARD, Request.build("a dot", n=n))
    run = Run(provider, plan, timeout=60, max_retries=0)
    seen: list[Event] = []
    run.listen(seen.append)
    asyncio.run(run.execute())
    return [event for event in seen if isinstance(event, Progress)]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("provider", [Dots, Dashes])
def test_several_calls_are_one_run_to_the_end(provider, n):
    seen = watched(provider(Settings()), n)
    done = [event.done for event in seen]
    assert done == sorted(done)
    assert len({event.total for event in seen}) == 1
    assert done[-1] == seen[-1].total
    assert done.index(done[-1]) == len(done) - 1, "the end is reached with the last step"


def test_equal_calls_count_each_of_their_steps():
    assert [(event.done, event.total) for event in watched(Dots(Settings()), 4)] == [
        (done, 8) for done in range(1, 9)
    ]


def test_every_unit_is_counted_by_itself():
    seen = watched(Drafts(Settings()), 4)
    for unit in Drafts.units:
        assert [event.done for event in seen if event.unit == unit] == list(range(1, 9))
