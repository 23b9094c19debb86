"""Plug-ins that break the contract, one rule each: every standard test must fail for one of them.

Run by tests/test_suite.py, which says which test must fail and what it must say.
"""

from __future__ import annotations

import asyncio
import io
import random
import socket
from contextlib import suppress
from dataclasses import replace
from datetime import date
from decimal import Decimal

import PIL.Image
from diptych_webui import CURRENT, WebUIProvider
from test_webui import WebUIPeer

from diptych.cards import EditMode, Lifecycle, ModelCard, Option, Paradigm
from diptych.cost import Estimate
from diptych.errors import AuthenticationFailed, OutcomeUnknown, Unavailable
from diptych.events import Progress
from diptych.image import Image
from diptych.notices import Notice
from diptych.plan import Call, Plan
from diptych.provider import Handle, Outcome, Provider
from diptych.testing import ProviderSuite


class Broken(ProviderSuite):
    peer = WebUIPeer
    models = ("webui/current",)
    grace = 1.0


class Base(WebUIProvider):
    """Hooks for what the variants change: the request, the calls, the whole plan."""

    def asked(self, request):
        return request

    def sent(self, payload):
        return payload

    def called(self, call):
        return replace(call, payload=self.sent(dict(call.payload)))

    def planned(self, plan):
        return plan

    def plan(self, request, card, state):
        plan = super().plan(self.asked(request), card, state)
        plan = plan.but(request=request, calls=tuple(self.called(call) for call in plan.calls))
        return self.planned(plan)


# What the class and its cards say


class TestKeyHostWithScheme(Broken):
    class provider(WebUIProvider):
        key_hosts = ("https://example.com",)


class LoadsTheSDK(WebUIProvider):
    def plan(self, request, card, state):
        import httpx  # noqa: F401

        return super().plan(request, card, state)


class TestLoadsTheSDK(Broken):
    provider = LoadsTheSDK


class TestForgetsItsCard(Broken):
    class provider(WebUIProvider):
        def card(self, model):
            return replace(CURRENT, note="another")


class TestMaskWithoutInpainting(Broken):
    class provider(WebUIProvider):
        CARD = replace(CURRENT, edits=frozenset({EditMode.IMG2IMG}))

        def card(self, model):
            return self.CARD


class TestSuccessorOfNobody(Broken):
    class provider(WebUIProvider):
        def card(self, model):
            end = Lifecycle(shutdown=date(2999, 1, 1), successor="next")
            return replace(CURRENT, lifecycle=end)


class TestKnowsEverything(Broken):
    class provider(WebUIProvider):
        def card(self, model):
            return replace(CURRENT, ref=f"webui/{model}")


# Plans


class TestDrawsASeed(Broken):
    class provider(Base):
        def sent(self, payload):
            return {**payload, "subseed": random.random()}


class TestAsksTheServer(Broken):
    class provider(Base):
        def asked(self, request):
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", 9), timeout=0.1).close()
            return request


class TestSaysAnotherMode(Broken):
    class provider(Base):
        def planned(self, plan):
            return plan.but(mode="generate")


class TestDropsSteps(Broken):
    class provider(Base):
        def asked(self, request):
            return request.but(steps=None)


class TestAlwaysTwentySteps(Broken):
    class provider(Base):
        def asked(self, request):
            return request if request.steps is None else request.but(steps=20)


class TestNoticesTheMask(Broken):
    class provider(Base):
        def asked(self, request):
            return request.but(mask=None)

        def planned(self, plan):
            return plan.but(
                notices=(*plan.notices, Notice("translated", "the mask is left out", "mask"))
            )


class TestDropsTheSecondOption(Broken):
    """Guidance is lost only where there is a negative prompt."""

    class provider(Base):
        def asked(self, request):
            return request if request.negative_prompt is None else request.but(guidance=None)


class TestRefusesWithoutAName(Broken):
    class provider(Base):
        def asked(self, request):
            if request.steps is not None:
                from diptych.errors import InvalidInput

                raise InvalidInput("no")
            return request


class TestDropsThePrompt(Broken):
    class provider(Base):
        def sent(self, payload):
            return {**payload, "prompt": "a fox"}


class TestDropsThePicture(Broken):
    class provider(Base):
        def sent(self, payload):
            return {name: payload[name] for name in payload if name != "init_images"}


class TestSendsItsDefault(Broken):
    class provider(Base):
        def sent(self, payload):
            return {"steps": 20, **payload}


class TestOneSeedForAll(Broken):
    class provider(Base):
        def called(self, call):
            return replace(call, seeds=call.seeds[:1] * call.images)


class TestSeedsDependOnTheBatch(Broken):
    class provider(Base):
        def planned(self, plan):
            calls = [
                replace(each, payload={**each.payload, "n": plan.request.n, "batch_size": 1})
                for call in plan.calls
                for each in _one_by_one(call)
            ]
            return plan.but(calls=tuple(calls))


class TestOneIsEnough(Broken):
    class provider(Base):
        def called(self, call):
            return replace(call, images=1, seeds=call.seeds[:1])


class TestFreeLunch(Broken):
    class provider(Base):
        def planned(self, plan):
            return plan.but(estimate=Estimate(Decimal(0), Decimal(0)))


class TestKeyInRepr(Broken):
    class provider(Base):
        def __repr__(self):
            return f"WebUI({self.config.api_key.reveal()})"


class TestKeyInPayload(Broken):
    class provider(Base):
        def sent(self, payload):
            return {**payload, "user": self.config.api_key.reveal()}


class TestKeyInAnAttribute(Broken):
    class provider(Base):
        def __init__(self, settings):
            super().__init__(settings)
            self._password = settings.api_key.reveal() if settings.api_key else ""


class TestContinuesWithoutAState(Broken):
    class provider(WebUIProvider):
        def card(self, model):
            return replace(CURRENT, edits=CURRENT.edits | {EditMode.CONTINUE})


# Runs


class TestGoesOnAfterTheOutcome(Broken):
    class provider(WebUIProvider):
        async def run(self, call, context):
            async for event in super().run(call, context):
                yield event
            yield Progress(1, 1)


class TestTakesAPictureBack(Broken):
    class provider(WebUIProvider):
        async def run(self, call, context):
            async for event in super().run(call, context):
                if isinstance(event, Outcome):
                    yield replace(event, images=(Image.of(PIL.Image.new("RGB", (8, 8))),))
                yield event


class TestSaysWhatCameSoFar(Broken):
    class provider(WebUIProvider):
        async def run(self, call, context):
            async for event in super().run(call, context):
                if isinstance(event, Outcome):
                    yield replace(event, images=())
                    yield event
                yield event


class TestPaysTwice(Broken):
    class provider(WebUIProvider):
        async def run(self, call, context):
            await self._connected().post(call.target, json={"prompt": "warming up"})
            async for event in super().run(call, context):
                yield event


class TestRunsOn(Broken):
    class provider(WebUIProvider):
        async def run(self, call, context):
            work = asyncio.ensure_future(self._all(super().run(call, context)))
            for event in await asyncio.shield(work):
                yield event

        async def _all(self, events):
            return [event async for event in events]


class TestSwallowsTheDeadline(Broken):
    class provider(WebUIProvider):
        async def run(self, call, context):
            context.sent()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(60)
            yield Outcome(images=())


class Unsaid:
    """A context that is not told that the request left."""

    def __init__(self, context):
        self._context = context

    def sent(self):
        pass

    def __getattr__(self, name):
        return getattr(self._context, name)


class TestDoesNotSayItWasSent(Broken):
    class provider(WebUIProvider):
        async def run(self, call, context):
            async for event in super().run(call, Unsaid(context)):
                yield event


class TestSendsAgain(Broken):
    class provider(WebUIProvider):
        async def run(self, call, context):
            try:
                async for event in super().run(call, context):
                    yield event
            except OutcomeUnknown:
                async for event in super().run(call, context):
                    yield event


class TestLetsTheVendorSpeak(Broken):
    class provider(WebUIProvider):
        async def run(self, call, context):
            context.sent()
            reply = await self._connected().post(call.target, json={"prompt": "a fox"})
            reply.raise_for_status()
            yield self._outcome(reply, call)


class TestKeyInAnError(Broken):
    class provider(WebUIProvider):
        async def run(self, call, context):
            try:
                async for event in super().run(call, context):
                    yield event
            except AuthenticationFailed:
                key = self.config.api_key.reveal()
                raise AuthenticationFailed(f"{key} is wrong", provider="webui") from None


class TestNobodyIsNotAnError(Broken):
    class provider(WebUIProvider):
        async def run(self, call, context):
            try:
                async for event in super().run(call, context):
                    yield event
            except Unavailable:
                raise OutcomeUnknown("who knows", provider="webui") from None


class TestPaysForResuming(Broken):
    class provider(WebUIProvider):
        def card(self, model):
            return replace(CURRENT, resumable=True)

        async def run(self, call, context):
            self.call = call
            context.accepted(Handle("webui", "current", "1"))
            async for event in super().run(call, context):
                yield event

        def resume(self, handle, context):
            return super().run(self.call, context)


class TestForgetsTheConversation(Broken):
    class provider(WebUIProvider):
        def card(self, model):
            return replace(CURRENT, edits=CURRENT.edits | {EditMode.CONTINUE})

    @classmethod
    def state(cls, card):
        return {"picture": "1"}


# On this machine


class Noise(Provider):
    """Pictures whose seed is that of the whole batch."""

    name = "noise"
    local = True

    def cards(self):
        options = {"n": Option(), "seed": Option()}
        return [
            ModelCard(
                ref="noise/plain", paradigm=Paradigm.UNKNOWN, options=options, source="this file"
            )
        ]

    def card(self, model):
        return self.cards()[0]

    def plan(self, request, card, state):
        payload = {"prompt": request.prompt, "n": request.n}
        seeds = ()
        if request.seed is not None:
            payload["seed"] = request.seed
            seeds = tuple(range(request.seed, request.seed + request.n))
        call = Call(
            operation="draw",
            method="local",
            target="noise",
            payload=payload,
            images=request.n,
            seeds=seeds,
        )
        return Plan(model=card.ref, mode="generate", calls=(call,), request=request)

    async def run(self, call, context):
        dice = random.Random(call.payload.get("seed"))
        yield Outcome(images=tuple(_noise(dice) for _ in range(call.images)))


class TestOneDiceForTheBatch(ProviderSuite):
    provider = Noise
    run_models = ("noise/plain",)


def _noise(dice):
    file = io.BytesIO()
    PIL.Image.frombytes("L", (8, 8), dice.randbytes(64)).save(file, "PNG")
    return Image.of(file.getvalue())


def _one_by_one(call):
    for place in range(call.images):
        own = {"seed": call.seeds[place]} if call.seeds else {}
        seeds = call.seeds[place : place + 1]
        yield replace(call, images=1, seeds=seeds, payload={**call.payload, **own})
