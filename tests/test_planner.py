"""The planner: every row of the decision table, the wording, and what happens afterwards."""

from __future__ import annotations

import io
from datetime import date
from typing import Any

import pytest
from PIL import Image as Pillow

from diptych import Control, Image, Mask
from diptych.cards import EditMode, Lifecycle, ModelCard, Option, Paradigm, refused
from diptych.errors import InvalidInput, RetiredModel, UnsupportedOption
from diptych.plan import Finish
from diptych.planner import DEFAULT_CHANGE, History, check, choose, lifecycle, phrase, prepare
from diptych.request import Request
from diptych.sizes import Sizes


def picture(size=(32, 24)) -> Image:
    file = io.BytesIO()
    Pillow.new("RGB", size, "red").save(file, "PNG")
    return Image.of(file.getvalue())


MASK = Mask.box((4, 4, 12, 12), size=(32, 24))
SEEN = History(picture(), "a dog in the snow", {"id": "1"})
EDITABLE = {"change": Option(low=0, high=1), "seed": Option()}


def card(*edits: EditMode, **facts: Any) -> ModelCard:
    facts = {"options": EDITABLE, **facts}
    return ModelCard(ref="test/model", paradigm=Paradigm.DIFFUSION, edits=frozenset(edits), **facts)


def edit(prompt: str = "a cat in the snow", **options: Any) -> Request:
    return Request.build(prompt, image=options.pop("image", picture()), **options)


ALL = tuple(EditMode)
CONTINUE, INSTRUCT, IMG2IMG = EditMode.CONTINUE, EditMode.INSTRUCT, EditMode.IMG2IMG
INPAINT, OUTPAINT, INVERT = EditMode.INPAINT, EditMode.OUTPAINT, EditMode.INVERT


@pytest.mark.parametrize(
    ("edits", "options", "history", "mode"),
    [
        (ALL, {"mode": "img2img"}, SEEN, IMG2IMG),
        (ALL, {"mask": MASK}, SEEN, INPAINT),
        ((INSTRUCT, IMG2IMG), {"mask": MASK}, None, INSTRUCT),
        ((IMG2IMG,), {"mask": MASK}, None, IMG2IMG),
        (ALL, {"expand": 8}, SEEN, OUTPAINT),
        ((INPAINT,), {"expand": 8}, None, INPAINT),
        (ALL, {}, SEEN, CONTINUE),
        (ALL, {}, History(picture(), "a dog", {}), INSTRUCT),
        (ALL, {}, None, INSTRUCT),
        (ALL, {"change": 0.5}, SEEN, CONTINUE),
        ((INVERT, IMG2IMG), {"change": 0.5}, SEEN, IMG2IMG),
        ((INVERT, IMG2IMG), {}, SEEN, INVERT),
        ((INVERT, IMG2IMG), {"source_prompt": "a dog"}, None, INVERT),
        ((INVERT, IMG2IMG), {}, None, IMG2IMG),
        ((IMG2IMG,), {}, SEEN, IMG2IMG),
    ],
)
def test_the_first_row_that_fits_is_taken(edits, options, history, mode):
    assert choose(card(*edits), edit(**options), history)[0] is mode


def test_no_picture_is_text_to_image():
    assert choose(card(*ALL), Request.build("a fox"), None)[0] is None


@pytest.mark.parametrize(
    ("edits", "options", "names"),
    [
        ((INSTRUCT,), {"mode": "inpaint"}, "it has instruct"),
        ((OUTPAINT,), {"mask": MASK}, "it has outpaint"),
        ((INSTRUCT,), {"expand": 8}, "it has instruct"),
        ((), {}, "no edit modes"),
        ((INVERT,), {}, "it has invert"),
    ],
)
def test_what_no_row_fits_is_refused_with_what_there_is(edits, options, names):
    with pytest.raises(UnsupportedOption, match=names):
        choose(card(*edits), edit(**options), None)


def test_a_model_that_only_edits_says_so():
    with pytest.raises(UnsupportedOption, match=r"edit\(image, prompt\)"):
        choose(card(INSTRUCT, generates=False), Request.build("a fox"), None)


def test_a_model_that_follows_control_images_says_so():
    follower = card(generates=False, needs_control=True)
    with pytest.raises(UnsupportedOption, match="needs a control image") as error:
        choose(follower, Request.build("a fox"), None)
    assert error.value.option == "controls"
    edges = Control("canny", picture())
    assert choose(follower, Request.build("a fox", controls=[edges]), None)[0] is None


def test_a_mode_without_a_picture_is_refused():
    with pytest.raises(InvalidInput, match="needs a picture"):
        choose(card(*ALL), Request.build("a fox", mode="instruct"), None)


def test_mask_and_expand_exclude_each_other():
    with pytest.raises(InvalidInput, match="exclude"):
        choose(card(*ALL), edit(mask=MASK, expand=8), None)


def test_an_instruction_stays_an_instruction_where_the_model_takes_one():
    asked = edit("make the dog a cat").but(mode=INPAINT)
    assert phrase(card(INPAINT, INSTRUCT), asked, SEEN, None)[0].prompt == "make the dog a cat"


def test_an_instruction_becomes_a_description_where_the_model_needs_one():
    asked = edit("make the dog a cat").but(mode=IMG2IMG)
    request, why, notices = phrase(card(IMG2IMG), asked, SEEN, None)
    assert request.prompt == "a cat in the snow"
    assert "instruction" in why
    assert [notice.option for notice in notices] == ["prompt"]


def test_the_callers_source_prompt_wins_over_the_history():
    asked = edit("make the bird a bat", source_prompt="a bird at night").but(mode=IMG2IMG)
    assert phrase(card(IMG2IMG), asked, SEEN, None)[0].prompt == "a bat at night"


def test_a_description_is_sent_as_it_is():
    asked = edit("a cat in the snow").but(mode=IMG2IMG)
    request, why, _ = phrase(card(IMG2IMG), asked, SEEN, None)
    assert request.prompt == "a cat in the snow"
    assert "description" in why


def test_an_instruction_with_nothing_to_apply_it_to_is_refused():
    with pytest.raises(InvalidInput, match="source_prompt"):
        phrase(card(IMG2IMG), edit("make the dog a cat").but(mode=IMG2IMG), None, None)


def test_a_rewriter_is_asked_for_what_is_beyond_the_built_in_one():
    asked = edit("make it feel like a Monday").but(mode=IMG2IMG)
    with pytest.raises(InvalidInput):
        phrase(card(IMG2IMG), asked, SEEN, None)
    told = []

    def rewriter(instruction: str, source: str) -> str:
        told.append((instruction, source))
        return "a tired dog in grey snow"

    assert phrase(card(IMG2IMG), asked, SEEN, rewriter)[0].prompt == "a tired dog in grey snow"
    assert told == [("make it feel like a Monday", "a dog in the snow")]


def test_an_unused_source_prompt_is_noticed():
    asked = edit("a cat", source_prompt="a dog").but(mode=INSTRUCT)
    request, _, notices = phrase(card(INSTRUCT), asked, None, None)
    assert request.source_prompt is None
    assert [notice.option for notice in notices] == ["source_prompt"]


def test_a_model_that_reads_what_a_picture_shows_is_told():
    reads = card(CONTINUE, INSTRUCT, options={"source_prompt": Option()})
    asked = edit("make it a cat").but(mode=CONTINUE)
    request, _, notices = phrase(reads, asked, SEEN, None)
    assert (request.prompt, request.source_prompt) == ("make it a cat", "a dog in the snow")
    assert not notices
    asked = edit("make it a cat", source_prompt="a bird").but(mode=INSTRUCT)
    assert phrase(reads, asked, SEEN, None)[0].source_prompt == "a bird"


def test_img2img_without_change_takes_the_documented_default():
    request, _, notices = prepare(card(IMG2IMG), edit().but(mode=IMG2IMG))
    assert request.change == DEFAULT_CHANGE
    assert [(notice.kind, notice.option) for notice in notices] == [("assumed", "change")]
    assert prepare(card(IMG2IMG), edit(change=0.2).but(mode=IMG2IMG))[0].change == 0.2


def test_no_default_change_is_sent_to_a_model_whose_direction_nobody_knows():
    unknown = card(IMG2IMG, options={"change": refused("direction unknown")})
    assert prepare(unknown, edit().but(mode=IMG2IMG))[0].change is None


def test_a_mask_is_sent_only_to_what_takes_one_and_always_protects():
    native, after, notices = prepare(card(INPAINT), edit(mask=MASK).but(mode=INPAINT))
    assert native.mask is MASK
    assert after.mask is MASK
    assert notices == ()
    emulated, after, notices = prepare(card(INSTRUCT), edit(mask=MASK).but(mode=INSTRUCT))
    assert emulated.mask is None
    assert after.mask is MASK
    assert [notice.option for notice in notices] == ["mask"]


def test_the_models_own_picture_is_taken_when_the_caller_prefers_it():
    request, after, _ = prepare(card(INPAINT), edit(mask=MASK, preserve="model").but(mode=INPAINT))
    assert request.mask is MASK
    assert after == Finish()
    with pytest.raises(UnsupportedOption, match="preserve"):
        prepare(card(INSTRUCT), edit(mask=MASK, preserve="model").but(mode=INSTRUCT))


@pytest.mark.parametrize(
    ("mode", "is_global", "told"),
    [(IMG2IMG, None, True), (INVERT, None, False), (INVERT, False, False), (INVERT, True, True)],
)
def test_without_a_mask_preserve_is_told_to_do_nothing_only_where_it_does_nothing(
    mode, is_global, told
):
    asked = edit(preserve="model", change=0.5).but(mode=mode, is_global=is_global)
    _, _, notices = prepare(card(mode), asked)
    assert [notice.option for notice in notices] == ["preserve"] * told


@pytest.mark.parametrize(
    ("options", "why"),
    [({"format": "jpeg"}, "alter the protected pixels"), ({"size": "64x64"}, "differs")],
)
def test_what_would_break_protection_is_refused(options, why):
    with pytest.raises(InvalidInput, match=why):
        prepare(card(INPAINT), edit(mask=MASK, **options).but(mode=INPAINT))


def test_a_mask_of_another_size_is_refused():
    other = Mask.box((0, 0, 4, 4), size=(16, 16))
    with pytest.raises(InvalidInput, match="16"):
        prepare(card(INPAINT), edit(mask=other).but(mode=INPAINT))


def test_a_mask_needs_a_picture_whose_size_is_known():
    unseen = edit(image="https://example.com/fox.png", mask=MASK)
    with pytest.raises(InvalidInput, match="fetch"):
        prepare(card(INPAINT), unseen.but(mode=INPAINT))


def test_expanding_with_an_inpainting_model_pads_and_protects_the_original():
    request, after, notices = prepare(card(INPAINT), edit(expand=(8, 0, 8, 0)).but(mode=INPAINT))
    assert request.image.size == (48, 24)
    assert request.expand is None
    assert after.mask.coverage == pytest.approx(16 / 48)
    assert [notice.option for notice in notices] == ["expand"]


def test_a_format_that_the_model_cannot_make_is_converted_here():
    only_png = card(INSTRUCT, options={"format": Option(choices=("png",))})
    request, after, notices = prepare(only_png, edit(format="webp").but(mode=INSTRUCT))
    assert request.format is None
    assert after.convert == "webp"
    assert [notice.option for notice in notices] == ["format"]
    with pytest.raises(UnsupportedOption, match="it makes png"):
        prepare(only_png, edit(format="svg").but(mode=INSTRUCT))
    assert prepare(only_png, edit(format="png").but(mode=INSTRUCT))[0].format == "png"


@pytest.mark.parametrize("name", ["negative_prompt", "quality"])
def test_an_option_that_a_known_card_does_not_name_is_refused(name):
    with pytest.raises(UnsupportedOption, match="it takes change, seed") as refusal:
        check(card(), Request.build("a fox", **{name: "x"}))
    assert refusal.value.option == name


def test_a_refusal_says_what_to_use_instead():
    told = card(options={"guidance": refused("use the quality option")})
    with pytest.raises(UnsupportedOption, match="use the quality option"):
        check(told, Request.build("a fox", guidance=3))


def test_values_are_checked_against_the_card():
    bounded = card(options={"steps": Option(low=1, high=4), "quality": Option(choices=("low",))})
    assert check(bounded, Request.build("a fox", steps=4, quality="low")) == ()
    for options in ({"steps": 5}, {"quality": "high"}):
        with pytest.raises(InvalidInput, match="takes"):
            check(bounded, Request.build("a fox", **options))


def test_a_translated_option_is_noticed():
    told = card(options={"guidance": Option("translated", note="halved")})
    (notice,) = check(told, Request.build("a fox", guidance=3))
    assert (notice.kind, notice.option) == ("translated", "guidance")
    assert "halved" in notice.message


def test_a_model_nobody_knows_takes_everything_with_a_notice():
    permissive = card(known=False, options={}, sizes=Sizes())
    notices = check(permissive, Request.build("a fox", guidance=3, steps=2))
    assert {notice.option for notice in notices} == {"guidance", "steps", "model"}
    assert {notice.kind for notice in notices} == {"unverified"}


def test_more_references_than_a_model_takes_are_refused():
    two = card(options={"references": Option()}, max_references=2)
    assert check(two, Request.build("a fox", references=[picture()] * 2)) == ()
    with pytest.raises(UnsupportedOption, match="at most 2"):
        check(two, Request.build("a fox", references=[picture()] * 3))


ENDS = Lifecycle(shutdown=date(2026, 12, 1), successor="test/next")


def test_a_retired_model_raises_with_date_and_successor():
    with pytest.raises(RetiredModel, match="2026-12-01; use test/next") as told:
        lifecycle(card(lifecycle=ENDS), date(2026, 12, 1))
    assert told.value.shutdown == date(2026, 12, 1)
    assert told.value.successor == "test/next"


@pytest.mark.parametrize(
    ("today", "told"), [(date(2026, 11, 30), 1), (date(2026, 10, 2), 1), (date(2026, 9, 1), 0)]
)
def test_a_model_that_soon_ends_is_noticed(today, told):
    assert len(lifecycle(card(lifecycle=ENDS), today)) == told
