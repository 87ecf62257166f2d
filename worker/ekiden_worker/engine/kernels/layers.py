"""What lies between the matrix products of a decoder layer, one kernel each; all compute in float32."""

import torch
import triton
import triton.language as tl

_HEADS_A_PROGRAM = 8
_GATE_BLOCK = 1024


@triton.jit
def _add_norm(  # type: ignore[no-untyped-def]
    stream, more, weight, out, stride, more_stride, size, epsilon, ADD: tl.constexpr, BLOCK: tl.constexpr
):
    """One row a program: stream += more, out = RMSNorm(stream) * weight."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < size
    x = tl.load(stream + row * stride + at, mask=inside, other=0.0)
    if ADD:
        # The sum is rounded as it is kept: what follows sees what the next layer sees.
        x = (x.to(tl.float32) + tl.load(more + row * more_stride + at, mask=inside, other=0.0)).to(x.dtype)
        tl.store(stream + row * stride + at, x, mask=inside)
    values = x.to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, 0) / size + epsilon)
    scaled = values * scale * tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * size + at, scaled.to(x.dtype), mask=inside)


@triton.jit
def _kept(numbers, to):  # type: ignore[no-untyped-def]
    """As the memory behind a pointer keeps them; what is too large for eight bits becomes their largest."""
    if to.dtype.element_ty == tl.float8e4nv:
        numbers = tl.clamp(numbers.to(tl.float32), -448.0, 448.0)
    return numbers.to(to.dtype.element_ty)


@triton.jit
def _place(  # type: ignore[no-untyped-def]
    rows, cos, sin, slots, keys, values, row_stride, block_stride, head_stride,
    QUERY: tl.constexpr, KV: tl.constexpr, HALF: tl.constexpr, HALF_BLOCK: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    HEADS: tl.constexpr,
):  # fmt: skip
    """Some heads of one row a program: queries are rotated where they are, keys and values go to their slot."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)[:, None]
    at = tl.arange(0, HALF_BLOCK)[None, :]
    inside = (at < HALF) & (head < QUERY + 2 * KV)
    source = rows + row * row_stride + head * (2 * HALF) + at
    first = tl.load(source, mask=inside, other=0.0)
    second = tl.load(source + HALF, mask=inside, other=0.0)
    turns = inside & (head < QUERY + KV)
    c = tl.load(cos + row * HALF + at, mask=turns, other=1.0).to(tl.float32)
    s = tl.load(sin + row * HALF + at, mask=turns, other=0.0).to(tl.float32)
    x, y = first.to(tl.float32), second.to(tl.float32)
    first = (x * c - y * s).to(first.dtype)
    second = (y * c + x * s).to(second.dtype)
    slot = tl.load(slots + row).to(tl.int64)
    place = (slot // BLOCK_SIZE) * block_stride + (slot % BLOCK_SIZE) * (2 * HALF) + at
    is_query = inside & (head < QUERY)
    tl.store(source, first, mask=is_query)
    tl.store(source + HALF, second, mask=is_query)
    is_key = turns & (head >= QUERY)
    target = keys + place + (head - QUERY) * head_stride
    tl.store(target, _kept(first, keys), mask=is_key)
    tl.store(target + HALF, _kept(second, keys), mask=is_key)
    is_value = inside & (head >= QUERY + KV)
    target = values + place + (head - QUERY - KV) * head_stride
    tl.store(target, _kept(first, values), mask=is_value)
    tl.store(target + HALF, _kept(second, values), mask=is_value)


@triton.jit
def _write(  # type: ignore[no-untyped-def]
    key, value, slots, keys, values, key_row, key_head, value_row, value_head, block_stride, head_stride,
    KV: tl.constexpr, SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr, BLOCK_SIZE: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    """Some heads of one row a program: its key and value go to their slot."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)[:, None]
    at = tl.arange(0, SIZE_BLOCK)[None, :]
    inside = (at < SIZE) & (head < KV)
    slot = tl.load(slots + row).to(tl.int64)
    place = (slot // BLOCK_SIZE) * block_stride + (slot % BLOCK_SIZE) * SIZE + head * head_stride + at
    one = tl.load(key + row * key_row + head * key_head + at, mask=inside)
    tl.store(keys + place, _kept(one, keys), mask=inside)
    one = tl.load(value + row * value_row + head * value_head + at, mask=inside)
    tl.store(values + place, _kept(one, values), mask=inside)


@triton.jit
def _gate(rows, out, size, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """A piece of one row a program: silu of the first half, times the second."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    gate = tl.load(rows + row * 2 * size + at, mask=inside, other=0.0)
    x = gate.to(tl.float32)
    up = tl.load(rows + row * 2 * size + size + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * size + at, (x * tl.sigmoid(x) * up).to(gate.dtype), mask=inside)


def add_norm(stream: torch.Tensor, more: torch.Tensor | None, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """stream [rows, size] += more, in place; returns the RMSNorm of its rows, in memory of its own."""
    out = torch.empty(stream.shape, dtype=stream.dtype, device=stream.device)
    size = stream.shape[-1]
    block = triton.next_power_of_2(size)
    given = stream if more is None else more
    _add_norm[(stream.shape[0],)](
        stream, given, weight, out, stream.stride(0), given.stride(0), size, epsilon,
        ADD=more is not None, BLOCK=block, num_warps=min(16, max(1, block // 512)),
    )  # fmt: skip
    return out


def place(
    rows: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, slots: torch.Tensor,
    keys: torch.Tensor, values: torch.Tensor, query_heads: int,
) -> torch.Tensor:  # fmt: skip
    """Rotate rows [rows, (query + 2 · kv heads) · head_dim] and write keys and values to their slots.

    cos and sin: [rows, head_dim / 2]; slots: [rows], integers. Returns the queries [rows, query heads, head_dim], a
    view of `rows`.
    """
    kv_heads, block_size, size = keys.shape[1:]
    heads = query_heads + 2 * kv_heads
    _place[(rows.shape[0], triton.cdiv(heads, _HEADS_A_PROGRAM))](
        rows, cos, sin, slots, keys, values, rows.stride(0), keys.stride(0), keys.stride(1),
        QUERY=query_heads, KV=kv_heads, HALF=size // 2, HALF_BLOCK=triton.next_power_of_2(size // 2),
        BLOCK_SIZE=block_size, HEADS=_HEADS_A_PROGRAM, num_warps=2,
    )  # fmt: skip
    return rows[:, : query_heads * size].view(-1, query_heads, size)


def write(
    key: torch.Tensor, value: torch.Tensor, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> None:
    """Write keys and values [rows, kv_heads, head_dim] (any strides but the last) to their slots [rows], integers."""
    kv_heads, block_size, size = keys.shape[1:]
    _write[(key.shape[0], triton.cdiv(kv_heads, _HEADS_A_PROGRAM))](
        key, value, slots, keys, values, *key.stride()[:2], *value.stride()[:2], keys.stride(0), keys.stride(1),
        KV=kv_heads, SIZE=size, SIZE_BLOCK=triton.next_power_of_2(size), BLOCK_SIZE=block_size,
        HEADS=_HEADS_A_PROGRAM, num_warps=2,
    )  # fmt: skip


def gate(rows: torch.Tensor) -> torch.Tensor:
    """silu of the first half of each row of [rows, 2 · size], times the second half."""
    size = rows.shape[1] // 2
    out = torch.empty((rows.shape[0], size), dtype=rows.dtype, device=rows.device)
    _gate[(rows.shape[0], triton.cdiv(size, _GATE_BLOCK))](rows, out, size, BLOCK=_GATE_BLOCK, num_warps=4)
    return out
