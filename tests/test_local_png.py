"""PNGs of what local models draw."""

from __future__ import annotations

import io

import pytest
from PIL import Image as pillow

np = pytest.importorskip("numpy")


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (128, 128), (700, 900), (1, 4000), (90000, 1)])
@pytest.mark.parametrize("kind", ["noise", "smooth"])
def test_other_readers_see_the_same_pixels(size: tuple[int, int], kind: str) -> None:
    from diptych.local.png import png

    height, width = size
    draw = np.random.default_rng(height * width)
    picture = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == "smooth":
        picture = np.cumsum(picture // 100, axis=1).astype(np.uint8)
    data = png(picture)
    with pillow.open(io.BytesIO(data)) as read:
        read.load()
        assert read.mode == "RGB"
        assert np.array_equal(np.asarray(read), picture)
    smallest = io.BytesIO()
    pillow.fromarray(picture).save(smallest, "PNG", compress_level=3)
    assert len(data) < 1.5 * len(smallest.getvalue()) + 100
