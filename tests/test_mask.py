from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import InvalidInput
from diptych.image import Image
from diptych.mask import Mask

Plane = npt.NDArray[np.uint8]


def planes(largest: int = 16) -> st.SearchStrategy[Plane]:
    def make(shape: tuple[int, int], seed: int, hard: bool) -> Plane:
        values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        return np.where(values > 127, 255, 0).astype(np.uint8) if hard else values

    side = st.integers(1, largest)
    return st.builds(make, st.tuples(side, side), st.integers(0, 2**31), st.booleans())


def encoded(picture: PIL.Image.Image, kind: str = "png", **options: Any) -> bytes:
    target = io.BytesIO()
    picture.save(target, kind.upper(), **options)
    return target.getvalue()


BOX = Mask.box((2, 1, 5, 4), size=(8, 6))


# Making one


@settings(max_examples=40, deadline=None)
@given(planes())
def test_every_source_gives_the_same_mask(plane: Plane) -> None:
    mask = Mask.from_array(plane)
    picture = PIL.Image.fromarray(plane)
    height, width = plane.shape
    assert mask.size == (width, height)
    assert np.array_equal(mask.numpy(), plane)
    grey: list[Any] = [
        mask,
        plane,
        plane[:, :, None],
        plane.astype(np.float64) / 255,
        np.repeat(plane[:, :, None], 3, axis=2),
        picture,
        picture.convert("RGB"),
        picture.convert("RGBA"),
        picture.convert("P"),
        Image.of(picture),
        encoded(picture),
        encoded(picture, "webp", lossless=True),
        PIL.Image.fromarray(plane.astype(np.uint16) * 257),
        mask.png(),
    ]
    for source in grey:
        assert Mask.of(source) == mask
        assert Mask.of(source, (width, height)) == mask


def test_booleans_mean_change() -> None:
    array = np.array([[True, False], [False, False]])
    assert Mask.of(array).numpy().tolist() == [[255, 0], [0, 0]]
    assert Mask.of(array[:, :, None]) == Mask.from_array(array)
    bitmap = PIL.Image.fromarray(array)
    assert Mask.of(bitmap) == Mask.from_array(array)


def test_a_file_is_a_mask(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(BOX.png())
    assert Mask.of(path) == Mask.of(str(path)) == BOX


def test_the_noise_of_lossy_formats_is_still_grey() -> None:
    picture = Mask.box((8, 8, 24, 24), size=(32, 32), feather=3).pil().convert("RGB")
    for kind in ("jpeg", "webp"):
        mask = Mask.of(encoded(picture, kind, quality=90))
        assert np.abs(mask.numpy().astype(int) - np.array(picture)[:, :, 0]).max() < 24


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (PIL.Image.new("RGB", (4, 4), (255, 0, 0)), "colour"),
        (PIL.Image.new("RGB", (4, 4), (90, 90, 120)), "colour"),
        (PIL.Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "Mask.from_alpha"),
        (PIL.Image.new("LA", (4, 4), (255, 128)), "Mask.from_alpha"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.full((4, 4), 2.0), "0..1"),
        (np.full((4, 4), np.nan), "0..1"),
        (np.zeros((4, 4, 3), bool), "shape"),
        (np.zeros((0, 4), np.uint8), "shape"),
        (b"no picture", "mask is not a usable picture"),
        ("https://example.org/mask.png", "fetch()"),
        (7, "mask is not a usable picture"),
    ],
)
def test_what_is_no_mask_is_refused_with_the_reason(source: Any, says: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        Mask.of(source)
    assert says in str(raised.value)


def test_only_arrays_are_arrays() -> None:
    with pytest.raises(InvalidInput, match=r"Mask\.of"):
        Mask.from_array([[0, 1]])  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(InvalidInput, match="pixels"):
        Mask.from_array(np.broadcast_to(np.uint8(0), (2**14, 2**13)))


def test_a_box_is_white_inside() -> None:
    expected = np.zeros((6, 8), np.uint8)
    expected[1:4, 2:5] = 255
    assert np.array_equal(BOX.numpy(), expected)
    assert BOX.coverage == pytest.approx(9 / 48)
    soft = Mask.box((2, 1, 5, 4), size=(8, 6), feather=1)
    assert soft == BOX.feather(1)
    assert len(np.unique(soft.numpy())) > 2


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 0, 4),
        (4, 0, 2, 4),
        (-1, 0, 2, 4),
        (0, 0, 9, 4),
        (0, 0, 4, 7),
        (0, 0, 4.5, 4),
        (1, 2),
        None,
    ],
)
def test_a_box_outside_or_empty_is_refused(box: Any) -> None:
    with pytest.raises(InvalidInput, match="8x6"):
        Mask.box(box, size=(8, 6))


@pytest.mark.parametrize("size", [(0, 4), (4, -1), (2**14, 2**13), (4.0, 4), [4, 4], 4, (1, 2, 3)])
def test_a_size_is_checked(size: Any) -> None:
    uses: list[Callable[[], Mask]] = [
        lambda: Mask.box((0, 0, 1, 1), size=size),
        lambda: BOX.fitted(size, how="resize"),
        lambda: Mask.of(BOX, size),
    ]
    for use in uses:
        with pytest.raises(InvalidInput, match="size="):
            use()


# Polarity


@settings(max_examples=40, deadline=None)
@given(planes())
def test_every_mask_survives_the_alpha_form(plane: Plane) -> None:
    mask = Mask.from_array(plane)
    data = mask.alpha_png()
    alpha = np.array(PIL.Image.open(io.BytesIO(data)).getchannel("A"))
    assert np.array_equal(alpha, 255 - plane)
    assert Mask.from_alpha(data) == mask
    assert mask.inverted().inverted() == mask
    assert np.array_equal(mask.inverted().numpy(), 255 - plane)
    assert Mask.of(mask.png(invert=True)).inverted() == mask
    assert Mask.of(mask.png()) == mask
    assert PIL.Image.open(io.BytesIO(mask.png())).mode == "L"


def test_the_alpha_form_can_carry_the_picture() -> None:
    colours = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.of(colours)
    sent = np.array(PIL.Image.open(io.BytesIO(BOX.alpha_png(image))))
    assert np.array_equal(sent[:, :, :3], colours)
    assert np.array_equal(sent[:, :, 3], 255 - BOX.numpy())
    with pytest.raises(InvalidInput, match="8x6"):
        BOX.alpha_png(Image.of(np.zeros((4, 4), np.uint8)))


def test_a_picture_without_transparency_has_no_alpha_mask() -> None:
    with pytest.raises(InvalidInput, match=r"Mask\.of"):
        Mask.from_alpha(PIL.Image.new("RGB", (4, 4)))
    assert Mask.from_alpha(PIL.Image.new("LA", (4, 4), (9, 255))).is_empty


# Changing it


@settings(max_examples=60, deadline=None)
@given(planes(12), st.integers(0, 15))
def test_growing_takes_the_maximum_around_every_pixel(plane: Plane, reach: int) -> None:
    padded = np.pad(plane, reach)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1))
    assert np.array_equal(Mask.from_array(plane).grow(reach).numpy(), windows.max(axis=(2, 3)))


@settings(max_examples=40, deadline=None)
@given(planes(12), st.integers(1, 15))
def test_shrinking_is_growing_of_the_inverse(plane: Plane, reach: int) -> None:
    mask = Mask.from_array(plane)
    assert mask.grow(-reach) == mask.inverted().grow(reach).inverted()
    assert (mask.grow(-reach).numpy() <= plane).all()


@settings(max_examples=40, deadline=None)
@given(planes(), st.integers(1, 255))
def test_a_binary_mask_has_two_values(plane: Plane, threshold: int) -> None:
    hard = Mask.from_array(plane).binary(threshold).numpy()
    assert np.array_equal(hard, np.where(plane >= threshold, 255, 0))


def test_feathering_softens_both_sides_of_the_edge() -> None:
    mask = Mask.box((0, 0, 32, 64), size=(64, 64))
    row = mask.feather(4).numpy()[32]
    assert row[0] == 255
    assert row[63] == 0
    assert (np.diff(row.astype(int)) <= 0).all()
    assert row[31] > 127 > row[32] > 0
    assert mask.feather(0) is mask
    assert mask.grow(0) is mask


@pytest.mark.parametrize(
    "change",
    [
        lambda: BOX.grow(1.5),  # type: ignore[arg-type]  # the point of the test
        lambda: BOX.grow(True),
        lambda: BOX.grow(10_000),
        lambda: BOX.feather(-1),
        lambda: BOX.feather(float("nan")),
        lambda: BOX.feather("2"),  # type: ignore[arg-type]  # the point of the test
        lambda: BOX.binary(0),
        lambda: BOX.binary(0.5),  # type: ignore[arg-type]  # the point of the test
        lambda: BOX.fitted((4, 4), how="stretch"),  # type: ignore[arg-type]  # the point of the test
        lambda: BOX.fitted((16, 12)),
        lambda: Mask.of(BOX, (16, 12)),
    ],
)
def test_impossible_changes_are_refused(change: Callable[[], Mask]) -> None:
    with pytest.raises(InvalidInput, match="must be"):
        change()


def test_fitting_says_what_it_did() -> None:
    stretched = BOX.fitted((16, 12), how="resize")
    assert stretched.size == (16, 12)
    assert stretched.coverage == pytest.approx(BOX.coverage, abs=0.02)
    assert stretched.fit_note == "the mask was stretched from 8x6 to 16x12"
    cropped = BOX.fitted((4, 6), how="crop")
    assert np.array_equal(cropped.numpy(), BOX.numpy()[:, 2:6])
    assert "cropped from 8x6 to 4x6" in (cropped.fit_note or "")
    assert BOX.fitted((8, 6)) is BOX
    assert BOX.fit_note is None
    assert stretched.grow(1).fit_note == stretched.fit_note
    assert "stretched" in repr(stretched)
    with pytest.raises(InvalidInput, match=r"8x6.*16x12.*resize"):
        BOX.fitted((16, 12))


# Using it


def test_a_mask_is_checked_against_the_picture() -> None:
    BOX.check((8, 6))
    with pytest.raises(InvalidInput, match=r"8x6.*6x8.*fitted"):
        BOX.check((6, 8))
    black = Mask.from_array(np.zeros((6, 8), np.uint8))
    assert (black.is_empty, black.coverage) == (True, 0)
    with pytest.raises(InvalidInput, match="nothing may change"):
        black.check((8, 6))
    white = black.inverted()
    assert (white.is_empty, white.coverage) == (False, 1)
    white.check((8, 6))


def test_it_is_a_value() -> None:
    noted = BOX.fitted((16, 12), how="resize")
    for mask in (BOX, noted):
        for copy in (
            pickle.loads(pickle.dumps(mask)),
            Mask.from_json(json.loads(json.dumps(mask.to_json()))),
        ):
            assert copy == mask
            assert hash(copy) == hash(mask)
            assert copy.fit_note == mask.fit_note
    assert noted != BOX
    assert repr(BOX) == "<Mask 8x6, 18.8% may change>"
    assert Mask.of(BOX._repr_png_()) == BOX
    with pytest.raises(AttributeError):
        BOX.size = (1, 1)  # type: ignore[misc]  # the point of the test
    BOX.numpy()[:] = 0
    BOX.pil().paste(0, (0, 0, 8, 6))
    assert BOX.coverage > 0


@pytest.mark.parametrize("value", [{}, {"png": "?"}, {"png": 3}, {"png": "AAAA"}, None])
def test_json_of_something_else_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput):
        Mask.from_json(value)
