"""Where plain diffusers is silently wrong: through diptych, the right result or a typed error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from diptych import Image, ImageClient, InvalidInput, Mask, Progress, UnsupportedOption

from .conftest import Checkpoints, Clients, picture

HALF = Mask.box((16, 16, 48, 48), size=(64, 64))

NATIVE = ("flux", "sd3", "qwen-image", "z-image")
IMG2IMG = (*NATIVE, "sd", "sdxl", "sdxl-refiner", "lcm", "chroma", "sana-sprint")
INPAINT = (
    *NATIVE,
    "flux-fill",
    "flux-kontext",
    "flux2-klein",
    "sd",
    "sd-inpaint",
    "sdxl",
    "sdxl-inpaint",
)


def wide() -> Image:
    return picture(80, 40)


# Sizes


@pytest.mark.parametrize("family", IMG2IMG)
def test_a_picture_is_not_stretched_to_the_default_size(family: str, client: Clients) -> None:
    result = client(family).edit(wide(), "a cat in the snow", mode="img2img", change=0.5, seed=1)
    assert result.image.size == (80, 40)
    width, height = result.raw["size"]
    assert 1.4 < width / height < 2.7  # 2, but for the padding to the grid


@pytest.mark.parametrize("family", INPAINT)
def test_an_inpainted_picture_keeps_its_size(family: str, client: Clients) -> None:
    mask = Mask.box((20, 10, 60, 30), size=(80, 40))
    result = client(family).edit(wide(), "a cat in the snow", mask=mask, seed=1)
    assert result.plan.mode == "inpaint"
    assert result.image.size == (80, 40)


@pytest.mark.parametrize("family", ["flux", "sd", "chroma"])
def test_a_size_that_would_distort_the_picture_is_refused(family: str, client: Clients) -> None:
    with pytest.raises(InvalidInput, match="proportions"):
        client(family).plan_edit(wide(), "a cat in the snow", mode="img2img", size="64x64")


@pytest.mark.parametrize("family", ["flux", "sd3", "flux-kontext", "sdxl", "sana", "chroma"])
@pytest.mark.parametrize("size", [(70, 75), (64, 8), (200, 100), (1, 1)])
def test_every_size_is_honoured(family: str, size: tuple[int, int], client: Clients) -> None:
    assert client(family).generate("a fox", size=size, seed=1).image.size == size


def test_kontext_draws_at_the_size_asked_for(client: Clients) -> None:
    kontext = client("flux-kontext")
    result = kontext.edit(picture(64, 64), "make it blue", size=(128, 32), seed=1)
    assert result.image.size == (128, 32)
    assert result.raw["size"] == [128, 32]
    assert kontext.edit(wide(), "make it blue", seed=1).image.size == (80, 40)


def test_a_size_beyond_the_position_table_is_refused(client: Clients) -> None:
    with pytest.raises(UnsupportedOption, match="256"):
        client("sd3").plan("a fox", size=(320, 64))


# Guidance and negative prompts


@pytest.mark.parametrize("family", ["flux", "flux-kontext"])
def test_a_negative_prompt_acts_on_a_distilled_model(family: str, client: Clients) -> None:
    flux = client(family)
    plain = flux.generate("a fox", seed=1)
    avoided = flux.generate("a fox", negative_prompt="blue", seed=1)
    assert avoided.image.bytes != plain.image.bytes
    assert any(each.option == "negative_prompt" for each in avoided.notices)


@pytest.mark.parametrize("family", ["flux", "flux-kontext"])
def test_true_guidance_without_a_negative_prompt_is_refused(family: str, client: Clients) -> None:
    with pytest.raises(UnsupportedOption, match="negative_prompt"):
        client(family).plan("a fox", extra={"true_cfg_scale": 4})
    with pytest.raises(UnsupportedOption, match="above 1"):
        client(family).plan("a fox", negative_prompt="blue", extra={"true_cfg_scale": 1})


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "qwen-image", "sana", "chroma"])
def test_a_negative_prompt_without_guidance_is_refused(family: str, client: Clients) -> None:
    with pytest.raises(UnsupportedOption, match="guidance is above 1"):
        client(family).plan("a fox", negative_prompt="blue", guidance=1)


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "qwen-image", "z-image", "sana", "chroma"])
def test_guidance_and_a_negative_prompt_change_the_picture(family: str, client: Clients) -> None:
    model = client(family)
    pictures = [
        model.generate("a fox", seed=1, **options).image.bytes
        for options in ({}, {"guidance": 9}, {"negative_prompt": "blue"})
    ]
    assert len(set(pictures)) == 3


@pytest.mark.parametrize("family", ["flux-schnell", "flux2-klein-distilled"])
def test_guidance_that_a_model_ignores_is_refused(family: str, client: Clients) -> None:
    with pytest.raises(UnsupportedOption, match="distilled"):
        client(family).plan("a fox", guidance=3.5)
    with pytest.raises(UnsupportedOption):
        client(family).plan("a fox", negative_prompt="blue")


@pytest.mark.parametrize("family", ["sd", "sd3"])
def test_guidance_that_would_act_like_none_is_refused(family: str, client: Clients) -> None:
    with pytest.raises(InvalidInput, match=r"guidance=0\.5 would do the same as 1"):
        client(family).plan("a fox", guidance=0.5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "3", -1])
def test_guidance_is_a_number(value: object, client: Clients) -> None:
    with pytest.raises(InvalidInput):
        client("flux").plan("a fox", guidance=value)


def test_several_negative_prompts_are_no_negative_prompt(client: Clients) -> None:
    with pytest.raises(InvalidInput):
        client("flux").plan("a fox", negative_prompt=["blue", "red"])


# Pictures and masks


@pytest.mark.parametrize("family", ["sd", "flux-kontext", "flux"])
def test_every_kind_of_picture_means_the_same(family: str, client: Clients) -> None:
    array = picture(64, 64).numpy()
    opaque = np.dstack([array, np.full((64, 64, 1), 255, np.uint8)])
    model = client(family)
    options = {"seed": 1} | ({} if family == "flux-kontext" else {"mode": "img2img", "change": 0.5})
    made = {
        model.edit(source, "a cat in the snow", **options).image.bytes
        for source in (array, array / 255.0, Pillow.fromarray(array), Pillow.fromarray(opaque))
    }
    assert len(made) == 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "P", "1"])
@pytest.mark.parametrize("family", ["flux", "sd"])
def test_pictures_of_other_modes_are_read(family: str, mode: str, client: Clients) -> None:
    source = picture(64, 64).pil().convert(mode)
    result = client(family).edit(source, "a cat", mode="img2img", change=0.5, seed=1)
    assert result.image.size == (64, 64)


def test_a_path_is_a_picture_and_noise_is_not(client: Clients, tmp_path: Path) -> None:
    photo = picture(64, 64)
    photo.save(tmp_path / "photo.png")
    flux = client("flux")
    by_path = flux.edit(str(tmp_path / "photo.png"), "a cat", mode="img2img", change=0.5, seed=1)
    by_value = flux.edit(photo, "a cat", mode="img2img", change=0.5, seed=1)
    assert by_path.image.bytes == by_value.image.bytes
    for wrong in (b"no picture", None, [photo, photo]):
        with pytest.raises(InvalidInput):
            flux.edit(wrong, "a cat", mode="img2img", change=0.5)


def test_transparency_means_nothing_as_a_mask_unless_it_is_said(client: Clients) -> None:
    alpha = np.full((64, 64, 4), 255, np.uint8)
    alpha[16:48, 16:48, 3] = 0
    sd, photo = client("sd"), picture(64, 64)
    with pytest.raises(InvalidInput, match="from_alpha"):
        sd.plan_edit(photo, "a cat", mask=Pillow.fromarray(alpha))
    said = sd.edit(photo, "a cat", mask=Mask.from_alpha(Pillow.fromarray(alpha)), seed=1)
    assert said.image.bytes == sd.edit(photo, "a cat", mask=HALF, seed=1).image.bytes


@pytest.mark.parametrize("family", INPAINT)
def test_what_the_mask_protects_stays(family: str, client: Clients) -> None:
    photo = picture(64, 64)
    edited = client(family).edit(photo, "a cat in the snow", mask=HALF, seed=1).image.numpy()
    outside = np.ones((64, 64), bool)
    outside[16:48, 16:48] = False
    assert np.array_equal(edited[outside], photo.numpy()[outside])
    assert not np.array_equal(edited[~outside], photo.numpy()[~outside])


@pytest.mark.parametrize("family", ["flux", "sd"])
def test_a_grey_mask_changes_in_part(family: str, client: Clients) -> None:
    photo, model = picture(64, 64), client(family)
    levels = np.zeros((64, 64), np.uint8)
    levels[16:48, 16:48] = 100
    before = photo.numpy().astype(int)
    change = {
        level: np.abs(
            model.edit(photo, "a cat", mask=Mask.from_array(mask), seed=1).image.numpy() - before
        ).sum()
        for level, mask in ((100, levels), (255, np.where(levels, 255, 0).astype(np.uint8)))
    }
    assert 0 < change[100] < change[255]


def test_an_empty_mask_is_refused(client: Clients) -> None:
    with pytest.raises(InvalidInput):
        client("sd").plan_edit(
            picture(64, 64), "a cat", mask=Mask.from_array(np.zeros((64, 64), np.uint8))
        )


# Seeds


@pytest.mark.parametrize("family", ["flux", "sd3", "z-image", "sd", "chroma", "flux-kontext"])
def test_a_picture_of_several_is_the_one_its_seed_gives(family: str, client: Clients) -> None:
    model = client(family)
    together = model.generate("a fox", n=3, seed=5)
    assert [each.seed for each in together.images] == [5, 6, 7]
    for image in together.images:
        assert model.generate("a fox", seed=image.seed).image.bytes == image.bytes
    assert len({each.bytes for each in together.images}) == 3


@pytest.mark.parametrize("family", ["flux", "sd3", "sd", "sdxl", "chroma", "flux-fill"])
def test_also_of_several_edits(family: str, client: Clients) -> None:
    model, photo = client(family), picture(64, 64)
    how = {"mask": HALF} if family in ("flux-fill", "sdxl") else {"mode": "img2img", "change": 0.5}
    together = model.edit(photo, "a cat in the snow", n=2, seed=5, **how)
    for image in together.images:
        alone = model.edit(photo, "a cat in the snow", seed=image.seed, **how)
        assert alone.image.bytes == image.bytes
    assert len({each.bytes for each in together.images}) == 2


@pytest.mark.parametrize("family", ["flux", "sd"])
def test_a_picture_without_a_seed_says_which_one_repeats_it(family: str, client: Clients) -> None:
    model = client(family)
    drawn = model.generate("a fox").image
    assert model.generate("a fox", seed=drawn.seed).image.bytes == drawn.bytes


# Steps and change


@pytest.mark.parametrize("family", ["flux", "sd3", "sdxl", "chroma", "lcm"])
@pytest.mark.parametrize("change", [0.07, 0.5, 1.0])
def test_the_steps_asked_for_are_run_whatever_the_change(
    family: str, change: float, client: Clients
) -> None:
    events = client(family).stream_edit(
        picture(64, 64), "a cat in the snow", mode="img2img", change=change, steps=4, seed=1
    )
    progress = [each for each in events if isinstance(each, Progress)]
    assert [each.done for each in progress] == [1, 2, 3, 4]
    assert {each.total for each in progress} == {4}


@pytest.mark.parametrize("family", ["flux", "sd3", "sd", "sdxl", "chroma"])
def test_no_change_is_no_change(family: str, client: Clients) -> None:
    photo = picture(64, 64)
    result = client(family).edit(photo, "a cat in the snow", mode="img2img", change=0)
    assert np.array_equal(result.image.numpy(), photo.numpy())


@pytest.mark.parametrize("value", [1.5, -0.1, "much"])
def test_change_is_from_0_to_1(value: object, client: Clients) -> None:
    with pytest.raises(InvalidInput):
        client("flux").plan_edit(picture(64, 64), "a cat", mode="img2img", change=value)


@pytest.mark.parametrize("value", [0, 2.5, 1001])
def test_steps_are_a_whole_number(value: object, client: Clients) -> None:
    with pytest.raises(InvalidInput):
        client("sd3").plan("a fox", steps=value)


# Words


@pytest.mark.parametrize("family", ["flux", "sd3", "sd", "sdxl", "chroma", "z-image"])
def test_words_that_are_cut_off_are_named(family: str, client: Clients) -> None:
    notices = client(family).generate("a fox " * 200 + "and a hedgehog", seed=1).notices
    cut = [each for each in notices if each.option == "prompt"]
    assert len(cut) == 1
    assert "hedgehog" in cut[0].message


@pytest.mark.parametrize("family", ["flux", "sd"])
def test_words_that_fit_are_not_noticed(family: str, client: Clients) -> None:
    assert client(family).generate("a fox in the snow", seed=1).notices == ()


# Arguments that only diffusers knows


@pytest.mark.parametrize(
    "extra",
    [
        {"output_type": "nope"},
        {"padding_mask_crop": 8},
        {"latents": 1},
        {"prompt_embeds": 1},
        {"custom_pipeline": "lpw_stable_diffusion"},
        {"trust_remote_code": True},
        {"max_sequence_length": "many"},
    ],
)
def test_other_arguments_do_not_reach_a_pipeline(extra: dict[str, object], client: Clients) -> None:
    for family in ("flux", "sd"):
        with pytest.raises(UnsupportedOption) as error:
            client(family).plan("a fox", extra=extra)
        assert error.value.option == "extra"


def test_a_number_type_is_kept_by_every_task(checkpoint: Checkpoints) -> None:
    """diffusers' `from_pipe` would turn shared bfloat16 weights into float32."""
    with ImageClient(f"diffusers/{checkpoint('sd')}", device="cpu", dtype="bfloat16") as sd:
        first = sd.generate("a fox", seed=1).image.bytes
        sd.edit(picture(64, 64), "a cat", mode="img2img", change=0.5, seed=1)
        sd.edit(picture(64, 64), "a cat", mask=HALF, seed=1)
        assert sd.generate("a fox", seed=1).image.bytes == first
    with ImageClient(f"diffusers/{checkpoint('sd')}", device="cpu") as sd:
        assert sd.generate("a fox", seed=1).image.bytes != first


def test_numbers_that_would_change_nothing_are_refused(client: Clients) -> None:
    sd, pix2pix = client("sd"), client("sd-pix2pix")
    for extra in ({"eta": 0.5}, {"eta": 0.5, "scheduler": "euler"}):
        with pytest.raises(UnsupportedOption, match="eta"):
            sd.plan("a fox", extra=extra)
    ddim = {"scheduler": "ddim"}
    made = [sd.generate("a fox", seed=1, extra=ddim | more).image for more in ({}, {"eta": 0.5})]
    assert made[0].bytes != made[1].bytes
    photo = picture(64, 64)
    for options in (
        {"extra": {"image_guidance_scale": 0.9}},
        {"extra": {"image_guidance_scale": 1.2}, "guidance": 1},
    ):
        with pytest.raises(UnsupportedOption, match="image_guidance_scale"):
            pix2pix.plan_edit(photo, "make it red", **options)
    edited = [
        pix2pix.edit(
            photo, "make it red", seed=1, extra={"image_guidance_scale": scale}
        ).image.bytes
        for scale in (1.2, 2)
    ]
    assert edited[0] != edited[1]
