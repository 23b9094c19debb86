"""Emu3.5's tokenizer of pictures against the published net, written out function by function."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diptych_autoregressive.emu35_model import IBQ

from diptych.errors import InvalidInput

CODES, WIDTH, LEVELS = 64, 8, 5


def vision() -> dict[str, torch.Tensor]:
    """A picture tokenizer with random weights under the published names."""
    generator, state = torch.Generator().manual_seed(1), {}

    def weight(name: str, *shape: int) -> None:
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * 0.2
        state[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.1

    def block(name: str) -> None:
        for norm, conv in (("norm1", "conv1"), ("norm2", "conv2")):
            weight(f"{name}.{norm}", 32)
            weight(f"{name}.{conv}", 32, 32, 3, 3)

    for part, path, count in (("encoder", "down", 1), ("decoder", "up", 2)):
        inner, outer = (3, WIDTH) if part == "encoder" else (WIDTH, 3)
        weight(f"{part}.conv_in", 32, inner, 3, 3)
        for level in range(LEVELS):
            for number in range(count):
                block(f"{part}.{path}.{level}.block.{number}")
            if level != (LEVELS - 1 if part == "encoder" else 0):
                weight(f"{part}.{path}.{level}.{path}sample.conv", 32, 32, 3, 3)
        for name in ("block_1", "block_2"):
            block(f"{part}.mid.{name}")
        weight(f"{part}.mid.attn_1.norm", 32)
        for name in ("q", "k", "v", "proj_out"):
            weight(f"{part}.mid.attn_1.{name}", 32, 32, 1, 1)
        weight(f"{part}.norm_out", 32)
        weight(f"{part}.conv_out", outer, 32, 3, 3)
    weight("quant_conv", WIDTH, WIDTH, 1, 1)
    weight("post_quant_conv", WIDTH, WIDTH, 1, 1)
    state["quantize.embedding.weight"] = torch.randn(CODES, WIDTH, generator=generator)
    return state


class Net:
    """The published net, function by function."""

    def __init__(self, path) -> None:
        self.state = torch.load(path, weights_only=True)
        self.codebook = self.state["quantize.embedding.weight"]

    def conv(self, x, name, **options):
        return F.conv2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], **options)

    def norm(self, x, name):
        return F.group_norm(x, 32, self.state[f"{name}.weight"], self.state[f"{name}.bias"], 1e-6)

    def block(self, x, name):
        h = self.conv(F.silu(self.norm(x, f"{name}.norm1")), f"{name}.conv1", padding=1)
        return x + self.conv(F.silu(self.norm(h, f"{name}.norm2")), f"{name}.conv2", padding=1)

    def mid(self, x, name):
        x = self.block(x, f"{name}.block_1")
        normed = self.norm(x, f"{name}.attn_1.norm")
        q, k, v = (self.conv(normed, f"{name}.attn_1.{each}").flatten(2).mT for each in "qkv")
        mixed = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
        x = x + self.conv(mixed.mT.view_as(x), f"{name}.attn_1.proj_out")
        return self.block(x, f"{name}.block_2")

    def encode(self, x):
        x = self.conv(x, "encoder.conv_in", padding=1)
        for level in range(LEVELS):
            x = self.block(x, f"encoder.down.{level}.block.0")
            if level < LEVELS - 1:
                padded = F.pad(x, (0, 1, 0, 1))
                x = self.conv(padded, f"encoder.down.{level}.downsample.conv", stride=2)
        x = F.silu(self.norm(self.mid(x, "encoder.mid"), "encoder.norm_out"))
        x = self.conv(self.conv(x, "encoder.conv_out", padding=1), "quant_conv")
        return torch.einsum("bdhw,nd->bnhw", x, self.codebook).argmax(1)

    def decode(self, codes):
        x = self.conv(self.codebook[codes].permute(0, 3, 1, 2), "post_quant_conv")
        x = self.mid(self.conv(x, "decoder.conv_in", padding=1), "decoder.mid")
        for level in reversed(range(LEVELS)):
            for number in range(2):
                x = self.block(x, f"decoder.up.{level}.block.{number}")
            if level:
                x = F.interpolate(x, scale_factor=2.0)
                x = self.conv(x, f"decoder.up.{level}.upsample.conv", padding=1)
        return self.conv(F.silu(self.norm(x, "decoder.norm_out")), "decoder.conv_out", padding=1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("ibq") / "model.ckpt"
    torch.save(vision(), path)
    return path


def test_it_draws_what_the_published_net_draws(path):
    codes = torch.randint(0, CODES, (3, 5), generator=torch.Generator().manual_seed(2))
    theirs = Net(path).decode(codes[None])[0]
    assert theirs.shape == (3, 48, 80)
    assert torch.allclose(IBQ.load(path, "cpu").decode(codes), theirs, atol=1e-4)


def test_a_code_is_the_one_of_the_largest_product(path):
    pixels = torch.rand(3, 48, 80, generator=torch.Generator().manual_seed(3)) * 2 - 1
    theirs = Net(path).encode(pixels[None])[0]
    assert len(theirs.unique()) > 1
    assert torch.equal(IBQ.load(path, "cpu").encode(pixels), theirs)


def test_a_tensor_that_is_missing_is_named(tmp_path):
    state = vision()
    del state["decoder.conv_in.weight"]
    torch.save(state, tmp_path / "model.ckpt")
    with pytest.raises(InvalidInput, match=r"decoder\.conv_in\.weight"):
        IBQ.load(tmp_path / "model.ckpt", "cpu")
