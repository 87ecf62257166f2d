"""A matrix times a few rows: what a decode step is made of, bound by the memory that holds the weights."""

from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

# Of 36 combinations the best for each of five weights between 4,096² and 32,000 × 4,096 on an H200.
_OUT, _STEP = 4, 1024

_LEAST_ROWS = 16  # of what a matrix unit takes
_MANY_OUTS = 8192
# (outputs of a program, numbers of a row in one step, stages): of 84 the best for weights with many outputs, and for
# those with fewer, on an H200. cuBLAS takes 2 to 9 % longer for 64 rows, up to a tenth for 16.
_TILES_OF_MANY, _TILES_OF_FEW = (128, 64, 5), (64, 128, 6)


@triton.jit
def _one_row(  # type: ignore[no-untyped-def]
    row, weight, scale, bias, out, size, rows,
    SCALE: tl.constexpr, BIAS: tl.constexpr, OUT: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """OUT numbers of the result a program."""
    o = tl.program_id(0) * OUT + tl.arange(0, OUT)
    k = tl.arange(0, STEP)
    total = tl.zeros([OUT, STEP], tl.float32)
    at = weight + o[:, None].to(tl.int64) * size + k[None, :]
    for start in range(0, size, STEP):
        inside = start + k < size
        x = tl.load(row + start + k, mask=inside, other=0.0).to(tl.float32)
        w = tl.load(at + start, mask=(o[:, None] < rows) & inside[None, :], other=0.0).to(tl.float32)
        total += w * x[None, :]
    result = tl.sum(total, 1)
    if SCALE:
        result *= tl.load(scale + o, mask=o < rows, other=0.0)
    if BIAS:
        result += tl.load(bias + o, mask=o < rows, other=0.0).to(tl.float32)
    tl.store(out + o, result.to(out.dtype.element_ty), mask=o < rows)


def one_row(
    row: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, scale: torch.Tensor | None = None
) -> torch.Tensor:
    """[1, in_features] → [1, out_features]; `weight` [out_features, in_features], contiguous, any type of numbers.

    `scale` [out_features], float32: what each row of `weight` is to be multiplied by.
    """
    rows, size = weight.shape
    out = torch.empty((1, rows), dtype=row.dtype, device=row.device)
    _one_row[(triton.cdiv(rows, _OUT),)](
        row, weight, row if scale is None else scale, row if bias is None else bias, out, size, rows,
        SCALE=scale is not None, BIAS=bias is not None, OUT=_OUT, STEP=_STEP, num_warps=2, num_stages=2,
    )  # fmt: skip
    return out


@triton.jit
def _few_rows(  # type: ignore[no-untyped-def]
    rows, weight, bias, out, count, size, outs,
    BIAS: tl.constexpr, ROWS: tl.constexpr, OUT: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """OUT numbers of each row's result a program. The weight is the matrix unit's left side, which is large."""
    first = tl.program_id(0) * OUT
    o = first + tl.arange(0, OUT)
    r = tl.arange(0, ROWS)
    total = tl.zeros([OUT, ROWS], tl.float32)
    for start in range(0, size, STEP):
        total = tl.dot(weight.load([first, start]), rows.load([0, start]).T, total)
    if BIAS:
        total += tl.load(bias + o, mask=o < outs, other=0.0).to(tl.float32)[:, None]
    real = (o[:, None] < outs) & (r[None, :] < count)
    tl.store(out + r[None, :] * outs + o[:, None], total.to(out.dtype.element_ty), mask=real)


def few_rows(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """[rows, in_features] → [rows, out_features]; `weight` [out_features, in_features], all contiguous.

    By a kernel where it is faster than cuBLAS: one row, and up to MOST_FEW_ROWS of 16 bits on Hopper and later.
    """
    if rows.shape[0] == 1:
        return one_row(rows, weight, bias)
    # What is copied by tile begins at multiples of 16 bytes.
    if rows.element_size() != 2 or weight.shape[1] % 8 or not _copies_tiles(rows.device):
        return F.linear(rows, weight, bias)
    return by_tiles(rows, weight, bias)


def by_tiles(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """`few_rows` by the kernel, on a device that copies tiles by itself."""
    count, (outs, size) = rows.shape[0], weight.shape
    out_tile, step, stages = _TILES_OF_MANY if outs >= _MANY_OUTS else _TILES_OF_FEW
    row_tile = max(_LEAST_ROWS, triton.next_power_of_2(count))
    out = torch.empty((count, outs), dtype=rows.dtype, device=rows.device)
    _few_rows[(triton.cdiv(outs, out_tile),)](
        TensorDescriptor.from_tensor(rows, [row_tile, step]), TensorDescriptor.from_tensor(weight, [out_tile, step]),
        rows if bias is None else bias, out, count, size, outs,
        BIAS=bias is not None, ROWS=row_tile, OUT=out_tile, STEP=step, num_warps=4, num_stages=stages,
    )  # fmt: skip
    return out


@cache
def _copies_tiles(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 9
