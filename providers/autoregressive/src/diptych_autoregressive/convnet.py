"""The convolutional encoder and decoder that VAR, MAR and LlamaGen share, as VQGAN built them.

All three were trained with the nets of "Taming Transformers" (arXiv:2012.09841): residual blocks with
group norm, one attention head over the pixels, strided convolutions down and nearest-neighbour up.
They differ in the names of their tensors alone, so `canonical` gives every published state dict the
names of this file: `encoder.levels.i.blocks.j`, levels counted in the order in which they run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ConvNet", "Shape", "canonical"]

GROUPS, EPS = 32, 1e-6


@dataclass(frozen=True, slots=True)
class Shape:
    """Widths of a net, read from its tensors: `levels` holds (width, blocks, attention) each."""

    inputs: int
    stem: int
    outputs: int
    levels: tuple[tuple[int, int, bool], ...]

    @classmethod
    def of(cls, state: Mapping[str, Tensor], part: str) -> Shape:
        """The shape of "encoder" or "decoder" in a canonical state dict."""
        levels: dict[int, tuple[int, int, bool]] = {}
        pattern = re.compile(rf"{part}\.levels\.(\d+)\.blocks\.(\d+)\.conv2\.weight")
        for name, tensor in state.items():
            if found := pattern.fullmatch(name):
                level, block = int(found[1]), int(found[2])
                attends = f"{part}.levels.{level}.attn.0.qkv.weight" in state
                blocks = max(block + 1, levels.get(level, (0, 0, False))[1])
                levels[level] = (tensor.shape[0], blocks, attends)
        stem, inputs = state[f"{part}.conv_in.weight"].shape[:2]
        outputs = state[f"{part}.conv_out.weight"].shape[0]
        return cls(inputs, stem, outputs, tuple(levels[index] for index in sorted(levels)))


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, inputs, EPS)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, outputs, EPS)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        out: Tensor = self.nin_shortcut(x) + h
        return out


class Attention(nn.Module):
    """One head over all pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, EPS)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, width, high, wide = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, 3, width, high * wide)
        q, k, v = qkv.transpose(2, 3).unbind(1)
        mixed = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])
        out: Tensor = x + self.proj_out(mixed[:, 0].transpose(1, 2).reshape(x.shape))
        return out


class Level(nn.Module):
    """The blocks of one resolution, then the step to the next one (`resample` is None on the last)."""

    def __init__(self, inputs: int, level: tuple[int, int, bool], up: bool, last: bool) -> None:
        super().__init__()
        width, blocks, attends = level
        widths = [inputs] + [width] * blocks
        self.blocks = nn.ModuleList(map(Residual, widths, widths[1:]))
        self.attn = nn.ModuleList(Attention(width) for _ in range(blocks if attends else 0))
        self.up = up
        self.resample: nn.Conv2d | None = None
        if not last:
            self.resample = nn.Conv2d(width, width, 3, stride=1 if up else 2, padding=int(up))

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.blocks):
            x = block(x)
            if self.attn:
                x = self.attn[index](x)
        if self.resample is None:
            return x
        x = F.interpolate(x, scale_factor=2.0) if self.up else F.pad(x, (0, 1, 0, 1))
        out: Tensor = self.resample(x)
        return out


class ConvNet(nn.Module):
    """Pixels (B, 3, S, S) to features (B, C, S/f, S/f), or with `up` back; f = 2 ** (levels - 1)."""

    def __init__(self, shape: Shape, *, up: bool) -> None:
        super().__init__()
        widths = [shape.stem] + [width for width, _, _ in shape.levels]
        last = len(shape.levels) - 1
        middle = widths[0] if up else widths[-1]
        self.up = up
        self.conv_in = nn.Conv2d(shape.inputs, shape.stem, 3, padding=1)
        self.levels = nn.ModuleList(
            Level(widths[index], level, up, index == last)
            for index, level in enumerate(shape.levels)
        )
        self.mid = nn.Sequential(
            Residual(middle, middle), Attention(middle), Residual(middle, middle)
        )
        self.norm_out = nn.GroupNorm(GROUPS, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], shape.outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        if self.up:
            x = self.mid(x)
        for level in self.levels:
            x = level(x)
        if not self.up:
            x = self.mid(x)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return out


_RENAMED = (
    (re.compile(r"\.(?:down|up|conv_blocks)\.(\d+)"), r".levels.\1"),
    (re.compile(r"(\.levels\.\d+)\.(?:block|res)\."), r"\1.blocks."),
    (re.compile(r"\.(?:downsample|upsample)\.conv\."), ".resample."),
    (re.compile(r"\.mid\.block_1\."), ".mid.0."),
    (re.compile(r"\.mid\.attn_1\."), ".mid.1."),
    (re.compile(r"\.mid\.block_2\."), ".mid.2."),
)


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict under the names of this file; q, k and v become one projection."""
    counted_up = [
        int(found[1]) for name in state if (found := re.match(r"decoder\.up\.(\d+)", name))
    ]
    top = max(counted_up, default=0)
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        # Where the levels of a decoder are called "up", the highest number runs first.
        if found := re.match(r"decoder\.up\.(\d+)(.*)", name):
            name = f"decoder.up.{top - int(found[1])}{found[2]}"
        for pattern, replacement in _RENAMED:
            name = pattern.sub(replacement, name)
        renamed[name] = tensor
    for name in [name for name in renamed if re.search(r"\.q\.(weight|bias)$", name)]:
        parts = [name.replace(".q.", f".{each}.") for each in "qkv"]
        renamed[name.replace(".q.", ".qkv.")] = torch.cat([renamed.pop(part) for part in parts])
    return renamed
