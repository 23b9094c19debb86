"""Edits: what changes, what stays, and every way to hand a picture in.

With the pocket model where it matters what is painted, else with a tiny one of random weights.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pillow

from diptych import Image, ImageClient, InvalidInput, Mask, UnsupportedOption

from .conftest import Clients

pytest.importorskip("diptych_pocket")

FOX = "a fox reading a book on a red background"
RACCOON = "a raccoon reading a book on a red background"


@pytest.fixture(scope="module")
def pocket() -> Iterator[ImageClient]:
    with ImageClient("diffusers/pocket", device="cpu") as client:
        yield client


@pytest.fixture(scope="module")
def fox(pocket: ImageClient) -> Image:
    return pocket.generate(FOX, seed=7, steps=8).image


@pytest.fixture
def tiny(client: Clients) -> ImageClient:
    return client("flux-undistilled")


def apart(first: Image, second: Image) -> float:
    """Mean absolute difference, 0..255."""
    return float(np.abs(first.numpy().astype(int) - second.numpy().astype(int)).mean())


def same(first: Image, second: Image) -> npt.NDArray[np.bool_]:
    """Which pixels are equal in all channels."""
    return np.asarray((first.numpy()[..., :3] == second.numpy()[..., :3]).all(axis=-1))


# Image to image


def test_change_says_how_far_to_go(pocket: ImageClient, fox: Image) -> None:
    levels = (0.2, 0.6, 1.0)
    results = [
        pocket.edit(fox, RACCOON, mode="img2img", change=level, seed=3, steps=4) for level in levels
    ]
    distances = [apart(fox, result.image) for result in results]
    assert distances == sorted(distances)
    assert distances[0] < 8
    assert [result.raw["change"] for result in results] == list(levels)


def test_change_0_keeps_the_picture(pocket: ImageClient, fox: Image) -> None:
    for mode in ("img2img", "invert"):
        kept = pocket.edit(fox, RACCOON, mode=mode, change=0, source_prompt=FOX).image
        assert same(kept, fox).all()


def test_change_1_ignores_the_picture(pocket: ImageClient, fox: Image) -> None:
    edited = pocket.edit(fox, RACCOON, mode="img2img", change=1, seed=3, steps=4).image
    assert apart(edited, pocket.generate(RACCOON, seed=3, steps=4).image) < 1


@pytest.mark.parametrize("change", [0.3, 0.9])
def test_as_many_steps_are_run_as_were_asked_for(
    tiny: ImageClient, photo: Image, change: float
) -> None:
    events = list(
        tiny.stream_edit(photo, RACCOON, mode="img2img", change=change, steps=3, previews=0)
    )
    assert events[-2].total == 3


def test_several_edits_are_those_of_their_seeds(tiny: ImageClient, photo: Image) -> None:
    options = {"mode": "img2img", "change": 0.7, "steps": 2}
    several = tiny.edit(photo, RACCOON, seed=3, n=2, **options).images
    assert several[1].bytes == tiny.edit(photo, RACCOON, seed=4, **options).image.bytes


# Inpainting and outpainting


def test_only_the_masked_part_is_painted(pocket: ImageClient, fox: Image) -> None:
    mask = Mask.box((30, 0, 98, 56), size=(128, 128))
    result = pocket.edit(
        fox, "a fox wearing a crown on a red background", mask=mask, seed=3, steps=6
    )
    assert result.plan.mode == "inpaint"
    protected = mask.numpy() == 0
    assert same(result.image, fox)[protected].all()
    assert not same(result.image, fox)[~protected].all()
    # The model kept it too, but for what the autoencoder loses.
    assert result.outside_change.mean < 6


def test_a_soft_mask_blends(pocket: ImageClient, fox: Image) -> None:
    ramp = np.tile(np.linspace(0, 255, 128).astype(np.uint8), (128, 1))
    result = pocket.edit(fox, "a panda at night", mask=Mask.from_array(ramp), seed=3, steps=6)
    change = np.abs(result.image.numpy().astype(int) - fox.numpy()).mean(axis=(0, 2))
    assert change[0] == 0
    assert change[:20].mean() < change[54:74].mean() < change[-20:].mean()


def test_a_picture_grows_at_its_borders(pocket: ImageClient, fox: Image) -> None:
    result = pocket.edit(fox, FOX, expand=(16, 0, 24, 8), seed=3, steps=4)
    assert result.image.size == (168, 136)
    inner = Image.of(result.image.pil().crop((16, 0, 144, 128)))
    assert same(inner, fox).all()


# Editing between two descriptions


def test_a_conversation_edits_by_inversion(pocket: ImageClient) -> None:
    chat = pocket.conversation()
    first = chat.send(FOX, seed=7, steps=8).image
    result = chat.send("now make it a raccoon", seed=1, steps=8)
    assert result.plan.mode == "invert"
    assert result.plan.request.prompt == RACCOON
    told = [notice.message for notice in result.notices if notice.option == "preserve"]
    assert len(told) == 1
    assert "the original's" in told[0]
    kept = same(result.image, first)
    assert 0.3 < kept.mean() < 0.9
    assert kept[0].all()  # the top row is background
    assert not kept[40:80, 50:78].all()


def test_a_global_edit_is_not_put_back(pocket: ImageClient, fox: Image) -> None:
    result = pocket.edit(
        fox, "make it at night", source_prompt="a fox reading a book in a meadow", seed=1, steps=6
    )
    assert result.plan.mode == "invert"
    assert not any(notice.option == "preserve" for notice in result.notices)
    assert same(result.image, fox).mean() < 0.2


def test_the_models_own_edit_is_taken_when_the_caller_prefers_it(
    pocket: ImageClient, fox: Image
) -> None:
    options = {"source_prompt": FOX, "mode": "invert", "seed": 1, "steps": 6}
    exact = pocket.edit(fox, RACCOON, **options).image
    own = pocket.edit(fox, RACCOON, preserve="model", **options)
    assert not any(notice.option == "preserve" for notice in own.notices)
    assert same(own.image, fox).mean() < 0.2 < same(exact, fox).mean()
    changed = ~same(exact, fox)
    assert same(own.image, exact)[changed].mean() > 0.5  # the edit itself is the same one


def test_an_edit_to_the_same_description_keeps_the_picture(pocket: ImageClient, fox: Image) -> None:
    result = pocket.edit(fox, FOX, mode="invert", source_prompt=FOX, guidance=1.5, steps=3)
    assert same(result.image, fox).all()


def test_an_edit_comes_back_at_the_size_of_the_picture(pocket: ImageClient, fox: Image) -> None:
    large = Image.of(fox.pil().resize((250, 190)))
    result = pocket.edit(large, RACCOON, source_prompt=FOX, mode="invert", seed=1, steps=6)
    assert result.image.size == (250, 190)
    assert same(result.image, large)[0].all()


def test_inversion_needs_to_know_what_the_picture_shows(pocket: ImageClient, fox: Image) -> None:
    with pytest.raises((InvalidInput, UnsupportedOption), match="source_prompt"):
        pocket.plan_edit(fox, RACCOON, mode="invert")


# Pictures in


def encoded(picture: Pillow.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def test_every_kind_of_picture_is_read_alike(
    tiny: ImageClient, photo: Image, tmp_path: Path
) -> None:
    pil = photo.pil().convert("RGB")
    path = tmp_path / "photo.png"
    path.write_bytes(photo.bytes)
    turned = Pillow.Exif()
    turned[0x0112] = 6  # to be shown turned by 90 degrees
    sideways = encoded(pil.transpose(Pillow.Transpose.ROTATE_90), "png", exif=turned)
    kinds: dict[str, object] = {
        "path": path,
        "bytes": photo.bytes,
        "file": io.BytesIO(photo.bytes),
        "pil": pil,
        "uint8": np.asarray(pil),
        "float": np.asarray(pil) / 255.0,
        "data url": photo.data_url(),
        "rgba": pil.convert("RGBA"),
        "turned": sideways,
        "webp": encoded(pil, "webp", lossless=True),
    }
    edited = {
        name: tiny.edit(kind, RACCOON, mode="img2img", change=0.5, seed=3, steps=1).image.bytes
        for name, kind in kinds.items()
    }
    assert len(set(edited.values())) == 1, {name: hash(value) for name, value in edited.items()}


@pytest.mark.parametrize("mode", ["L", "P", "LA", "1"])
def test_pictures_in_other_modes_are_read(tiny: ImageClient, photo: Image, mode: str) -> None:
    picture = photo.pil().convert(mode)
    options = {"mode": "img2img", "change": 0.5, "seed": 3, "steps": 1}
    as_rgb = tiny.edit(picture.convert("RGB"), RACCOON, **options).image
    assert apart(tiny.edit(picture, RACCOON, **options).image, as_rgb) < 1
    assert apart(tiny.edit(photo, RACCOON, **options).image, as_rgb) > 0


def test_transparent_parts_lie_over_white(tiny: ImageClient, photo: Image) -> None:
    hole = photo.pil().convert("RGBA")
    hole.paste((255, 0, 0, 0), (0, 0, 32, 64))
    white = photo.pil().convert("RGB")
    white.paste((255, 255, 255), (0, 0, 32, 64))
    options = {"mode": "img2img", "change": 0.5, "seed": 3, "steps": 1}
    assert (
        tiny.edit(hole, RACCOON, **options).image.bytes
        == tiny.edit(white, RACCOON, **options).image.bytes
    )


@pytest.mark.parametrize("size", [(70, 75), (200, 100), (5, 90)])
def test_odd_sizes_come_back(tiny: ImageClient, photo: Image, size: tuple[int, int]) -> None:
    picture = photo.pil().resize(size)
    assert tiny.edit(picture, RACCOON, mode="img2img", change=0.5, steps=1).image.size == size
