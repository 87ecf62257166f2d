"""Each row by its own parameters; the same seed gives the same ids wherever the request runs."""

from dataclasses import replace

import pytest
import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ekiden_worker.engine.chooser import Chooser
from ekiden_worker.engine.interface import EngineRequest, SamplingParams
from ekiden_worker.engine.sampler import penalize, sample, uniform
from ekiden_worker.engine.scheduler import Choice
from ekiden_worker.engine.sequence import Sequence
from tests.unit.engine.conftest import MakeEngine
from tests.unit.engine.greedy import prompts


def kept(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """transformers' probabilities for one row [vocab_size] after its filters."""
    ids = torch.zeros(1, 1, dtype=torch.long)
    scores = TemperatureLogitsWarper(params.temperature)(ids, logits[None])
    if params.top_k:
        scores = TopKLogitsWarper(params.top_k)(ids, scores)
    if params.top_p < 1:
        scores = TopPLogitsWarper(params.top_p)(ids, scores)
    if params.min_p:
        scores = MinPLogitsWarper(params.min_p)(ids, scores)
    return scores.softmax(-1)[0]


def random_params(source: torch.Generator, seed: int) -> SamplingParams:
    draw = torch.rand(5, generator=source).tolist()
    return SamplingParams(
        max_tokens=1,
        temperature=0.1 + 1.5 * draw[0],
        top_k=int(draw[1] * 200) if draw[1] > 0.4 else 0,
        top_p=draw[2] if draw[2] > 0.2 else 1.0,
        min_p=0.3 * draw[3] if draw[3] > 0.5 else 0.0,
        seed=seed,
    )


@pytest.mark.parametrize("vocab", [50, 4000])
def test_chosen_ids_are_among_those_transformers_keeps(vocab: int) -> None:
    source = torch.Generator().manual_seed(1)
    for _ in range(12):
        logits = torch.randn(16, vocab, generator=source) * 3
        params = [random_params(source, seed) for seed in range(16)]
        chosen = sample(logits, params, list(range(16))).tolist()
        for row, token in enumerate(chosen):
            assert kept(logits[row], params[row])[token] > 0, params[row]


def test_top_p_is_a_share_of_what_a_large_top_k_leaves() -> None:
    draws = 2000
    logits = torch.linspace(0, -1e-3, 4000).repeat(draws, 1)
    params = [SamplingParams(1, temperature=1, top_k=2000, top_p=0.25, seed=seed) for seed in range(draws)]
    assert 475 < max(sample(logits, params, [0] * draws).tolist()) <= 500


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(1, temperature=0.8),
        SamplingParams(1, temperature=0.8, top_k=20, top_p=0.9, min_p=0.01),
        SamplingParams(1, temperature=1.3, top_p=0.95),
    ],
)
def test_the_law_is_transformers_own(params: SamplingParams) -> None:
    draws = 100_000
    logits = torch.randn(50, generator=torch.Generator().manual_seed(2)) * 2
    chosen = sample(logits.expand(draws, 50), [params] * draws, range(draws)).tolist()
    expected = kept(logits, params)
    found = torch.bincount(torch.tensor(chosen), minlength=50)
    support = expected > 0
    assert bool((found[~support] == 0).all())
    chi_square = ((found - draws * expected) ** 2 / (draws * expected))[support].sum()
    freedom = int(support.sum()) - 1
    assert chi_square < freedom + 5 * (2 * freedom) ** 0.5


def test_a_row_is_chosen_alike_alone_and_in_a_batch_also_beyond_the_candidates() -> None:
    source = torch.Generator().manual_seed(3)
    logits = torch.randn(8, 4000, generator=source) * 0.1  # flat: top-p keeps more than the candidates
    params = [SamplingParams(1, temperature=1.0, top_p=p, seed=s) for s, p in enumerate([0.1, 0.99, 1.0, 0.5] * 2)]
    together = sample(logits, params, range(8)).tolist()
    assert together == [int(sample(logits[r : r + 1], [params[r]], [r])) for r in range(8)]
    assert all(kept(logits[r], params[r])[token] > 0 for r, token in enumerate(together))


def test_uniforms_are_uniform_and_of_different_seeds_unrelated() -> None:
    positions = torch.arange(100_000)
    first, second = (uniform(torch.full_like(positions, seed), positions) for seed in (7, 8))
    assert abs(float(first.mean()) - 0.5) < 0.005
    assert abs(float(first.var()) - 1 / 12) < 0.002
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.02
    assert abs(float(torch.corrcoef(torch.stack([first[1:], first[:-1]]))[0, 1])) < 0.02


def test_the_repetition_penalty_is_transformers_own() -> None:
    logits = torch.randn(3, 100)
    ids = torch.randint(0, 100, (3, 20))
    seen = torch.zeros(3, 100, dtype=torch.bool).scatter_(1, ids, True)
    ours = penalize(logits, seen, torch.tensor([1.3, 1.0, 0.7]))
    for row, penalty in enumerate([1.3, 1.0, 0.7]):
        theirs = RepetitionPenaltyLogitsProcessor(penalty)(ids[row : row + 1], logits[row : row + 1].clone())
        torch.testing.assert_close(ours[row], theirs[0])


PARAMS = SamplingParams(max_tokens=20, temperature=0.9, top_k=50, top_p=0.95, repetition_penalty=1.2, seed=42)


def test_the_same_seed_gives_the_same_ids_alone_in_a_batch_and_from_any_cut(make_engine: MakeEngine) -> None:
    cases = prompts(6, longest=60)
    [alone] = make_engine().run(cases[:1], PARAMS)
    together = make_engine().run(cases, PARAMS)
    assert together[0] == alone
    engine = make_engine()
    for cut in range(20):
        engine.submit(f"cut{cut}", cases[0], PARAMS, generated=alone[:cut])
    for cut in range(20):
        engine.wait(f"cut{cut}")
        assert alone[:cut] + engine.ids[f"cut{cut}"] == alone
    assert make_engine().run(cases[:1], replace(PARAMS, seed=43)) != [alone]


def test_a_choice_without_enough_memory_is_penalized_as_well_when_it_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sequence = Sequence(EngineRequest("one", (3,), SamplingParams(9, repetition_penalty=1e9), frozenset()))
    chooser = Chooser(10, 2, torch.device("cpu"))
    logits, chosen = torch.zeros(1, 10).index_fill(1, torch.tensor([3]), 5.0), torch.zeros(1, dtype=torch.long)
    logits[0, 4] = 1
    made = torch.tensor

    def short_of_memory(data: object, **options: object) -> torch.Tensor:
        if data is sequence.ids:
            raise MemoryError
        return made(data, **options)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(torch, "tensor", short_of_memory)
        chooser.choose(logits, [Choice(sequence, 1)], chosen)
    chooser.choose(logits, [Choice(sequence, 1)], chosen)
    assert chosen.tolist() == [4]
