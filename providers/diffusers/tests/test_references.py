"""Reference pictures: beside the picture, through an IP-Adapter, through Redux."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych import ConfigurationError, Image, InvalidInput, Reference, UnsupportedOption

from . import tiny
from .conftest import Checkpoints, Clients, picture

FAMILIES = ("sd", "sdxl", "flux")


@pytest.fixture(scope="session")
def adapters(
    checkpoint: Checkpoints, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, str]]:
    """`extra` for an IP-Adapter of each family."""
    return {
        family: {
            "ip_adapter": str(tiny.ip_adapter(tmp_path_factory.mktemp("ip"), checkpoint(family)))
        }
        for family in FAMILIES
    }


def red() -> Image:
    return Image.of(np.full((40, 40, 3), (200, 10, 10), np.uint8))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reference_acts_and_leaves_no_trace(
    family: str, client: Clients, adapters: dict[str, dict[str, str]]
) -> None:
    model, extra = client(family), adapters[family]
    plain = model.generate("a fox", seed=1).image.bytes

    def drawn(*references: Any) -> bytes:
        return model.generate("a fox", seed=1, references=references, extra=extra).image.bytes

    made = [drawn(red()), drawn(picture(64, 64)), drawn(Reference(red(), 0.4))]
    assert len({plain, *made}) == 4
    assert model.generate("a fox", seed=1).image.bytes == plain
    assert drawn(Reference(red(), 1)) == made[0]
    edit = {"mode": "img2img", "change": 0.6, "seed": 1}
    without = model.edit(picture(64, 64), "a cat in the snow", **edit).image.bytes
    beside = model.edit(
        picture(64, 64), "a cat in the snow", references=[red()], extra=extra, **edit
    )
    assert beside.image.bytes != without


@pytest.mark.parametrize("family", ["sd", "flux"])
def test_requests_with_and_without_references_run_side_by_side(
    family: str, client: Clients, adapters: dict[str, dict[str, str]]
) -> None:
    model = client(family)
    wanted: list[dict[str, Any]] = [
        {},
        {"references": [red()], "extra": adapters[family]},
        {"references": [Reference(red(), 0.3)], "extra": adapters[family]},
        {},
    ]

    def drawn(options: dict[str, Any]) -> bytes:
        return model.generate("a fox", seed=1, steps=5, **options).image.bytes

    alone = [drawn(each) for each in wanted]
    with ThreadPoolExecutor(len(wanted)) as pool:
        assert list(pool.map(drawn, wanted)) == alone


def test_redux_reads_a_reference(client: Clients, tmp_path: Path) -> None:
    flux, extra = client("flux"), {"redux": str(tiny.redux(tmp_path))}
    plain = flux.generate("a fox", seed=1).image.bytes
    made = [
        flux.generate(words, seed=1, references=[each], extra=extra).image.bytes
        for words, each in (("a fox", red()), ("a fox", picture(64, 64)), ("a cat", red()))
    ]
    assert len({plain, *made}) == 4
    assert flux.generate("a fox", seed=1).image.bytes == plain
    with pytest.raises(UnsupportedOption, match="weight"):
        flux.plan("a fox", references=[Reference(red(), 0.5)], extra=extra)


@pytest.mark.parametrize("family", ["flux2-klein", "qwen-image-edit-plus"])
def test_models_that_read_several_pictures_read_them(
    family: str, client: Clients, small: None
) -> None:
    model, photo = client(family), picture(64, 64)
    plain = model.edit(photo, "make it red", seed=1).image
    both = model.edit(photo, "make it red", references=[red()], seed=1).image
    assert both.bytes != plain.bytes
    assert both.size == (64, 64)
    with pytest.raises(UnsupportedOption, match="weight"):
        model.plan_edit(photo, "make it red", references=[Reference(red(), 0.5)])
    with pytest.raises(UnsupportedOption, match="at most"):
        model.plan_edit(photo, "make it red", references=[red()] * 12)


def test_a_reference_that_nothing_reads_is_refused(
    client: Clients, adapters: dict[str, dict[str, str]]
) -> None:
    for family in FAMILIES:
        with pytest.raises(UnsupportedOption, match="ip_adapter"):
            client(family).plan("a fox", references=[red()])
        with pytest.raises(UnsupportedOption, match="references="):
            client(family).plan("a fox", extra=adapters[family])
    for family in ("flux-fill", "sd3", "chroma", "qwen-image", "flux-control"):
        with pytest.raises(UnsupportedOption):
            client(family).plan("a fox", references=[red()])
    with pytest.raises(UnsupportedOption):
        client("flux-kontext").plan_edit(picture(64, 64), "make it red", references=[red()])
    with pytest.raises(UnsupportedOption, match="at most 1"):
        client("sd").plan("a fox", references=[red(), red()], extra=adapters["sd"])


def test_what_is_no_ip_adapter_of_the_model_is_refused(
    client: Clients, adapters: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    sd = client("sd")
    plain = sd.generate("a fox", seed=1).image.bytes
    lora = tiny.lora(tmp_path, {"unet.mid_block.attentions.0.proj_in": (16, 16)})
    with pytest.raises(InvalidInput, match="no IP-Adapter"):
        sd.generate("a fox", references=[red()], extra={"ip_adapter": str(lora)})
    with pytest.raises((ConfigurationError, InvalidInput)):
        sd.generate("a fox", references=[red()], extra=adapters["flux"])
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "ip_adapter.safetensors").write_bytes(Path(adapters["sd"]["ip_adapter"]).read_bytes())
    with pytest.raises(ConfigurationError, match="image_encoder"):
        sd.generate("a fox", references=[red()], extra={"ip_adapter": str(alone)})
    elsewhere = {"image_encoder": str(Path(adapters["sd"]["ip_adapter"]).parent / "image_encoder")}
    named = {"ip_adapter": str(alone)} | elsewhere
    assert sd.generate("a fox", seed=1, references=[red()], extra=named).images
    assert sd.generate("a fox", seed=1).image.bytes == plain
