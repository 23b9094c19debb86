"""Requests: bad input is refused with a reason before anything is planned."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from diptych import Control, Expand, Image, LoRA, Reference
from diptych.errors import InvalidInput
from diptych.request import Request


def png(size=(8, 8), colour="red") -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def test_what_is_not_set_is_not_given():
    assert Request.build("a fox").given() == {}
    assert Request.build("a fox", image=png()).given() == {}


@pytest.mark.parametrize(
    ("options", "normalised"),
    [
        ({"n": 2}, 2),
        ({"seed": np.int64(7)}, 7),
        ({"guidance": 4}, 4.0),
        ({"steps": 20}, 20),
        ({"quality": "high"}, "high"),
        ({"size": "64x64"}, "64x64"),
        ({"negative_prompt": "rain"}, "rain"),
        ({"adapters": ["style.safetensors"]}, (LoRA("style.safetensors"),)),
        ({"extra": {"a": 1}}, {"a": 1}),
    ],
)
def test_what_is_set_is_given(options, normalised):
    (name,) = options
    assert Request.build("a fox", **options).given() == {name: normalised}


@pytest.mark.parametrize("prompt", ["", "   ", None, 7, b"fox"])
def test_a_prompt_is_a_text(prompt):
    with pytest.raises(InvalidInput, match="prompt"):
        Request.build(prompt)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 0),
        ("n", 65),
        ("n", 1.5),
        ("n", True),
        ("n", "2"),
        ("seed", -1),
        ("seed", 2**63),
        ("seed", 1.0),
        ("guidance", -1),
        ("guidance", float("nan")),
        ("guidance", "3"),
        ("steps", 0),
        ("previews", -1),
        ("background", "pink"),
        ("format", "bmp"),
        ("negative_prompt", ""),
        ("quality", 3),
        ("size", "huge"),
        ("aspect", "x"),
        ("references", "picture.png"),
        ("references", b"..."),
        ("adapters", [LoRA("", 1.0)]),
        ("adapters", [LoRA("a", 99)]),
        ("adapters", [7]),
        ("controls", ["canny"]),
    ],
)
def test_a_bad_value_is_refused_by_name(name, value):
    with pytest.raises(InvalidInput, match=f"{name.rstrip('s')}|LoRA"):
        Request.build("a fox", **{name: value})


@pytest.mark.parametrize("name", ["mask", "change", "expand", "source_prompt", "preserve"])
def test_options_of_an_edit_need_a_picture(name):
    values = {"mask": png(), "change": 0.5, "expand": 8, "preserve": "model"}
    value = values.get(name, "a dog")
    with pytest.raises(InvalidInput, match="needs a picture"):
        Request.build("a fox", **{name: value})


@pytest.mark.parametrize(
    ("name", "near"), [("negative", "negative_prompt"), ("strength", "change")]
)
def test_an_unknown_option_names_the_nearest(name, near):
    with pytest.raises(InvalidInput, match=near):
        Request.build("a fox", **{name: 1})


@given(st.floats(allow_nan=True, allow_infinity=True) | st.integers(-3, 3))
def test_change_is_from_0_to_1(change):
    if 0 <= change <= 1:
        assert Request.build("a fox", image=png(), change=change).change == change
    else:
        with pytest.raises(InvalidInput, match="change"):
            Request.build("a fox", image=png(), change=change)


@pytest.mark.parametrize(
    ("expand", "expected"),
    [
        (16, Expand(16, 16, 16, 16)),
        ((1, 2, 3, 4), Expand(1, 2, 3, 4)),
        (Expand(right=9), Expand(0, 0, 9, 0)),
    ],
)
def test_expand_is_for_all_borders_or_each(expand, expected):
    assert Request.build("a fox", image=png(), expand=expand).expand == expected


@pytest.mark.parametrize("expand", [0, -1, (1, 2, 3), Expand(), Expand(left=-1), "16", 9000, True])
def test_expand_must_add_pixels(expand):
    with pytest.raises(InvalidInput, match="expand"):
        Request.build("a fox", image=png(), expand=expand)


def test_every_kind_of_picture_is_a_reference():
    array = np.zeros((4, 4, 3), np.uint8)
    references = [png(), Pillow.new("L", (4, 4)), array, Reference(png(), weight=0.5)]
    request = Request.build("a fox", references=references)
    assert [type(each.image) for each in request.references] == [Image] * 4
    assert request.references[-1].weight == 0.5


@pytest.mark.parametrize("weight", [-0.1, 1.1, "x"])
def test_a_reference_weighs_0_to_1(weight):
    with pytest.raises(InvalidInput, match="weight"):
        Request.build("a fox", references=[Reference(png(), weight)])


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "edges"},
        {"strength": -1},
        {"start": 0.5, "end": 0.5},
        {"end": 1.5},
    ],
)
def test_a_control_is_checked(fields):
    control = Control(**{"kind": "canny", "image": png(), **fields})
    with pytest.raises(InvalidInput, match="Control"):
        Request.build("a fox", controls=[control])


def test_a_control_loads_its_picture():
    request = Request.build("a fox", controls=[Control("depth", png(), strength=0.5, end=0.8)])
    assert isinstance(request.controls[0].image, Image)


@pytest.mark.parametrize("mode", ["paint", 3])
def test_a_mode_is_auto_or_one_that_exists(mode):
    with pytest.raises(InvalidInput, match="auto"):
        Request.build("a fox", image=png(), mode=mode)
