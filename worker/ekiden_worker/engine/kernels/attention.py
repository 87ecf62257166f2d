"""Attention that reads keys and values where they are: through the block tables of a paged cache.

Decode splits each sequence over several programs and joins their parts (flash-decoding: Dao et al. 2023), so that one
long sequence keeps the whole GPU busy. Prefill is the usual pass over tiles with a running softmax (Dao et al. 2022).
Grids depend on shapes alone, never on lengths: both can be captured in a CUDA graph.
"""

import torch
import triton
import triton.language as tl

_BUSY_PROGRAMS = 2048  # enough to fill a large GPU
_MOST_SPLITS = 16
_LONG_PART = 4096  # ids of a part at least, of sequences that fill the GPU
QUERY_TILE = 64  # rows of a tile of prefill, at most
_LEAST_SIZE = 16  # of what a matrix unit takes

# A kernel is compiled for what its arguments are divisible by; these would have it compiled again in mid-service.
_FROM_STEP_TO_STEP = ("tables", "table_row")


@triton.jit
def _part(length, part, least, SPLITS: tl.constexpr, STEP: tl.constexpr):  # type: ignore[no-untyped-def]
    """Where a part of a sequence begins and ends; one without ids ends before it begins."""
    each = tl.cdiv(tl.maximum(tl.cdiv(length, SPLITS), least), STEP) * STEP
    return part * each, tl.minimum(part * each + each, length)


@triton.jit
def _weight(best, mass):  # type: ignore[no-untyped-def]
    """What a part weighs against the others of its sequence, as a logarithm."""
    return tl.where(mass > 0, best + tl.log(tl.maximum(mass, 1e-30)), -float("inf"))


@triton.jit
def _cached(cached, place, d, SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Keys or values at some places, [places, SIZE_BLOCK], of a page's rows that are not in use too.

    What lies there is anything. To leave it out here would cost a tenth of the speed.
    """
    at = cached + place[:, None] + d[None, :]
    if SIZE == SIZE_BLOCK:
        return tl.load(at)
    return tl.load(at, mask=(d < SIZE)[None, :], other=0.0)


@triton.jit(do_not_specialize=_FROM_STEP_TO_STEP)
def _decode_alone(  # type: ignore[no-untyped-def]
    query, keys, values, tables, lengths, out, parts, weights, scale,
    query_row, query_head, block_stride, head_stride, table_row, KV, least,
    SPLITS: tl.constexpr, SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr, BLOCK_SIZE: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """One part of one sequence for a query head that has a key head of its own: nothing for a matrix unit."""
    head = tl.program_id(0)
    row = tl.program_id(1)
    part = tl.program_id(2)
    length = tl.load(lengths + row)
    begin, end = _part(length, part, least, SPLITS, BLOCK_SIZE)
    d = tl.arange(0, SIZE_BLOCK)
    n = tl.arange(0, STEP)
    q = tl.load(query + row.to(tl.int64) * query_row + head * query_head + d, mask=d < SIZE, other=0.0)
    q = q.to(tl.float32) * scale
    best = -float("inf")
    mass = 0.0
    found = tl.zeros([SIZE_BLOCK], tl.float32)
    for start in range(begin, end, BLOCK_SIZE):
        known = (start + n < end) & (n < BLOCK_SIZE)
        block = tl.load(tables + row * table_row + start // BLOCK_SIZE).to(tl.int64)
        place = block * block_stride + head * head_stride + tl.minimum(n, BLOCK_SIZE - 1) * SIZE
        k = _cached(keys, place, d, SIZE, SIZE_BLOCK).to(tl.float32)
        v = _cached(values, place, d, SIZE, SIZE_BLOCK).to(tl.float32)
        score = tl.where(known, tl.sum(q[None, :] * k, 1), -float("inf"))
        better = tl.maximum(best, tl.max(score, 0))
        fade = tl.exp(best - better)
        share = tl.exp(score - better)
        mass = mass * fade + tl.sum(share, 0)
        found = found * fade + tl.sum(tl.where(known[:, None], share[:, None] * v, 0.0), 0)
        best = better
    found = found / tl.maximum(mass, 1e-30)
    index = (row * KV + head).to(tl.int64) * SPLITS + part
    if SPLITS == 1:
        tl.store(out + index * SIZE + d, found.to(out.dtype.element_ty), mask=(d < SIZE) & (length > 0))
    else:
        tl.store(weights + index, _weight(best, mass))
        tl.store(parts + index * SIZE + d, found, mask=d < SIZE)


@triton.jit(do_not_specialize=_FROM_STEP_TO_STEP)
def _decode_group(  # type: ignore[no-untyped-def]
    query, keys, values, tables, lengths, out, parts, weights, scale,
    query_row, query_head, block_stride, head_stride, table_row, KV, least,
    SPLITS: tl.constexpr, GROUP: tl.constexpr, TILE: tl.constexpr, SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """The same for the query heads that share a key head; TILE is GROUP filled up to what a matrix unit takes."""
    head = tl.program_id(0)
    row = tl.program_id(1)
    part = tl.program_id(2)
    length = tl.load(lengths + row)
    begin, end = _part(length, part, least, SPLITS, STEP)
    g = tl.arange(0, TILE)
    d = tl.arange(0, SIZE_BLOCK)
    n = tl.arange(0, STEP)
    real = (g[:, None] < GROUP) & (d[None, :] < SIZE)
    at = query + row.to(tl.int64) * query_row + (head * GROUP + g)[:, None] * query_head + d[None, :]
    q = tl.load(at, mask=real, other=0.0)
    best = tl.full([TILE], -float("inf"), tl.float32)
    mass = tl.zeros([TILE], tl.float32)
    found = tl.zeros([TILE, SIZE_BLOCK], tl.float32)
    for start in range(begin, end, STEP):
        position = start + n
        known = position < end
        block = tl.load(tables + row * table_row + position // BLOCK_SIZE, mask=known, other=0).to(tl.int64)
        place = block * block_stride + head * head_stride + (position % BLOCK_SIZE) * SIZE
        mask = known[:, None] & (d < SIZE)[None, :]
        # Numbers of eight bits are widened here, in registers; others are of the query's type already.
        k = tl.load(keys + place[:, None] + d[None, :], mask=mask, other=0.0).to(q.dtype)
        v = tl.load(values + place[:, None] + d[None, :], mask=mask, other=0.0).to(q.dtype)
        score = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        score = tl.where(known[None, :], score, -float("inf"))
        better = tl.maximum(best, tl.max(score, 1))
        fade = tl.exp(best - better)
        share = tl.exp(score - better[:, None])
        mass = mass * fade + tl.sum(share, 1)
        found = found * fade[:, None] + tl.dot(share.to(v.dtype), v, input_precision="ieee")
        best = better
    found = found / tl.maximum(mass, 1e-30)[:, None]
    heads = ((row * KV + head).to(tl.int64) * SPLITS + part) * GROUP + g
    to = heads[:, None] * SIZE + d[None, :]
    if SPLITS == 1:
        tl.store(out + to, found.to(out.dtype.element_ty), mask=real & (length > 0))
    else:
        tl.store(weights + heads, _weight(best, mass), mask=g < GROUP)
        tl.store(parts + to, found, mask=real)


@triton.jit
def _join(  # type: ignore[no-untyped-def]
    parts, weights, out, KV, SPLITS: tl.constexpr, GROUP: tl.constexpr, SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr
):
    """The parts of one query head, each by its share of the softmax; nothing for a sequence of no length."""
    row = tl.program_id(0)
    query_head = tl.program_id(1)
    part = tl.arange(0, SPLITS)
    d = tl.arange(0, SIZE_BLOCK)
    first = (row * KV + query_head // GROUP).to(tl.int64) * SPLITS
    index = (first + part) * GROUP + query_head % GROUP
    weight = tl.load(weights + index)
    most = tl.maximum(tl.max(weight, 0), -1e30)
    share = tl.exp(weight - most)
    mask = (d < SIZE)[None, :] & (share > 0)[:, None]
    values = tl.load(parts + index[:, None] * SIZE + d[None, :], mask=mask, other=0.0)
    joined = tl.sum(share[:, None] * values, 0) / tl.maximum(tl.sum(share, 0), 1e-30)
    to = out + (row * KV * GROUP + query_head).to(tl.int64) * SIZE + d
    tl.store(to, joined.to(out.dtype.element_ty), mask=d < tl.where(most > -1e30, SIZE, 0))


@triton.jit
def _prefill_step(  # type: ignore[no-untyped-def]
    q, best, mass, found, keys, values, table, start, end, past, scale, block_stride, head_offset,
    SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr, BLOCK_SIZE: tl.constexpr, ROWS: tl.constexpr, STEP: tl.constexpr,
    WHOLE: tl.constexpr,
):  # fmt: skip
    """Take STEP ids into a running softmax; WHOLE: every row sees all of them. `scale` is one of powers of two."""
    m = tl.arange(0, ROWS)
    d = tl.arange(0, SIZE_BLOCK)
    position = start + tl.arange(0, STEP)
    if WHOLE:
        block = tl.load(table + position // BLOCK_SIZE).to(tl.int64)
        place = block * block_stride + head_offset + (position % BLOCK_SIZE) * SIZE
        k = _cached(keys, place, d, SIZE, SIZE_BLOCK).to(q.dtype)
        v = _cached(values, place, d, SIZE, SIZE_BLOCK).to(q.dtype)
        score = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    else:
        known = position < end
        block = tl.load(table + position // BLOCK_SIZE, mask=known, other=0).to(tl.int64)
        place = block * block_stride + head_offset + (position % BLOCK_SIZE) * SIZE
        mask = known[:, None] & (d[None, :] < SIZE)
        k = tl.load(keys + place[:, None] + d[None, :], mask=mask, other=0.0).to(q.dtype)
        v = tl.load(values + place[:, None] + d[None, :], mask=mask, other=0.0).to(q.dtype)
        score = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        score = tl.where(position[None, :] <= (past + m)[:, None], score, -float("inf"))
    better = tl.maximum(best, tl.max(score, 1))
    fade = tl.exp2(best - better)
    share = tl.exp2(score - better[:, None])
    mass = mass * fade + tl.sum(share, 1)
    found = found * fade[:, None] + tl.dot(share.to(v.dtype), v, input_precision="ieee")
    return better, mass, found


@triton.jit(do_not_specialize=_FROM_STEP_TO_STEP)
def _prefill(  # type: ignore[no-untyped-def]
    query, keys, values, tables, tiles, out, scale,
    query_row, query_head, out_row, block_stride, head_stride, table_row,
    GROUP: tl.constexpr, SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr, BLOCK_SIZE: tl.constexpr, ROWS: tl.constexpr,
    STEP: tl.constexpr,
):  # fmt: skip
    """A tile of one sequence's new rows for one head; a tile is (first row, rows, position of the first, table)."""
    head = tl.program_id(0)
    tile = tiles + tl.program_id(1) * 4
    first = tl.load(tile).to(tl.int64)
    count = tl.load(tile + 1)
    past = tl.load(tile + 2)
    table = tables + tl.load(tile + 3).to(tl.int64) * table_row
    m = tl.arange(0, ROWS)
    d = tl.arange(0, SIZE_BLOCK)
    real = (m[:, None] < count) & (d[None, :] < SIZE)
    at = query + (first + m)[:, None] * query_row + head * query_head + d[None, :]
    q = tl.load(at, mask=real, other=0.0)
    best = tl.full([ROWS], -float("inf"), tl.float32)
    mass = tl.zeros([ROWS], tl.float32)
    found = tl.zeros([ROWS, SIZE_BLOCK], tl.float32)
    end = past + count
    scale *= 1.4426950408889634  # to powers of two
    whole = tl.where(count > 0, (past + 1) // STEP * STEP, 0)
    for start in range(0, whole, STEP):
        best, mass, found = _prefill_step(
            q, best, mass, found, keys, values, table, start, end, past, scale, block_stride,
            (head // GROUP) * head_stride, SIZE, SIZE_BLOCK, BLOCK_SIZE, ROWS, STEP, True,
        )  # fmt: skip
    for start in range(whole, end, STEP):
        best, mass, found = _prefill_step(
            q, best, mass, found, keys, values, table, start, end, past, scale, block_stride,
            (head // GROUP) * head_stride, SIZE, SIZE_BLOCK, BLOCK_SIZE, ROWS, STEP, False,
        )  # fmt: skip
    found = found / tl.maximum(mass, 1e-30)[:, None]  # a tile of padding has none
    to = out + (first + m)[:, None] * out_row + head * SIZE + d[None, :]
    tl.store(to, found.to(out.dtype.element_ty), mask=real)


def splits_for(sequences: int, kv_heads: int, longest: int) -> tuple[int, int]:
    """Into how many parts sequences of up to `longest` ids are cut, a power of two, and the least ids of a part.

    Few sequences are cut to fill the GPU. Many fill it; of them those that are very long are cut, or the rest would
    wait.
    """
    programs = sequences * kv_heads
    if programs >= _BUSY_PROGRAMS:
        return (1, 1) if longest <= 2 * _LONG_PART else (4, _LONG_PART)
    wanted: int = triton.next_power_of_2(triton.cdiv(_BUSY_PROGRAMS, programs))
    return min(_MOST_SPLITS, wanted), 1


def decode(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, tables: torch.Tensor, lengths: torch.Tensor,
    scale: float, out: torch.Tensor,
) -> None:  # fmt: skip
    """Attention of one row a sequence, [sequences, heads, head_dim], over `lengths` ids each; 0: the row stays.

    keys, values: [num_blocks, kv_heads, block_size, head_dim], of the query's type or in fp8; tables: [sequences,
    blocks], int32; lengths: [sequences], int32; out: [sequences, heads, head_dim], contiguous.
    """
    rows, heads, size = query.shape
    kv_heads, block_size = keys.shape[1:3]
    group = heads // kv_heads
    splits, least = splits_for(rows, kv_heads, tables.shape[1] * block_size)
    parts = weights = out  # of no use to a sequence in one piece
    if splits > 1:
        parts = torch.empty((rows, kv_heads, splits, group, size), dtype=torch.float32, device=out.device)
        weights = torch.empty((rows, kv_heads, splits, group), dtype=torch.float32, device=out.device)
    padded = max(_LEAST_SIZE, triton.next_power_of_2(size))
    given = (query, keys, values, tables, lengths, out, parts, weights, scale)
    strides = (*query.stride()[:2], *keys.stride()[:2], tables.stride(0))
    grid = (kv_heads, rows, splits)
    if group == 1:
        _decode_alone[grid](
            *given, *strides, kv_heads, least, SPLITS=splits, SIZE=size, SIZE_BLOCK=padded, BLOCK_SIZE=block_size,
            STEP=triton.next_power_of_2(block_size), num_warps=2, num_stages=2,
        )  # fmt: skip
    else:
        _decode_group[grid](
            *given, *strides, kv_heads, least, SPLITS=splits, GROUP=group,
            TILE=max(_LEAST_SIZE, triton.next_power_of_2(group)), SIZE=size, SIZE_BLOCK=padded,
            BLOCK_SIZE=block_size, STEP=64, num_warps=4, num_stages=3,
        )  # fmt: skip
    if splits > 1:
        _join[(rows, heads)](
            parts, weights, out, kv_heads, SPLITS=splits, GROUP=group, SIZE=size, SIZE_BLOCK=padded, num_warps=2
        )


def tiles_of(first_row: int, count: int, past: int, table: int) -> list[tuple[int, int, int, int]]:
    """The tiles of a chunk: `count` rows of the step from `first_row` on, behind `past` ids of table number `table`."""
    starts = range(0, count, QUERY_TILE)
    return [(first_row + at, min(QUERY_TILE, count - at), past + at, table) for at in starts]


def prefill(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, tables: torch.Tensor, tiles: torch.Tensor,
    scale: float, out: torch.Tensor,
) -> None:  # fmt: skip
    """Causal attention of chunks, whose own keys are written already. `tiles`: [tiles, 4], int32 (see `tiles_of`).

    query: [rows, heads, head_dim], any strides but the last; out: the same, contiguous; the rest as in `decode`.
    """
    heads, size = query.shape[1:]
    kv_heads, block_size = keys.shape[1:3]
    padded = max(_LEAST_SIZE, triton.next_power_of_2(size))
    wide = query.dtype == torch.float32 or padded > 128
    _prefill[(heads, tiles.shape[0])](
        query, keys, values, tables, tiles, out, scale, *query.stride()[:2], out.stride(0), *keys.stride()[:2],
        tables.stride(0), GROUP=heads // kv_heads, SIZE=size, SIZE_BLOCK=padded, BLOCK_SIZE=block_size,
        ROWS=QUERY_TILE, STEP=32 if wide else 64, num_warps=4, num_stages=2,
    )  # fmt: skip
