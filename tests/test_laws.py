"""Law 1 over every option of every known model of both plug-ins: sent, translated, or refused.

A plan with an option is compared with the plan without it. The payload differs, or a notice names the option,
or planning refuses it; anything else would be an option dropped in silence.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

import diptych
from diptych import Control, Image, ImageClient, LoRA, Mask, Reference
from diptych.errors import InvalidInput, UnsupportedOption
from diptych.plan import Plan, shown
from diptych.planner import DEFAULT_CHANGE

SIZE = (256, 256)
PHOTO = Image.of(Pillow.effect_noise(SIZE, 90).convert("RGB"))
OTHER = Image.of(Pillow.effect_noise(SIZE, 30).convert("RGB"))
CARDS = [
    card
    for provider in ("openai", "fal")
    for card in diptych.models(provider)
    if card.lifecycle.shutdown is None
]
UNKNOWN = ["openai/gpt-image-9", "fal/acme/paint-1"]
REFS = [card.ref for card in CARDS] + UNKNOWN

OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "n": st.integers(2, 5),
    "size": st.sampled_from(["1024x1024", "1536x1024", "512x512", "auto", "1.5MP", "2K", "33x77"]),
    "aspect": st.sampled_from(["16:9", "3:2", "9:16", "7:5"]),  # a budget alone is square anyway
    "seed": st.integers(0, 2**31),
    "negative_prompt": st.sampled_from(["rain", "people, text"]),
    "guidance": st.floats(1, 20),
    "steps": st.integers(1, 60),
    "quality": st.sampled_from(["low", "medium", "high", "max", "TURBO", "hd"]),
    "background": st.sampled_from(["transparent", "opaque", "auto"]),
    "format": st.sampled_from(["png", "jpeg", "webp", "gif", "svg"]),
    "previews": st.integers(1, 3),
    "references": st.sampled_from([[OTHER], [OTHER, PHOTO], [Reference(OTHER, 0.5)]]),
    "adapters": st.sampled_from([[LoRA("https://example.com/a.safetensors", 0.7)]]),
    "controls": st.sampled_from([[Control("canny", OTHER, strength=0.6)]]),
    "extra": st.sampled_from([{"a_field_of_its_own": 3}]),
}
EDIT_OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    **OPTIONS,
    "mask": st.sampled_from([Mask.box((0, 0, 99, 99), size=SIZE)]),
    "change": st.floats(0.05, 0.95).filter(lambda change: change != DEFAULT_CHANGE),
    "expand": st.sampled_from([32, (0, 0, 64, 0)]),
    "source_prompt": st.sampled_from(["a dog in the snow"]),
    "preserve": st.sampled_from(["model"]),
}
REFUSED = (UnsupportedOption, InvalidInput)


def sent(plan: Plan) -> list[Any]:
    return [(call.target, shown(call.payload)) for call in plan.calls]


def accounted(plan: Plan, bare: Plan, name: str) -> bool:
    return sent(plan) != sent(bare) or name in {notice.option for notice in plan.notices}


@pytest.fixture(scope="module")
def clients():
    made = {ref: ImageClient(ref, api_key="sk-canary") for ref in REFS}
    yield made
    for client in made.values():
        client.close()


@pytest.mark.parametrize("name", OPTIONS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_no_option_of_generate_is_dropped(clients, name, data):
    value = data.draw(OPTIONS[name])
    for ref, client in clients.items():
        try:
            bare = client.plan("a fox")
        except UnsupportedOption:
            continue  # the model only edits
        try:
            plan = client.plan("a fox", **{name: value})
        except REFUSED:
            continue
        assert accounted(plan, bare, name), f"{ref} drops {name}={value!r} in silence"
        assert "sk-canary" not in str(plan)


@pytest.mark.parametrize("name", EDIT_OPTIONS)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_no_option_of_edit_is_dropped(clients, name, data):
    value = data.draw(EDIT_OPTIONS[name])
    for ref, client in clients.items():
        try:
            bare = client.plan_edit(PHOTO, "a cat in the snow")
        except REFUSED:
            continue  # the model cannot edit without a mask, or not at all
        try:
            plan = client.plan_edit(PHOTO, "a cat in the snow", **{name: value})
        except REFUSED:
            continue
        assert accounted(plan, bare, name), f"{ref} drops {name}={value!r} in silence"


@settings(max_examples=30, deadline=None)
@given(options=st.lists(st.sampled_from(sorted(OPTIONS)), unique=True, max_size=4), data=st.data())
def test_options_together_are_not_dropped_either(clients, options, data):
    values = {name: data.draw(OPTIONS[name]) for name in options}
    for ref, client in clients.items():
        try:
            plan = client.plan("a fox", **values)
        except REFUSED:
            continue
        for name in values:
            rest = {other: value for other, value in values.items() if other != name}
            try:
                without = client.plan("a fox", **rest)
            except REFUSED:
                continue  # the option was what made the others possible
            assert accounted(plan, without, name), f"{ref} drops {name} among {values}"


def test_nothing_is_sent_that_was_not_asked_for(clients):
    wire = {"model", "prompt", "image_url", "image_urls", "image"}
    for ref, client in clients.items():
        try:
            plan = client.plan("a fox")
        except UnsupportedOption:
            continue
        assert set(plan.calls[0].payload) <= wire, ref


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 5))
def test_every_picture_has_its_own_seed(clients, seed, n):
    for ref, client in clients.items():
        try:
            plan = client.plan("a fox", seed=seed, n=n)
        except REFUSED:
            continue
        assert sum(call.images for call in plan.calls) == n, ref
        assert [each for call in plan.calls for each in call.seeds] == [seed + k for k in range(n)]


@pytest.mark.parametrize("ref", REFS)
def test_the_polarity_of_a_mask_reaches_the_wire(clients, ref):
    """A mask and its inverse must not look the same to the provider."""
    mask, payloads = Mask.box((0, 0, 99, 99), size=SIZE), []
    for each in (mask, mask.inverted()):
        try:
            plan = clients[ref].plan_edit(PHOTO, "a cat in the snow", mask=each)
        except REFUSED:
            return
        payloads.append(sent(plan))
    assert payloads[0] != payloads[1] or plan.finish.mask is not None
