"""Greedy answers equal `model.generate`, however the engine came to them."""

import pytest

from ekiden_worker.engine.interface import SamplingParams
from tests.unit.engine.conftest import MakeEngine, tiny_model
from tests.unit.engine.greedy import Prompts, assert_equal_but_for_ties, assert_greedy, generated, hundred, prompts

ANSWER, SHORT = 24, 8
GREEDY = SamplingParams(max_tokens=ANSWER)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gptneox", "deepseek"])
def test_alone_and_all_at_once(make_engine: MakeEngine, kind: str) -> None:
    model = tiny_model(kind)
    engine = make_engine(model)
    cases = prompts(12)
    alone = [engine.run([prompt], GREEDY)[0] for prompt in cases[:4]]
    together = make_engine(model).run(cases, GREEDY)
    assert alone == together[:4]
    engine.engine.stop()
    for prompt, answer in zip(cases, together, strict=True):
        assert_greedy(model, prompt, answer)


@pytest.fixture(scope="module")
def expected() -> Prompts:
    """What `generate` makes of the hundred."""
    return generated(tiny_model("llama"), hundred(), SHORT)


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
    model = tiny_model("llama")
    engine = make_engine(model, **sizes)
    answers = engine.run(hundred(), SamplingParams(max_tokens=SHORT))
    assert "kv_cache_tokens" not in sizes or engine.engine.stats().preemptions > 0
    assert engine.engine.stats().cached_tokens > 0 or sizes["max_running"] == 100
    engine.engine.stop()
    assert_equal_but_for_ties(model, hundred(), expected, answers)


@pytest.mark.parametrize("chunk", [1, 2, 7, 32, 64, 1000])
def test_with_prompts_computed_in_chunks(make_engine: MakeEngine, chunk: int) -> None:
    cases = prompts(5, longest=90)
    whole = make_engine(max_batched_tokens=100_000).run(cases, GREEDY)
    assert make_engine(max_batched_tokens=chunk).run(cases, GREEDY) == whole


def test_with_too_few_blocks_for_all(make_engine: MakeEngine) -> None:
    cases = prompts(10, longest=60)
    tiny = make_engine(kv_cache_tokens=128, block_size=8, max_running=8, context_tokens=128)
    assert tiny.run(cases, GREEDY) == make_engine().run(cases, GREEDY)
    assert tiny.engine.stats().preemptions > 0


def test_with_a_cached_prefix(make_engine: MakeEngine) -> None:
    engine = make_engine(block_size=8)
    [prompt] = prompts(1, longest=100, seed=8)
    prompt = (prompt * 20)[:100]
    [first] = engine.run([prompt], GREEDY)
    [second] = engine.run([prompt], GREEDY)
    assert first == second
    assert (engine.cached["r0"], engine.cached["r1"]) == (0, 96)
    stats = engine.engine.stats()
    assert (stats.prompt_tokens, stats.cached_tokens, stats.held_blocks) == (200, 96, 0)
    [third] = engine.run([[*prompt, *first, 5, 6, 7]], GREEDY)
    assert engine.cached["r2"] >= 96
    assert [third] == make_engine().run([[*prompt, *first, 5, 6, 7]], GREEDY)


def test_never_the_whole_prompt_is_taken_from_the_cache(make_engine: MakeEngine) -> None:
    engine = make_engine(block_size=8)
    prompt = list(range(10, 26))
    assert engine.run([prompt], GREEDY) == engine.run([prompt], GREEDY)
    assert engine.cached["r1"] == 8


def test_two_engines_in_one_process_do_not_disturb_each_other(make_engine: MakeEngine) -> None:
    llama, qwen = make_engine(tiny_model("llama")), make_engine(tiny_model("qwen3"))
    cases = prompts(4)
    for number, prompt in enumerate(cases):
        llama.submit(f"x{number}", prompt, GREEDY)
        qwen.submit(f"x{number}", prompt, GREEDY)
    names = [f"x{number}" for number in range(len(cases))]
    llama.wait(*names)
    qwen.wait(*names)
    assert [llama.ids[name] for name in names] == make_engine(tiny_model("llama")).run(cases, GREEDY)
    assert [qwen.ids[name] for name in names] == make_engine(tiny_model("qwen3")).run(cases, GREEDY)
