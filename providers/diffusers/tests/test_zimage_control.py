"""ControlNets of Z-Image, which borrow layers of the model that they steer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import ZImageControlNetModel
from diptych_diffusers.control import canny
from safetensors.torch import load_file, save_file

from diptych import ConfigurationError, Control, LoRA, Mask, UnsupportedOption

from . import tiny
from .conftest import Checkpoints, Clients, picture

PHOTO = picture(64, 64)
EDGES = canny(PHOTO)
HALF = Mask.box((16, 16, 48, 48), size=(64, 64))
STYLE = {"transformer.noise_refiner.0.attention.to_q": (32, 32)}
"""A layer that is borrowed."""

Nets = Callable[..., Path]


@pytest.fixture(scope="module")
def net(checkpoint: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("net")
    return tiny.controlnet("ZImageControlNetModel", folder, checkpoint("z-image"))


@pytest.fixture
def nets(net: Path, tmp_path: Path) -> Nets:
    """Writes a ControlNet with some other settings, and says where."""

    def make(name: str, **settings: Any) -> Path:
        config = ZImageControlNetModel.load_config(net)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(len(name))
            made = ZImageControlNetModel.from_config(config | settings)
            for weight in made.parameters():
                weight.copy_(0.1 * torch.randn_like(weight))
            made.save_pretrained(tmp_path / name)
        return tmp_path / name

    return make


def controls(path: Path, strength: float = 1.0, **options: Any) -> list[Control]:
    return [Control("canny", EDGES, strength, path=str(path), **options)]


def by_hand(
    name: str, model: Path, net: Path, lora: str | None = None, **arguments: Any
) -> np.ndarray[Any, Any]:
    """What diffusers' own pipeline draws."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = diffusers.ZImagePipeline.from_pretrained(model)
        if lora is not None:
            plain.load_lora_weights(lora)
        read = ZImageControlNetModel.from_pretrained(net)
        pipe = getattr(diffusers, name)(**plain.components, controlnet=read)
        pipe.set_progress_bar_config(disable=True)
        made = pipe(
            "a fox",
            num_inference_steps=2,
            guidance_scale=5.0,
            generator=[torch.Generator().manual_seed(3)],
            control_image=EDGES.pil().convert("RGB"),
            output_type="np",
            **{"width": 64, "height": 64} | arguments,
        )
    levels: np.ndarray[Any, Any] = np.round(made.images[0] * 255).astype(np.uint8)
    return levels


def test_it_draws_what_diffusers_draws(
    client: Clients, checkpoint: Checkpoints, net: Path, tmp_path: Path
) -> None:
    model, folder = client("z-image"), checkpoint("z-image")
    plain = model.generate("a fox", seed=3).image.bytes
    made = model.generate("a fox", seed=3, controls=controls(net, 0.7))
    stock = by_hand("ZImageControlNetPipeline", folder, net, controlnet_conditioning_scale=0.7)
    assert np.array_equal(made.image.numpy(), stock)
    style = str(tiny.lora(tmp_path / "style", STYLE))
    styled = model.generate("a fox", seed=3, controls=controls(net, 0.7), adapters=[LoRA(style)])
    stock = by_hand(
        "ZImageControlNetPipeline", folder, net, style, controlnet_conditioning_scale=0.7
    )
    assert np.array_equal(styled.image.numpy(), stock)
    assert styled.image.bytes != made.image.bytes
    assert model.generate("a fox", seed=3).image.bytes == plain


def test_it_paints_what_diffusers_paints(
    client: Clients, checkpoint: Checkpoints, net: Path
) -> None:
    made = client("z-image").edit(PHOTO, "a fox", mask=HALF, seed=3, controls=controls(net))
    stock = by_hand(
        "ZImageControlNetInpaintPipeline",
        checkpoint("z-image"),
        net,
        image=PHOTO.pil().convert("RGB"),
        mask_image=HALF.pil(),
        controlnet_conditioning_scale=1.0,
    )
    inside = np.s_[20:44, 20:44]
    assert np.array_equal(made.image.numpy()[inside], stock[inside])
    assert made.plan.calls[0].method == "ZImageControlNetInpaintPipeline"
    with pytest.raises(UnsupportedOption) as error:
        client("z-image").plan_edit(PHOTO, "a", mask=HALF, change=0.5, controls=controls(net))
    assert error.value.option == "change"


EDITIONS = {
    "1": {
        "control_layers_places": [0, 5, 10, 15, 20, 25],
        "control_refiner_layers_places": [],
        "control_in_dim": 4,
        "add_control_noise_refiner": None,
    },
    "2.0": {
        "control_layers_places": [*range(0, 30, 2)],
        "control_refiner_layers_places": [0],
        "add_control_noise_refiner": "control_layers",
    },
    "2.1": {
        "control_layers_places": [*range(0, 30, 2)],
        "control_refiner_layers_places": [0],
    },
}


@pytest.mark.parametrize("edition", EDITIONS)
def test_the_published_files_have_no_settings(
    edition: str, client: Clients, nets: Nets, tmp_path: Path
) -> None:
    folder = nets(edition, **EDITIONS[edition])
    state = load_file(folder / "diffusion_pytorch_model.safetensors")
    if edition == "2.0":  # they come with blocks that were never trained
        state["control_noise_refiner.0.before_proj.weight"] = torch.zeros(32, 32)
    file = tmp_path / "published.safetensors"
    save_file(state, file)
    model = client("z-image")
    whole, one, plain = (
        model.generate("a fox", seed=1, controls=each).image.bytes
        for each in (controls(folder), controls(file), [])
    )
    assert whole == one
    assert one != plain


def test_what_it_cannot_do_is_refused(client: Clients, net: Path, nets: Nets) -> None:
    model = client("z-image")
    for said, options in {
        "one control image": {"controls": controls(net) * 2},
        "control_guidance_start": {"controls": controls(net, start=0.2)},
        "needs a ControlNet": {"controls": [Control("canny", EDGES)]},
    }.items():
        with pytest.raises(UnsupportedOption, match=said):
            model.plan("a fox", **options)
    with pytest.raises(UnsupportedOption, match="img2img"):
        model.plan_edit(PHOTO, "a fox", mode="img2img", controls=controls(net))
    first = nets("first", **EDITIONS["1"])
    with pytest.raises(UnsupportedOption, match="reads a mask"):
        model.edit(PHOTO, "a fox", mask=HALF, controls=controls(first))


def test_other_files_are_refused(client: Clients, nets: Nets, tmp_path: Path) -> None:
    model = client("z-image")
    other = nets("other", control_layers_places=[0, 1, 2])
    wider = nets("wider", **EDITIONS["1"], dim=64)
    style = tiny.lora(tmp_path / "style", STYLE)
    (tmp_path / "text.safetensors").write_text("no weights")
    part = load_file(nets("part", **EDITIONS["1"]) / "diffusion_pytorch_model.safetensors")
    blocks = {name: each for name, each in part.items() if name.startswith("control_layers.")}
    save_file(blocks, tmp_path / "blocks.safetensors")
    for file in (
        tmp_path / "blocks.safetensors",
        other / "diffusion_pytorch_model.safetensors",
        wider / "diffusion_pytorch_model.safetensors",
        style,
        tmp_path / "text.safetensors",
    ):
        with pytest.raises(ConfigurationError, match="no ControlNet for this model"):
            model.generate("a fox", controls=controls(file))
