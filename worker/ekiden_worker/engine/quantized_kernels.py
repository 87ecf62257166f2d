"""Products of quantised weights by kernels: for CUDA devices, and by Triton's interpreter in tests."""

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)

from ekiden_worker.engine.fp8 import FP8
from ekiden_worker.engine.kernels import linear
from ekiden_worker.engine.kernels import quantized as kernels
from ekiden_worker.engine.quantized import FEW_ROWS


class KernelProducts:
    """A `Compute` (see quantized.py)."""

    def __init__(self, fp8_units: bool) -> None:
        """`fp8_units`: the device multiplies fp8 by fp8, with a scale for each row of both."""
        self._fp8_units = fp8_units

    def __call__(
        self, rows: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        if rows.shape[0] == 1:
            return linear.one_row(rows, weight, bias, scale)
        if rows.shape[0] <= FEW_ROWS:
            return kernels.few_rows(rows, weight, scale, bias)
        if self._fp8_units and _whole_units(rows, weight):
            narrow, scales = kernels.narrowed(rows)
            found: torch.Tensor = torch._scaled_mm(  # noqa: SLF001 (no public name multiplies with scales)
                narrow, weight.t(), scales, scale[None], bias=bias, out_dtype=rows.dtype, use_fast_accum=True
            )
            return found
        return F.linear(rows, kernels.widened(weight, scale, rows.dtype), bias)


def _whole_units(rows: torch.Tensor, weight: torch.Tensor) -> bool:
    """torch's product of fp8 takes rows of bfloat16 and sizes that fill its matrix units."""
    return weight.dtype == FP8 and rows.dtype == torch.bfloat16 and all(size % 16 == 0 for size in weight.shape)
