"""Sizes: exact pixels are honoured or refused, budgets are rounded and noticed."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import InvalidInput, UnsupportedOption
from diptych.sizes import Geometry, Sizes, fit, shape

FREE = Sizes(
    kind="free",
    multiple=16,
    min_pixels=655_360,
    max_pixels=8_294_400,
    max_edge=3840,
    ratio=3,
)
FIXED = Sizes(kind="fixed", fixed=((1024, 1024), (1536, 1024), (1024, 1536)), auto=True)
NAMED = Sizes(kind="aspects", aspects=("1:1", "16:9", "9:16"), tiers=("1K", "2K"))


@pytest.mark.parametrize(
    ("size", "aspect"),
    [
        ("1024x768", None),
        ("1024×768", None),
        (" 1024 X 768 ", None),
        ((1024, 768), None),
    ],
)
def test_pixels_are_read_in_every_common_spelling(size, aspect):
    assert shape(size, aspect).pixels == (1024, 768)


@pytest.mark.parametrize("aspect", ["16:9", "16/9", (16, 9), "1.6:0.9"])
def test_aspects_are_read_in_every_common_spelling(aspect):
    assert shape(None, aspect).aspect == Fraction(16, 9)


@pytest.mark.parametrize(
    "size", ["big", "1024", "0x5", "99999x1", (1, 2, 3), (1.5, 2), -1, "1024x", True, ("a", "b")]
)
def test_what_is_no_size_is_refused_with_examples(size):
    with pytest.raises(InvalidInput, match="1024x768"):
        shape(size, None)


@pytest.mark.parametrize(
    "aspect", ["wide", 0, -1, "1:0", float("nan"), float("inf"), (1, 0), 51, True]
)
def test_what_is_no_aspect_is_refused_with_examples(aspect):
    with pytest.raises(InvalidInput, match="16:9"):
        shape(None, aspect)


def test_exact_size_and_aspect_exclude_each_other():
    for size in ("1024x768", "auto"):
        with pytest.raises(InvalidInput, match="already decides the aspect"):
            shape(size, "4:3")


def test_nothing_asked_sends_nothing():
    for rule in (FREE, FIXED, NAMED, Sizes(), Sizes(kind="model")):
        assert fit(shape(None, None), rule, "p/m") == (Geometry(), ())


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_an_exact_size_is_sent_as_it_is_or_refused(width, height):
    allowed = (
        width % 16 == 0
        and height % 16 == 0
        and 655_360 <= width * height <= 8_294_400
        and max(width, height) <= min(3840, 3 * min(width, height))
    )
    asked = shape((width, height), None)
    if allowed:
        assert fit(asked, FREE, "p/m") == (Geometry(size=(width, height)), ())
    else:
        with pytest.raises(UnsupportedOption, match="multiples of 16") as refusal:
            fit(asked, FREE, "p/m")
        assert refusal.value.option == "size"


@given(
    st.fractions(Fraction(1, 3), Fraction(3, 1), max_denominator=50),
    st.sampled_from(["1MP", "1K", "2K", "4MP"]),
)
def test_an_aspect_spends_its_budget_within_the_rules(aspect, budget):
    asked = shape(budget, f"{aspect.numerator}:{aspect.denominator}")
    geometry, notices = fit(asked, FREE, "p/m")
    width, height = geometry.size
    assert width % 16 == 0
    assert height % 16 == 0
    assert 655_360 <= width * height <= 8_294_400
    assert abs(width / height / float(aspect) - 1) <= 0.05
    assert math.isclose(width * height, asked.budget, rel_tol=0.06)
    assert [notice.option for notice in notices] == ["aspect"]
    assert f"{width}x{height}" in notices[0].message


def test_the_nearest_allowed_size_is_named():
    with pytest.raises(UnsupportedOption, match="nearest is 1008x1008"):
        fit(shape("1001x1001", None), FREE, "p/m")


def test_a_fixed_list_takes_its_own_sizes_and_no_others():
    assert fit(shape("1536x1024", None), FIXED, "p/m")[0].size == (1536, 1024)
    with pytest.raises(UnsupportedOption, match="1024x1024, 1536x1024, 1024x1536"):
        fit(shape("1920x1080", None), FIXED, "p/m")


def test_a_fixed_list_serves_the_aspects_it_has():
    assert fit(shape(None, "3:2"), FIXED, "p/m")[0].size == (1536, 1024)
    assert fit(shape("1K", None), FIXED, "p/m")[0].size == (1024, 1024)
    with pytest.raises(UnsupportedOption) as refusal:
        fit(shape(None, "16:9"), FIXED, "p/m")
    assert refusal.value.option == "aspect"


def test_named_aspects_and_tiers_are_sent_by_name():
    assert fit(shape("2K", "16:9"), NAMED, "p/m")[0] == Geometry(aspect="16:9", tier="2K")
    assert fit(shape("1K", None), NAMED, "p/m")[0] == Geometry(tier="1K")
    for size, aspect in (("4K", None), (None, "3:2"), ("1024x1024", None), ("1.5MP", "1:1")):
        with pytest.raises(UnsupportedOption):
            fit(shape(size, aspect), NAMED, "p/m")


def test_auto_is_for_models_that_have_it():
    assert fit(shape("auto", None), FIXED, "p/m")[0].auto
    with pytest.raises(UnsupportedOption, match="auto"):
        fit(shape("auto", None), FREE, "p/m")


def test_a_model_that_decides_refuses_every_size():
    with pytest.raises(UnsupportedOption, match="a size of its own choice"):
        fit(shape("1024x1024", None), Sizes(kind="model"), "p/m")


def test_an_unknown_rule_sends_what_was_asked():
    assert fit(shape("1000x333", None), Sizes(), "p/m")[0].size == (1000, 333)
    assert fit(shape("1MP", "2:1"), Sizes(), "p/m")[0].size == (1456, 720)


@pytest.mark.parametrize("rule", [FREE, FIXED, NAMED, Sizes(), Sizes(kind="model")])
def test_rules_are_told_in_words_and_as_data(rule):
    facts = rule.to_dict()
    assert facts["kind"] == rule.kind
    assert facts["text"] == str(rule) != ""
