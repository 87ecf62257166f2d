"""The kernel chooses what the sampler in torch chooses, row by row."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ekiden_worker.engine.interface import SamplingParams
from ekiden_worker.engine.sampler import penalize, sample, uniform
from tests.unit.engine.kernels import DEVICE

pytest.importorskip("triton", reason="Triton is not installed")

from ekiden_worker.engine.kernels import sampling

ROWS = 6
PENALIZED = 4  # of the rows, those that may have a penalty
VOCABS = [50, 200, *([32000, 151936] if DEVICE.type == "cuda" else [])]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several for a small vocabulary."""
    if DEVICE.type == "cpu":
        monkeypatch.setattr(sampling, "_BLOCK", 64)


def random_params(source: torch.Generator, vocab: int, row: int) -> SamplingParams:
    draw = torch.rand(6, generator=source).tolist()
    return SamplingParams(
        max_tokens=1,
        temperature=0.1 + 1.5 * draw[0] if draw[5] > 0.15 else 0.0,
        top_k=int(draw[1] * vocab / 2) if draw[1] > 0.5 else 0,
        top_p=draw[2] if draw[2] > 0.3 else 1.0,
        min_p=0.3 * draw[3] if draw[3] > 0.5 else 0.0,
        repetition_penalty=0.5 + draw[4] if row < PENALIZED and draw[4] > 0.5 else 1.0,
        seed=int(draw[0] * 1e9),
    )


def chosen(logits: torch.Tensor, params: list[SamplingParams], seen: torch.Tensor, positions: list[int]) -> list[int]:
    """By the kernel; row r of `seen` [rows, vocab_size] is that of row r of logits."""
    fields = np.zeros((len(params), sampling.FIELDS), dtype=np.int32)
    draws = uniform(torch.tensor([p.seed for p in params]), torch.tensor(positions)).numpy()
    for row, p in enumerate(params):
        fields[row, :2] = row + 1 if p.repetition_penalty != 1 else 0, p.top_k
        fields[row, 2:3].view(np.float32)[:] = p.repetition_penalty
        fields[row, 3:] = np.array([p.temperature, p.top_p, p.min_p, draws[row]]).view(np.int32)
    out = torch.full((len(params),), -1, device=DEVICE)
    sampling.choose(logits, torch.from_numpy(fields).to(DEVICE), seen, out)
    return out.tolist()


def expected(logits: torch.Tensor, params: list[SamplingParams], seen: torch.Tensor, positions: list[int]) -> list[int]:
    penalties = torch.tensor([p.repetition_penalty for p in params], device=DEVICE)
    return sample(penalize(logits.float(), seen, penalties), params, positions).tolist()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("vocab", VOCABS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_random_rows(dtype: torch.dtype, vocab: int, ties: bool) -> None:
    source = torch.Generator().manual_seed(vocab + ties)
    for turn in range(2 if DEVICE.type == "cpu" else 20):
        logits = torch.randn(ROWS, vocab, generator=source) * 3
        if ties:
            logits = (logits * 2).round() / 2
        logits = logits.to(DEVICE, dtype)
        seen = (torch.rand(ROWS, vocab, generator=source) > 0.7).to(DEVICE)
        params = [random_params(source, vocab, row) for row in range(ROWS)]
        positions = list(range(turn, turn + ROWS))
        assert chosen(logits, params, seen, positions) == expected(logits, params, seen, positions), params


EDGES = [
    SamplingParams(1),
    SamplingParams(1, temperature=1e-30),
    SamplingParams(1, temperature=1e30),
    SamplingParams(1, temperature=1, top_k=1),
    SamplingParams(1, temperature=1, top_k=69),
    SamplingParams(1, temperature=1, top_k=70),
    SamplingParams(1, temperature=1, top_k=1000),
    SamplingParams(1, temperature=1, top_p=1e-6),
    SamplingParams(1, temperature=1, top_p=0.999999),
    SamplingParams(1, temperature=1, min_p=1.0),
    SamplingParams(1, temperature=1, top_k=5, top_p=0.55, min_p=0.3),
]


@pytest.mark.parametrize("shape", ["falling", "equal", "zeros", "few"])
@pytest.mark.parametrize("params", EDGES, ids=str)
def test_edges(params: SamplingParams, shape: str) -> None:
    logits = {
        "falling": -torch.arange(70.0),
        "equal": torch.full((70,), -3.0),
        "zeros": torch.tensor([0.0, -0.0] * 35),
        "few": torch.full((70,), -torch.inf).index_fill(0, torch.tensor([3, 68]), 1.5),
    }[shape]
    every = [replace(params, seed=seed) for seed in range(3)]
    rows = logits.repeat(len(every), 1).to(DEVICE)
    seen = torch.zeros(rows.shape, dtype=torch.bool, device=DEVICE)
    positions = [7] * len(every)
    assert chosen(rows, every, seen, positions) == expected(rows, every, seen, positions)
