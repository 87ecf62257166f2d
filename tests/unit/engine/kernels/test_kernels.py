"""The kernels against torch: on a GPU where there is one, by Triton's interpreter elsewhere."""

import random

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)

from tests.unit.engine.kernels import DEVICE, DTYPES, NEAR, numbers

pytest.importorskip("triton", reason="Triton is not installed")

from ekiden_worker.engine.kernels import attention, layers, linear

BLOCKS = 40


def cache(kv_heads: int, size: int, block_size: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (BLOCKS, kv_heads, block_size, size)
    return numbers(shape, dtype), numbers(shape, dtype)


def tables(sequences: int, blocks: int) -> torch.Tensor:
    """Block tables that share no block, in any order."""
    order = random.Random(4).sample(range(1, BLOCKS), sequences * blocks)
    return torch.tensor(order, dtype=torch.int32, device=DEVICE).view(sequences, blocks)


def gathered(cached: torch.Tensor, table: torch.Tensor, length: int) -> torch.Tensor:
    """[1, kv_heads, length, head_dim] of one sequence."""
    return cached[table.long()].transpose(0, 1).flatten(1, 2)[None, :, :length]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    difference = (found.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-9)
    assert difference < NEAR[found.dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "block_size", "lengths"),
    [
        (4, 4, 64, 16, [1, 17, 64, 100]),
        (4, 4, 32, 32, [200, 3]),
        (3, 3, 80, 16, [33]),
        (8, 2, 64, 16, [1, 50, 96]),
        (6, 2, 128, 32, [64, 65, 31]),
        (9, 3, 64, 32, [5]),
        (4, 1, 96, 16, [40, 7]),
    ],
)
@pytest.mark.parametrize(("busy", "part"), [(1, 4096), (1, 32), (8, 4096), (4096, 4096)])
def test_decode(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    heads: int,
    kv_heads: int,
    size: int,
    block_size: int,
    lengths: list[int],
    busy: int,
    part: int,
) -> None:
    monkeypatch.setattr(attention, "_BUSY_PROGRAMS", busy)  # many and few sequences
    monkeypatch.setattr(attention, "_LONG_PART", part)  # of which some are long
    keys, values = cache(kv_heads, size, block_size, dtype)
    table = tables(len(lengths), -(-max(lengths) // block_size))
    query = numbers((len(lengths), heads + 2, size), dtype)[:, :heads]
    out = torch.full((len(lengths), heads, size), torch.nan, dtype=dtype, device=DEVICE)
    counts = torch.tensor(lengths, dtype=torch.int32, device=DEVICE)
    attention.decode(query, keys, values, table, counts, 0.3, out)
    for row, length in enumerate(lengths):
        k, v = gathered(keys, table[row], length).double(), gathered(values, table[row], length).double()
        q = query[row][None, :, None].double()
        close(out[row], F.scaled_dot_product_attention(q, k, v, scale=0.3, enable_gqa=True)[0, :, 0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "block_size", "chunks"),
    [
        (2, 2, 64, 16, [(5, 0), (70, 0)]),
        (4, 2, 32, 32, [(1, 63), (64, 40), (33, 0)]),
        (3, 1, 80, 16, [(17, 100)]),
        (2, 1, 128, 32, [(130, 20)]),
    ],
)
def test_prefill(
    dtype: torch.dtype, heads: int, kv_heads: int, size: int, block_size: int, chunks: list[tuple[int, int]]
) -> None:
    keys, values = cache(kv_heads, size, block_size, dtype)
    table = tables(len(chunks), -(-max(count + past for count, past in chunks) // block_size))
    rows = sum(count for count, _ in chunks)
    query = numbers((rows, heads + 1, size), dtype)[:, :heads]
    out = torch.full((rows, heads, size), torch.nan, dtype=dtype, device=DEVICE)
    tiles, row = list[tuple[int, int, int, int]](), 0
    for number, (count, past) in enumerate(chunks):
        tiles += attention.tiles_of(row, count, past, number)
        row += count
    on_device = torch.tensor(tiles, dtype=torch.int32, device=DEVICE)
    attention.prefill(query, keys, values, table, on_device, 0.3, out)
    row = 0
    for number, (count, past) in enumerate(chunks):
        k = gathered(keys, table[number], count + past).double()
        v = gathered(values, table[number], count + past).double()
        q = query[row : row + count].transpose(0, 1)[None].double()
        mask = torch.ones(count, count + past, dtype=torch.bool, device=DEVICE).tril(past)
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3, enable_gqa=True)
        close(out[row : row + count], expected[0].transpose(0, 1))
        row += count


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "size"), [(1, 64), (5, 576), (3, 1000)])
@pytest.mark.parametrize("adds", [False, True])
def test_add_norm(dtype: torch.dtype, rows: int, size: int, adds: bool) -> None:
    stream, weight = numbers((rows, size), dtype), numbers((size,), dtype)
    more = numbers((rows, size), dtype) if adds else None
    summed = stream if more is None else stream + more
    found = layers.add_norm(stream, more, weight, 1e-5)
    close(found, F.rms_norm(summed.double(), (size,), weight.double(), 1e-5))
    torch.testing.assert_close(stream, summed, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("query_heads", "kv_heads", "size"), [(4, 4, 64), (9, 3, 64), (4, 1, 80), (8, 2, 32)])
def test_place(dtype: torch.dtype, query_heads: int, kv_heads: int, size: int) -> None:
    slots = [37, 3, 16, 639]
    rows = numbers((len(slots), (query_heads + 2 * kv_heads) * size), dtype)
    angles = numbers((len(slots), size // 2), torch.float32)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    keys, values = cache(kv_heads, size, 16, dtype)
    before = keys.clone()
    heads = rows.clone().view(len(slots), -1, size)
    first, second = heads[:, : query_heads + kv_heads].double().chunk(2, dim=-1)
    c, s = cos.double()[:, None], sin.double()[:, None]
    turned = torch.cat((first * c - second * s, second * c + first * s), dim=-1)
    where = torch.tensor(slots, dtype=torch.int64, device=DEVICE)
    query = layers.place(rows, cos, sin, where, keys, values, query_heads)
    close(query, turned[:, :query_heads])
    for row, slot in enumerate(slots):
        close(keys[slot // 16, :, slot % 16], turned[row, query_heads:])
        assert torch.equal(values[slot // 16, :, slot % 16], heads[row, query_heads + kv_heads :])
        before[slot // 16, :, slot % 16] = keys[slot // 16, :, slot % 16]
    assert torch.equal(keys, before), "nothing else was written"


@pytest.mark.parametrize("dtype", DTYPES)
def test_write(dtype: torch.dtype) -> None:
    keys, values = cache(3, 80, 16, dtype)
    expected_keys, expected_values = keys.clone(), values.clone()
    key, value = numbers((4, 5, 80), dtype)[:, 1:4], numbers((3, 4, 80), dtype).transpose(0, 1)
    slots = [0, 17, 18, 600]
    layers.write(key, value, torch.tensor(slots, device=DEVICE), keys, values)
    for row, slot in enumerate(slots):
        expected_keys[slot // 16, :, slot % 16] = key[row]
        expected_values[slot // 16, :, slot % 16] = value[row]
    assert torch.equal(keys, expected_keys)
    assert torch.equal(values, expected_values)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "size"), [(1, 96), (3, 1536)])
def test_gate(dtype: torch.dtype, rows: int, size: int) -> None:
    given = numbers((rows, 2 * size), dtype)
    gates, ups = given.double().chunk(2, dim=-1)
    close(layers.gate(given), F.silu(gates) * ups)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("size", "out"), [(64, 100), (576, 33), (1000, 16)])
@pytest.mark.parametrize("biased", [False, True])
def test_one_row(dtype: torch.dtype, size: int, out: int, biased: bool) -> None:
    row, weight = numbers((1, size), dtype), numbers((out, size), dtype)
    bias = numbers((out,), dtype) if biased else None
    expected = F.linear(row.double(), weight.double(), None if bias is None else bias.double())
    close(linear.one_row(row, weight, bias), expected)
