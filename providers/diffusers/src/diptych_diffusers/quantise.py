"""Linear layers in eight bits: half the bytes of bfloat16, and up to twice the arithmetic.

Every row of the weights and, while running, every token of the input has a scale of its own, so a
picture does not depend on what is in its batch. Products accumulate in 32 bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["TRITON", "Eight", "eight_bits", "format_for", "has_kernels"]

TRITON = find_spec("triton") is not None
"""Whether torch came with a compiler for CUDA, as on Linux it does."""

_ROUND = 16
"""Matrix units take sides that are multiples of this."""


def format_for(device: torch.device) -> torch.dtype | None:
    """The eight-bit format that `device` multiplies: float8 (e4m3), int8, or None for neither.

    CUDA from compute capability 8.9 has float8, from 8.0 int8.
    """
    if device.type != "cuda" or torch.version.cuda is None:
        return None
    capability = torch.cuda.get_device_capability(device)
    if capability >= (8, 9):
        return torch.float8_e4m3fn
    return torch.int8 if capability >= (8, 0) else None


def has_kernels(device: torch.device) -> bool:
    """Whether `kernels` run on `device`."""
    return TRITON and device.type == "cuda" and torch.version.cuda is not None


class Eight(nn.Module):
    """A linear layer (in, out) with weights in float8 or int8, and a scale for each output.

    With `gelu` it applies GELU (tanh) to its input first. The weights are rounded on `device` and
    stay where they were.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(
        self,
        linear: nn.Linear,
        kind: torch.dtype,
        *,
        gelu: bool = False,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self.gelu = gelu
        self.in_features, self.out_features = linear.in_features, linear.out_features
        home = linear.weight.device
        weight, scale = by_row(linear.weight.detach().to(device or home), kind)
        self.register_buffer("weight", weight.to(home))
        self.register_buffer("scale", scale.T.contiguous().to(home))
        bias = None if linear.bias is None else linear.bias.detach()
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor, before: Tensor | None = None) -> Tensor:
        """(..., in) to (..., out), in the format of x. Columns `before` come ahead of x's, and get
        no GELU."""
        ahead = None if before is None else before.reshape(-1, before.shape[-1])
        rows, scale = self._rows(x.reshape(-1, x.shape[-1]), ahead)
        if self.weight.dtype == torch.int8:
            product = torch._int_mm(rows, self.weight.T).float() * scale * self.scale
            if self.bias is not None:
                product = product + self.bias
            out = product.to(x.dtype)
        else:
            out = torch._scaled_mm(
                rows,
                self.weight.T,
                scale_a=scale,
                scale_b=self.scale,
                bias=self.bias,
                out_dtype=x.dtype,
                use_fast_accum=True,
            )
        return out.reshape(*x.shape[:-1], self.out_features)

    def _rows(self, x: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.gelu:
            if self.weight.dtype == torch.float8_e4m3fn and has_kernels(x.device):
                from .kernels import gelu_rows

                both: tuple[Tensor, Tensor] = gelu_rows(x, before)
                return both
            x = F.gelu(x, approximate="tanh")
        return by_row(x if before is None else torch.cat([before, x], dim=1), self.weight.dtype)


def by_row(x: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows (M, K) in eight bits and their scales (M, 1), float32, so that rows * scale is x."""
    largest = torch.iinfo(kind).max if kind == torch.int8 else torch.finfo(kind).max
    wide = x.float()
    scale = wide.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / largest
    wide = (wide / scale).clamp(-largest, largest)
    return (wide.round() if kind == torch.int8 else wide).to(kind), scale


def eight_bits(
    blocks: Iterable[nn.Module], kind: torch.dtype, device: torch.device | None = None
) -> int:
    """Turn the linear layers inside `blocks` into eight bits, in place; how many there were.

    The rounding is done on `device`, by default where the layers are.

    Those that make the modulation of a norm from the timestep stay as they are: they are small work
    and steer everything.
    """
    count = 0
    for block in blocks:
        count += _after_gelu(block, kind, device)
        for path, module in list(block.named_modules()):
            parent = block.get_submodule(path.rpartition(".")[0])
            if type(module) is nn.Linear and _worthwhile(path, module):
                setattr(parent, path.rpartition(".")[2], Eight(module, kind, device=device))
                count += 1
    return count


def _worthwhile(path: str, linear: nn.Linear) -> bool:
    steers = any("norm" in part or "modulation" in part.lower() for part in path.split("."))
    whole = linear.in_features % _ROUND == 0 and linear.out_features % _ROUND == 0
    return whole and not steers


def _after_gelu(block: Any, kind: torch.dtype, device: torch.device | None) -> int:
    """Join an activation to the layer after it, where their input is the widest; how many."""
    count = 0
    nets: list[Any] = [getattr(module, "net", None) for module in block.modules()]
    for net in nets:
        if not isinstance(net, nn.ModuleList) or type(net[0]).__name__ != "GELU":
            continue
        if net[0].approximate == "tanh" and type(net[-1]) is nn.Linear and _worthwhile("", net[-1]):
            net[-1] = Eight(net[-1], kind, gelu=True, device=device)
            first: Any = net[0]
            net[0] = first.proj
            count += 1
    return count
