"""A matrix times one row: what a single answer's decode step is made of, bound by the memory that holds the weights."""

import torch
import triton
import triton.language as tl

# Of 36 combinations the best for each of five weights between 4,096² and 32,000 × 4,096 on an H200.
_OUT, _STEP = 4, 1024


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
