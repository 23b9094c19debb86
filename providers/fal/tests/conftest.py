"""Shared by fal's tests: a peer on a real socket, clients that talk to it, small pictures."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from diptych import Image, ImageClient
from diptych.testing.peers import FalPeer


@pytest.fixture
def peer() -> Iterator[FalPeer]:
    with FalPeer(key="fal-secret-4711") as running:
        yield running


@pytest.fixture
def client(peer: FalPeer) -> Iterator[Callable[..., ImageClient]]:
    """Makes clients of the peer: `client("fal/flux/dev")`."""
    made: list[ImageClient] = []

    def make(model: str = "fal/flux-pro/v1.1", **settings: Any) -> ImageClient:
        options = {"api_key": peer.key, "base_url": peer.origin, "timeout": 20.0, **settings}
        made.append(ImageClient(model, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def picture() -> Image:
    """A PNG of 64 x 48 pixels, a few hundred bytes."""
    return drawn((64, 48))


@pytest.fixture
def large_picture() -> Image:
    """A PNG of noise, too large for a data URL."""
    return Image.of(_png(Pillow.frombytes("RGB", (400, 300), os.urandom(400 * 300 * 3))))


@pytest.fixture
def shared() -> Path:
    """The folder of reference facts and recordings that may lie beside the checkout."""
    beside = Path(__file__).resolve().parents[3].parent / "shared"
    found = Path(os.environ.get("DIPTYCH_SHARED", beside))
    if not (found / "reference").is_dir():
        pytest.skip(f"no reference facts in {found}; set DIPTYCH_SHARED")
    return found


def drawn(size: tuple[int, int], colour: str = "orange") -> Image:
    return Image.of(_png(Pillow.new("RGB", size, colour)))


def _png(picture: Pillow.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "png")
    return out.getvalue()
