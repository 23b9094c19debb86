"""Control images: edge maps, ControlNets, checkpoints that read a control image as channels."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from diptych_diffusers.control import canny

from diptych import (
    ConfigurationError,
    Control,
    Image,
    ImageClient,
    InvalidInput,
    Mask,
    UnsupportedOption,
)

from . import tiny
from .conftest import Checkpoints, Clients, picture

HALF = Mask.box((16, 16, 48, 48), size=(64, 64))
KINDS = {
    "sd": "ControlNetModel",
    "sdxl": "ControlNetModel",
    "flux": "FluxControlNetModel",
    "sd3": "SD3ControlNetModel",
    "qwen-image": "QwenImageControlNetModel",
    "sana": "SanaControlNetModel",
    "z-image": "ZImageControlNetModel",
}


@pytest.fixture(scope="session")
def nets(checkpoint: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A ControlNet for each family that takes one."""
    return {
        family: str(tiny.controlnet(kind, tmp_path_factory.mktemp("net"), checkpoint(family)))
        for family, kind in KINDS.items()
    }


def edges() -> Image:
    return canny(picture(64, 64))


def test_edges_are_where_a_picture_has_them() -> None:
    square = np.full((40, 60, 3), 30, np.uint8)
    square[10:30, 20:40] = 200
    found = canny(Image.of(square)).numpy()[..., 0] > 0
    rows, columns = np.nonzero(found)
    assert found.shape == (40, 60)
    assert set(rows) <= {9, 10, 29, 30} | set(range(10, 30))
    assert {rows.min(), rows.max()} <= {9, 10, 29, 30}
    assert {columns.min(), columns.max()} <= {19, 20, 39, 40}
    assert not found[14:26, 24:36].any()
    assert found.any(axis=1)[12:28].all()
    assert not canny(Image.of(np.full((8, 8, 3), 90, np.uint8))).numpy().any()


def test_a_weak_edge_is_kept_where_it_continues_a_strong_one() -> None:
    step = np.full((20, 40, 3), 100, np.uint8)
    step[10:, :20] = 200  # strong on the left, fading to the right
    step[10:, 20:] = 100 + 40
    both = canny(Image.of(step), low=100, high=300).numpy()[..., 0] > 0
    alone = canny(Image.of(step[:, 22:]), low=100, high=300).numpy()[..., 0] > 0
    assert both[:, 30].any()
    assert not alone.any()
    with pytest.raises(InvalidInput):
        canny(Image.of(step), low=3, high=2)


@pytest.mark.parametrize("family", KINDS)
def test_a_controlnet_acts_as_strongly_as_is_asked(
    family: str, client: Clients, nets: dict[str, str]
) -> None:
    model = client(family)
    plain = model.generate("a fox", seed=1).image.bytes
    made = {
        strength: model.generate(
            "a fox", seed=1, controls=[Control("canny", edges(), strength, path=nets[family])]
        ).image
        for strength in (0.0, 0.5, 1.0)
    }
    assert len({each.bytes for each in made.values()}) == 3
    assert model.generate("a fox", seed=1).image.bytes == plain
    assert made[1.0].size == (64, 64)


@pytest.mark.parametrize("family", ["sd", "sdxl", "flux"])
def test_controls_act_in_edits(family: str, client: Clients, nets: dict[str, str]) -> None:
    model, photo = client(family), picture(64, 64)
    controls = [Control("canny", edges(), path=nets[family])]
    for options in ({"mode": "img2img", "change": 0.8}, {"mask": HALF}):
        plain = model.edit(photo, "a cat in the snow", seed=1, **options)
        held = model.edit(photo, "a cat in the snow", seed=1, controls=controls, **options)
        assert held.image.bytes != plain.image.bytes
        assert "ControlNet" in held.plan.calls[0].method


@pytest.mark.parametrize("family", ["sd", "flux"])
def test_several_controls_act_together_and_for_a_while(
    family: str, client: Clients, nets: dict[str, str]
) -> None:
    model = client(family)
    one = Control("canny", edges(), path=nets[family])
    other = Control("tile", picture(64, 64), 0.5, path=nets[family])
    early = Control("canny", edges(), end=0.5, path=nets[family])
    made = [
        model.generate("a fox", seed=1, steps=4, controls=each).image.bytes
        for each in ([one], [one, other], [early])
    ]
    assert len(set(made)) == 3


def test_a_control_without_its_network_is_refused(client: Clients) -> None:
    for family in ("sd", "flux", "sd3"):
        with pytest.raises(UnsupportedOption, match="path="):
            client(family).plan("a fox", controls=[Control("canny", edges())])
    with pytest.raises(UnsupportedOption):
        client("chroma").plan("a fox", controls=[Control("canny", edges(), path="org/name")])


def test_a_network_of_another_model_is_refused(
    client: Clients, nets: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="FluxControlNetModel"):
        client("sd").generate("a fox", controls=[Control("canny", edges(), path=nets["flux"])])
    with pytest.raises(ConfigurationError, match=r"config\.json"):
        client("sd").generate("a fox", controls=[Control("canny", edges(), path=str(tmp_path))])
    with pytest.raises(InvalidInput, match="no file"):
        client("sd").plan("a fox", controls=[Control("canny", edges(), path="./nowhere")])


def test_a_photograph_is_no_edge_map(client: Clients, nets: dict[str, str]) -> None:
    control = Control("canny", picture(64, 64), path=nets["sd"])
    with pytest.raises(InvalidInput, match="canny\\(image\\)"):
        client("sd").generate("a fox", controls=[control])


def test_a_control_checkpoint_follows_its_image(client: Clients) -> None:
    model = client("flux-control")
    made = {
        model.generate("a fox", seed=1, controls=[Control("canny", each)]).image.bytes
        for each in (edges(), canny(picture(64, 48)))
    }
    assert len(made) == 2
    photo, controls = picture(64, 64), [Control("canny", edges())]
    for options in ({"mode": "img2img", "change": 0.5}, {"mask": HALF}):
        edited = model.edit(photo, "a cat in the snow", seed=1, controls=controls, **options)
        assert edited.image.size == (64, 64)


@pytest.mark.parametrize(
    "controls",
    [
        [],
        [Control("canny", edges()), Control("canny", edges())],
        [Control("canny", edges(), strength=0.5)],
        [Control("canny", edges(), end=0.5)],
        [Control("canny", edges(), path="org/name")],
    ],
)
def test_what_a_control_checkpoint_cannot_do_is_refused(
    controls: list[Control], client: Clients
) -> None:
    with pytest.raises(UnsupportedOption) as error:
        client("flux-control").plan("a fox", controls=controls)
    assert error.value.option == "controls"


def test_a_control_checkpoint_asks_for_its_image(
    client: Clients, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))  # where the repository is not
    with ImageClient("diffusers/black-forest-labs/FLUX.1-Depth-dev") as depth:
        for model in (client("flux-control"), depth):
            assert not model.describe().generates
            for ask in (model.plan, partial(model.plan_edit, picture(64, 64), mode="img2img")):
                with pytest.raises(UnsupportedOption, match="control image") as error:
                    ask("a fox")
                assert error.value.option == "controls"
        assert depth.plan("a fox", controls=[Control("depth", edges())]).calls
        with pytest.raises(UnsupportedOption, match="cannot control"):
            depth.plan_edit(picture(64, 64), "a fox", mode="control")


def test_the_structure_of_a_picture_is_kept_where_the_kind_is_edges(
    checkpoint: Checkpoints, client: Clients, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedOption, match="cannot control"):
        client("flux-control").plan_edit(picture(64, 64), "a cat in the snow", mode="control")
    folder = tmp_path / "canny"
    tiny.build("flux-control", folder)
    card = (folder / "diptych.json").read_text().replace('"size"', '"control": "canny", "size"')
    (folder / "diptych.json").write_text(card)
    model, photo = client(folder), picture(64, 64)
    edited = model.edit(photo, "a cat in the snow", mode="control", seed=1)
    by_hand = model.generate(
        "a cat in the snow", seed=1, size=(64, 64), controls=[Control("canny", canny(photo))]
    )
    assert edited.image.bytes == by_hand.image.bytes
    with pytest.raises(UnsupportedOption, match="depth"):
        model.plan("a cat", controls=[Control("depth", edges())])
