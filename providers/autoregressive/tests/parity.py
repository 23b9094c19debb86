"""The parity fixtures: tiny models of the published layouts with what the authors' code made of them.

They lie outside the repository: set DIPTYCH_SHARED to the folder that holds `parity/`, or put it beside
the checkout as `shared`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

__all__ = ["SHARED", "Case", "Folder", "apart", "needs_parity"]

SHARED = Path(os.environ.get("DIPTYCH_SHARED") or Path(__file__).parents[4] / "shared")
PARITY = SHARED / "parity"

needs_parity = pytest.mark.skipif(
    not PARITY.is_dir(), reason="the parity fixtures are not there; see DIPTYCH_SHARED"
)


@dataclass(frozen=True)
class Case:
    """One fixture: "var", "mar", "llamagen/c2i" or "llamagen/t2i"."""

    name: str

    @cached_property
    def facts(self) -> Any:
        return json.loads((PARITY / self.name / "case.json").read_text())

    @property
    def runs(self) -> Any:
        return self.facts["config"]["runs"]

    def tensors(self, part: str) -> dict[str, torch.Tensor]:
        """A file of the fixture; what is stored as float16 is float32 in truth."""
        stored = load_file(PARITY / self.name / f"{part}.safetensors")
        return {
            name: tensor.float() if tensor.dtype == torch.float16 else tensor
            for name, tensor in stored.items()
        }


def apart(ours: torch.Tensor, theirs: torch.Tensor, *, relative: bool = False) -> float:
    """The largest difference; `relative` divides by one plus the size of theirs."""
    assert ours.shape == theirs.shape
    difference = (ours - theirs).abs()
    if relative:
        difference = difference / (1 + theirs.abs())
    return difference.max().item()


@dataclass(frozen=True)
class Folder:
    """A checkpoint folder made of a fixture: its files in the published layout and a side-car."""

    case: Case
    files: Mapping[str, str]
    facts: Mapping[str, Any]

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        for part, name in self.files.items():
            save_file(self.case.tensors(part), folder / name)
        (folder / "diptych.json").write_text(json.dumps(dict(self.facts)))
        return folder
