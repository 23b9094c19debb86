"""The rewriter: what each phrasing makes of a description, and what it refuses to guess."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from diptych.errors import InvalidInput
from diptych.rewrite import Rewrite, description, reading, rewrite

DATA = tomllib.loads((Path(__file__).parent / "data" / "rewrites.toml").read_text("utf-8"))
GLOBAL = {"style", "background"}


def case_id(value: dict[str, Any]) -> str:
    return value.get("instruction", value.get("text", ""))[:40] or "empty"


@pytest.mark.parametrize("case", DATA["rewrite"], ids=case_id)
def test_the_edit_is_carried_out(case: dict[str, Any]) -> None:
    new = rewrite(case["instruction"], case["source"])
    assert new.prompt == case["prompt"]
    assert new.kind == case["kind"]
    assert new.is_global == case.get("global", case["kind"] in GLOBAL)


@pytest.mark.parametrize("case", DATA["refusal"], ids=case_id)
def test_what_is_not_certain_is_refused_with_the_ways_out(case: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        rewrite(case["instruction"], case["source"])
    message = str(caught.value)
    assert case.get("says", "") in message
    assert "make the dog a cat" in message
    assert "full description" in message
    assert "rewriter=" in message


@pytest.mark.parametrize("case", DATA["description"], ids=case_id)
def test_a_request_is_stripped_to_its_description(case: dict[str, Any]) -> None:
    assert description(case["text"]) == case["bare"]
    assert reading(case["text"]) == "description"


@pytest.mark.parametrize("text", DATA["reading"]["instruction"])
def test_reads_as_an_instruction(text: str) -> None:
    assert reading(text) == "instruction"


@pytest.mark.parametrize("text", DATA["reading"]["description"])
def test_reads_as_a_description(text: str) -> None:
    assert reading(text) == "description"


@pytest.mark.parametrize(
    "case", [case for case in DATA["rewrite"] if case["instruction"].count(" ") > 1], ids=case_id
)
def test_everything_that_can_be_rewritten_reads_as_an_instruction(case: dict[str, Any]) -> None:
    assert reading(case["instruction"]) == "instruction"


@pytest.mark.parametrize(
    ("instruction", "source", "changed"),
    [
        ("make the dog a cat", "a dog in the snow", ("cat",)),
        ("make the fox an owl", "a fox on a branch", ("owl",)),
        ("turn the blue car red", "a blue car next to a red bus", ("red",)),
        ("add a tall Christmas tree", "a fox in a room", ("tall", "Christmas", "tree")),
        ("remove the book", "a fox reading a book", ()),
        ("put it on a beach", "a dog in the snow", ("beach",)),
        ("make it an oil painting", "a dog", ("oil", "painting")),
    ],
)
def test_changed_holds_the_new_content_words(
    instruction: str, source: str, changed: tuple[str, ...]
) -> None:
    assert rewrite(instruction, source).changed == changed


def test_a_rewrite_cannot_be_altered() -> None:
    new = rewrite("make the dog a cat", "a dog")
    assert new == Rewrite("a cat", "replace", False, ("cat",))
    with pytest.raises(AttributeError):
        new.prompt = "a cow"  # type: ignore[misc]  # the point of the test


def test_a_rewrite_can_be_rewritten_again() -> None:
    prompt = "a watercolor of a fox reading a book in the snow"
    for instruction in (
        "make it a raccoon",
        "at night",
        "give it a hat",
        "remove the book",
        "make the hat red",
        "turn it into pixel art",
        "put it on a beach",
    ):
        prompt = rewrite(instruction, prompt).prompt
    assert prompt == "pixel art of a raccoon with a red hat on a beach at night"


# Pictures composed from the same grammar that a user would write.

ANIMALS = ["fox", "owl", "dog", "elephant", "cat", "iguana", "unicorn", "bear", "otter"]
ADJECTIVES = ["", "small ", "old ", "happy ", "furry "]
ACTIONS = ["", " reading a book", " holding an apple", " wearing a crown", " sitting on a log"]
SIDES = ["", " next to a lamp", " under a tree", " with an umbrella"]
PLACES = ["", " in the snow", " on a beach", " in a forest", " against a blue background"]
TIMES = ["", " at night", " at sunset"]
PREFIXES = ["", "a watercolor of ", "an oil painting of ", "pixel art of "]
SUFFIXES = ["", ", highly detailed"]


@st.composite
def scenes(draw: st.DrawFn) -> tuple[str, str]:
    """A description and the animal in it."""
    animal = draw(st.sampled_from(ANIMALS))
    described = draw(st.sampled_from(ADJECTIVES)) + animal
    noun = ("an " if described[0] in "aeio" else "a ") + described
    if described.startswith("unicorn"):
        noun = "a " + described
    parts = [draw(st.sampled_from(choice)) for choice in (PREFIXES, ACTIONS, SIDES, PLACES, TIMES)]
    if "background" in parts[3]:
        parts[4] = ""
    return parts[0] + noun + "".join(parts[1:]) + draw(st.sampled_from(SUFFIXES)), animal


EDITS = [
    "make it a {other}",
    "turn the {animal} into a {other}",
    "a {other} instead of the {animal}",
    "make the {animal} purple",
    "give it a ukulele",
    "add an hourglass",
    "it should hold a violin instead of the {animal}",
    "remove the book",
    "remove the crown",
    "remove the umbrella",
    "put it in a desert",
    "at dawn",
    "make it rainy",
    "make it a blueprint",
    "in the style of Hokusai",
    "make the {animal} a {other} and put it on the moon",
    "make the {animal} orange, in space",
    "on a green background",
]
VERBS = re.compile(r"\b(make|turn|put|give|add|remove|instead|should|now|it)\b", re.IGNORECASE)
WRONG_ARTICLE = re.compile(
    r"\b(a (?=[aeio]|umbrella|hour)|an (?![aeio]|umbrella|hour))", re.IGNORECASE
)


@given(scene=scenes(), edit=st.sampled_from(EDITS), other=st.sampled_from(ANIMALS))
def test_every_rewrite_is_a_clean_new_description(
    scene: tuple[str, str], edit: str, other: str
) -> None:
    source, animal = scene
    try:
        new = rewrite(edit.format(animal=animal, other=other), source)
    except InvalidInput:
        return
    assert new.prompt != source
    assert "  " not in new.prompt
    assert new.prompt == new.prompt.strip()
    assert not re.search(r"\s[,.]|,\s*,|,$", new.prompt)
    assert not VERBS.search(new.prompt)
    assert not WRONG_ARTICLE.search(new.prompt), new.prompt
    assert all(word in new.prompt for word in new.changed)


@given(scene=scenes(), other=st.sampled_from(ANIMALS))
def test_replacing_there_and_back_gives_the_source(scene: tuple[str, str], other: str) -> None:
    source, animal = scene
    assume(other != animal)
    there = rewrite(f"make the {animal} a {other}", source).prompt
    assert other in there
    assert animal not in there
    assert rewrite(f"replace the {other} with a {animal}", there).prompt == source


@given(scene=scenes(), other=st.sampled_from(ANIMALS))
def test_replacing_the_subject_keeps_all_the_rest(scene: tuple[str, str], other: str) -> None:
    source, animal = scene
    assume(other != animal)
    before, after = (re.sub(r"\ban? ", "", text) for text in (
        source, rewrite(f"make it a {other}", source).prompt))  # fmt: skip
    assert before.replace(animal, other) == after


@given(scene=scenes(), place=st.sampled_from(["on a beach", "in a cave", "in space"]))
def test_a_new_place_is_the_only_place(scene: tuple[str, str], place: str) -> None:
    source, _ = scene
    assume(place not in source)
    new = rewrite(f"put it {place}", source).prompt
    assert place in new
    assert not any(old and old in new for old in PLACES if old.strip() != place)
    assert all((time in new) == (time in source) for time in TIMES)


@given(scene=scenes(), style=st.sampled_from(["a neon sign", "a pencil sketch", "line art"]))
def test_a_new_style_is_the_only_style(scene: tuple[str, str], style: str) -> None:
    source, _ = scene
    new = rewrite(f"make it {style}", source)
    assert new.prompt.startswith(style + " of ")
    assert not any(old and old in new.prompt for old in PREFIXES)
    assert new.is_global


SALAD = st.lists(
    st.sampled_from(
        [
            "make",
            "turn",
            "the",
            "a",
            "an",
            "dog",
            "fox",
            "into",
            "instead",
            "of",
            "it",
            "is",
            "to",
            "with",
            "and",
            ",",
            ".",
            "red",
            "hat",
            "at",
            "night",
            "in",
            "style",
            "should",
            "be",
            "no",
            "add",
            "remove",
            "on",
            "background",
            "not",
            "version",
            "where",
            "now",
            "don't",
            "two",
            "cats",
            "’s",
            "🦊",
        ]
    ),
    max_size=14,
).map(" ".join)


@given(
    instruction=st.one_of(st.text(max_size=80), SALAD),
    source=st.one_of(st.text(max_size=80), SALAD, scenes().map(lambda scene: scene[0])),
)
def test_any_text_is_rewritten_or_refused(instruction: str, source: str) -> None:
    assert reading(instruction) in {"instruction", "description"}
    assert isinstance(description(instruction), str)
    try:
        new = rewrite(instruction, source)
    except InvalidInput:
        return
    assert new.prompt != source
    assert new.prompt == " ".join(new.prompt.split())


@given(st.one_of(st.text(max_size=120), scenes().map(lambda scene: scene[0])))
def test_a_bare_description_stays_as_it_is(text: str) -> None:
    once = description(text)
    assume(once == text)
    assert description(once) == once


FLOODS = [
    "make the ", "a ", "and ", "please ", "now ", "the dog ", "of ", "a of ", "to ", "with ", "from to ",
    "in the style of ", "instead of ", "painted in ", "dog's ", "version of it ", "and the dog a cat ",
    "colour of the ", "make it a cat, ", "it is ", "(", "é", " ", ", ", "x-", "reading a ",
]  # fmt: skip


@pytest.mark.parametrize("unit", FLOODS)
def test_a_flood_of_words_is_answered_without_backtracking(unit: str) -> None:
    flood = (unit * 10_000)[:10_000]
    for instruction, source in (
        (flood, "a dog in the snow"),
        ("make the dog a cat", flood),
        ("make it " + flood, "a dog"),
        ("replace the dog with " + flood, "a dog"),
        (flood + " instead of the dog", "a dog"),
        ("add a hat", "a dog with " + flood),
    ):
        reading(instruction)
        description(instruction)
        said = ""
        try:
            rewrite(instruction, source)
        except InvalidInput as refused:
            said = str(refused)
        assert len(said) < 2_000  # the message quotes only the start of a long text
