"""Shared by the engine's tests: tiny checkpoints, clients of them, small pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GlmImageProcessor

from diptych import Image, ImageClient

from . import tiny

torch.set_num_threads(1)

Checkpoints = Callable[[str], Path]
Clients = Callable[..., ImageClient]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """The folder of a tiny checkpoint: `checkpoint("flux")`. Shared by all tests: do not write there."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = tiny.build(family, tmp_path_factory.mktemp(family))
        return made[family]

    return folder


@pytest.fixture(scope="session")
def kept(checkpoint: Checkpoints) -> Iterator[Clients]:
    """Makes one client of each tiny checkpoint, whose model stays loaded."""
    made: dict[str, ImageClient] = {}

    def make(family: str) -> ImageClient:
        if family not in made:
            made[family] = ImageClient(f"diffusers/{checkpoint(family)}", device="cpu")
        return made[family]

    yield make
    for each in made.values():
        each.close()


@pytest.fixture
def client(checkpoint: Checkpoints, kept: Clients) -> Iterator[Clients]:
    """Makes clients of tiny checkpoints, `client("flux")`, or of a folder.

    One without settings is shared by all tests: they leave no trace in it.
    """
    made: list[ImageClient] = []

    def make(model: str | Path, **settings: Any) -> ImageClient:
        if isinstance(model, str) and not settings:
            return kept(model)
        folder = model if isinstance(model, Path) else checkpoint(model)
        made.append(ImageClient(f"diffusers/{folder}", **{"device": "cpu"} | settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="session")
def photo() -> Image:
    """A colourful picture, 64 x 64, with edges and soft parts."""
    return picture(tiny.SIZE, tiny.SIZE)


def picture(width: int, height: int) -> Image:
    """A colourful picture with edges and soft parts."""
    rows, columns = np.mgrid[0:height, 0:width]
    array = np.zeros((height, width, 3), np.uint8)
    array[..., 0] = 255 * columns // max(1, width - 1)
    array[..., 1] = 255 * rows // max(1, height - 1)
    array[height // 4 : height // 2, width // 4 : width // 2] = (250, 240, 20)
    return Image.of(array)


@pytest.fixture(scope="session")
def small() -> Iterator[None]:
    """What pipelines do at full size alone, small.

    Those of Qwen-Image-Edit read every picture at a megapixel: at a 256th of it here. GLM-Image's
    writer begins with a sketch of 16 x 16 codes: of one here.
    """
    with pytest.MonkeyPatch.context() as patch:
        shape = GlmImageProcessor._get_target_shape
        patch.setattr(
            GlmImageProcessor,
            "_get_target_shape",
            lambda *a, **size: (*shape(*a, **size)[:2], 1, 1),
        )
        for module, more in (("edit", (None,)), ("edit_inpaint", (None,)), ("edit_plus", ())):
            where = f"diffusers.pipelines.qwenimage.pipeline_qwenimage_{module}"
            patch.setattr(f"{where}.calculate_dimensions", partial(_dimensions, more))
        yield


def _dimensions(more: tuple[None, ...], area: float, ratio: float) -> tuple[int | None, ...]:
    width = (area / 256 * ratio) ** 0.5
    return max(32, round(width / 32) * 32), max(32, round(width / ratio / 32) * 32), *more
