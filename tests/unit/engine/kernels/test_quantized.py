"""Products of weights of eight bits by kernels, against torch."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)

from ekiden_worker.engine.quantized import FEW_ROWS, KINDS, quantize_linears, quantized
from tests.unit.engine.conftest import tiny_model
from tests.unit.engine.kernels import DEVICE, DTYPES, numbers

pytest.importorskip("triton", reason="Triton is not installed")

from ekiden_worker.engine.kernels import quantized as kernels
from ekiden_worker.engine.quantized_kernels import KernelProducts
from tests.unit.engine.kernels.test_kernels import close
from tests.unit.engine.test_quantized import rounded


def product(rows: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    wide = weight.float().double() * scale.double()[:, None]
    return F.linear(rows.double(), wide, None if bias is None else bias.double())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("count", "outs", "size"),
    [(1, 100, 64), (1, 33, 1100), (2, 64, 256), (5, 100, 1100), (70, 130, 200), (FEW_ROWS + 1, 70, 100)],
)
@pytest.mark.parametrize("biased", [False, True])
def test_products(kind: str, dtype: torch.dtype, count: int, outs: int, size: int, biased: bool) -> None:
    weight, scale = quantized(numbers((outs, size), torch.float32), KINDS[kind])
    rows, bias = numbers((count, size), dtype), numbers((outs,), dtype) if biased else None
    found = KernelProducts(fp8_units=False)(rows, weight, scale, bias)
    assert found.dtype == dtype
    close(found, product(rows, weight, scale, bias))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("splits", [1, 2, 8])
@pytest.mark.parametrize("step", [32, 64])
def test_parts_of_a_row_are_joined(kind: str, splits: int, step: int) -> None:
    weight, scale = quantized(numbers((70, 192), torch.float32), KINDS[kind])
    rows, bias = numbers((20, 192), torch.float32), numbers((70,), torch.float32)
    tiles = kernels.Tiles(outs=32, rows=16, step=step, splits=splits)
    close(kernels.few_rows(rows, weight, scale, bias, tiles), product(rows, weight, scale, bias))


@pytest.mark.parametrize("count", [2, 16, 17, 64, 65, 128])
@pytest.mark.parametrize(("outs", "size"), [(64, 32), (4096, 4096), (22016, 4096), (4096, 11008), (33, 576)])
def test_tiles_cover_any_size(count: int, outs: int, size: int) -> None:
    tiles = kernels.tiles_for(count, outs, size)
    assert 16 <= tiles.rows <= 64
    assert tiles.rows < 2 * max(count, 16)
    assert tiles.splits & (tiles.splits - 1) == 0
    assert tiles.splits == 1 or size / tiles.splits >= 512


def test_rows_become_narrow_with_a_scale_each() -> None:
    # Their largest number is 448 times a power of two: there is nothing to round but by it.
    given = torch.tensor([[448.0, 16.0, -2.0], [-1.75, 0.5, 0.25], [0.0, 0.0, 0.0]], device=DEVICE)
    narrow, scales = kernels.narrowed(given)
    torch.testing.assert_close(narrow.float() * scales, given)
    torch.testing.assert_close(scales[:2, 0], torch.tensor([1.0, 1.75 / 448], device=DEVICE))


@torch.inference_mode()
def test_a_model_of_such_products() -> None:
    expected = deepcopy(tiny_model("llama")).to(DEVICE)
    expected.set_attn_implementation("sdpa")
    model = deepcopy(expected)
    quantize_linears(model, "int8", DEVICE, KernelProducts(fp8_units=False))
    ids = torch.arange(5, 9, device=DEVICE)[None]
    close(model(ids).logits, rounded(expected, "int8")(ids).logits)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="no CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_products_of_many_rows_on_a_gpu(kind: str) -> None:
    """Here fp8 rows are rounded too."""
    weight, scale = quantized(numbers((256, 512), torch.float32), KINDS[kind])
    rows, bias = numbers((300, 512), torch.bfloat16), numbers((256,), torch.bfloat16)
    expected = product(rows, weight, scale, bias)
    units = torch.cuda.get_device_capability() >= (9, 0)
    found = KernelProducts(fp8_units=units)(rows, weight, scale, bias)
    assert (found.double() - expected).norm() / expected.norm() < 0.05
