"""Presets of speed: what they change, what they say, and that they keep their word."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from diptych_diffusers.classes import CLASSES
from diptych_diffusers.fused import fuse
from diptych_diffusers.planning import TRADES
from diptych_diffusers.quantise import Eight, eight_bits
from diptych_diffusers.skipping import LEAST, computed
from diptych_diffusers.speed import blocks
from peft import LoraConfig

from diptych import Image, ImageClient
from diptych.local.components import component

from .conftest import Checkpoints, Clients


def apart(first: Image, second: Image) -> float:
    """Peak signal-to-noise ratio in dB."""
    error = np.mean((first.numpy().astype(float) - second.numpy().astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.mark.parametrize("steps", range(1, 101))
def test_the_schedule_of_skipped_steps(steps: int) -> None:
    runs = computed(steps)
    assert len(runs) == steps
    assert all(runs[:4])
    assert all(runs[-2:])
    assert all(runs) == (steps < LEAST)
    assert not any(runs[at : at + 3] == (False,) * 3 for at in range(steps))
    if steps == 28:
        assert sum(runs) == 14


def test_without_eight_bits_fast_says_that_it_is_exact(client: Clients) -> None:
    exact = client("flux").generate("a fox", seed=3)
    fast = client("flux", speed="fast").generate("a fox", seed=3)
    assert exact.image.bytes == fast.image.bytes
    assert exact.notices == ()
    planned, found = fast.notices
    assert planned.option == found.option == "speed"
    assert TRADES["fast"] in planned.message
    assert "cpu has no eight-bit matrix products" in found.message


@pytest.mark.parametrize("family", ["flux", "sd3", "qwen-image", "z-image"])
def test_turbo_runs_the_model_on_fewer_steps(family: str, client: Clients) -> None:
    exact = client(family).generate("a fox", seed=3, steps=20)
    turbo = client(family, speed="turbo").generate("a fox", seed=3, steps=20)
    assert exact.raw["passes"] == 20
    assert turbo.raw["passes"] == sum(computed(20)) == 10
    assert any("only steps are skipped" in notice.message for notice in turbo.notices)
    again = client(family, speed="turbo").generate("a fox", seed=3, steps=20)
    assert again.image.bytes == turbo.image.bytes
    few = client(family, speed="turbo").generate("a fox", seed=3, steps=4)
    assert few.image.bytes == client(family).generate("a fox", seed=3, steps=4).image.bytes


def test_turbo_pictures_do_not_depend_on_their_batch(client: Clients) -> None:
    turbo = client("flux", speed="turbo", max_batch=4)
    together = turbo.generate("a fox", seed=5, n=3, steps=16)
    for seed, image in zip((5, 6, 7), together.images, strict=True):
        alone = turbo.generate("a fox", seed=seed, steps=16).image
        assert apart(alone, image) > 50


def test_turbo_stays_close_on_real_weights() -> None:
    pytest.importorskip("diptych_pocket")
    with (
        ImageClient("diffusers/pocket", device="cpu") as exact,
        ImageClient("diffusers/pocket", device="cpu", speed="turbo") as turbo,
    ):
        prompt = "a red fox in the snow"
        one, other = (each.generate(prompt, seed=3, steps=20).image for each in (exact, turbo))
        assert apart(one, other) > 32


def test_an_edit_between_descriptions_skips_nothing(client: Clients, photo: Image) -> None:
    edits = [
        client("flux", speed=speed).edit(
            photo, "a cat", source_prompt="a fox", mode="invert", seed=1, steps=14
        )
        for speed in ("exact", "turbo")
    ]
    assert edits[0].image.bytes == edits[1].image.bytes


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.int8])
@torch.no_grad()
def test_an_eight_bit_layer_is_close_and_treats_every_row_alone(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(64, 48).bfloat16()
    x = torch.randn(2, 20, 64).bfloat16()
    x[1] *= 1000  # does not coarsen its neighbour
    eight = Eight(linear, kind)
    for row in range(2):
        exact, found = linear(x[row]), eight(x)[row]
        assert (found - exact).norm() / exact.norm() < 0.05
        assert torch.equal(found, eight(x[row : row + 1])[0])
    joined = Eight(linear, kind, gelu=True)
    risen = torch.nn.functional.gelu(x[0], approximate="tanh")
    for before in (None, x[0, :, :16]):
        whole = risen if before is None else torch.cat([before, risen[:, 16:]], dim=-1)
        exact = linear(whole)
        found = joined(x[0] if before is None else x[0, :, 16:], before)
        assert (found - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize("family", ["flux", "sd3", "qwen-image", "z-image"])
@torch.no_grad()
def test_blocks_in_eight_bits_keep_their_modulation(family: str, checkpoint: Checkpoints) -> None:
    transformer = component(checkpoint(family), "transformer", torch.bfloat16, CLASSES)
    found = blocks(transformer)
    assert found
    before = {name for name, each in transformer.named_modules() if type(each) is torch.nn.Linear}
    count = eight_bits(found, torch.float8_e4m3fn)
    after = {name for name, each in transformer.named_modules() if type(each) is torch.nn.Linear}
    assert count == len(before) - len(after)
    assert count >= 4 * len(found)
    assert {name for name in before if "norm" in name.lower()} <= after


def flux_inputs(config: Any, dtype: torch.dtype, device: str = "cpu") -> dict[str, Any]:
    draw = torch.Generator().manual_seed(1)
    image = torch.randn(2, 16, config.in_channels, generator=draw)
    text = torch.randn(2, 5, config.joint_attention_dim, generator=draw)
    inputs = {
        "hidden_states": image.to(dtype),
        "encoder_hidden_states": text.to(dtype),
        "pooled_projections": torch.ones(2, config.pooled_projection_dim).to(dtype),
        "timestep": torch.tensor([0.5, 0.25]),
        "guidance": torch.tensor([3.5, 1.5]),
        "txt_ids": torch.zeros(5, 3),
        "img_ids": torch.arange(48).reshape(16, 3).float(),
    }
    return {name: each.to(device) for name, each in inputs.items()} | {"return_dict": False}


def off(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


@torch.no_grad()
def test_flux_in_eight_bits_is_close(checkpoint: Checkpoints) -> None:
    plain = component(checkpoint("flux"), "transformer", torch.bfloat16, CLASSES)
    inputs = flux_inputs(plain.config, torch.bfloat16)
    exact = plain(**inputs)[0]
    for kind in (torch.float8_e4m3fn, torch.int8):
        eight = copy.deepcopy(plain)
        eight_bits(blocks(eight), kind)
        unfused = eight(**inputs)[0]
        assert off(unfused, exact) < 0.1
        fuse(blocks(eight))
        assert off(eight(**inputs)[0], unfused) < 0.05


@pytest.mark.parametrize("compiled", [False, True])
@torch.no_grad()
def test_fused_blocks_compute_the_same(compiled: bool, checkpoint: Checkpoints) -> None:
    plain = component(checkpoint("flux"), "transformer", torch.float32, CLASSES)
    inputs = flux_inputs(plain.config, torch.float32)
    exact = plain(**inputs)[0]
    fuse(blocks(plain))
    if compiled:
        for block in blocks(plain):
            block.compile(fullgraph=True, backend="aot_eager")
    assert off(plain(**inputs)[0], exact) < 1e-5
    assert all("forward" in vars(each) for each in plain.single_transformer_blocks)


@torch.no_grad()
def test_fused_blocks_run_the_layers_of_adapters(checkpoint: Checkpoints) -> None:
    plain = component(checkpoint("flux"), "transformer", torch.float32, CLASSES)
    targets = ["to_q", "to_k", "add_q_proj", "proj_mlp", "proj_out", "net.0.proj", "net.2"]
    torch.manual_seed(0)
    plain.add_adapter(LoraConfig(r=2, target_modules=targets, init_lora_weights=False))
    inputs = flux_inputs(plain.config, torch.float32)
    worn = plain(**inputs)[0]
    plain.disable_adapters()
    assert off(plain(**inputs)[0], worn) > 1e-3
    plain.enable_adapters()
    fuse(blocks(plain))
    assert off(plain(**inputs)[0], worn) < 1e-5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("kind", [None, torch.float8_e4m3fn])
@torch.no_grad()
def test_kernels_compute_what_the_blocks_do(kind: torch.dtype | None) -> None:
    torch.manual_seed(0)
    plain = FluxTransformer2DModel(
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=64,
        num_attention_heads=3,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        in_channels=16,
        axes_dims_rope=(16, 24, 24),
        guidance_embeds=True,
    )
    for name, parameter in plain.named_parameters():
        if "norm_q" in name or "norm_k" in name or "norm_added" in name:
            parameter.uniform_(0.5, 2)
    plain.to("cuda", torch.bfloat16)
    inputs = flux_inputs(plain.config, torch.bfloat16, "cuda")
    exact = plain(**inputs)[0]
    if kind is not None:
        eight_bits(blocks(plain), kind)
    fuse(blocks(plain))
    assert off(plain(**inputs)[0], exact) < (0.02 if kind is None else 0.1)
    for block in blocks(plain):
        block.compile(fullgraph=True)
    assert off(plain(**inputs)[0], exact) < (0.02 if kind is None else 0.1)


def test_the_plan_says_what_a_preset_trades(client: Clients, photo: Image) -> None:
    def told(model: str, speed: str, **edit: str) -> list[str]:
        made = client(model, speed=speed)
        plan = made.plan_edit(photo, "a cat", **edit) if edit else made.plan("a fox")
        return [each.message for each in plan.notices if each.option == "speed"]

    assert told("flux", "exact") == []
    assert told("flux", "fast") == [f"speed='fast' trades: {TRADES['fast']}"]
    assert told("flux", "turbo") == [f"speed='turbo' trades: {TRADES['turbo']}"]
    (said,) = told("flux", "turbo", mode="invert", source_prompt="a fox")
    assert "no step is skipped" in said
    (said,) = told("sdxl", "turbo")
    assert "changes nothing" in said
