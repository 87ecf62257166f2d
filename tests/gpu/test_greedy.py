"""Greedy answers in float32 equal `model.generate` on the same device, however the engine came to them."""

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

from ekiden_worker.engine.fixed_steps import decode_sizes, mixed_sizes
from ekiden_worker.engine.interface import SamplingParams
from tests.gpu import needs_device
from tests.gpu.conftest import MakeEngine, model_on_device
from tests.support.engine import Collector
from tests.unit.engine.greedy import (
    Prompts,
    assert_equal_but_for_ties,
    assert_greedy,
    generated,
    hundred,
    prompt_of,
    prompts,
)

pytestmark = needs_device

ANSWER, SHORT = 24, 6
GREEDY = SamplingParams(max_tokens=ANSWER)

CHUNKS = (1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 1000)


@pytest.fixture(scope="module")
def expected() -> Prompts:
    """What `generate` makes of the hundred."""
    return generated(model_on_device("llama"), hundred(), ANSWER)


def around(sizes: list[int], most: int) -> list[int]:
    """Just below, at and above each size."""
    return sorted({size + off for size in sizes for off in (-1, 0, 1) if 1 <= size + off <= most})


def check(engine: Collector, cases: Prompts, answers: Prompts) -> None:
    """All are greedy; the engine is stopped for the comparison."""
    engine.engine.stop()
    for prompt, answer in zip(cases, answers, strict=True):
        assert_greedy(model_on_device("llama"), prompt, answer)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gptneox", "deepseek"])
def test_alone_and_all_at_once(make_engine: MakeEngine, kind: str) -> None:
    cases = prompts(12)
    engine = make_engine(kind)
    answers = [engine.run([prompt], GREEDY)[0] for prompt in cases] + engine.run_at_once(cases, GREEDY)
    engine.engine.stop()
    model = model_on_device(kind)
    assert_equal_but_for_ties(model, cases * 2, generated(model, cases, ANSWER) * 2, answers)


@pytest.mark.parametrize(
    "sizes",
    [
        {"max_running": 1},
        {"max_running": 100},
        {"max_running": 9, "kv_cache_tokens": 256, "block_size": 8, "context_tokens": 128},
        {"max_running": 33, "max_batched_tokens": 1},
        {"max_running": 17, "max_batched_tokens": 37, "block_size": 4},
    ],
    ids=["alone", "all at once", "few blocks", "one id a step", "odd sizes"],
)
def test_a_hundred_prompts_equal_generate(make_engine: MakeEngine, expected: Prompts, sizes: dict[str, int]) -> None:
    engine = make_engine(**sizes)
    answers = engine.run_at_once(hundred(), GREEDY)
    assert "kv_cache_tokens" not in sizes or engine.engine.stats().preemptions > 0
    assert engine.engine.stats().cached_tokens > 0 or sizes["max_running"] == 100
    engine.engine.stop()
    assert_equal_but_for_ties(model_on_device("llama"), hundred(), expected, answers)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_hundred_prompts_in_chunks(make_engine: MakeEngine, expected: Prompts, chunk: int) -> None:
    cases, wanted = (hundred(), expected) if chunk > 32 else (hundred()[::5], expected[::5])
    engine = make_engine(max_batched_tokens=chunk)
    answers = engine.run_at_once(cases, GREEDY)
    engine.engine.stop()
    assert_equal_but_for_ties(model_on_device("llama"), cases, wanted, answers)


def test_with_cached_prefixes(make_engine: MakeEngine, expected: Prompts) -> None:
    engine = make_engine(block_size=8, max_running=10)
    first = engine.run_at_once(hundred(), GREEDY)
    again = engine.run_at_once(hundred(), GREEDY)
    known = [engine.cached[f"r{number}"] for number in range(100, 200)]
    assert known == [(len(prompt) - 1) // 8 * 8 for prompt in hundred()], "all but the last id, in whole blocks"
    longer = [prompt + answer + [5, 6, 7] for prompt, answer in zip(hundred(), first, strict=True)]
    third = engine.run_at_once(longer, GREEDY)
    engine.engine.stop()
    model = model_on_device("llama")
    assert_equal_but_for_ties(model, hundred() * 2, expected * 2, first + again)
    assert_equal_but_for_ties(model, longer, generated(model, longer, ANSWER), third)


def test_around_each_number_of_running_answers(make_engine: MakeEngine, steps: list[tuple[int, int]]) -> None:
    most = 67
    engine = make_engine(max_running=most)
    counts = around(decode_sizes(most), most)
    cases: Prompts = []
    answers: Prompts = []
    for count in counts:
        these = prompts(count, longest=3, seed=count)  # all begin in one step
        answers += engine.run_at_once(these, GREEDY)
        cases += these
    assert {(count, count) for count in counts} <= set(steps), "a step of that many answers, and nothing else"
    check(engine, cases, answers)


def test_around_each_number_of_rows_of_prompts(make_engine: MakeEngine, steps: list[tuple[int, int]]) -> None:
    engine = make_engine(max_running=16)
    most = engine.engine._scheduler.budget.most
    numbers = around(mixed_sizes(most), most + 1)
    cases: Prompts = []
    answers: Prompts = []
    for number in numbers:
        whole, several = prompt_of(number, seed=1), -(-number // 200)
        these = [whole[part::several] for part in range(several)]
        answers += engine.run_at_once(these, SamplingParams(max_tokens=SHORT))
        cases += these
    assert {number for number in numbers if number <= most} <= {rows for rows, _ in steps}
    check(engine, cases, answers)


@pytest.mark.parametrize("running", [1, 2, 7, 8, 9, 31])
def test_around_each_number_of_rows_beside_answers(
    make_engine: MakeEngine, steps: list[tuple[int, int]], running: int
) -> None:
    most = 256
    engine = make_engine(max_running=32, max_batched_tokens=most)
    wanted = []
    cases: Prompts = []
    answers: Prompts = []
    for rows in around(mixed_sizes(most), most):
        first, second = most - running, rows - running
        if second < 2 or first + second + 2 > engine.engine.context_tokens:
            continue
        # Prompts of one id are answers from the second step on, when the rest of the long one comes.
        these = [prompt_of(1, seed=number) for number in range(running)] + [prompt_of(first + second, seed=2)]
        answers += engine.run_at_once(these, SamplingParams(max_tokens=2))
        cases += these
        wanted.append((rows, running))
    assert len(wanted) >= 6
    assert set(wanted) <= set(steps)
    check(engine, cases, answers)
