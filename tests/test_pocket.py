"""The pocket checkpoints in the repository are those that their cards describe."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

POCKET = Path(__file__).parents[1] / "providers" / "pocket" / "src" / "diptych_pocket"
MODELS = ("diffusion", "autoregressive")


def weights(model: str) -> dict[str, Path]:
    folder = POCKET / model
    return {str(file.relative_to(folder)): file for file in folder.rglob("*.safetensors")}


@pytest.mark.parametrize("model", MODELS)
def test_weights_have_the_checksums_of_the_card(model):
    card = json.loads((POCKET / model / "diptych.json").read_text())
    found = {
        name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in weights(model).items()
    }
    assert found == card["sha256"]


def test_the_checkpoints_are_small_and_hold_no_pickle():
    files = [file for model in MODELS for file in (POCKET / model).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files if file.suffix == ".safetensors") <= 64 * 2**20
    assert {file.suffix for file in files} == {".json", ".safetensors"}
