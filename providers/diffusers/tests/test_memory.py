"""Where the parts of a model are kept, and who shares them."""

from __future__ import annotations

import pytest
import torch
from diptych_diffusers.cards import describe
from diptych_diffusers.classes import CLASSES
from diptych_diffusers.memory import SPARE, Needs, Placement, choose, needs, settle

from diptych.errors import ConfigurationError
from diptych.local.checkpoints import find
from diptych.local.components import component
from diptych.local.pool import pool

from .conftest import Checkpoints, Clients

GB = 10**9
FLUX = Needs(
    {
        "text_encoder": GB // 4,
        "text_encoder_2": 95 * GB // 10,
        "transformer": 238 * GB // 10,
        "vae": GB // 6,
    },
    block=68 * GB // 100,
    pixels=1024 * 1024,
)


@pytest.mark.parametrize(
    ("free", "quantised", "kind"),
    [
        (141, False, "resident"),
        (40, False, "resident"),
        (32, False, "components"),
        (24, False, "groups"),
        (32, True, "resident"),
        (18, True, "components"),
    ],
)
def test_the_fastest_way_that_fits(free: int, quantised: bool, kind: str) -> None:
    found = choose(FLUX, free * GB, "cuda:0", quantised=quantised)
    assert found.kind == kind
    assert found.quantised == quantised
    assert found.peak + SPARE <= free * GB
    if kind == "resident":
        assert found.notices == ()
    else:
        (notice,) = found.notices
        assert f"{free}.0 GB free" in notice.message


def test_what_does_not_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(ConfigurationError, match=r"weights take 33\.7 GB.*cuda:0 has 8\.0 GB free"):
        choose(FLUX, 8 * GB, "cuda:0")
    tight = Needs(FLUX.parts | {"text_encoder_2": GB}, 8 * GB, FLUX.pixels)
    with pytest.raises(ConfigurationError, match='set speed="fast"'):
        choose(tight, 20 * GB, "cuda:0")
    wide = Needs(FLUX.parts, FLUX.block, FLUX.pixels, width=4)
    with pytest.raises(ConfigurationError, match='dtype="bfloat16"'):
        choose(wide, 30 * GB, "cpu")


def test_more_memory_is_never_worse() -> None:
    order = ["resident", "components", "groups"]
    kinds = [choose(FLUX, free * GB, "cuda:0").kind for free in range(16, 60)]
    assert kinds == sorted(kinds, key=order.index, reverse=True)
    assert set(kinds) == set(order)


@pytest.mark.parametrize("family", ["flux", "sd3", "qwen-image", "z-image"])
def test_needs_are_read_from_the_files(family: str, checkpoint: Checkpoints) -> None:
    folder = checkpoint(family)
    facts = describe(find("diffusers", str(folder))).facts
    assert facts is not None
    found = needs(folder, 64 * 64, 4)
    for name in facts.components & set(found.parts):
        module = component(folder, name, torch.float32, CLASSES)
        held = sum(each.numel() for each in [*module.parameters(), *module.buffers()])
        assert found.parts[name] == pytest.approx(4 * held, rel=0.05)
    assert 0 < found.block <= found.parts["transformer"]


@pytest.mark.parametrize("kind", ["components", "groups"])
@torch.no_grad()
def test_parts_that_come_and_go_compute_the_same(kind: str, checkpoint: Checkpoints) -> None:
    folder = checkpoint("flux")
    names = ("transformer", "text_encoder", "vae")
    plain, placed = (
        {name: component(folder, name, torch.float32, CLASSES) for name in names} for _ in range(2)
    )
    settle(placed, Placement(kind, 0), torch.device("cpu"))  # type: ignore[arg-type]
    ids = torch.arange(5)[None]
    latents = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    config = plain["transformer"].config
    inputs = {
        "hidden_states": latents.reshape(1, 16, 64)[..., : config.in_channels],
        "encoder_hidden_states": torch.ones(1, 4, config.joint_attention_dim),
        "pooled_projections": torch.ones(1, config.pooled_projection_dim),
        "timestep": torch.tensor([0.5]),
        "guidance": torch.tensor([3.5]),
        "txt_ids": torch.zeros(4, 3),
        "img_ids": torch.zeros(16, 3),
        "return_dict": False,
    }
    channels = plain["vae"].config.latent_channels
    for call in (
        lambda parts: parts["text_encoder"](ids).pooler_output,
        lambda parts: parts["transformer"](**inputs)[0],
        lambda parts: parts["vae"].decode(latents[:, :channels], return_dict=False)[0],
    ):
        assert torch.equal(call(plain), call(placed))


def test_two_models_share_what_they_both_ship(checkpoint: Checkpoints, client: Clients) -> None:
    before = set(pool().where())  # others' clients may hold the same files
    first = client("flux", max_batch=1)
    first.generate("a fox", seed=1)
    alone = set(pool().where())
    assert len(alone) >= 3
    # The same files for another client setting: text encoders and VAE are held once.
    second = client("flux", max_batch=2)
    assert (
        second.generate("a fox", seed=1).image.bytes == first.generate("a fox", seed=1).image.bytes
    )
    assert len(set(pool().where()) - alone) == 1
    first.close()
    assert len(alone - set(pool().where())) == 1
    second.close()
    assert set(pool().where()) <= before
