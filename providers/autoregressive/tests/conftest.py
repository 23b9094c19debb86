"""Tiny checkpoints with random weights, in the layouts that are published."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from .tiny import emu3, janus

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory):
    """Converted weights go to a folder of this run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_emu3(tmp_path_factory) -> Path:
    """An Emu3 with 128 codes of 8x8 pixels, two layers, a context of 512."""
    return emu3(tmp_path_factory.mktemp("emu3"))


@pytest.fixture(scope="session")
def tiny_janus(tmp_path_factory) -> Path:
    """A Janus that draws 32x32 pixels as 4x4 codes out of 64."""
    return janus(tmp_path_factory.mktemp("janus"))
