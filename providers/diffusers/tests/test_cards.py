"""Cards: what a model can do, known without weights and without torch."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from diptych_diffusers.cards import card_of, cards
from diptych_diffusers.families import families, known, takes

from diptych import Control, EditMode, ImageClient, UnsupportedOption
from diptych.local.checkpoints import find

from . import tiny
from .conftest import Clients, picture


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_card_says_what_the_checkpoint_does(family: str, client: Clients) -> None:
    model = client(family)
    card = model.describe()
    assert card.known
    assert card.source
    json.dumps(card.to_dict())
    assert card.option("background").support == "refused"
    for mode in EditMode:
        if mode not in card.edits:
            with pytest.raises(UnsupportedOption, match="cannot"):
                model.plan_edit(picture(64, 64), "a cat", mode=str(mode))


def test_every_repository_that_is_known_has_a_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    every = {card.ref: card for card in cards()}
    assert {f"diffusers/{name}" for name in known()} <= set(every)
    assert all(card.known for card in every.values())
    kontext = every["diffusers/black-forest-labs/FLUX.1-Kontext-dev"]
    assert EditMode.INSTRUCT in kontext.edits
    assert kontext.option("guidance").default == 2.5
    turbo = every["diffusers/stabilityai/stable-diffusion-3.5-large-turbo"]
    assert turbo.option("steps").default == 4
    assert every["diffusers/black-forest-labs/FLUX.1-Canny-dev"].edits >= {EditMode.CONTROL}


def test_a_known_repository_can_be_planned_before_it_is_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with ImageClient("diffusers/black-forest-labs/FLUX.1-schnell") as schnell:
        plan = schnell.plan("a fox", size="1024x768", seed=3)
        assert plan.estimate.high == 0
        with pytest.raises(UnsupportedOption, match="distilled"):
            schnell.plan("a fox", guidance=3)
    with ImageClient("diffusers/stabilityai/sdxl-turbo") as turbo:
        with pytest.raises(UnsupportedOption, match="guidance"):
            turbo.plan("a fox", negative_prompt="blue")
        assert turbo.plan("a fox", negative_prompt="blue", guidance=2).calls


def test_a_repository_that_nobody_knows_is_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    card = card_of(find("diffusers", "org/name"))
    assert not card.known
    assert "downloaded" in card.note
    with ImageClient("diffusers/org/name") as model:
        assert any(each.option == "model" for each in model.plan("a fox").notices)


def test_options_of_another_mode_are_refused(client: Clients) -> None:
    kontext, photo = client("flux-kontext"), picture(64, 64)
    with pytest.raises(UnsupportedOption, match="change"):
        kontext.plan_edit(photo, "make it red", change=0.5)
    control = Control("canny", photo, path="org/name")
    with pytest.raises(UnsupportedOption, match="controls"):
        client("sd3").plan_edit(photo, "a cat", mode="img2img", controls=[control])


def test_the_arguments_of_the_pipelines_are_those_of_diffusers() -> None:
    """calls.json is read where diffusers may not be imported."""
    import diffusers

    names = {name for each in families() for name in each.tasks.values() if name}
    for name in names:
        call = inspect.signature(getattr(diffusers, name).__call__).parameters
        assert takes(name) == set(call) - {"self"}, name


def test_the_classes_that_are_loaded_exist() -> None:
    import importlib

    from diptych_diffusers.classes import CLASSES

    missing = []
    for name, where in CLASSES.items():
        module, _, other = where.partition(":")
        if not hasattr(importlib.import_module(module), other or name):
            missing.append(name)
    assert missing == []
