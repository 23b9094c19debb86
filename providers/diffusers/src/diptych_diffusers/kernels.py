"""Triton kernels: work between products of matrices, in one pass over memory each.

Importing this module imports triton, which comes with torch for CUDA.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, import-not-found, import-untyped"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["gelu_rows", "rotated"]

_TOKENS = 16
"""Tokens of one program of `rotated`; they share their angles over the heads."""


@triton.jit
def _gelu_rows(before_ptr, x_ptr, out_ptr, scale_ptr, K, first, LARGEST: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, BLOCK)
    kept = k < K
    late = k >= first
    x = tl.load(x_ptr + row * (K - first) + k - first, mask=kept & late, other=0.0).to(tl.float32)
    x = x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    before = tl.load(before_ptr + row * first + k, mask=k < first, other=0.0).to(tl.float32)
    x = tl.where(late, x, before)
    scale = tl.maximum(tl.max(tl.abs(x), 0), 1e-12) / LARGEST
    x = tl.minimum(tl.maximum(x / scale, -LARGEST), LARGEST)
    tl.store(out_ptr + row * K + k, x.to(out_ptr.dtype.element_ty), mask=kept)
    tl.store(scale_ptr + row, scale)


@torch.library.triton_op("diptych::gelu_rows", mutates_args={})
def gelu_rows(x: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Rows (M, A + K) in float8 and their scales (M, 1): `before` (M, A) as it is, then GELU (tanh)
    of x (M, K).
    """
    rows, inputs = x.shape
    x = x.contiguous()
    ahead = x if before is None else before.contiguous()
    first = 0 if before is None else before.shape[1]
    out = x.new_empty(rows, first + inputs, dtype=torch.float8_e4m3fn)
    scale = x.new_empty(rows, 1, dtype=torch.float32)
    torch.library.wrap_triton(_gelu_rows)[(rows,)](
        ahead, x, out, scale, first + inputs, first,
        LARGEST=448.0, BLOCK=triton.next_power_of_2(first + inputs), num_warps=8,
    )  # fmt: skip
    return out, scale


@triton.jit
def _rotated(
    x_ptr, weight_ptr, cos_ptr, sin_ptr, out_ptr, tokens, heads, skipped, in_all, eps,
    D: tl.constexpr, TOKENS: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    batch = tl.program_id(2).to(tl.int64)
    there = (token < tokens)[:, None]
    d = tl.arange(0, D)
    pair = tl.arange(0, D // 2)
    angle = (skipped + token)[:, None] * D + 2 * pair[None, :]
    cos = tl.load(cos_ptr + angle, mask=there, other=0.0)
    sin = tl.load(sin_ptr + angle, mask=there, other=0.0)
    weight = tl.load(weight_ptr + d).to(tl.float32)
    first = tl.program_id(1) * HEADS
    for head in range(first, tl.minimum(first + HEADS, heads)):
        row = (batch * tokens + token) * heads + head
        x = tl.load(x_ptr + row[:, None] * D + d[None, :], mask=there, other=0.0).to(tl.float32)
        x = x * tl.rsqrt(tl.sum(x * x, 1) / D + eps)[:, None] * weight[None, :]
        x = x.to(out_ptr.dtype.element_ty).to(tl.float32)  # the stock norm rounds here
        real, imaginary = tl.split(tl.reshape(x, (TOKENS, D // 2, 2)))
        turned = tl.join(real * cos - imaginary * sin, imaginary * cos + real * sin)
        row = (batch * in_all + skipped + token) * heads + head
        turned = tl.reshape(turned, (TOKENS, D)).to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + row[:, None] * D + d[None, :], turned, mask=there)


@torch.library.triton_op("diptych::rotated", mutates_args={})
def rotated(
    x: Tensor,
    weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    eps: float,
    ahead: Tensor | None = None,
    ahead_weight: Tensor | None = None,
) -> Tensor:
    """Queries or keys (B, S, H, D) after their RMS norm and rotation; D is a power of two.

    `ahead` (B, A, H, D), which has a norm of its own, comes before them in the result
    (B, A + S, H, D). `cos` and `sin` (A + S, D) are float32, every angle twice in a row.
    """
    batch, tokens, heads, width = x.shape
    first = 0 if ahead is None else ahead.shape[1]
    out = x.new_empty(batch, first + tokens, heads, width)
    cos, sin = cos.contiguous(), sin.contiguous()
    parts = [(x, weight, first)]
    if ahead is not None and ahead_weight is not None:
        parts.append((ahead, ahead_weight, 0))
    for part, scale, skipped in parts:
        grid = (triton.cdiv(part.shape[1], _TOKENS), triton.cdiv(heads, 8), batch)
        torch.library.wrap_triton(_rotated)[grid](
            part.contiguous(), scale, cos, sin, out,
            part.shape[1], heads, skipped, first + tokens, eps,
            D=width, TOKENS=_TOKENS, HEADS=8,
        )  # fmt: skip
    return out
