"""FlowEdit: parity with data made by the authors' implementation, and what an edit must keep.

The data lies outside the repository: set DIPTYCH_SHARED to the folder that holds `parity/`, or put it
beside the checkout as `shared`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diptych_diffusers.cards import describe
from diptych_diffusers.classes import CLASSES
from diptych_diffusers.flow import Prompted, Sampler
from diptych_diffusers.flowedit import edit
from diptych_diffusers.flux import Flux
from diptych_diffusers.native import Native
from diptych_diffusers.sd3 import StableDiffusion3
from safetensors.torch import load_file

from diptych.local.checkpoints import find
from diptych.local.components import component

SHARED = Path(os.environ.get("DIPTYCH_SHARED") or Path(__file__).parents[4] / "shared")
PARITY = SHARED / "parity" / "flowedit"
CASES = [("sd3", "edit"), ("flux", "edit"), ("flux", "edit_nmin")]


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def opened(folder: Path, kind: type[Native]) -> Native:
    facts = describe(find("diffusers", str(folder))).facts
    assert facts is not None
    parts = {name: component(folder, name, torch.float32, CLASSES) for name in facts.components}
    return kind(parts, torch.device("cpu"), torch.float32)


def drawn(model: Native, sampler: Sampler) -> torch.Tensor:
    """Drive a sampler to its end."""
    try:
        step = next(sampler)
        while True:
            step = sampler.send(model.velocities(step.asks))
    except StopIteration as end:
        result: torch.Tensor = end.value
        return result


@pytest.mark.skipif(not PARITY.is_dir(), reason="the parity data is not there; see DIPTYCH_SHARED")
@pytest.mark.parametrize(("family", "name"), CASES)
def test_edits_as_the_authors_do(family: str, name: str) -> None:
    folder = PARITY / family
    model = opened(folder / "pipeline", StableDiffusion3 if family == "sd3" else Flux)
    run = json.loads((folder / "case.json").read_text())["runs"][name]
    expected = load_file(folder / "expected.safetensors")
    source = load_file(folder / "inputs.safetensors")["source_image"][0]
    size = (source.shape[2], source.shape[1])
    grid = model.grid(size)

    def prompted(words: str, scale: float) -> Prompted:
        length = 256 if family == "sd3" else 512
        if family == "flux":
            return Prompted(model.encode(words, length), embedded=scale)
        return Prompted(model.encode(words, length), model.encode("", length), scale)

    latents = model.latents(source)
    assert (model.planes(latents, size) - expected["x_src"][0]).abs().max() <= 1e-5
    sigmas = model.schedule(run["T_steps"], size)
    assert sigmas == pytest.approx(expected[f"{name}.sigmas"].tolist(), abs=1e-6)
    generator = torch.Generator().manual_seed(run["seed"])
    sampler = edit(
        model,
        latents,
        sigmas[-run["n_max"] - 1 :],
        prompted(run["source_prompt"], run["src_guidance_scale"]),
        prompted(run["target_prompt"], run["tar_guidance_scale"]),
        grid,
        lambda: torch.randn(latents.shape, generator=generator),
        averages=run["n_avg"],
        alone=run["n_min"],
    )
    edited = drawn(model, sampler)
    planes = model.planes(edited, size)
    assert (planes - expected[f"{name}.edited_latents"][0]).abs().max() <= 1e-4
    picture = model.picture(edited, size)
    assert (picture - expected[f"{name}.edited_image"][0]).abs().max() <= 2e-4


@pytest.mark.parametrize("averages", [1, 3])
@pytest.mark.parametrize(("family", "kind"), [("flux", Flux), ("sd3", StableDiffusion3)])
def test_an_edit_that_changes_nothing_gives_the_source_back(
    family: str, kind: type[Native], averages: int, checkpoint: Any
) -> None:
    model = opened(checkpoint(family), kind)
    generator = torch.Generator().manual_seed(5)
    latents = model.noise((64, 64), generator)
    text = model.encode("a dog on the grass", 64)
    same = Prompted(text, model.encode("", 64), 4.0, 3.5)
    sampler = edit(
        model,
        latents,
        model.schedule(6, (64, 64), 0.9),
        same,
        same,
        model.grid((64, 64)),
        lambda: torch.randn(latents.shape, generator=generator),
        averages=averages,
    )
    assert (drawn(model, sampler) - latents).abs().max() <= 1e-5
