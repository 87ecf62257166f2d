"""In float32 a seed gives the same ids alone, in a batch and after a move, with whatever parameters."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from ekiden_worker.engine.interface import EngineRequest, SamplingParams
from tests.gpu import needs_device
from tests.gpu.conftest import MakeEngine, model_on_device
from tests.support.engine import Collector
from tests.unit.engine.greedy import Prompts, hundred
from tests.unit.engine.walk import Answer, check_ids

pytestmark = needs_device

HEAT = SamplingParams(max_tokens=20, temperature=0.9)
KINDS = (
    HEAT,
    replace(HEAT, temperature=1.4, top_p=0.9),
    replace(HEAT, top_k=20),
    replace(HEAT, min_p=0.05),
    replace(HEAT, repetition_penalty=1.3),
    replace(HEAT, temperature=0.0, repetition_penalty=1.3),
    replace(HEAT, top_k=50, top_p=0.95, min_p=0.01, repetition_penalty=1.2),
)
PARAMS = [replace(KINDS[number % len(KINDS)], seed=1000 + number) for number in range(100)]

# Rounding differs between batches; of 2,000 draws hardly one falls so near to a border that this decides.
MOST_PARTED = 2


def sampled(engine: Collector, name: str, cases: Prompts, earlier: Sequence[Sequence[int]]) -> Prompts:
    """All answers, from `earlier` ids on, asked for at once; those ids are their beginning."""
    engine.engine.hold(True)
    for number, (prompt, before) in enumerate(zip(cases, earlier, strict=True)):
        engine.submit(f"{name}{number}", prompt, PARAMS[number], generated=before)
    engine.engine.hold(False)
    names = [f"{name}{number}" for number in range(len(cases))]
    engine.wait(*names)
    return [[*before, *engine.ids[name]] for before, name in zip(earlier, names, strict=True)]


def assert_same(cases: Prompts, ours: Prompts, alone: Prompts) -> None:
    """All but few are equal, and those that part do so where noise decides."""
    parted = [number for number, pair in enumerate(zip(ours, alone, strict=True)) if pair[0] != pair[1]]
    assert len(parted) <= MOST_PARTED, f"{len(parted)} of {len(ours)} answers differ"
    assert_chosen(cases, ours, parted)


def assert_chosen(cases: Prompts, answers: Prompts, numbers: Sequence[int]) -> None:
    """These answers are what the sampler makes of transformers' logits."""
    model = model_on_device("llama")
    model.set_attn_implementation("sdpa")
    for number in numbers:
        request = EngineRequest(str(number), tuple(cases[number]), PARAMS[number], frozenset())
        check_ids(model, Answer(request, answers[number]))
    model.set_attn_implementation("ekiden_paged")


@pytest.fixture(scope="module")
def cuts() -> list[int]:
    """After how many ids each answer moves."""
    source = random.Random(4)
    return [source.randrange(HEAT.max_tokens) for _ in PARAMS]


def test_alone_in_a_batch_and_after_a_move(make_engine: MakeEngine, cuts: list[int]) -> None:
    cases, nothing = hundred(), [()] * 100
    first = make_engine(max_running=1)
    alone = sampled(first, "alone", cases, nothing)
    first.engine.stop()
    full = make_engine(max_running=100)
    together = sampled(full, "together", cases, nothing)
    full.engine.stop()
    other = make_engine(max_running=13, max_batched_tokens=50, block_size=8)
    moved = sampled(other, "moved", cases, [answer[:cut] for answer, cut in zip(alone, cuts, strict=True)])
    other.engine.stop()
    tight = make_engine(max_running=9, kv_cache_tokens=256, block_size=8, context_tokens=128)
    preempted = sampled(tight, "preempted", cases, nothing)
    assert tight.engine.stats().preemptions > 0
    tight.engine.stop()
    assert_chosen(cases, alone, range(100))
    for answers in (together, moved, preempted):
        assert_same(cases, answers, alone)
