"""One kernel: the activation before a linear layer and its input in float8, in one pass over memory.

Importing this module imports triton, which comes with torch for CUDA.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, import-not-found, import-untyped"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["gelu_rows"]


@triton.jit
def _gelu_rows(x_ptr, out_ptr, scale_ptr, K, first, LARGEST: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, BLOCK)
    kept = k < K
    x = tl.load(x_ptr + row * K + k, mask=kept, other=0.0).to(tl.float32)
    risen = x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    x = tl.where(k >= first, risen, x)
    scale = tl.maximum(tl.max(tl.abs(x), 0), 1e-12) / LARGEST
    x = tl.minimum(tl.maximum(x / scale, -LARGEST), LARGEST)
    tl.store(out_ptr + row * K + k, x.to(out_ptr.dtype.element_ty), mask=kept)
    tl.store(scale_ptr + row, scale)


@torch.library.triton_op("diptych::gelu_rows", mutates_args={})
def gelu_rows(x: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Rows (M, K) in float8 and their scales (M, 1), of x with GELU (tanh) on the columns from `first`."""
    rows, inputs = x.shape
    x = x.contiguous()
    out = torch.empty_like(x, dtype=torch.float8_e4m3fn)
    scale = x.new_empty(rows, 1, dtype=torch.float32)
    torch.library.wrap_triton(_gelu_rows)[(rows,)](
        x, out, scale, inputs, first,
        LARGEST=448.0, BLOCK=triton.next_power_of_2(inputs), num_warps=8,
    )  # fmt: skip
    return out, scale
