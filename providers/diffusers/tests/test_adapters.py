"""LoRAs: honoured, several at once, refused for other models, and gone without a trace."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from diptych_diffusers.adapters import KEPT
from safetensors.torch import load_file, save_file

from diptych import ConfigurationError, ImageClient, InvalidInput, LoRA, UnsupportedOption

from . import tiny
from .conftest import Clients, picture

LAYERS = {
    "flux": {"transformer.transformer_blocks.0.attn.to_q": (32, 32)},
    "sd3": {"transformer.transformer_blocks.0.attn.to_q": (32, 32)},
    "sd": {
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": (16, 16),
        "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v": (32, 16),
    },
    "chroma": {"transformer.transformer_blocks.0.attn.to_q": (32, 32)},
    "flux-kontext": {"transformer.single_transformer_blocks.0.attn.to_k": (32, 32)},
}
FAMILIES = tuple(LAYERS)

Styles = Callable[..., str]


@pytest.fixture
def style(tmp_path: Path) -> Styles:
    """Writes a LoRA for a family and returns its path."""

    def make(family: str, name: str = "style", **metadata: str) -> str:
        return str(tiny.lora(tmp_path / name, LAYERS[family], **metadata))

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_acts_and_leaves_no_trace(family: str, client: Clients, style: Styles) -> None:
    model, path = client(family), style(family)
    plain = model.generate("a fox", seed=1).image.bytes
    full = model.generate("a fox", seed=1, adapters=[path]).image.bytes
    half = model.generate("a fox", seed=1, adapters=[LoRA(path, scale=0.5)]).image.bytes
    none = model.generate("a fox", seed=1, adapters=[LoRA(path, scale=0)]).image.bytes
    assert len({plain, full, half}) == 3
    assert none == plain
    assert model.generate("a fox", seed=1).image.bytes == plain
    assert model.generate("a fox", seed=1, adapters=[path]).image.bytes == full


@pytest.mark.parametrize("family", ["flux", "sd"])
def test_several_adapters_act_together(family: str, client: Clients, style: Styles) -> None:
    model = client(family)
    first, second = style(family, "first"), style(family, "the other one")

    def drawn(*adapters: LoRA) -> bytes:
        return model.generate("a fox", seed=1, adapters=adapters).image.bytes

    both = drawn(LoRA(first, 0.7), LoRA(second, 0.4))
    assert len({both, drawn(LoRA(first, 0.7)), drawn(LoRA(second, 0.4)), drawn()}) == 4
    assert drawn(LoRA(second, 0.4), LoRA(first, 0.7)) == both
    assert drawn(LoRA(first, 0.3), LoRA(first, 0.4), LoRA(second, 0.4)) == both


@pytest.mark.parametrize("family", ["flux", "sd"])
def test_requests_with_and_without_adapters_run_side_by_side(
    family: str, client: Clients, style: Styles
) -> None:
    model, path = client(family), style(family)
    wanted = [(), (path,), (LoRA(path, 0.3),), (path,), ()]

    def drawn(adapters: tuple[LoRA | str, ...]) -> bytes:
        return model.generate("a fox", seed=1, steps=6, adapters=adapters).image.bytes

    alone = [drawn(each) for each in wanted]
    with ThreadPoolExecutor(len(wanted)) as pool:
        assert list(pool.map(drawn, wanted)) == alone


@pytest.mark.parametrize("family", ["flux", "sd"])
def test_adapters_act_in_edits(family: str, client: Clients, style: Styles) -> None:
    model, path = client(family), style(family)
    options = {"mode": "img2img", "change": 0.8, "seed": 1}
    plain = model.edit(picture(64, 64), "a cat in the snow", **options).image.bytes
    worn = model.edit(picture(64, 64), "a cat in the snow", adapters=[path], **options)
    assert worn.image.bytes != plain


def test_an_adapter_that_says_it_is_of_another_model_is_refused(
    client: Clients, style: Styles
) -> None:
    """The layers of this one fit by name and by shape."""
    path = style("flux", **{"modelspec.architecture": "flux-1-dev/lora"})
    assert client("flux").generate("a fox", seed=1, adapters=[path]).images
    with pytest.raises(ConfigurationError, match="flux-1-dev"):
        client("sd3").generate("a fox", seed=1, adapters=[path])


def test_an_adapter_whose_layers_do_not_fit_is_refused(
    client: Clients, style: Styles, tmp_path: Path
) -> None:
    flux = client("flux")
    plain = flux.generate("a fox", seed=1).image.bytes
    with pytest.raises((ConfigurationError, InvalidInput)):
        flux.generate("a fox", adapters=[style("sd")])
    wrong = tiny.lora(tmp_path / "shape", {"transformer.transformer_blocks.0.attn.to_q": (48, 48)})
    with pytest.raises(ConfigurationError, match="another model"):
        flux.generate("a fox", adapters=[str(wrong)])
    assert flux.generate("a fox", seed=1).image.bytes == plain


def test_an_adapter_that_could_not_be_taken_off_is_refused(
    client: Clients, style: Styles, tmp_path: Path
) -> None:
    """Norms are replaced for good, where other layers are added to."""
    flux = client("flux")
    plain = flux.generate("a fox", seed=1).image.bytes
    state = load_file(style("flux")) | {
        "transformer.transformer_blocks.0.attn.norm_q.weight": torch.full((16,), 3.0)
    }
    save_file(state, tmp_path / "norms.safetensors")
    with pytest.raises(ConfigurationError, match="norm_q"):
        flux.generate("a fox", adapters=[str(tmp_path / "norms.safetensors")])
    assert flux.generate("a fox", seed=1).image.bytes == plain


def test_more_adapters_than_stay_loaded_take_turns(client: Clients, style: Styles) -> None:
    model = client("sd")
    paths = [style("sd", f"style {'x' * each}") for each in range(KEPT + 1)]

    def drawn(path: str) -> bytes:
        return model.generate("a fox", seed=1, steps=3, adapters=[path]).image.bytes

    alone = [drawn(each) for each in paths]
    assert len(set(alone)) == len(paths)
    with ThreadPoolExecutor(len(paths)) as pool:
        assert list(pool.map(drawn, paths)) == alone


def test_a_folder_and_a_file_are_the_same(client: Clients, style: Styles) -> None:
    path = style("flux")
    flux = client("flux")
    assert (
        flux.generate("a fox", seed=1, adapters=[path]).image.bytes
        == flux.generate("a fox", seed=1, adapters=[str(Path(path).parent)]).image.bytes
    )


def test_pickles_addresses_and_missing_files_are_refused(client: Clients, tmp_path: Path) -> None:
    pickle = tmp_path / "style.pt"
    torch.save({"a": torch.zeros(1)}, pickle)
    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "notes.txt").write_text("no weights")
    flux = client("flux")
    for path, said in {
        str(pickle): "pickle",
        "https://example.com/style.safetensors": "download",
        "./nothing.safetensors": "no file",
        "style": "no file",
        "../../nowhere": "no file",
        "org/../../name": "repository",
        str(tmp_path / "notes.txt"): "not a .safetensors",
    }.items():
        with pytest.raises(InvalidInput, match=said):
            flux.plan("a fox", adapters=[path])
    with pytest.raises(InvalidInput, match="safetensors"):
        flux.generate("a fox", adapters=[str(tmp_path / "text.safetensors")])
    (tmp_path / "more.safetensors").write_text("no weights")
    with pytest.raises(InvalidInput, match="name one"):
        flux.generate("a fox", adapters=[str(tmp_path)])


def test_a_family_without_adapters_refuses_them(style: Styles) -> None:
    with (
        ImageClient("diffusers/PixArt-alpha/PixArt-Sigma-XL-2-1024-MS") as pixart,
        pytest.raises(UnsupportedOption, match="adapters"),
    ):
        pixart.plan("a fox", adapters=[style("flux")])
