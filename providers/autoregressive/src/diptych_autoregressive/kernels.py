"""Kernels for decoding one token of a few rows: bound by reading the weights once, on a CUDA device.

A decoder layer is seven launches: norm and q, k, v; rotation and cache; attention in parts; their
sum; output and residual; norm, gate and up; down and residual. Products accumulate in float32, in an
order that does not depend on how many rows there are, so a row alone and in a batch come out equal.

Importing this module imports triton, which comes with torch for CUDA.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, import-not-found, import-untyped"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["ROWS", "attend", "gated", "linear"]

ROWS = 4
"""The most rows that a kernel multiplies while it reads the weights once."""


@triton.jit
def _linear(  # noqa: C901  # the rows, written out
    x_ptr, w_ptr, norm_ptr, bias_ptr, residual_ptr, out_ptr, N, K, eps,
    HAS_NORM: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr, GATED: tl.constexpr,
    R: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    # Sums of products stay apart for every column of the tile until the end, so the loop is loads
    # and multiplications alone. Triton has no lists of tensors: the rows are written out.
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    inside = n < N
    at_row = w_ptr + n[:, None].to(tl.int64) * K
    at_up = at_row + N.to(tl.int64) * K
    a0 = tl.zeros((BN, BK), tl.float32)
    a1 = tl.zeros((BN, BK), tl.float32)
    a2 = tl.zeros((BN, BK), tl.float32)
    a3 = tl.zeros((BN, BK), tl.float32)
    u0 = tl.zeros((BN, BK), tl.float32)
    u1 = tl.zeros((BN, BK), tl.float32)
    u2 = tl.zeros((BN, BK), tl.float32)
    u3 = tl.zeros((BN, BK), tl.float32)
    s0 = tl.zeros((BK,), tl.float32)
    s1 = tl.zeros((BK,), tl.float32)
    s2 = tl.zeros((BK,), tl.float32)
    s3 = tl.zeros((BK,), tl.float32)
    for first in range(0, K, BK):
        k = first + tl.arange(0, BK)
        kept = k < K
        mask = inside[:, None] & kept[None, :]
        w = tl.load(at_row + k[None, :], mask=mask, other=0.0).to(tl.float32)
        if GATED:
            v = tl.load(at_up + k[None, :], mask=mask, other=0.0).to(tl.float32)
        if HAS_NORM:
            gain = tl.load(norm_ptr + k, mask=kept, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + k, mask=kept, other=0.0).to(tl.float32)
        if HAS_NORM:
            s0 += x * x
            x *= gain
        a0 += w * x[None, :]
        if GATED:
            u0 += v * x[None, :]
        if R > 1:
            x = tl.load(x_ptr + K + k, mask=kept, other=0.0).to(tl.float32)
            if HAS_NORM:
                s1 += x * x
                x *= gain
            a1 += w * x[None, :]
            if GATED:
                u1 += v * x[None, :]
        if R > 2:
            x = tl.load(x_ptr + 2 * K + k, mask=kept, other=0.0).to(tl.float32)
            if HAS_NORM:
                s2 += x * x
                x *= gain
            a2 += w * x[None, :]
            if GATED:
                u2 += v * x[None, :]
        if R > 3:
            x = tl.load(x_ptr + 3 * K + k, mask=kept, other=0.0).to(tl.float32)
            if HAS_NORM:
                s3 += x * x
                x *= gain
            a3 += w * x[None, :]
            if GATED:
                u3 += v * x[None, :]
    _finish(a0, u0, s0, 0, n, inside, bias_ptr, residual_ptr, out_ptr, N, K, eps,
            HAS_NORM, HAS_BIAS, HAS_RESIDUAL, GATED)  # fmt: skip
    if R > 1:
        _finish(a1, u1, s1, 1, n, inside, bias_ptr, residual_ptr, out_ptr, N, K, eps,
                HAS_NORM, HAS_BIAS, HAS_RESIDUAL, GATED)  # fmt: skip
    if R > 2:
        _finish(a2, u2, s2, 2, n, inside, bias_ptr, residual_ptr, out_ptr, N, K, eps,
                HAS_NORM, HAS_BIAS, HAS_RESIDUAL, GATED)  # fmt: skip
    if R > 3:
        _finish(a3, u3, s3, 3, n, inside, bias_ptr, residual_ptr, out_ptr, N, K, eps,
                HAS_NORM, HAS_BIAS, HAS_RESIDUAL, GATED)  # fmt: skip


@triton.jit
def _finish(
    acc, up, squares, row, n, inside, bias_ptr, residual_ptr, out_ptr, N, K, eps,
    HAS_NORM: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr, GATED: tl.constexpr,
):  # fmt: skip
    total = tl.sum(acc, 1)
    if GATED:
        other = tl.sum(up, 1)
    if HAS_NORM:
        scale = tl.rsqrt(tl.sum(squares, 0) / K + eps)
        total *= scale
        if GATED:
            other *= scale
    if GATED:
        total = total * tl.sigmoid(total) * other
    if HAS_BIAS:
        total += tl.load(bias_ptr + n, mask=inside, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        total += tl.load(residual_ptr + row * N + n, mask=inside, other=0.0).to(tl.float32)
    tl.store(out_ptr + row * N + n, total.to(out_ptr.dtype.element_ty), mask=inside)


_TILE = {"BN": 2, "BK": 512, "num_warps": 2}
"""Rows and columns of a tile of weights, and warps: the fastest for all shapes of a 7B on Hopper."""


def _launch(
    x: Tensor,
    weight: Tensor,
    norm: Tensor | None,
    eps: float,
    bias: Tensor | None,
    residual: Tensor | None,
    out: Tensor,
    is_gated: bool,
    tile: dict[str, int] | None,
) -> Tensor:
    rows, inputs = x.shape
    outputs = out.shape[1]
    chosen: dict[str, Any] = tile or _TILE
    _linear[(triton.cdiv(outputs, chosen["BN"]),)](
        x, weight, norm, bias, residual, out, outputs, inputs, eps,
        HAS_NORM=norm is not None, HAS_BIAS=bias is not None, HAS_RESIDUAL=residual is not None,
        GATED=is_gated, R=rows, **chosen,
    )  # fmt: skip
    return out


def linear(
    x: Tensor,
    weight: Tensor,
    *,
    norm: Tensor | None = None,
    eps: float = 1e-6,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    tile: dict[str, int] | None = None,
) -> Tensor:
    """x (R, K) times weight (N, K), R at most `ROWS`; after an RMS norm, plus bias and residual.

    The sum goes into `residual` (R, N) itself, when there is one.
    """
    out = residual if residual is not None else x.new_empty(len(x), len(weight))
    return _launch(x, weight, norm, eps, bias, residual, out, False, tile)


def gated(
    x: Tensor, weight: Tensor, *, norm: Tensor, eps: float, tile: dict[str, int] | None = None
) -> Tensor:
    """silu(gate) * up (R, N) of the normed x (R, K); weight (2 N, K) holds the gate's rows first."""
    out = x.new_empty(len(x), len(weight) // 2)
    return _launch(x, weight, norm, eps, None, None, out, True, tile)


@triton.jit
def _place(
    qkv_ptr, cos_ptr, sin_ptr, column_ptr, cache_ptr, each, columns,
    H: tl.constexpr, HKV: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0)
    head = tl.program_id(1)
    d = tl.arange(0, D)
    turned = tl.where(d < D // 2, d + D // 2, d - D // 2)
    column = tl.load(column_ptr + token)
    place = ((token // each).to(tl.int64) * columns + column) * (2 * HKV * D)
    base = qkv_ptr + token * (H + 2 * HKV) * D
    key = tl.load(base + (H + head) * D + d).to(tl.float32) * tl.load(cos_ptr + column * D + d)
    other = tl.load(base + (H + head) * D + turned).to(tl.float32)
    key += other * tl.load(sin_ptr + column * D + d)
    value = tl.load(base + (H + HKV + head) * D + d)
    tl.store(cache_ptr + place + head * D + d, key.to(cache_ptr.dtype.element_ty))
    tl.store(cache_ptr + place + (HKV + head) * D + d, value)


@triton.jit
def _parts(
    qkv_ptr, cos_ptr, sin_ptr, column_ptr, cache_ptr, acc_ptr, top_ptr, sum_ptr, each, columns, scale,
    H: tl.constexpr, HKV: tl.constexpr, D: tl.constexpr, Q: tl.constexpr, BL: tl.constexpr,
    SPLITS: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0) // HKV
    head = tl.program_id(0) % HKV
    split = tl.program_id(1)
    group: tl.constexpr = H // HKV
    g = tl.arange(0, Q)
    d = tl.arange(0, D)
    used = g < group
    turned = tl.where(d < D // 2, d + D // 2, d - D // 2)
    column = tl.load(column_ptr + token)
    cos = tl.load(cos_ptr + column * D + d).to(tl.float32)
    sin = tl.load(sin_ptr + column * D + d).to(tl.float32)
    base = qkv_ptr + token * (H + 2 * HKV) * D + (head * group + g)[:, None] * D
    q = tl.load(base + d[None, :], mask=used[:, None], other=0.0).to(tl.float32) * cos[None, :]
    q += (
        tl.load(base + turned[None, :], mask=used[:, None], other=0.0).to(tl.float32) * sin[None, :]
    )
    q = (q * scale).to(cache_ptr.dtype.element_ty)
    cache = cache_ptr + (token // each).to(tl.int64) * columns * (2 * HKV * D) + head * D
    top = tl.full((Q,), -1e30, tl.float32)
    total = tl.zeros((Q,), tl.float32)
    acc = tl.zeros((Q, D), tl.float32)
    chunk = tl.cdiv(tl.cdiv(column + 1, SPLITS), BL) * BL
    begin = split * chunk
    end = tl.minimum(begin + chunk, column + 1)
    for block in range(begin, end, BL):
        place = block + tl.arange(0, BL)
        kept = place < end
        where = place[:, None].to(tl.int64) * (2 * HKV * D) + d[None, :]
        keys = tl.load(cache + where, mask=kept[:, None], other=0.0)
        values = tl.load(cache + HKV * D + where, mask=kept[:, None], other=0.0)
        scores = tl.where(kept[None, :], tl.dot(q, tl.trans(keys)), -1e30)
        highest = tl.maximum(top, tl.max(scores, 1))
        shrink = tl.exp(top - highest)
        weights = tl.where(kept[None, :], tl.exp(scores - highest[:, None]), 0.0)
        total = total * shrink + tl.sum(weights, 1)
        acc = tl.dot(weights.to(values.dtype), values, acc * shrink[:, None])
        top = highest
    slot = (token * H + head * group + g) * SPLITS + split
    tl.store(top_ptr + slot, top, mask=used)
    tl.store(sum_ptr + slot, total, mask=used)
    tl.store(acc_ptr + slot[:, None] * D + d[None, :], acc, mask=used[:, None])


@triton.jit
def _combine(acc_ptr, top_ptr, sum_ptr, out_ptr, D: tl.constexpr, SPLITS: tl.constexpr):
    head = tl.program_id(0)
    s = tl.arange(0, SPLITS)
    d = tl.arange(0, D)
    top = tl.load(top_ptr + head * SPLITS + s)
    share = tl.exp(top - tl.max(top, 0))
    total = tl.sum(tl.load(sum_ptr + head * SPLITS + s) * share, 0)
    acc = tl.load(acc_ptr + (head * SPLITS + s)[:, None] * D + d[None, :])
    out = tl.sum(acc * share[:, None], 0) / total
    tl.store(out_ptr + head * D + d, out.to(out_ptr.dtype.element_ty))


def attend(
    qkv: Tensor,
    rotation: tuple[Tensor, Tensor],
    columns: Tensor,
    cache: Tensor,
    *,
    splits: int | None = None,
    block: int = 64,
) -> Tensor:
    """Attention (T, H * D) of new tokens, whose keys and values go into the cache first.

    qkv (T, (H + 2 Hkv) * D), the tokens of a row one after another; `rotation` holds the tables
    (context, D) of cosines and of sines, signed for the first half; columns (T,) say where in its
    row a token stands, and it sees those up to its own; cache (rows, C, 2, Hkv, D) of one layer.
    """
    rows, length, _, kv_heads, side = cache.shape
    tokens = len(qkv)
    heads = qkv.shape[1] // side - 2 * kv_heads
    each = tokens // rows
    if splits is None:  # by the length alone: a row comes out the same whatever is in the batch
        splits = min(32, max(4, triton.next_power_of_2(length // 256)))
    cos, sin = rotation
    _place[(tokens, kv_heads)](
        qkv, cos, sin, columns, cache, each, length,
        H=heads, HKV=kv_heads, D=side, num_warps=1,
    )  # fmt: skip
    partial = qkv.new_empty(tokens * heads, splits, side, dtype=torch.float32)
    tops = qkv.new_empty(2, tokens * heads, splits, dtype=torch.float32)
    _parts[(tokens * kv_heads, splits)](
        qkv, cos, sin, columns, cache, partial, tops[0], tops[1], each, length, side**-0.5,
        H=heads, HKV=kv_heads, D=side, Q=max(16, triton.next_power_of_2(heads // kv_heads)), BL=block,
        SPLITS=splits, num_warps=4, num_stages=3,
    )  # fmt: skip
    out = qkv.new_empty(tokens, heads * side)
    _combine[(tokens * heads,)](partial, tops[0], tops[1], out, D=side, SPLITS=splits, num_warps=4)
    return out
