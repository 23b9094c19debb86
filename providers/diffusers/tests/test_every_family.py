"""Families that no other test draws with: every option acts or is refused, seeds repeat, masks hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diptych_diffusers.families import family

from diptych import EditMode, ImageClient, InvalidInput, Mask, Preview, Reference, UnsupportedOption

from . import tiny, tinyrest
from .conftest import Checkpoints, Clients, picture

PHOTO = picture(64, 64)
HALF = Mask.box((16, 16, 48, 48), size=(64, 64))
WORDS = "a cat in the snow"

pytestmark = pytest.mark.usefixtures("small")


@pytest.mark.parametrize("name", tinyrest.FAMILIES)
def test_a_text_becomes_a_picture(name: str, client: Clients) -> None:
    model = client(name)
    first, second = model.generate(WORDS, seed=1, n=2).images
    assert (first.seed, second.seed) == (1, 2)
    assert first.size == (64, 64)
    assert first.bytes != second.bytes
    assert model.generate(WORDS, seed=2).image.bytes == second.bytes
    others = {"prompt": "a dog", "size": "70x100", "steps": 3} | _acting(name)
    for option, value in others.items():
        changed = model.generate(**{"prompt": WORDS, "seed": 1} | {option: value})
        assert changed.image.size == ((70, 100) if option == "size" else (64, 64))
        assert changed.image.bytes != first.bytes, option
        assert changed.raw["steps"] == (3 if option == "steps" else 2)
        assert not [each for each in changed.notices if each.kind == "unverified"]


def _acting(name: str) -> dict[str, Any]:
    """Options that are to change the picture of a family, by its row of the table."""
    kind = family(name)
    values: dict[str, Any] = {}
    if kind.guidance != "none":
        values["guidance"] = 3
    if kind.references:
        values["references"] = [Reference(PHOTO)]
    return values


@pytest.mark.parametrize("name", tinyrest.FAMILIES)
def test_a_negative_prompt_acts_or_is_refused(name: str, client: Clients) -> None:
    model, kind = client(name), family(name)
    if not kind.negative:
        with pytest.raises(UnsupportedOption) as error:
            model.plan(WORDS, negative_prompt="blue")
        assert error.value.option == "negative_prompt"
        return
    made = {
        words: model.generate(WORDS, seed=1, guidance=3, negative_prompt=words).image.bytes
        for words in (None, "blue")
    }
    assert made[None] != made["blue"]
    least = 0 if name.startswith("z-image") else 1
    with pytest.raises(UnsupportedOption, match="above"):
        model.plan(WORDS, negative_prompt="blue", guidance=least)


@pytest.mark.parametrize(
    "name", [each for each in tinyrest.FAMILIES if "instruct" in family(each).tasks]
)
def test_an_instruction_edits_the_picture(name: str, client: Clients) -> None:
    model = client(name)
    edited = model.edit(PHOTO, "make it blue", seed=1)
    assert edited.plan.mode == "instruct"
    assert edited.image.size == (64, 64)
    assert model.edit(PHOTO, "make it blue", seed=1).image.bytes == edited.image.bytes
    for options in ({"seed": 2}, {"prompt": "make it red"}, {"image": picture(64, 48)}):
        wanted = {"image": PHOTO, "prompt": "make it blue", "seed": 1} | options
        assert model.edit(**wanted).image.bytes != edited.image.bytes, options
    beside = model.edit(PHOTO, "make it blue", seed=1, references=[Reference(picture(80, 100))])
    assert beside.image.bytes != edited.image.bytes
    masked = model.edit(PHOTO, "make it blue", seed=1, mask=HALF).image.numpy()[..., :3]
    outside = np.ones((64, 64), bool)
    outside[16:48, 16:48] = False
    assert np.array_equal(masked[outside], PHOTO.numpy()[outside])
    assert not np.array_equal(masked, PHOTO.numpy())
    with pytest.raises(InvalidInput, match="crop"):
        model.plan_edit(picture(64, 640), "make it blue")
    with pytest.raises(InvalidInput, match="crop"):
        model.plan(WORDS, references=[Reference(picture(640, 64))])


def test_a_checkpoint_brings_its_own_noise_levels(
    client: Clients, checkpoint: Checkpoints, tmp_path: Path
) -> None:
    """They are of a number, and another number of steps must not be ignored for them."""
    folder = Path(shutil.copytree(checkpoint("qwen-image-2-1"), tmp_path / "turbo"))
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"sample_sigmas": [1.0, 0.9, 0.5, 0.2]}
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "diptych.json").write_text(json.dumps({"size": 64}))
    model = client(folder)
    assert model.describe().option("steps").default == 4
    own, same, fewer = (model.generate(WORDS, seed=1, steps=each) for each in (None, 4, 2))
    assert (own.raw["steps"], fewer.raw["steps"]) == (4, 2)
    assert own.image.bytes == same.image.bytes
    plain = client("qwen-image-2-1")
    assert fewer.image.bytes == plain.generate(WORDS, seed=1, steps=2).image.bytes
    assert own.image.bytes != plain.generate(WORDS, seed=1, steps=4).image.bytes


def test_a_writer_leaves_the_random_numbers_of_the_process_alone(client: Clients) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    client("glm-image").generate(WORDS, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_table_of_positions_limits_the_size(client: Clients) -> None:
    """AuraFlow's counts all patches of the largest square, of 16 pixels each."""
    sizes = client("auraflow").describe().sizes
    assert sizes.max_edge == 128
    assert client("auraflow").generate(WORDS, seed=1, size="128x112").image.size == (128, 112)


@pytest.mark.parametrize("name", tiny.REPOSITORIES)
def test_a_repository_has_its_own_defaults(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    defaults = family(name).defaults
    with ImageClient(f"diffusers/{tiny.download(name, tmp_path)}", device="cpu") as model:
        assert model.describe().option("steps").default == defaults["steps"]
        made = model.generate(WORDS, seed=1)
        assert made.raw["steps"] == defaults["steps"]
        guided = model.generate(WORDS, seed=1, guidance=3, negative_prompt="blue")
        assert guided.image.bytes != made.image.bytes
        with pytest.raises(UnsupportedOption, match="guidance"):
            model.plan(WORDS, negative_prompt="blue")
        half = model.edit(PHOTO, WORDS, mode="img2img", change=0.5, seed=1)
        assert half.raw["steps"] == defaults["steps"]


@pytest.mark.parametrize("name", tinyrest.FAMILIES)
def test_the_number_type_of_a_gpu_does(name: str, client: Clients) -> None:
    model = client(name, dtype="bfloat16")
    assert model.generate(WORDS, seed=1).image.size == (64, 64)
    if EditMode.INSTRUCT in model.describe().edits:
        assert model.edit(PHOTO, "make it blue", seed=1).image.size == (64, 64)


def test_transparent_parts_are_read_and_drawn(client: Clients) -> None:
    model, pixels = client("qwen-image-2-1"), PHOTO.numpy()
    see_through = np.dstack([pixels, np.full((64, 64), 255, np.uint8)])
    see_through[:32, :, 3] = 0
    opaque, other = (model.edit(each, "a cat", seed=1).image for each in (pixels, see_through))
    assert opaque.numpy().shape == (64, 64, 4)
    assert opaque.bytes != other.bytes
    with pytest.raises(UnsupportedOption, match="prompt says so"):
        model.plan(WORDS, background="transparent")


@pytest.mark.parametrize("name", ["pixart", "pixart-sigma", "lumina2", "cogview4", "auraflow"])
def test_unfinished_pictures_are_shown(name: str, client: Clients) -> None:
    events = list(client(name).stream_generate(WORDS, steps=4, previews=2, seed=1))
    shown = [each.image.size for each in events if isinstance(each, Preview)]
    assert shown == [(64, 64)] * 2


@pytest.mark.parametrize("name", ["flux2", "lumina2", "z-image-omni", "flux2-klein"])
def test_words_that_a_pipeline_adds_count_too(name: str, client: Clients) -> None:
    """A prompt is set in a conversation, or behind an introduction, within the same limit."""
    limit = max(family(name).text.values())
    said = client(name).generate("a" * (limit - 5) + " tail", seed=1).notices
    (told,) = [each for each in said if each.kind == "mismatch"]
    assert "tail" in str(told)
