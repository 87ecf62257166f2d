"""Rows times a weight of int8 or fp8 numbers with a scale for each output, which are widened in registers.

A decode step reads each weight once for all its rows, so half the bytes are half the time. The weight is the left side
of the matrix units' product, which they take from registers; the few rows are the right side.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

_LEAST_SIZE = 16  # of what a matrix unit takes
_BUSY_PROGRAMS = 256  # enough for two on each part of a large GPU
_LEAST_PART = 512  # numbers of a row that are worth a program of their own
_MOST_SPLITS = 8
_JOIN_BLOCK = 1024
_WIDEN_BLOCK = 2048

# A kernel is compiled for what its arguments are divisible by; this one would have it compiled again in mid-service.
_FROM_STEP_TO_STEP = ("count",)


@dataclass(frozen=True, slots=True)
class Tiles:
    """How `few_rows` divides its work: tiles of outputs and rows, steps along a row, parts that a row is cut into."""

    outs: int
    rows: int
    step: int
    splits: int
    warps: int = 4
    stages: int = 4


@triton.jit(do_not_specialize=_FROM_STEP_TO_STEP)
def _few_rows(  # type: ignore[no-untyped-def]
    rows, weight, scale, bias, out, parts, count, size, outs, row_stride,
    BIAS: tl.constexpr, EVEN: tl.constexpr, SPLITS: tl.constexpr, OUTS: tl.constexpr, ROWS: tl.constexpr,
    STEP: tl.constexpr,
):  # fmt: skip
    """A tile of outputs and rows, or one part of its sum; EVEN: the weight fills all tiles and steps."""
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    o = tl.program_id(1) * OUTS + tl.arange(0, OUTS)  # neighbours read the same weights
    part = tl.program_id(2)
    k = tl.arange(0, STEP)
    each = tl.cdiv(tl.cdiv(size, SPLITS), STEP) * STEP
    begin = part * each
    end = tl.minimum(begin + each, size)
    weights = weight + o[:, None].to(tl.int64) * size + k[None, :]
    given = rows + r[None, :].to(tl.int64) * row_stride + k[:, None]
    total = tl.zeros([OUTS, ROWS], tl.float32)
    for start in range(begin, end, STEP):
        inside = start + k < end
        if EVEN:
            w = tl.load(weights + start)
            x = tl.load(given + start, mask=r[None, :] < count, other=0.0)
        else:
            w = tl.load(weights + start, mask=(o[:, None] < outs) & inside[None, :], other=0.0)
            x = tl.load(given + start, mask=(r[None, :] < count) & inside[:, None], other=0.0)
        total = tl.dot(w.to(x.dtype), x, total, input_precision="ieee")
    real = (o[:, None] < outs) & (r[None, :] < count)
    at = r[None, :].to(tl.int64) * outs + o[:, None]
    if SPLITS == 1:
        total *= tl.load(scale + o, mask=o < outs, other=0.0)[:, None]
        if BIAS:
            total += tl.load(bias + o, mask=o < outs, other=0.0).to(tl.float32)[:, None]
        tl.store(out + at, total.to(out.dtype.element_ty), mask=real)
    else:
        tl.store(parts + part.to(tl.int64) * count * outs + at, total, mask=real)


@triton.jit(do_not_specialize=_FROM_STEP_TO_STEP)
def _join(  # type: ignore[no-untyped-def]
    parts, scale, bias, out, count, outs, BIAS: tl.constexpr, SPLITS: tl.constexpr, BLOCK: tl.constexpr
):
    """The parts of a piece of one row."""
    row = tl.program_id(0).to(tl.int64)
    o = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = o < outs
    total = tl.zeros([BLOCK], tl.float32)
    for part in range(SPLITS):
        total += tl.load(parts + (part * count + row) * outs + o, mask=inside, other=0.0)
    total *= tl.load(scale + o, mask=inside, other=0.0)
    if BIAS:
        total += tl.load(bias + o, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * outs + o, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _widen(weight, scale, out, size, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """A piece of one output's weights a program."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    wide = tl.load(weight + row * size + at, mask=inside, other=0.0).to(tl.float32) * tl.load(scale + row)
    tl.store(out + row * size + at, wide.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _narrow(rows, out, scales, stride, size, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """One row a program."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < size
    x = tl.load(rows + row * stride + at, mask=inside, other=0.0).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(x), 0), 1e-12) / 448.0
    tl.store(scales + row, scale)
    tl.store(out + row * size + at, tl.clamp(x / scale, -448.0, 448.0).to(out.dtype.element_ty), mask=inside)


def tiles_for(count: int, outs: int, size: int) -> Tiles:
    """For so many rows and a weight [outs, size]: a row is cut into parts where its tiles alone leave a GPU idle."""
    rows = min(64, max(_LEAST_SIZE, triton.next_power_of_2(count)))
    programs = triton.cdiv(outs, 64) * triton.cdiv(count, rows)
    wanted: int = triton.next_power_of_2(triton.cdiv(_BUSY_PROGRAMS, programs))
    most = min(_MOST_SPLITS, max(1, size // _LEAST_PART))
    return Tiles(outs=64, rows=rows, step=128, splits=min(wanted, triton.next_power_of_2(most + 1) // 2))


def few_rows(
    rows: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None,
    tiles: Tiles | None = None,
) -> torch.Tensor:
    """[rows, in_features] → [rows, out_features]; `weight` [out_features, in_features], int8 or fp8, contiguous.

    `scale` [out_features], float32.
    """
    count, (outs, size) = rows.shape[0], weight.shape
    tiles = tiles or tiles_for(count, outs, size)
    out = torch.empty((count, outs), dtype=rows.dtype, device=rows.device)
    splits = tiles.splits
    parts = out if splits == 1 else torch.empty((splits, count, outs), dtype=torch.float32, device=rows.device)
    given, biased = rows if bias is None else bias, bias is not None
    _few_rows[(triton.cdiv(count, tiles.rows), triton.cdiv(outs, tiles.outs), splits)](
        rows, weight, scale, given, out, parts, count, size, outs, rows.stride(0),
        BIAS=biased, EVEN=outs % tiles.outs == 0 and size % tiles.step == 0, SPLITS=splits,
        OUTS=tiles.outs, ROWS=tiles.rows, STEP=tiles.step, num_warps=tiles.warps,
        num_stages=tiles.stages if rows.element_size() == 2 else min(2, tiles.stages),  # or shared memory is too small
    )  # fmt: skip
    if splits > 1:
        _join[(count, triton.cdiv(outs, _JOIN_BLOCK))](
            parts, scale, given, out, count, outs, BIAS=biased, SPLITS=splits, BLOCK=_JOIN_BLOCK, num_warps=4
        )
    return out


def widened(weight: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The weight times its scales, rounded once."""
    outs, size = weight.shape
    out = torch.empty((outs, size), dtype=dtype, device=weight.device)
    _widen[(outs, triton.cdiv(size, _WIDEN_BLOCK))](weight, scale, out, size, BLOCK=_WIDEN_BLOCK, num_warps=4)
    return out


def narrowed(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows [rows, size] in fp8, and the scale of each, [rows, 1], float32."""
    count, size = rows.shape
    out = torch.empty((count, size), dtype=torch.float8_e4m3fn, device=rows.device)
    scales = torch.empty((count, 1), dtype=torch.float32, device=rows.device)
    block = triton.next_power_of_2(size)
    _narrow[(count,)](rows, out, scales, rows.stride(0), size, BLOCK=block, num_warps=min(16, max(1, block // 512)))
    return out, scales
