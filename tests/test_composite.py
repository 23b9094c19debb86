from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageCms

from diptych.composite import composite, pad
from diptych.errors import InvalidInput
from diptych.image import Image
from diptych.mask import Mask

Array = npt.NDArray[np.uint8]


def encoded(picture: PIL.Image.Image, kind: str = "png", **options: Any) -> bytes:
    target = io.BytesIO()
    picture.save(target, kind.upper(), **options)
    return target.getvalue()


def noise(height: int, width: int, channels: int, seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def with_alpha(pixels: Array) -> Array:
    """RGBA, with alpha 255 where there was none."""
    if pixels.shape[2] == 4:
        return pixels
    return np.concatenate([pixels, np.full_like(pixels[:, :, :1], 255)], axis=2)


def soft(height: int, width: int, seed: int) -> Array:
    """A mask with black, white and soft parts."""
    plane = noise(height, width, 1, seed)[:, :, 0]
    plane[plane < 90] = 0
    plane[plane > 160] = 255
    plane[0, 0] = 255
    return plane


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 24),
    st.integers(1, 24),
    st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"]),
    st.sampled_from([3, 4]),
    st.integers(1, 8),
    st.integers(0, 2**31),
    st.sampled_from(["png", "webp"]),
)
def test_every_protected_pixel_stays_bit_for_bit(
    height: int, width: int, mode: str, channels: int, turn: int, seed: int, kind: str
) -> None:
    source = PIL.Image.fromarray(noise(height, width, 4, seed))
    if mode == "I;16":
        deep = noise(height, width, 2, seed).view(np.uint16)[:, :, 0]
        source = PIL.Image.fromarray(deep)
    elif mode != "RGBA":
        source = source.convert("RGB").convert(mode)
    exif = PIL.Image.Exif()
    exif[274] = turn
    original = Image.of(encoded(source, "tiff" if mode == "CMYK" else "png", exif=exif))
    edited = Image.of(noise(original.height, original.width, channels, seed + 1))
    plane = soft(original.height, original.width, seed + 2)

    done = composite(original, edited, Mask.from_array(plane), format=kind)

    assert done.image.format == kind
    assert done.image.size == original.size
    assert done.resized_from is None
    result, before, after = done.image.numpy(), original.numpy(), edited.numpy()
    if kind == "png":  # a WebP does not store an alpha channel that is opaque everywhere
        assert result.shape[2] == max(before.shape[2], after.shape[2])
    result, before, after = with_alpha(result), with_alpha(before), with_alpha(after)
    assert np.array_equal(result[plane == 0], before[plane == 0])
    assert np.array_equal(result[plane == 255], after[plane == 255])
    weight = plane[:, :, None] / 255
    blend = before * (1 - weight) + after * weight
    assert np.abs(result - blend).max() <= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 16), st.integers(2, 16), st.integers(0, 2**31))
def test_the_change_outside_is_measured(height: int, width: int, seed: int) -> None:
    before, after = noise(height, width, 3, seed), noise(height, width, 3, seed + 1)
    plane = soft(height, width, seed + 2)
    done = composite(Image.of(before), Image.of(after), Mask.from_array(plane))
    apart = np.abs(before.astype(int) - after)[plane == 0]
    assert done.outside_max == (apart.max() if apart.size else 0)
    assert done.outside_mean == pytest.approx(apart.mean() if apart.size else 0)


def test_an_edit_that_kept_its_promise_changed_nothing_outside() -> None:
    before = noise(8, 8, 3, 0)
    after = before.copy()
    after[2:4, 2:4] = 0
    mask = Mask.box((2, 2, 4, 4), size=(8, 8))
    done = composite(Image.of(before), Image.of(after), mask)
    assert (done.outside_mean, done.outside_max) == (0, 0)
    assert np.array_equal(done.image.numpy(), after)


def test_the_colour_of_what_is_invisible_is_no_change() -> None:
    before = np.zeros((4, 4, 4), np.uint8)
    after = before.copy()
    after[:, :, :3] = 200
    mask = Mask.box((0, 0, 2, 2), size=(4, 4))
    done = composite(Image.of(before), Image.of(after), mask, format="webp")
    assert done.outside_max == 0
    assert np.array_equal(done.image.numpy()[2:], before[2:])
    flattened = composite(Image.of(before), Image.of(after[:, :, :3]), mask)
    assert flattened.outside_max == 255


def test_an_edit_of_another_size_is_resized_and_that_is_told() -> None:
    original = Image.of(noise(32, 48, 3, 0))
    edited = Image.of(np.full((64, 64, 3), 77, np.uint8))
    plane = soft(32, 48, 1)
    done = composite(original, edited, Mask.from_array(plane))
    assert done.resized_from == (64, 64)
    assert done.image.size == (48, 32)
    assert np.array_equal(done.image.numpy()[plane == 0], original.numpy()[plane == 0])
    assert (done.image.numpy()[plane == 255] == 77).all()


def test_the_edit_gives_its_seed_and_provenance() -> None:
    edited = Image.of(noise(4, 4, 3, 1)).with_(seed=9, provenance={"model": "m"})
    done = composite(Image.of(noise(4, 4, 3, 0)), edited, Mask.box((0, 0, 2, 2), size=(4, 4)))
    assert done.image.seed == 9
    assert done.image.provenance["model"] == "m"


@pytest.mark.parametrize("kind", ["jpeg", "gif", "svg", "avif", "tiff"])
def test_formats_that_would_alter_pixels_are_refused(kind: str) -> None:
    image = Image.of(noise(4, 4, 3, 0))
    with pytest.raises(InvalidInput, match="'png' or 'webp'"):
        composite(image, image, Mask.box((0, 0, 2, 2), size=(4, 4)), format=kind)


def test_pictures_that_do_not_fit_are_refused() -> None:
    image = Image.of(noise(4, 4, 3, 0))
    mask = Mask.box((0, 0, 2, 2), size=(4, 4))
    svg = Image.of(b'<svg width="4" height="4"/>')
    with pytest.raises(InvalidInput, match="8x4"):
        composite(Image.of(noise(4, 8, 3, 0)), image, mask)
    with pytest.raises(InvalidInput, match="nothing may change"):
        composite(image, image, mask.inverted().grow(4).inverted())
    with pytest.raises(InvalidInput, match="SVG"):
        composite(image, svg, mask)
    wide = Image.of(np.zeros((1, 16_384), np.uint8))
    with pytest.raises(InvalidInput, match="16383"):
        composite(wide, wide, Mask.box((0, 0, 2, 1), size=wide.size), format="webp")


# Colour profiles


def profile(space: Literal["sRGB", "LAB", "XYZ"] = "sRGB") -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()


def swapped() -> bytes:
    """An RGB profile whose red and blue primaries are exchanged: what is red in it is blue."""
    data = profile()
    return data.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


@pytest.mark.parametrize("channels", [3, 4])
def test_an_edit_in_another_colour_space_is_brought_into_that_of_the_original(
    channels: int,
) -> None:
    red = np.full((4, 4, channels), 255, np.uint8)
    red[:, :, 1:3] = 0
    blue = red.copy()
    blue[:, :, 0], blue[:, :, 2] = 0, 255
    mask = Mask.box((0, 0, 4, 2), size=(4, 4))
    edited = Image.of(encoded(PIL.Image.fromarray(red), icc_profile=swapped()))
    cases: list[dict[str, Any]] = [{"icc_profile": profile()}, {}]
    for options in cases:
        original = Image.of(encoded(PIL.Image.fromarray(blue), **options))
        done = composite(original, edited, mask)
        assert np.abs(done.image.numpy().astype(int) - blue).max() <= 2
        assert done.image.pil().info.get("icc_profile") == options.get("icc_profile")
        assert np.array_equal(done.image.numpy()[2:], blue[2:])


def test_an_edit_without_or_with_the_same_or_a_broken_profile_is_taken_as_it_is() -> None:
    before, after = PIL.Image.fromarray(noise(4, 4, 3, 0)), PIL.Image.fromarray(noise(4, 4, 3, 1))
    mask = Mask.box((0, 0, 4, 2), size=(4, 4))
    original = Image.of(encoded(before, icc_profile=swapped()))
    broken = bytes(16) + b"RGB " + bytes(100)
    cases: list[dict[str, Any]] = [{}, {"icc_profile": swapped()}, {"icc_profile": broken}]
    for options in cases:
        edited = Image.of(encoded(after, **options))
        done = composite(original, edited, mask)
        assert np.array_equal(done.image.numpy()[:2], edited.numpy()[:2])
        assert np.array_equal(done.image.numpy()[2:], original.numpy()[2:])


def test_a_broken_profile_of_the_original_changes_nothing() -> None:
    broken = bytes(16) + b"RGB " + bytes(100)
    original = Image.of(encoded(PIL.Image.fromarray(noise(4, 4, 3, 0)), icc_profile=broken))
    edited = Image.of(encoded(PIL.Image.fromarray(noise(4, 4, 3, 1)), icc_profile=profile()))
    done = composite(original, edited, Mask.box((0, 0, 4, 2), size=(4, 4)))
    assert np.array_equal(done.image.numpy()[:2], edited.numpy()[:2])
    assert np.array_equal(done.image.numpy()[2:], original.numpy()[2:])


# Outpainting


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([3, 4]),
    st.tuples(*[st.integers(0, 9)] * 4).filter(any),
    st.integers(0, 2**31),
)
def test_padding_repeats_the_edge_and_masks_the_new_area(
    height: int, width: int, channels: int, sides: tuple[int, int, int, int], seed: int
) -> None:
    pixels = noise(height, width, channels, seed)
    left, top, right, bottom = sides
    padded, mask = pad(Image.of(pixels).with_(seed=4), *sides)
    around = ((top, bottom), (left, right), (0, 0))
    assert np.array_equal(padded.numpy(), np.pad(pixels, around, mode="edge"))
    new = np.pad(np.zeros((height, width), np.uint8), around[:2], constant_values=255)
    assert np.array_equal(mask.numpy(), new)
    assert padded.seed == 4
    mask.check(padded.size)


@pytest.mark.parametrize("sides", [(0, 0, 0, 0), (-1, 2, 2, 2), (1.5, 0, 0, 0), (0, 0, 0, 2**26)])
def test_impossible_padding_is_refused(sides: Any) -> None:
    with pytest.raises(InvalidInput, match=r"whole pixels|too large"):
        pad(Image.of(noise(4, 4, 3, 0)), *sides)
