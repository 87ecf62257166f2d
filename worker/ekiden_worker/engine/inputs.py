"""What the device is told of a step: its chunks as arrays, uploaded in one piece."""

from collections.abc import Sequence as AbstractSequence

import numpy as np
import torch

from ekiden_worker.engine.scheduler import Chunk

NOT_PENDING = -1

ROW_FIELDS = 3  # id, position, source

Array = np.ndarray[tuple[int, ...], np.dtype[np.int32]]


def uploaded(array: Array, device: torch.device) -> torch.Tensor:
    """A copy on the device, int32; on a CUDA device without waiting for it."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def row_fields(chunks: AbstractSequence[Chunk], into: Array) -> None:
    """Fill rows of (id, position, source): a pending id is taken from row `source` of the step before."""
    row = 0
    for chunk in chunks:
        sequence, start = chunk.sequence, chunk.sequence.computed
        end = row + chunk.count
        known = end - len(chunk.proposed)
        into[row:end, 1] = np.arange(start, start + chunk.count)
        into[row:end, 2] = NOT_PENDING
        into[known:end, 0] = chunk.proposed
        if sequence.pending:
            into[row, 0], into[row, 2] = 0, sequence.row
        else:
            into[row:known, 0] = sequence.ids[start : start + known - row]
        row = end


def wanted_rows(chunks: AbstractSequence[Chunk]) -> Array:
    """The rows whose logits are wanted, chunk by chunk."""
    ends = np.cumsum([chunk.count for chunk in chunks])
    parts = [np.arange(end - chunk.choices, end) for chunk, end in zip(chunks, ends, strict=True)]
    return np.concatenate(parts).astype(np.int32)


def slots_of(chunks: AbstractSequence[Chunk], block_size: int) -> Array:
    """Where each row's keys and values go: block · block_size + place in the block."""
    parts = []
    for chunk in chunks:
        at = np.arange(chunk.sequence.computed, chunk.sequence.computed + chunk.count)
        table = np.asarray(chunk.sequence.block_table, dtype=np.int32)
        parts.append(table[at // block_size] * block_size + at % block_size)
    return np.concatenate(parts).astype(np.int32)


def tables_of(chunks: AbstractSequence[Chunk]) -> Array:
    """Block tables as rows of one length, filled up with the block that belongs to nobody."""
    tables = np.zeros((len(chunks), max(len(chunk.sequence.block_table) for chunk in chunks)), dtype=np.int32)
    for row, chunk in enumerate(chunks):
        tables[row, : len(chunk.sequence.block_table)] = chunk.sequence.block_table
    return tables


def known_ids(ids: torch.Tensor, sources: torch.Tensor, sampled: torch.Tensor) -> torch.Tensor:
    """Ids with the pending ones filled in from `sampled`, the step before; int64 [rows]."""
    return torch.where(sources < 0, ids.long(), sampled[sources.clamp(min=0).long()])
