"""The plug-in keeps the contract: the compliance suite over every known repository, run on tiny models."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np
from diptych_autoregressive import AutoregressiveProvider
from diptych_autoregressive.sequence import segment

from diptych.cards import ModelCard
from diptych.plan import State
from diptych.testing import ProviderSuite

from . import tiny

PLACE = tempfile.TemporaryDirectory()
MADE = tuple(
    f"autoregressive/{folder}"
    for folder in (
        tiny.emu3(Path(PLACE.name) / "emu3", context=2048),
        tiny.janus(Path(PLACE.name) / "janus"),
    )
)


class TestAutoregressive(ProviderSuite):
    provider = AutoregressiveProvider
    unknown_model = "acme/paint-1"
    settings: ClassVar[dict[str, str]] = {"device": "cpu"}
    models: ClassVar[tuple[str, ...]] = (
        *MADE,
        "autoregressive/pocket",
        "autoregressive/Emu3-community/Emu3-Gen-hf",
        "autoregressive/deepseek-community/Janus-Pro-7B",
        "autoregressive/BAAI/Emu3.5-Image",
        "autoregressive/peizesun/llamagen_t2i",
        "autoregressive/zai-org/GLM-Image",
    )
    examples = 4
    run_models = MADE

    @classmethod
    def state(cls, card: ModelCard) -> State | None:
        if not card.edits:
            return None
        return {"sequence": [segment("a lighthouse", 16, 16, np.arange(256))]}


class TestClasses(ProviderSuite):
    """Models that draw ImageNet's classes, and read the names of these alone."""

    provider = AutoregressiveProvider
    unknown_model = "acme/paint-1"
    settings: ClassVar[dict[str, str]] = {"device": "cpu"}
    prompts = ("goldfish", "golden retriever")
    models = ("autoregressive/FoundationVision/var", "autoregressive/FoundationVision/LlamaGen")
    examples = 4
