"""Planning: which endpoint, which arguments, how many submits. Nothing is sent here."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import diptych
from diptych import Control, Expand, Image, ImageClient, LoRA, Mask, Plan, Reference
from diptych.errors import InvalidInput, UnsupportedOption


def planned(model: str, prompt: str = "a fox", **options: Any) -> Plan:
    return ImageClient(f"fal/{model}", api_key="k").plan(prompt, **options)


def edited(model: str, image: Image, prompt: str = "a fox in the snow", **options: Any) -> Plan:
    return ImageClient(f"fal/{model}", api_key="k").plan_edit(image, prompt, **options)


def sent(plan: Plan) -> dict[str, Any]:
    """The arguments of a plan's only submit."""
    (call,) = plan.calls
    return dict(call.payload)


def test_nothing_is_sent_that_the_caller_did_not_set() -> None:
    assert sent(planned("flux-pro/v1.1")) == {"prompt": "a fox"}
    assert sent(planned("some/endpoint-of-tomorrow")) == {"prompt": "a fox"}


def test_the_target_is_the_queue_of_the_endpoint() -> None:
    (call,) = planned("flux-pro/v1.1").calls
    assert (call.method, call.target) == ("POST", "https://queue.fal.run/fal-ai/flux-pro/v1.1")
    assert call.operation == "fal-ai/flux-pro/v1.1"


def test_options_go_to_the_inputs_of_the_endpoint() -> None:
    plan = planned(
        "stable-diffusion-v35-large",
        size="1024x768",
        seed=7,
        negative_prompt="blur",
        guidance=4.5,
        steps=20,
        format="png",
    )
    assert sent(plan) == {
        "prompt": "a fox",
        "image_size": {"width": 1024, "height": 768},
        "seed": 7,
        "negative_prompt": "blur",
        "guidance_scale": 4.5,
        "num_inference_steps": 20,
        "output_format": "png",
    }


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        ("flux-pro/v1.1-ultra", {"aspect": "21:9"}, {"aspect_ratio": "21:9"}),
        ("nano-banana-2", {"aspect": (8, 1), "size": "2K"}, {"aspect_ratio": "8:1", "resolution": "2K"}),
        ("nano-banana-2", {"size": "auto"}, {"aspect_ratio": "auto"}),
        ("xai/grok-imagine-image", {"size": "2K"}, {"resolution": "2k"}),
        ("gpt-image-1.5", {"size": "1536x1024"}, {"image_size": "1536x1024"}),
        ("openai/gpt-image-2", {"size": "auto"}, {"image_size": "auto"}),
        ("openai/gpt-image-2", {"size": (1280, 720)}, {"image_size": {"width": 1280, "height": 720}}),
        ("ideogram/v3", {"quality": "low"}, {"rendering_speed": "TURBO"}),
        ("gpt-image-1.5", {"quality": "low", "background": "transparent"},
         {"quality": "low", "background": "transparent"}),
    ],
)  # fmt: skip
def test_sizes_and_qualities_are_written_as_the_endpoint_reads_them(
    model: str, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert sent(planned(model, **options)) == {"prompt": "a fox"} | expected


@pytest.mark.parametrize(
    ("model", "options", "option"),
    [
        ("flux-pro/v1.1-ultra", {"size": "1024x768"}, "size"),
        ("gpt-image-1.5", {"size": "1000x1000"}, "size"),
        ("openai/gpt-image-2", {"size": "1001x1000"}, "size"),
        ("flux-2", {"size": "2048x256"}, "size"),
        ("flux-2", {"size": "1024x300"}, "size"),
        ("openai/gpt-image-2", {"seed": 1}, "seed"),
        ("flux-pro/v1.1", {"guidance": 3.0}, "guidance"),
        ("flux/dev", {"negative_prompt": "blur"}, "negative_prompt"),
        ("flux/dev", {"previews": 2}, "previews"),
        ("flux/dev", {"adapters": ["a/b"]}, "adapters"),
        ("flux-pro/v1.1", {"references": ["https://example.com/a.png"]}, "references"),
        ("recraft/v3/text-to-image", {"seed": 3}, "seed"),
    ],
)
def test_what_an_endpoint_cannot_do_is_refused(
    model: str, options: dict[str, Any], option: str
) -> None:
    with pytest.raises(UnsupportedOption) as caught:
        planned(model, **options)
    assert caught.value.option == option


def test_steps_of_schnell_have_a_documented_range() -> None:
    assert sent(planned("flux/schnell", steps=4))["num_inference_steps"] == 4
    with pytest.raises(InvalidInput, match="1 to 12"):
        planned("flux/schnell", steps=28)


# Several pictures


@given(n=st.integers(1, 64), seed=st.integers(0, 2**40))
@settings(max_examples=30, deadline=None)
def test_with_a_seed_every_picture_is_a_submit_of_its_own(n: int, seed: int) -> None:
    plan = planned("flux/dev", n=n, seed=seed)
    assert [call.payload["seed"] for call in plan.calls] == list(range(seed, seed + n))
    assert [call.seeds for call in plan.calls] == [(each,) for each in range(seed, seed + n)]
    assert all("num_images" not in call.payload for call in plan.calls)


@given(n=st.integers(1, 64))
@settings(max_examples=30, deadline=None)
def test_without_a_seed_pictures_share_submits_where_the_endpoint_has_num_images(n: int) -> None:
    shared, single = planned("flux/dev", n=n), planned("flux-2-pro", n=n)
    assert sum(call.payload.get("num_images", 1) for call in shared.calls) == n
    assert sum(call.images for call in shared.calls) == n
    assert len(shared.calls) <= -(-n // 4)
    assert len(single.calls) == n
    assert all("num_images" not in call.payload for call in single.calls)


def test_an_unknown_endpoint_makes_one_picture_per_submit() -> None:
    plan = planned("some/endpoint-of-tomorrow", n=3)
    assert [dict(call.payload) for call in plan.calls] == [{"prompt": "a fox"}] * 3


# Edits


def test_the_sibling_that_edits_is_planned_and_told(picture: Image) -> None:
    plan = edited("flux-pro/v1.1", picture, "make it blue")
    assert (plan.model, plan.mode) == ("fal/flux-pro/kontext", "instruct")
    assert sent(plan) == {"prompt": "make it blue", "image_url": picture}
    assert any("edits through fal/flux-pro/kontext" in str(notice) for notice in plan.notices)


def test_several_pictures_go_in_one_list_the_edited_one_first(picture: Image) -> None:
    other = "https://example.com/b.png"
    plan = edited("nano-banana-2", picture, "put the hat on", references=[other])
    assert sent(plan)["image_urls"] == [picture, Image.from_url(other)]


def test_an_editor_does_not_generate() -> None:
    with pytest.raises(UnsupportedOption, match="needs a picture"):
        planned("nano-banana-2/edit", "a room")


def test_too_many_pictures_are_refused(picture: Image) -> None:
    with pytest.raises(UnsupportedOption, match="at most"):
        edited("flux-2", picture, references=[picture] * 4)
    with pytest.raises(UnsupportedOption, match="at most 10 pictures"):
        edited("bytedance/seedream/v5/lite/text-to-image", picture, references=[picture] * 10)
    with pytest.raises(UnsupportedOption, match="no references"):
        planned("wan/v2.7/text-to-image", references=[picture])


@pytest.mark.parametrize(
    ("model", "change", "strength"),
    [
        ("flux-general", 0.3, 0.3),
        ("flux-lora", 1.0, 1.0),
        ("recraft/v3/text-to-image", 0.25, 0.25),
        ("ideogram/v4", 0.8, 0.8),
        ("ideogram/v3", 0.7, 0.3),
        ("ideogram/v3", 0.0, 1.0),
    ],
)
def test_change_has_one_meaning_whatever_strength_means(
    model: str, change: float, strength: float, picture: Image
) -> None:
    plan = edited(model, picture, mode="img2img", change=change)
    assert sent(plan)["strength"] == strength


def test_a_strength_of_unknown_direction_is_refused_and_extra_still_works(picture: Image) -> None:
    with pytest.raises(UnsupportedOption, match="flux-general/image-to-image"):
        edited("flux/dev/image-to-image", picture, change=0.5)
    plan = edited("flux/dev/image-to-image", picture, extra={"strength": 0.9})
    assert sent(plan)["strength"] == 0.9
    assert sent(edited("flux/dev/image-to-image", picture)).keys() == {"prompt", "image_url"}


def test_flux_dev_changes_pictures_where_the_direction_is_documented(picture: Image) -> None:
    plan = edited("flux/dev", picture, mode="img2img", change=0.5)
    assert plan.model == "fal/flux-general/image-to-image"


@pytest.mark.parametrize("model", ["flux-pro/v1.1", "flux-general", "flux-lora", "flux/schnell"])
def test_a_mask_is_white_where_flux_repaints(model: str, picture: Image) -> None:
    mask = Mask.box((0, 0, 16, 48), size=(64, 48))
    drawn = sent(edited(model, picture, mask=mask))["mask_url"].numpy()
    assert drawn[:, :16].min() == 255
    assert drawn[:, 16:].max() == 0


@pytest.mark.parametrize("model", ["ideogram/v3/edit", "qwen-image-edit/inpaint"])
def test_a_mask_of_unknown_polarity_is_refused_with_the_reason(model: str, picture: Image) -> None:
    with pytest.raises(UnsupportedOption, match="document") as caught:
        edited(model, picture, mask=Mask.box((0, 0, 16, 48), size=(64, 48)))
    assert caught.value.option == "mask"
    own = edited(model, picture, mode="inpaint", extra={"mask_url": picture})
    assert sent(own)["mask_url"] == picture


def test_gpt_image_gets_no_mask_and_the_original_is_put_back(picture: Image) -> None:
    plan = edited("openai/gpt-image-2", picture, "red", mask=Mask.box((0, 0, 9, 9), size=(64, 48)))
    assert plan.mode == "instruct"
    assert sent(plan).keys() == {"prompt", "image_urls"}
    assert any(notice.option == "mask" for notice in plan.notices)


def test_borders_are_pixels_per_side_and_the_unsent_prompt_is_told(picture: Image) -> None:
    plan = edited("flux-2-pro", picture, expand=Expand(left=32, bottom=8))
    assert plan.model == "fal/flux-2-pro/outpaint"
    assert sent(plan) == {"image_url": picture, "expand_left": 32, "expand_bottom": 8}
    assert any(notice.option == "prompt" for notice in plan.notices)


def test_outpainting_needs_to_know_how_far(picture: Image) -> None:
    with pytest.raises(InvalidInput, match="expand"):
        edited("flux-2-pro/outpaint", picture, mode="outpaint")
    with pytest.raises(InvalidInput, match="size"):
        edited("ideogram/v3/reframe", picture, mode="outpaint")
    with pytest.raises(UnsupportedOption, match="places the picture"):
        edited("ideogram/v3/reframe", picture, expand=8)
    plan = edited("ideogram/v3/reframe", picture, mode="outpaint", size="1536x512")
    assert sent(plan) == {"image_url": picture, "image_size": {"width": 1536, "height": 512}}


def test_a_picture_is_sent_upright(picture: Image) -> None:
    exif = picture.pil().getexif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    turned = _with_exif(picture, exif)
    assert turned.size == (48, 64)
    upright = sent(edited("flux-pro/kontext", turned, "make it blue"))["image_url"]
    assert upright.size == (48, 64)
    assert upright.orientation == 1


def _with_exif(picture: Image, exif: Any) -> Image:
    import io

    out = io.BytesIO()
    picture.pil().save(out, "jpeg", exif=exif)
    return Image.of(out.getvalue())


# Conditioning


def test_loras_have_a_path_and_a_scale() -> None:
    adapters = [LoRA("someone/style", 0.8), "https://example.com/w.safetensors"]
    assert sent(planned("flux-lora", adapters=adapters))["loras"] == [
        {"path": "someone/style", "scale": 0.8},
        {"path": "https://example.com/w.safetensors", "scale": 1.0},
    ]


@pytest.mark.parametrize(
    "path", ["/home/me/w.safetensors", "./w.safetensors", "~/w", "http://a.b/c"]
)
def test_a_lora_on_this_machine_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match="https URL"):
        planned("flux-lora", adapters=[path])


def test_controls_go_to_the_list_for_their_kind(picture: Image) -> None:
    controls = [
        Control("canny", picture, strength=0.7),
        Control("depth", picture, path="someone/depth", start=0.1, end=0.8),
        Control("low_quality", picture, path="someone/union"),
    ]
    payload = sent(planned("flux-general", controls=controls))
    assert payload["easycontrols"] == [
        {
            "control_method_url": "canny",
            "image_control_type": "spatial",
            "image_url": picture,
            "scale": 0.7,
        }
    ]
    assert payload["controlnets"] == [
        {
            "path": "someone/depth",
            "control_image_url": picture,
            "conditioning_scale": 1.0,
            "start_percentage": 0.1,
            "end_percentage": 0.8,
        }
    ]
    (union,) = payload["controlnet_unions"]
    assert union["path"] == "someone/union"
    assert union["controls"][0]["control_mode"] == "low-quality"


@pytest.mark.parametrize(
    ("model", "controls"),
    [
        ("flux-general", [{"kind": "tile"}]),
        ("flux-general", [{"kind": "canny", "end": 0.5}]),
        ("stable-diffusion-v35-large", [{"kind": "canny"}]),
        ("stable-diffusion-v35-large", [{"kind": "canny", "path": "a/b"}] * 2),
        ("some/endpoint-of-tomorrow", [{"kind": "canny", "path": "a/b"}]),
    ],
)
def test_a_control_that_cannot_be_placed_is_refused(
    model: str, controls: list[dict[str, Any]], picture: Image
) -> None:
    with pytest.raises(UnsupportedOption) as caught:
        planned(model, controls=[Control(image=picture, **each) for each in controls])
    assert caught.value.option == "controls"


def test_stable_diffusion_takes_one_controlnet(picture: Image) -> None:
    payload = sent(
        planned("stable-diffusion-v35-large", controls=[Control("canny", picture, path="a/b")])
    )
    assert payload["controlnet"]["path"] == "a/b"


def test_a_reference_has_its_weight_where_the_endpoint_has_one(picture: Image) -> None:
    weighted = [Reference(picture, weight=0.4)]
    ultra = sent(planned("flux-pro/v1.1-ultra", references=weighted))
    assert (ultra["image_url"], ultra["image_prompt_strength"]) == (picture, 0.4)
    general = sent(planned("flux-general", references=weighted))
    assert (general["reference_image_url"], general["reference_strength"]) == (picture, 0.4)
    with pytest.raises(UnsupportedOption, match="weight"):
        edited("flux-2", picture, references=weighted)
    with pytest.raises(UnsupportedOption, match="weight"):
        planned("ideogram/v3", references=weighted)


def test_an_ip_adapter_needs_paths_that_only_the_caller_knows(picture: Image) -> None:
    paths = {"path": "a/ip", "image_encoder_path": "a/clip"}
    plan = planned(
        "flux-general", references=[Reference(picture, weight=0.4)], extra={"ip_adapters": [paths]}
    )
    assert sent(plan)["ip_adapters"] == [{**paths, "image_url": picture, "scale": 0.4}]
    with pytest.raises(InvalidInput, match="scale"):
        planned("flux-general", references=[picture], extra={"ip_adapters": [paths]})
    with pytest.raises(InvalidInput, match="image_encoder_path"):
        planned(
            "flux-general",
            references=[Reference(picture, weight=0.4)],
            extra={"ip_adapters": [{"path": "a/ip"}]},
        )


# extra


def test_known_extras_pass_and_others_are_noticed() -> None:
    quiet = planned("flux-pro/v1.1", extra={"safety_tolerance": "2", "sync_mode": True})
    assert sent(quiet) == {"prompt": "a fox", "safety_tolerance": "2", "sync_mode": True}
    assert not quiet.notices
    (notice,) = planned("flux-pro/v1.1", extra={"frobnicate": 1}).notices
    assert (notice.kind, notice.option) == ("unverified", "extra")
    assert "frobnicate" in notice.message


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        ({}, {"prompt": "a cat"}),
        ({"size": "512x512"}, {"image_size": "square"}),
        ({"n": 2}, {"num_images": 3}),
        ({"seed": 2}, {"seed": 3}),
        ({"seed": 2}, {"num_images": 2}),
        ({"steps": 2}, {"num_inference_steps": 2}),
    ],
)
def test_an_extra_may_not_contradict_an_option(
    options: dict[str, Any], extra: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput, match="only once"):
        planned("flux/dev", extra=extra, **options)


@pytest.mark.parametrize("value", [object(), float("nan"), {1: 2}, b"bytes", [{"a": object()}]])
def test_an_extra_that_json_cannot_say_is_refused_before_anything_is_sent(value: object) -> None:
    with pytest.raises(InvalidInput, match="JSON"):
        planned("flux/dev", extra={"acceleration": value})


def test_an_unknown_endpoint_is_permissive_and_says_so(picture: Image) -> None:
    plan = planned("some/endpoint-of-tomorrow", seed=3, steps=9, size="640x480")
    assert sent(plan) == {
        "prompt": "a fox",
        "num_inference_steps": 9,
        "image_size": {"width": 640, "height": 480},
        "seed": 3,
    }
    assert {notice.option for notice in plan.notices if notice.kind == "unverified"} >= {
        "model",
        "seed",
        "steps",
    }
    assert sent(edited("some/endpoint-of-tomorrow", picture, "blue"))["image_url"] == picture
    with pytest.raises(UnsupportedOption, match="strength"):
        edited("some/endpoint-of-tomorrow", picture, change=0.5)
    with pytest.raises(UnsupportedOption, match="instruct"):
        edited("some/endpoint-of-tomorrow", picture, mode="inpaint")


# Money


@pytest.mark.parametrize(
    ("model", "options", "low", "high"),
    [
        ("flux-pro/v1.1", {}, "0.04", "0.04"),
        ("flux-pro/v1.1", {"n": 3}, "0.12", "0.12"),
        ("flux-pro/v1.1", {"n": 3, "seed": 1}, "0.12", "0.12"),
        ("flux/dev", {}, "0.025", "0.025"),
        ("flux/dev", {"size": "1280x1024"}, "0.05", "0.05"),
        ("nano-banana-2", {"size": "4K"}, "0.16", "0.16"),
        ("openai/gpt-image-2", {"quality": "low"}, "0.005", "0.012"),
        ("ideogram/v3", {}, "0.06", "0.06"),
    ],
)
def test_the_estimate_follows_the_price_list(
    model: str, options: dict[str, Any], low: str, high: str
) -> None:
    estimate = planned(model, **options).estimate
    assert (estimate.low, estimate.high) == (Decimal(low), Decimal(high))
    assert "litellm" in estimate.source


@pytest.mark.parametrize(
    ("model", "options"),
    [("flux-2", {}), ("ideogram/v3", {"quality": "high"}), ("some/endpoint-of-tomorrow", {})],
)
def test_an_unknown_price_is_unknown_and_not_zero(model: str, options: dict[str, Any]) -> None:
    estimate = planned(model, **options).estimate
    assert (estimate.low, estimate.high) == (None, None)


def test_endpoints_that_need_extra_are_described_but_not_listed() -> None:
    listed = {card.ref for card in diptych.models("fal")}
    assert {"fal/flux-general/inpainting", "fal/flux-2-pro/outpaint"} <= listed
    for name in ("ideogram/v3/edit", "qwen-image-edit/inpaint", "ideogram/v3/reframe"):
        assert f"fal/{name}" not in listed
        assert diptych.describe(f"fal/{name}").known
