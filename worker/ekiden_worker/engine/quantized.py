"""Weights of eight bits: int8, or fp8 (see fp8.py), with a float32 scale for each output.

The largest weight of an output becomes the largest number of the type; the others are rounded to the nearest. On a GPU
with matrix units for fp8 the rows of a long prompt become fp8 too, each with a scale of its own; elsewhere rows stay as
they are. So do embeddings and the layer that makes logits.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec

import structlog
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import nn
from transformers import PreTrainedModel

from ekiden_worker.engine.difference import difference
from ekiden_worker.engine.fp8 import FP8, LARGEST, from_fp8, lacking, to_fp8
from ekiden_worker.engine.linears import Group, LayersProduct, groups_of, joined_bias

log = structlog.get_logger()

KINDS = {"int8": torch.int8, "fp8": FP8}

Compute = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""Rows [rows, in_features], weight [out_features, in_features], scale and bias → [rows, out_features]."""

# Up to so many rows the kernel reads the narrow weight; more are worth a product of torch's own.
FEW_ROWS = 128
# torch's product of int8 on a CPU takes the rows one after the other, and is slow in float32.
_FEW_ROWS_CPU = 16

_PROBES = 1, 2, 17, 33, FEW_ROWS, FEW_ROWS + 1  # rows; each has other tiles, or another way
_FURTHEST = 0.1  # ‖found − expected‖ / ‖expected‖ of kernels: rounding alone stays below, that of rows to fp8 too


def quantized(weight: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight [out_features, in_features] as numbers of `dtype`, int8 or fp8, and its scales [out_features]."""
    wide = weight.detach().float()
    most = LARGEST if dtype == FP8 else 127.0
    scale = torch.linalg.vector_norm(wide, torch.inf, dim=1).clamp_(min=1e-12).div_(most)
    wide = wide / scale[:, None]
    return to_fp8(wide) if dtype == FP8 else wide.round_().clamp_(-most, most).to(torch.int8), scale


def plain(rows: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The product by torch's operators, on any device: the weight is widened each time."""
    # Sums of unscaled int8 are too large for float16.
    wide = torch.float32 if rows.dtype == torch.float16 else rows.dtype
    if weight.dtype == torch.int8 and rows.shape[0] <= _FEW_ROWS_CPU and _int8_by_torch(rows):
        found = torch._weight_int8pack_mm(rows, weight, torch.ones(len(weight), dtype=rows.dtype))  # noqa: SLF001
    elif weight.dtype == FP8:
        found = F.linear(rows.to(wide), from_fp8(weight, wide))
    else:
        found = F.linear(rows.to(wide), weight.to(wide))
    scaled = found * scale
    return (scaled if bias is None else scaled + bias).to(rows.dtype)


class QuantizedProduct(LayersProduct):
    """A product whose weight is kept in eight bits, on `device`."""

    def __init__(
        self, linears: Sequence[nn.Linear], dtype: torch.dtype, device: torch.device, compute: Compute
    ) -> None:
        super().__init__(linears)
        parts = [quantized(linear.weight.to(device), dtype) for linear in linears]
        self._weight, self._scale = (torch.cat(part) for part in zip(*parts, strict=True))
        bias = joined_bias(linears)
        self._bias = None if bias is None else bias.to(device)
        self._compute = compute

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        flat = rows.reshape(-1, rows.shape[-1]).contiguous()
        return self._compute(flat, self._weight, self._scale, self._bias).view(*rows.shape[:-1], -1)


def quantize_linears(model: PreTrainedModel, kind: str, device: torch.device, compute: Compute | None = None) -> None:
    """Replace the linear layers by products of `kind`, a key of KINDS, on `device`, one after the other.

    Each weight goes to the device by itself and is let go, so that the whole model need never be there. The rest stays
    where it is. `compute`: None for the fastest on this device. Raises ValueError for a model that has no plain linear
    layers, and for fp8 on a GPU that does not know it.
    """
    groups = list(_groups(model))
    if not groups:
        raise ValueError(f"{type(model).__name__} has no plain linear layers")
    if KINDS[kind] == FP8 and (reason := lacking(device)):
        raise ValueError(reason)
    compute = compute or _compute_on(device, KINDS[kind], model.dtype)
    for group in groups:
        group.replace(QuantizedProduct(group.linears, KINDS[kind], device, compute))
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what is free is free for the KV cache
    log.info("weights_quantized", kind=kind, products=len(groups))


def saved_bytes(model: PreTrainedModel) -> int:
    """How many bytes less the weights will take."""
    linears = [linear for group in _groups(model) for linear in group.linears]
    return sum(
        linear.weight.numel() * (linear.weight.element_size() - 1) - linear.out_features * 4 for linear in linears
    )


def _groups(model: PreTrainedModel) -> Iterator[Group]:
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return (group for group in groups_of(model) if not any(linear is head for linear in group.linears))


def _int8_by_torch(rows: torch.Tensor) -> bool:
    # With AVX-512 torch reads 16 numbers at once, also behind the end of rows that are no multiple of it.
    return rows.device.type == "cpu" and rows.dtype == torch.bfloat16 and rows.shape[1] % 16 == 0


def _compute_on(device: torch.device, dtype: torch.dtype, rows_dtype: torch.dtype) -> Compute:
    """By kernels, if they run on this device and compute what torch does."""
    if device.type != "cuda" or find_spec("triton") is None:
        return plain
    from ekiden_worker.engine.quantized_kernels import KernelProducts

    compute = KernelProducts(fp8_units=torch.cuda.get_device_capability(device) >= (9, 0))
    try:
        with torch.cuda.device(device):  # kernels are launched on the current one
            found = [_error(compute, dtype, count, device, rows_dtype) for count in _PROBES]
    except Exception as error:  # noqa: BLE001 (a compiler's errors are of many kinds)
        log.warning("kernels_do_not_run", error=str(error))
        return plain
    if all(error < _FURTHEST for error in found):
        return compute
    log.warning("kernels_differ", differences=found)
    return plain


def _error(compute: Compute, dtype: torch.dtype, count: int, device: torch.device, rows_dtype: torch.dtype) -> float:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(count, 256, generator=generator).to(device, rows_dtype)
    weight, scale = quantized(torch.randn(128, 256, generator=generator).to(device), dtype)
    return difference(compute(rows, weight, scale, None), plain(rows, weight, scale, None))
