"""What planning must be: pure, offline, complete about what was asked, and silent about the key."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ..cards import EditMode
from ..errors import RequestError, RetiredModel
from ..plan import shown
from ..planner import make_plan
from ..request import Request
from .cases import KEY, Case, Subject, picture
from .effects import accepted, accounted, leaves, sent, without
from .values import seeds, strategies

__all__ = ["PlanningSuite", "leaked", "offline"]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")

_OWN = frozenset(
    {"seed", "guidance", "steps", "negative_prompt", "quality", "background", "format"}
)
"""Options whose provider has a default of its own, which is not to be repeated to it."""


class PlanningSuite(Subject):
    """Tests of `plan`, for every model in every mode that it has."""

    def test_a_plan_is_pure(self, case: Case) -> None:
        """The same request makes the same plan, in another provider too, without any network."""
        options = {"extra": {}, **case.base()}
        fresh = replace(case, provider=self.made())
        with offline():
            first, again, other = case.plan(**options), case.plan(**options), fresh.plan(**options)
        assert sent(first) == sent(again) == sent(other), (
            f"{case}: two plans of one request differ; plan() must not draw seeds, read clocks or "
            "remember earlier requests"
        )
        assert (first.notices, first.estimate) == (other.notices, other.estimate), (
            f"{case}: two plans of one request differ in notices or in the estimate"
        )
        try:
            json.dumps(first.to_dict())
        except (TypeError, ValueError) as error:
            raise AssertionError(
                f"{case}: a payload holds JSON values, and an Image where a picture goes in: {error}"
            ) from None

    def test_a_plan_says_what_it_is(self, case: Case) -> None:
        """Model, mode and the number of pictures agree with what was asked."""
        plan = case.plan()
        assert plan.model == case.in_force.ref, f"{case}: Plan.model is {plan.model!r}"
        assert plan.mode == (case.mode or "generate"), f"{case}: Plan.mode is {plan.mode!r}"
        assert plan.calls, f"{case}: the plan has no calls"
        for call in plan.calls:
            assert call.images >= 1, f"{case}: a call expects {call.images} pictures"
            assert not call.seeds or len(call.seeds) == call.images, (
                f"{case}: a call of {call.images} pictures names {len(call.seeds)} seeds"
            )

    def test_no_option_is_dropped(self, case: Case) -> None:
        """Law 1: each option, alone and among others, is sent, translated with a notice, or refused."""
        drawn, bare = strategies(case), case.planned()

        def sent_translated_or_refused(data: st.DataObject) -> None:
            values = {}
            for name, strategy in drawn.items():
                one, two = data.draw(strategy, name), data.draw(strategy, name)
                if not accepted(case, {name: one}):
                    continue
                with_one = case.planned(**{name: one})
                if case.base().get(name) != one:
                    accounted(case, name, one, with_one, bare)
                    values[name] = one
                if one != two and accepted(case, {name: two}):
                    accounted(case, name, one, with_one, case.planned(**{name: two}))
            kept = (
                data.draw(st.lists(st.sampled_from(sorted(values)), unique=True)) if values else []
            )
            options = accepted(case, {name: values[name] for name in kept})
            whole = case.planned(**options)
            for name, value in options.items():
                if (other := without(case, options, name)) is not None:
                    accounted(case, name, value, whole, other)

        self.tried(sent_translated_or_refused)

    def test_prompt_and_picture_are_sent(self, case: Case) -> None:
        """Another prompt makes another payload, and so does another picture."""
        plan = case.plan()
        told = {notice.option for notice in plan.notices}
        other = case.plan(prompt=case.prompts[1])
        assert sent(plan) != sent(other) or "prompt" in told, (
            f"{case}: the prompt is dropped: another one makes the same payload"
        )
        # A conversation goes on from the picture that the service holds.
        if case.mode in (None, EditMode.CONTINUE):
            return
        other = case.plan(image=picture(case.size, 1))
        assert sent(plan) != sent(other), (
            f"{case}: the picture to edit is dropped: another one makes the same payload"
        )

    def test_no_default_is_sent(self, case: Case) -> None:
        """What the caller left open is left open: no value is sent that an option would replace."""
        bare, drawn = case.planned(), strategies(case)
        assumed = {notice.option for notice in bare.plan.notices if notice.kind == "assumed"}
        found = dict(leaves(bare.plan.calls[0].payload))

        def left_open(data: st.DataObject) -> None:
            for name in sorted(_OWN & set(drawn)):
                options = accepted(case, {name: data.draw(drawn[name], name)})
                if not options or name in assumed:
                    continue
                for path, value in leaves(case.plan(**options).calls[0].payload):
                    assert path not in found or shown(found[path]) == shown(value), (
                        f"{case}: without {name}= the payload says {'.'.join(path)}={found[path]!r}; "
                        "send nothing where the caller set nothing, so that the model's own default "
                        'applies, or write a Notice("assumed", ...)'
                    )

        self.tried(left_open)

    def test_seeds_count_up(self, case: Case) -> None:
        """Law 2: picture k has seed + k however a request is split, and n pictures are expected."""

        def counted(data: st.DataObject) -> None:
            n, seed = data.draw(st.integers(2, 5), "n"), data.draw(seeds(case), "seed")
            if len(accepted(case, {"n": n})) == 1:
                images = sum(call.images for call in case.plan(n=n).calls)
                assert images == n, f"{case}: n={n} plans {images} pictures"
            if len(accepted(case, {"n": n, "seed": seed})) < 2:
                return
            calls = case.plan(n=n, seed=seed).calls
            named = [each for call in calls for each in call.seeds]
            assert named == list(range(seed, seed + n)), (
                f"{case}: n={n}, seed={seed} plans the seeds {named}; picture k must have seed + k, "
                "and Call.seeds must say so"
            )
            for call in calls:
                alone = case.plan(n=call.images, seed=call.seeds[0]).calls[0]
                assert shown(call.payload) == shown(alone.payload), (
                    f"{case}: the picture of seed {call.seeds[0]} is not the same among {n} pictures "
                    "as alone: the payloads differ"
                )

        self.tried(counted)

    def test_estimates_are_honest(self, case: Case) -> None:
        """Law 5: an unknown cost is None; only this machine works for nothing."""
        estimate = case.plan(**accepted(case, {"n": 2})).estimate
        low, high = estimate.low, estimate.high
        assert low is None or high is None or 0 <= low <= high, f"{case}: estimate {low} to {high}"
        assert self.provider.local or high is None or high > 0, (
            f"{case}: the estimate is 0; a cost that nobody knows is None: leave Plan.estimate out"
        )
        priced = case.card.known or case.card.pricing is not None
        assert self.provider.local or priced or low is None, (
            f"{case}: nobody has described this model, so its price is not known either"
        )

    def test_key_stays_out_of_plans(self, case: Case) -> None:
        """Law 6: no part of the key is in a plan, in a provider's repr, or in a refusal."""
        plan = case.plan()
        texts = [str(plan), repr(plan), json.dumps(plan.to_dict()), repr(case.provider)]
        texts += [f"{call.target} {call.payload!r}" for call in plan.calls]
        texts.append(repr(vars(case.provider)))
        for options in ({"size": "33x77"}, {"seed": 1}, {"extra": {"a": 1}}, {"quality": "none"}):
            try:
                case.plan(**options)
            except RequestError as error:
                texts.append(repr(error))
        for text in texts:
            assert not leaked(text), (
                f"{case}: the key is in {leaked(text)}; keep it in settings.api_key and reveal() it in "
                "the one header it belongs in"
            )

    def test_continuing_needs_a_state(self, case: Case) -> None:
        """A model that can carry on a conversation is tested with the state of one."""
        assert case.mode is not EditMode.CONTINUE or case.state is not None, (
            f"{case}: override state(card) and return what Outcome.state carries after a first turn"
        )

    def test_retired_models(self) -> None:
        """Law 7: from its shutdown on a model raises and names one that lives longer."""
        provider, request = self.made(), Request.build(self.prompts[0])
        ends = {card.ref: card.lifecycle.shutdown for card in provider.cards()}
        for card in self.cards():
            end, successor = card.lifecycle.shutdown, card.lifecycle.successor
            if end is None:
                continue
            with pytest.raises(RetiredModel) as raised:
                make_plan(provider, card, request, today=end)
            assert raised.value.shutdown == end
            if successor is None:
                continue
            assert successor in ends, (
                f"{card.ref}: successor {successor!r} is not in cards(); write the whole reference"
            )
            other = ends[successor]
            assert other is None or other > end, (
                f"{card.ref}: its successor {successor} is shut down on {other}, no later than itself"
            )

    def tried(self, check: Callable[[st.DataObject], None]) -> None:
        """Run a property over as many draws as the suite says; the same ones every time."""
        run = given(st.data())(check)
        hypothesis_settings(
            max_examples=self.examples,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # the message names the value; a smaller one says no more
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )(run)()


def leaked(text: str) -> str | None:
    """The words around the key in `text`, with the key blotted out; None if it is not there."""
    spoken = KEY.partition(":")[2]
    for form in (KEY, spoken, base64.b64encode(KEY.encode()).decode()):
        before, found, after = text.partition(form)
        if found:
            return f"...{before[-60:]}***{after[:20]}..."
    return None


@contextmanager
def offline(*, loopback: bool = False) -> Iterator[None]:
    """Inside it, every attempt to reach a network fails the test, even one that is caught.

    With `loopback` this machine itself may be reached.
    """
    tried: list[str] = []

    def guarded(function: Callable[..., Any], place: int) -> Callable[..., Any]:
        def guard(*given: Any, **named: Any) -> Any:
            where = given[place]
            host = where[0] if isinstance(where, tuple) else where
            if loopback and host in _LOOPBACK:
                return function(*given, **named)
            tried.append(str(host))
            raise OSError(f"{host} must not be reached here")

        return guard

    with (
        mock.patch("socket.socket.connect", guarded(socket.socket.connect, 1)),
        mock.patch("socket.socket.connect_ex", guarded(socket.socket.connect_ex, 1)),
        mock.patch("socket.getaddrinfo", guarded(socket.getaddrinfo, 0)),
    ):
        yield
    where = "run() may reach base_url alone" if loopback else "plan() and the cards must be pure"
    assert not tried, f"{', '.join(tried)} was to be reached; {where}"
