"""Requests to the Images API: what is sent, translated and refused, before anything is spent."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import PIL.Image
import pytest

from diptych.conditioning import Control, LoRA, Reference
from diptych.errors import InvalidInput, UnsupportedOption
from diptych.image import Image
from diptych.mask import Mask

NEW, TWO, OLD = "gpt-image-2.5-sunburst", "gpt-image-2", "gpt-image-1.5"


@pytest.fixture
def plan(bench: Callable[..., Any]) -> Callable[..., Any]:
    made: Callable[..., Any] = bench().plan
    return made


def test_a_bare_prompt_sends_nothing_that_was_not_set(plan: Callable[..., Any]) -> None:
    (call,) = plan(NEW).calls
    assert call.target == "https://api.openai.com/v1/images/generations"
    assert call.payload == {"model": NEW, "prompt": "a fox"}


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"size": "1536x864"}, {"size": "1536x864"}),
        ({"size": "auto"}, {"size": "auto"}),
        ({"aspect": "1:1"}, {"size": "1024x1024"}),
        ({"quality": "max"}, {"quality": "max"}),
        ({"background": "opaque"}, {"background": "opaque"}),
        ({"format": "webp"}, {"output_format": "webp"}),
        ({"n": 3}, {"n": 3}),
        ({"previews": 2}, {"stream": True, "partial_images": 2}),
        ({"previews": 0}, {"stream": True, "partial_images": 0}),
        ({"extra": {"moderation": "low"}}, {"moderation": "low"}),
        ({"extra": {"complexity": "high"}}, {"complexity": "high"}),
        ({"extra": {"safety_identifier": "u-1"}}, {"safety_identifier": "u-1"}),
        ({"extra": {"user": "u-1"}}, {"user": "u-1"}),
    ],
)
def test_each_option_reaches_the_wire(
    plan: Callable[..., Any], options: dict[str, Any], sent: dict[str, Any]
) -> None:
    (call,) = plan(NEW, **options).calls
    assert call.payload == {"model": NEW, "prompt": "a fox", **sent}


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"output_compression": 40}, {"output_format": "jpeg", "output_compression": 40}),
        ({"frame_count": 4}, {"output_format": "gif", "frame_count": 4}),
        ({"frame_duration_ms": 120}, {"output_format": "gif", "frame_duration_ms": 120}),
        ({"svg": {"model": "gpt-5.4"}}, {"output_format": "svg", "svg": {"model": "gpt-5.4"}}),
    ],
)
def test_extras_that_belong_to_a_format(
    plan: Callable[..., Any], options: dict[str, Any], sent: dict[str, Any]
) -> None:
    (call,) = plan(NEW, format=sent["output_format"], extra=options).calls
    assert call.payload == {"model": NEW, "prompt": "a fox", **sent}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("seed", 3),
        ("negative_prompt", "fog"),
        ("guidance", 4.0),
        ("steps", 20),
        ("adapters", [LoRA("a/b")]),
        ("controls", [Control("canny", PIL.Image.new("RGB", (8, 8)))]),
    ],
)
def test_what_the_service_does_not_have_is_refused_with_a_way_out(
    plan: Callable[..., Any], option: str, value: Any
) -> None:
    with pytest.raises(UnsupportedOption) as caught:
        plan(NEW, **{option: value})
    assert caught.value.option == option
    assert ":" in str(caught.value)  # the reason follows


def test_change_is_refused_for_an_edit(
    plan: Callable[..., Any], picture: Callable[..., Image]
) -> None:
    with pytest.raises(UnsupportedOption, match="strength"):
        plan(NEW, image=picture(), change=0.5)


@pytest.mark.parametrize(
    ("model", "options", "match"),
    [
        (OLD, {"quality": "xhigh"}, "quality"),
        (TWO, {"quality": "max"}, "quality"),
        (NEW, {"quality": "hd"}, "quality"),
        (NEW, {"previews": 4}, "previews"),
        (NEW, {"background": "transparent", "format": "jpeg"}, "transparent"),
        (NEW, {"format": "gif", "previews": 1}, "previews"),
        (NEW, {"format": "svg", "previews": 1}, "previews"),
        (NEW, {"extra": {"output_compression": 40}}, "jpeg"),
        (NEW, {"extra": {"output_compression": 101}, "format": "jpeg"}, "0 to 100"),
        (NEW, {"extra": {"moderation": "none"}}, "'auto', 'low'"),
        (NEW, {"extra": {"complexity": "huge"}}, "'low', 'medium', 'high'"),
        (NEW, {"extra": {"frame_count": 17}, "format": "gif"}, "2 to 16"),
        (NEW, {"extra": {"frame_count": 4}}, "gif"),
        (NEW, {"extra": {"svg": {"model": "m"}}}, "svg"),
        (NEW, {"extra": {"safety_identifier": "x" * 129}}, "128"),
        (NEW, {"quality": "low", "extra": {"quality": "high"}}, "one of them"),
        (NEW, {"format": "png", "extra": {"output_format": "webp"}}, "one of them"),
        (NEW, {"extra": {"n": 2}}, "n="),
        (NEW, {"extra": {"prompt": "another"}}, "prompt"),
        (NEW, {"extra": {"partial_images": 2}}, "previews="),
        (NEW, {"prompt": "x" * 32_001}, "32,000"),
    ],
)
def test_what_the_service_would_refuse_is_refused_here(
    plan: Callable[..., Any], model: str, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(InvalidInput, match=match):
        plan(model, **options)


@pytest.mark.parametrize("model", [OLD, TWO])
@pytest.mark.parametrize("kind", ["gif", "svg"])
def test_formats_of_the_newer_models_are_refused_by_older_ones(
    plan: Callable[..., Any], model: str, kind: str
) -> None:
    with pytest.raises(UnsupportedOption) as caught:
        plan(model, format=kind)
    assert caught.value.option == "format"


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (OLD, "1024x768"),
        (TWO, "1000x1000"),
        (TWO, "3072x1008"),
        (TWO, "3840x2176"),
        (TWO, "512x512"),
    ],
)
def test_sizes_that_the_model_cannot_make(plan: Callable[..., Any], model: str, size: str) -> None:
    with pytest.raises(UnsupportedOption) as caught:
        plan(model, size=size)
    assert caught.value.option == "size"


@pytest.mark.parametrize("name", ["response_format", "style"])
def test_parameters_of_retired_models_are_refused(plan: Callable[..., Any], name: str) -> None:
    with pytest.raises(UnsupportedOption, match=name):
        plan(NEW, extra={name: "url"})


def test_an_extra_that_nobody_knows_is_sent_and_noticed(plan: Callable[..., Any]) -> None:
    made = plan(NEW, extra={"watermark": False})
    assert made.calls[0].payload["watermark"] is False
    assert [each.option for each in made.notices if each.kind == "unverified"] == ["extra"]


def test_many_pictures_are_split_into_calls_of_ten(plan: Callable[..., Any]) -> None:
    calls = plan(NEW, n=23).calls
    assert [call.payload.get("n") for call in calls] == [10, 10, 3]
    assert [call.images for call in calls] == [10, 10, 3]


@pytest.mark.parametrize("options", [{"previews": 1}, {"format": "svg"}])
def test_pictures_that_cannot_share_a_call_do_not(
    plan: Callable[..., Any], options: dict[str, Any]
) -> None:
    calls = plan(NEW, n=3, **options).calls
    assert [(call.images, "n" in call.payload) for call in calls] == [(1, False)] * 3


# Edits


def test_an_edit_sends_the_picture_as_it_is(
    plan: Callable[..., Any], picture: Callable[..., Image]
) -> None:
    source = picture()
    (call,) = plan(NEW, "make it red", image=source).calls
    assert call.target.endswith("/v1/images/edits")
    assert call.payload == {"model": NEW, "prompt": "make it red", "image": source}


def test_the_mask_is_transparent_where_it_was_white(
    plan: Callable[..., Any], picture: Callable[..., Image]
) -> None:
    mask = Mask.box((0, 0, 32, 48), size=(64, 48))
    (call,) = plan(NEW, "a hat", image=picture(), mask=mask).calls
    sent = PIL.Image.open(io.BytesIO(call.payload["mask"].bytes))
    assert (sent.format, sent.mode, sent.size) == ("PNG", "RGBA", (64, 48))
    alpha = sent.getchannel("A")
    assert (alpha.getpixel((10, 10)), alpha.getpixel((50, 10))) == (0, 255)


def test_a_mask_of_a_photograph_stays_under_the_limit(plan: Callable[..., Any]) -> None:
    # Its colours would not fit in 4 MB; only its alpha counts.
    noise = PIL.Image.effect_noise((2048, 1536), 200).convert("RGB")
    mask = Mask.box((0, 0, 100, 100), size=(2048, 1536))
    (call,) = plan(NEW, "a hat", image=noise, mask=mask).calls
    assert len(call.payload["mask"].bytes) < 100_000


def test_a_mask_that_is_too_heavy_is_refused_with_advice(plan: Callable[..., Any]) -> None:
    noise = PIL.Image.effect_noise((2880, 2880), 200)
    with pytest.raises(InvalidInput, match="hard edges"):
        plan(NEW, "a hat", image=PIL.Image.new("RGB", (2880, 2880)), mask=noise)


def test_references_follow_the_picture(
    plan: Callable[..., Any], picture: Callable[..., Image]
) -> None:
    source, first, second = picture((64, 48)), picture((32, 32)), picture((16, 16))
    (call,) = plan(NEW, "as in these", image=source, references=[first, second]).calls
    assert call.payload["image"] == [source, first, second]


def test_references_alone_go_to_the_edit_endpoint_and_that_is_noticed(
    plan: Callable[..., Any], picture: Callable[..., Image]
) -> None:
    made = plan(NEW, references=[picture()])
    assert made.calls[0].target.endswith("/images/edits")
    assert any(each.option == "references" for each in made.notices)


def test_sixteen_pictures_in_all(plan: Callable[..., Any], picture: Callable[..., Image]) -> None:
    several = [picture((16, 16 + index)) for index in range(16)]
    assert len(plan(NEW, references=several).calls[0].payload["image"]) == 16
    with pytest.raises(UnsupportedOption, match="16 pictures in all"):
        plan(NEW, image=picture(), references=several)


def test_the_weight_of_a_reference_is_refused(
    plan: Callable[..., Any], picture: Callable[..., Image]
) -> None:
    with pytest.raises(UnsupportedOption, match="weight"):
        plan(NEW, references=[Reference(picture(), weight=0.5)])


@pytest.mark.parametrize(
    ("kind", "orientation", "sent", "size"),
    [("gif", None, "png", (64, 48)), ("bmp", None, "png", (64, 48)), ("jpeg", 6, "jpeg", (48, 64))],
)
def test_pictures_that_the_service_would_misread_are_converted_and_noticed(
    plan: Callable[..., Any],
    picture: Callable[..., Image],
    kind: str,
    orientation: int | None,
    sent: str,
    size: tuple[int, int],
) -> None:
    made = plan(NEW, "make it red", image=picture(kind=kind, orientation=orientation))
    image = made.calls[0].payload["image"]
    assert (image.format, image.size, image.orientation) == (sent, size, 1)
    assert any(each.kind == "translated" and each.option == "image" for each in made.notices)


def test_expand_becomes_a_padded_picture_and_a_mask(
    plan: Callable[..., Any], picture: Callable[..., Image]
) -> None:
    (call,) = plan(NEW, "more sky", image=picture(), expand=(0, 16, 0, 0)).calls
    assert call.payload["image"].size == call.payload["mask"].size == (64, 64)


def test_moderation_of_an_edit_takes_the_json_form(
    plan: Callable[..., Any], picture: Callable[..., Image]
) -> None:
    source, mask = picture(), Mask.box((0, 0, 8, 8), size=(64, 48))
    (call,) = plan(NEW, "a hat", image=source, mask=mask, extra={"moderation": "low"}).calls
    assert call.payload["images"] == [{"image_url": source}]
    assert set(call.payload["mask"]) == {"image_url"}
    assert call.payload["moderation"] == "low"
    assert "image" not in call.payload


@pytest.mark.parametrize(
    ("model", "value", "fits"),
    [
        (OLD, "high", True),
        (OLD, "low", True),
        ("gpt-image-1-mini", "low", True),
        ("gpt-image-1-mini", "high", False),
        (TWO, "low", False),
        (NEW, "low", False),
    ],
)
def test_input_fidelity_by_model(
    plan: Callable[..., Any], picture: Callable[..., Image], model: str, value: str, fits: bool
) -> None:
    options = {"image": picture(), "extra": {"input_fidelity": value}}
    if fits:
        assert plan(model, "make it red", **options).calls[0].payload["input_fidelity"] == value
    else:
        with pytest.raises((UnsupportedOption, InvalidInput), match="input_fidelity"):
            plan(model, "make it red", **options)


def test_input_fidelity_needs_a_picture(plan: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedOption, match="generating"):
        plan(OLD, extra={"input_fidelity": "low"})


def test_markup_is_an_overlay_of_the_same_size(
    plan: Callable[..., Any], picture: Callable[..., Image]
) -> None:
    overlay = PIL.Image.new("RGBA", (64, 48), (255, 0, 0, 0))
    (call,) = plan(NEW, "here", image=picture(), extra={"markup": overlay}).calls
    assert call.payload["markup"].size == (64, 48)
    small = PIL.Image.new("RGBA", (8, 8))
    with pytest.raises(InvalidInput, match="8x8"):
        plan(NEW, "here", image=picture(), extra={"markup": small})
    with pytest.raises(InvalidInput, match="mask"):
        plan(NEW, "here", image=picture(), mask=Mask.box((0, 0, 8, 8), size=(64, 48)),
             extra={"markup": overlay})  # fmt: skip
    with pytest.raises(UnsupportedOption, match=r"2\.5"):
        plan(TWO, "here", image=picture(), extra={"markup": overlay})


# Azure


def test_azure_targets_name_the_deployment(bench: Callable[..., Any]) -> None:
    azure = {
        "azure_endpoint": "https://r.openai.azure.com",
        "azure_deployment": "painter",
        "api_version": "2025-04-01-preview",
    }
    made = bench(**azure)
    images = "https://r.openai.azure.com/openai/deployments/painter/images/generations"
    assert made.plan(TWO).calls[0].target == f"{images}?api-version=2025-04-01-preview"
    turn = made.plan(TWO, state={}).calls[0]
    assert (
        turn.target == "https://r.openai.azure.com/openai/responses?api-version=2025-04-01-preview"
    )


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"azure_endpoint": "https://r.openai.azure.com"}, "api_version"),
        ({"api_version": "v"}, "azure_endpoint"),
        ({"azure_endpoint": "https://r.example.com", "api_version": "v"}, "https address under"),
        ({"azure_endpoint": "http://r.openai.azure.com", "api_version": "v"}, "https address"),
        ({"base_url": "https://g", "api_version": "v", "azure_deployment": "d"}, "azure_endpoint"),
        ({"default_headers": "x"}, "default_headers"),
        ({"store": "no"}, "store"),
        ({"continue_by": "memory"}, "continue_by"),
        ({"continue_by": "response", "store": False}, "bytes"),
        ({"chat_model": " "}, "chat_model"),
    ],
)
def test_settings_that_make_no_sense(
    bench: Callable[..., Any], settings: dict[str, Any], match: str
) -> None:
    with pytest.raises(InvalidInput, match=match):
        bench(**settings)
