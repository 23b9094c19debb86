"""The stock pipelines as diptych runs them: the pictures that diffusers makes, a step at a time."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diptych import AsyncImageClient, ContentBlocked, Mask, Preview, Progress, UnsupportedOption

from . import tiny
from .conftest import Checkpoints, Clients, picture

HALF = Mask.box((16, 16, 48, 48), size=(64, 64))


def plain(folder: Path, **arguments: Any) -> np.ndarray:
    """What diffusers by itself makes of a prompt."""
    import warnings

    import diffusers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = diffusers.DiffusionPipeline.from_pretrained(
            folder, torch_dtype=torch.float32, use_safetensors=True
        )
        pipe.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(1)
        made = pipe(height=64, width=64, num_inference_steps=2, generator=generator, **arguments)
    return np.asarray(made.images[0])


@pytest.mark.parametrize(
    ("family", "options", "arguments"),
    [
        ("sd", {}, {}),
        (
            "sd",
            {"guidance": 3, "negative_prompt": "blue"},
            {"guidance_scale": 3, "negative_prompt": "blue"},
        ),
        ("sdxl", {}, {}),
        ("lcm", {}, {}),
        ("chroma", {}, {}),
        ("sana", {}, {"use_resolution_binning": False}),
        ("flux2-klein", {}, {}),
        ("pixart", {}, {"use_resolution_binning": False, "clean_caption": False}),
        ("lumina2", {"negative_prompt": "blue"}, {"negative_prompt": "blue"}),
        ("cogview4", {"guidance": 3}, {"guidance_scale": 3}),
        ("auraflow", {}, {}),
        ("glm-image", {}, {}),
        ("flux-kontext", {}, {"max_area": 4096}),
        (
            "flux-kontext",
            {"negative_prompt": "blue"},
            {"max_area": 4096, "negative_prompt": "blue", "true_cfg_scale": 4},
        ),
    ],
)
def test_a_picture_is_the_one_that_diffusers_makes(
    family: str,
    options: dict[str, Any],
    arguments: dict[str, Any],
    client: Clients,
    checkpoint: Checkpoints,
    small: None,
) -> None:
    ours = client(family).generate("a fox", seed=1, **options).image.numpy()
    assert np.array_equal(ours, plain(checkpoint(family), prompt="a fox", **arguments))


@pytest.mark.parametrize("family", ["sd", "sdxl", "lcm", "chroma", "sana", "flux-kontext"])
def test_steps_and_unfinished_pictures_are_shown(family: str, client: Clients) -> None:
    events = list(client(family).stream_generate("a fox", steps=4, n=2, previews=2, seed=1))
    previews = [each for each in events if isinstance(each, Preview)]
    assert [(each.picture, each.index) for each in previews] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert {each.image.size for each in previews} == {(64, 64)}
    done = [each.done or 0 for each in events if isinstance(each, Progress)]
    assert done == sorted(done)
    assert len(done) >= 8


def test_what_cannot_be_shown_is_refused(client: Clients) -> None:
    for family in ("sdxl-pix2pix", "flux2-klein"):
        with pytest.raises(UnsupportedOption, match="previews"):
            next(iter(client(family).stream_edit(picture(64, 64), "make it red", previews=1)))


def test_a_picture_that_nobody_waits_for_is_given_up(checkpoint: Checkpoints) -> None:
    async def run() -> None:
        async with AsyncImageClient(f"diffusers/{checkpoint('sd')}", device="cpu") as model:
            before = await model.generate("a fox", seed=1)
            events = model.stream_generate("a fox", steps=900, seed=1)
            async for event in events:
                if isinstance(event, Progress):
                    break
            await events.aclose()
            after = await asyncio.wait_for(model.generate("a fox", seed=1), 60)
            assert after.image.bytes == before.image.bytes

    asyncio.run(run())
    assert not [each for each in threading.enumerate() if each.name == "diptych-pipeline"]


@pytest.mark.parametrize("family", ["sd", "flux-kontext"])
def test_requests_run_side_by_side(family: str, client: Clients) -> None:
    """One pipeline of diffusers' in eight threads fails in all of them."""
    model = client(family)
    alone = [model.generate("a fox", seed=seed, steps=4).image.bytes for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = pool.map(lambda seed: model.generate("a fox", seed=seed, steps=4), range(8))
        assert [each.image.bytes for each in together] == alone


def test_a_distilled_adapter_can_bring_its_sampler(client: Clients) -> None:
    sd = client("sd")
    made = {
        sampler: sd.generate("a fox", seed=1, steps=4, extra={"scheduler": sampler}).image.bytes
        for sampler in ("lcm", "tcd", "ddim", "euler", "euler_ancestral", "dpm++", "unipc")
    }
    assert len(set(made.values())) > 4
    assert sd.edit(
        picture(64, 64), "a cat", mode="img2img", change=0.4, steps=3, extra={"scheduler": "lcm"}
    ).images
    with pytest.raises(UnsupportedOption, match="lcm"):
        sd.plan("a fox", extra={"scheduler": "heun"})
    with pytest.raises(UnsupportedOption):
        client("flux").plan("a fox", extra={"scheduler": "lcm"})


def test_a_distilled_unet_runs_at_guidance_0(client: Clients) -> None:
    turbo = client("sdxl")
    assert turbo.generate("a fox", steps=1, guidance=0, seed=1).images


def test_unsafe_pictures_are_blocked_by_the_checkpoints_own_checker(
    checkpoint: Checkpoints, client: Clients, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoint("sd"), tmp_path / "sd"))
    tiny.safety_checker(folder)
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "requires_safety_checker": True,
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ContentBlocked) as error:
        client(folder).generate("a fox", seed=1)
    assert error.value.stage == "output"


def test_a_mask_on_a_family_without_inpainting_is_put_back_here(client: Clients) -> None:
    photo = picture(64, 64)
    result = client("chroma").edit(photo, "a cat in the snow", mask=HALF, seed=1)
    assert result.plan.mode == "img2img"
    outside = np.ones((64, 64), bool)
    outside[16:48, 16:48] = False
    assert np.array_equal(result.image.numpy()[outside], photo.numpy()[outside])
