"""Kernels over a KV cache of eight bits.

Triton's interpreter widens such numbers exactly, but rounds to them in another way than a GPU does: what is written
here are numbers that need no rounding.
"""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)

from ekiden_worker.engine.fp8 import FP8, to_fp8
from tests.unit.engine.kernels import DEVICE, DTYPES, numbers

pytest.importorskip("triton", reason="Triton is not installed")

from ekiden_worker.engine.kernels import attention, layers
from tests.unit.engine.kernels.test_kernels import cache, close, gathered, tables


def fp8_cache(kv_heads: int, size: int, block_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    keys, values = cache(kv_heads, size, block_size, torch.float32)
    return to_fp8(keys), to_fp8(values)


def wide(cached: torch.Tensor, table: torch.Tensor, length: int) -> torch.Tensor:
    return gathered(cached.float(), table, length).double()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(4, 4, 64), (6, 2, 80)])
def test_decode(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, heads: int, kv_heads: int, size: int) -> None:
    monkeypatch.setattr(attention, "_BUSY_PROGRAMS", 8)
    lengths = [1, 50, 97]
    keys, values = fp8_cache(kv_heads, size, 16)
    table = tables(len(lengths), 7)
    query = numbers((len(lengths), heads, size), dtype)
    out = torch.full((len(lengths), heads, size), torch.nan, dtype=dtype, device=DEVICE)
    attention.decode(query, keys, values, table, torch.tensor(lengths, dtype=torch.int32, device=DEVICE), 0.3, out)
    for row, length in enumerate(lengths):
        k, v = wide(keys, table[row], length), wide(values, table[row], length)
        q = query[row][None, :, None].double()
        close(out[row], F.scaled_dot_product_attention(q, k, v, scale=0.3, enable_gqa=True)[0, :, 0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_prefill(dtype: torch.dtype) -> None:
    count, past = 70, 20
    keys, values = fp8_cache(2, 64, 16)
    table = tables(1, 6)
    query = numbers((count, 4, 64), dtype)
    out = torch.full((count, 4, 64), torch.nan, dtype=dtype, device=DEVICE)
    tiles = torch.tensor(attention.tiles_of(0, count, past, 0), dtype=torch.int32, device=DEVICE)
    attention.prefill(query, keys, values, table, tiles, 0.3, out)
    k, v = wide(keys, table[0], count + past), wide(values, table[0], count + past)
    mask = torch.ones(count, count + past, dtype=torch.bool, device=DEVICE).tril(past)
    q = query.transpose(0, 1)[None].double()
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3, enable_gqa=True)
    close(out, expected[0].transpose(0, 1))


def even_numbers(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Numbers that fp8 has, and some that are too large for it."""
    given = to_fp8(numbers(shape, torch.float32)).float()
    given.view(-1)[::13] = 1000.0
    given.view(-1)[1::13] = -30000.0
    return given.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_write(dtype: torch.dtype) -> None:
    keys, values = fp8_cache(3, 80, 16)
    expected_keys, expected_values = keys.clone(), values.clone()
    key, value = even_numbers((4, 3, 80), dtype), even_numbers((4, 3, 80), dtype)
    slots = [0, 17, 18, 600]
    layers.write(key, value, torch.tensor(slots, device=DEVICE), keys, values)
    for row, slot in enumerate(slots):
        expected_keys[slot // 16, :, slot % 16] = to_fp8(key[row])
        expected_values[slot // 16, :, slot % 16] = to_fp8(value[row])
    assert torch.equal(keys.float(), expected_keys.float())
    assert torch.equal(values.float(), expected_values.float())


@pytest.mark.parametrize("dtype", DTYPES)
def test_place(dtype: torch.dtype) -> None:
    slots = [37, 3]
    rows = even_numbers((2, 8 * 64), dtype)
    given = rows.clone().view(2, 8, 64)
    cos, sin = (torch.full((2, 32), number, dtype=dtype, device=DEVICE) for number in (1.0, 0.0))
    keys, values = fp8_cache(2, 64, 16)
    query = layers.place(rows, cos, sin, torch.tensor(slots, device=DEVICE), keys, values, 4)
    assert keys.dtype == FP8
    assert torch.equal(query, given[:, :4])
    for row, slot in enumerate(slots):
        assert torch.equal(keys[slot // 16, :, slot % 16].float(), to_fp8(given[row, 4:6]).float())
        assert torch.equal(values[slot // 16, :, slot % 16].float(), to_fp8(given[row, 6:]).float())
