"""Guessed answers are those that are not guessed, and come in fewer steps where guesses are right."""

import random
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from ekiden_worker.engine import flight, speculation
from ekiden_worker.engine.block_manager import BlockManager
from ekiden_worker.engine.flight import Flight
from ekiden_worker.engine.interface import EngineRequest, Finish, SamplingParams
from ekiden_worker.engine.model_runner import ModelRunner
from ekiden_worker.engine.scheduler import Budget, Chunk, Scheduler
from ekiden_worker.engine.sequence import Sequence
from ekiden_worker.engine.speculation import Lookup, Speculation
from tests.unit.engine.conftest import WAYS, MakeEngine, tiny_model
from tests.unit.engine.foretold import foretell
from tests.unit.engine.greedy import prompts

GREEDY = SamplingParams(max_tokens=40)
SAMPLED = replace(GREEDY, temperature=0.9, top_p=0.95, seed=7)


# Each test says by itself whether its engines guess.
in_two_ways = pytest.mark.parametrize(
    "make_engine", [WAYS["step by step"], WAYS["ahead"]], ids=["step by step", "ahead"], indirect=True
)


def learned(ids: list[int]) -> Lookup:
    lookup = Lookup()
    assert lookup.read(ids)
    return lookup


@pytest.mark.parametrize(
    ("ids", "skip", "guess"),
    [
        ([1, 2, 3, 4, 5, 1, 2], 0, [3, 4]),
        ([1, 2, 3, 4, 5, 6, 7, 1, 2, 3], 0, [4, 5, 6, 7]),
        ([1, 2, 3, 4, 5, 6, 7, 1, 2, 3], 2, [6, 7, 1, 2]),
        ([1, 2, 3, 4, 9, 2, 3, 5, 9, 1, 2, 3], 0, [4, 9, 2, 3]),  # three ids count more than two that were later
        ([1, 2, 3, 8, 1, 2, 3, 9, 1, 2, 3], 0, [9, 1]),  # of equals the latest
        ([1, 2, 1, 2, 1, 2], 0, [1, 2, 1, 2, 1, 2]),  # and round again
        ([7, 7, 7, 7], 1, [7, 7, 7]),
        ([1, 2, 3, 4], 0, []),
        ([1], 0, []),
    ],
)
def test_what_followed_before_is_guessed(ids: list[int], skip: int, guess: list[int]) -> None:
    found = learned(ids).guess(ids, skip, 6)
    assert found[: len(guess)] == guess
    assert bool(found) == bool(guess)


def test_it_does_not_matter_how_a_text_came(monkeypatch: pytest.MonkeyPatch) -> None:
    source = random.Random(4)
    ids = [source.randrange(4) for _ in range(600)]
    bit_by_bit = Lookup()
    for end in range(1, len(ids) + 1):
        assert bit_by_bit.read(ids[:end])
        assert bit_by_bit.guess(ids[:end], 0, 5) == learned(ids[:end]).guess(ids[:end], 0, 5)
    monkeypatch.setattr(speculation, "_READ_AT_ONCE", 100)
    slow = Lookup()
    assert [slow.read(ids) for _ in range(6)] == [False] * 5 + [True]
    assert slow.guess(ids, 0, 5) == bit_by_bit.guess(ids, 0, 5)


def test_sources_that_are_wrong_are_believed_later() -> None:
    """Each pair comes back and goes on otherwise, so that the next one has to match for longer."""
    misleading = [token for number in range(10, 20) for token in (1, 2, number)]
    assert learned([5, 6, 7, 8, 9, 5, 6]).guess([5, 6, 7, 8, 9, 5, 6], 0, 6) == [7, 8]
    for matched, guessed in ((2, 0), (3, 2), (4, 4)):
        ids = [*misleading, 30, 31, 32, 33, 34, 35, *range(30, 30 + matched)]
        assert len(learned(ids).guess(ids, 0, 6)) == guessed


def going_round() -> PreTrainedModel:
    """A model that chooses by the last id alone: greedy answers soon go round in a circle."""
    model = deepcopy(tiny_model("llama"))
    with torch.no_grad():
        for layer in model.model.layers:  # type: ignore[union-attr]
            layer.self_attn.o_proj.weight.zero_()  # type: ignore[union-attr, operator]
            layer.mlp.down_proj.weight.zero_()  # type: ignore[union-attr, operator]
    return model


@in_two_ways
def test_text_that_repeats_itself_comes_in_few_steps(make_engine: MakeEngine) -> None:
    model = going_round()
    params = SamplingParams(max_tokens=200)
    plain, guessing = make_engine(model, speculate=0), make_engine(model, speculate=7)
    assert guessing.run([[5], [6, 7]], params) == plain.run([[5], [6, 7]], params)
    off, on = plain.engine.stats(), guessing.engine.stats()
    assert (off.proposed_tokens, off.accepted_tokens) == (0, 0)
    assert on.proposed_tokens >= on.accepted_tokens > 200
    assert on.steps < off.steps / 2


@pytest.mark.parametrize("params", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("kind", ["llama", "gptneox"])
@in_two_ways
def test_right_and_wrong_guesses_leave_answers_as_they_are(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, kind: str, params: SamplingParams
) -> None:
    cases = prompts(6, longest=40)
    plain = make_engine(tiny_model(kind), speculate=0)
    expected = plain.run(cases, params)
    for wrong in (0, 3, 1):
        engine = make_engine(tiny_model(kind), speculate=5, block_size=4)
        with monkeypatch.context() as patch:
            foretell(patch, cases, expected, wrong=wrong)
            assert engine.run(cases, params) == expected
        stats = engine.engine.stats()
        assert stats.proposed_tokens > 50
        assert (stats.accepted_tokens > 0) == (wrong != 1)
        if not wrong:
            assert stats.accepted_tokens == stats.proposed_tokens
            assert stats.steps < plain.engine.stats().steps


@in_two_ways
def test_answers_go_on_while_others_wait_for_what_was_right(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step ahead of one that decides about guesses is begun with what is certain, prompts among it."""
    cases = prompts(8, longest=40)
    expected = make_engine(speculate=0).run(cases, SAMPLED)
    monkeypatch.setattr(flight, "FEW", 0)
    foretell(monkeypatch, cases[::2], expected[::2], wrong=3)
    engine = make_engine(speculate=5, max_running=3, block_size=4, max_batched_tokens=16)
    assert engine.run(cases, SAMPLED) == expected
    assert engine.engine.stats().accepted_tokens > 0


@in_two_ways
def test_alone_every_right_guess_saves_a_step(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(speculate=5)
    cases = [[5, 6, 7]]
    expected = make_engine(speculate=0).run(cases, GREEDY)
    foretell(monkeypatch, cases, expected)
    before = engine.engine.stats().steps
    assert engine.run(cases, GREEDY) == expected
    stats = engine.engine.stats()
    assert stats.accepted_tokens == stats.proposed_tokens
    assert stats.steps - before == GREEDY.max_tokens - stats.accepted_tokens
    assert stats.steps - before <= 2 + -(-GREEDY.max_tokens // 6)


@in_two_ways
def test_a_stop_id_among_right_guesses_is_the_last_id(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    [answer] = make_engine(speculate=0).run([[5, 6, 7]], SAMPLED)
    foretell(monkeypatch, [[5, 6, 7]], [answer])
    engine = make_engine(speculate=5, block_size=4)
    for end in range(2, 20):
        engine.submit(f"{end}", [5, 6, 7], SAMPLED, stop=frozenset({answer[end]}))
        engine.wait(f"{end}")
        assert engine.ids[f"{end}"] == answer[: answer.index(answer[end]) + 1]
        assert engine.ends[f"{end}"].finish is Finish.STOP
    assert engine.engine.stats().accepted_tokens > 0


@in_two_ways
def test_an_answer_never_becomes_too_long(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    [answer] = make_engine(speculate=0).run([[5, 6, 7]], GREEDY)
    foretell(monkeypatch, [[5, 6, 7]], [answer])
    for most in range(1, 16):
        engine = make_engine(speculate=5, block_size=1, context_tokens=3 + most, kv_cache_tokens=3 + most)
        assert engine.run([[5, 6, 7]], SamplingParams(max_tokens=most)) == [answer[:most]]


@pytest.mark.parametrize(("wrong", "few"), [(0, 16), (2, 0), (0, 0)])
@in_two_ways
def test_with_too_few_blocks_for_all(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, wrong: int, few: int
) -> None:
    monkeypatch.setattr(flight, "FEW", few)
    cases = prompts(10, longest=60)
    expected = make_engine(speculate=0).run(cases, GREEDY)
    tiny = make_engine(kv_cache_tokens=128, block_size=8, max_running=8, context_tokens=128, speculate=5)
    foretell(monkeypatch, cases, expected, wrong=wrong)
    assert tiny.run(cases, GREEDY) == expected
    stats = tiny.engine.stats()
    assert stats.preemptions > 0
    assert stats.proposed_tokens > 0


@pytest.mark.parametrize("wrong", [2, 1])
@in_two_ways
def test_ids_that_were_not_said_are_no_prefix(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    case = list(range(10, 30))
    plain = make_engine(speculate=0, block_size=4)
    [answer] = plain.run([case], GREEDY)
    engine = make_engine(speculate=5, block_size=4)
    foretell(monkeypatch, [case], [answer], wrong=wrong)
    assert engine.run([case], GREEDY) == [answer]
    engine.run([[*case, *answer[:-1], 5]], SamplingParams(max_tokens=3))
    assert engine.cached["r1"] == (len(case) + len(answer) - 1) // 4 * 4, "all that was said is"
    for cut in range(1, len(answer)):
        next_case = [*case, *answer[:cut], 5]
        assert engine.run([next_case], SamplingParams(max_tokens=3)) == plain.run(
            [next_case], SamplingParams(max_tokens=3)
        )


@in_two_ways
def test_proposed_ids_are_the_first_to_give_way_to_too_little_memory(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = prompts(3, longest=20)
    expected = make_engine(speculate=0).run(cases, SAMPLED)
    foretell(monkeypatch, cases, expected)
    launch = ModelRunner.launch
    failed = list[int]()

    def bounded(runner: ModelRunner, chunks: list[Chunk]) -> Flight:
        if any(chunk.proposed for chunk in chunks):
            failed.append(len(chunks))
            raise MemoryError
        return launch(runner, chunks)

    engine = make_engine(speculate=5)
    monkeypatch.setattr(ModelRunner, "launch", bounded)
    assert engine.run(cases, SAMPLED) == expected
    assert 1 <= len(failed) <= 3, "once for each answer that ends"
    assert engine.engine.stats().preemptions == 0


@in_two_ways
def test_a_cancel_while_guesses_are_under_way(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = prompts(3, longest=20)
    expected = make_engine(speculate=0).run(cases, GREEDY)
    engine = make_engine(speculate=5)
    foretell(monkeypatch, cases, expected, then=lambda: engine.engine.cancel("a"))
    engine.submit("a", cases[0], GREEDY)
    engine.submit("b", cases[1], GREEDY)
    engine.wait("a", "b")
    assert engine.ends["a"].finish is Finish.CANCELLED
    assert engine.ids["a"] == expected[0][: len(engine.ids["a"])]
    assert engine.ids["b"] == expected[1]


@in_two_ways
def test_answers_with_a_repetition_penalty_are_not_guessed(make_engine: MakeEngine) -> None:
    engine = make_engine(going_round(), speculate=5)
    engine.run([[5]], SamplingParams(max_tokens=100, repetition_penalty=1.01))
    assert engine.engine.stats().proposed_tokens == 0


def decoding(name: str, ids: list[int], blocks: BlockManager, scheduler: Scheduler) -> Sequence:
    """A sequence that has computed all ids but the last."""
    one = Sequence(EngineRequest(name, ids, SamplingParams(max_tokens=50), frozenset()))
    scheduler.running.append(one)
    assert blocks.grow(one, len(ids))
    one.computed = len(ids) - 1
    return one


@pytest.mark.parametrize(
    ("free", "rows", "proposed"),
    [
        (100, 100, [2, 6, 0]),
        (100, 10, [1, 6, 0]),
        (100, 5, [0, 2, 0]),
        (100, 3, [0, 0, 0]),
        (2, 100, [2, 6, 0]),
        (0, 100, [2, 0, 0]),
    ],
)
def test_the_surest_are_guessed_first_in_rows_and_blocks_that_are_free(
    free: int, rows: int, proposed: list[int]
) -> None:
    blocks = BlockManager(num_blocks=1 + 3 + 3 + 2 + free, block_size=4)
    scheduler = Scheduler(blocks, 8, Budget(100, proposing=rows), Speculation(6))
    unsure = decoding("unsure", [1, 2, 3, 4, 5, 6, 7, 1, 2], blocks, scheduler)
    sure = decoding("sure", [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5], blocks, scheduler)
    new = decoding("new", [1, 2, 3, 4, 5], blocks, scheduler)
    chunks = {chunk.sequence: chunk for chunk in scheduler.schedule()}
    assert [len(chunks[one].proposed) for one in (unsure, sure, new)] == proposed
    assert all(chunk.count == 1 + len(chunk.proposed) for chunk in chunks.values())
    assert scheduler.preemptions == 0


def test_in_a_fuller_step_unsure_guesses_are_not_made() -> None:
    blocks = BlockManager(num_blocks=100, block_size=4)
    scheduler = Scheduler(blocks, 8, Budget(100, proposing=8), Speculation(3))
    unsure = decoding("unsure", [1, 2, 3, 4, 5, 6, 7, 1, 2], blocks, scheduler)
    sure = decoding("sure", [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5], blocks, scheduler)
    assert {chunk.sequence: chunk.proposed for chunk in scheduler.schedule()} == {unsure: (3, 4), sure: (6, 7, 1)}
    decoding("new", [1, 2, 3, 4, 5], blocks, scheduler)
    assert [chunk.proposed for chunk in scheduler.schedule() if chunk.proposed] == [(6, 7, 1)]


def test_what_follows_an_id_that_is_not_known_yet_is_guessed() -> None:
    one = Sequence(EngineRequest("a", [1, 2, 3, 4, 5, 6, 7, 1, 2, 3], SamplingParams(max_tokens=5), frozenset()))
    assert Speculation(9).guess(one) == (4, 5, 6, 7), "the step gives one id more than it proposes"
    one.pending = 1
    assert Speculation(9).guess(one) == (5, 6, 7)


def test_a_prompt_comes_on_beside_guesses_that_fill_a_small_step() -> None:
    scheduler = Scheduler(BlockManager(400, 8), 8, Budget(16), Speculation(7))
    repeating = [
        Sequence(EngineRequest(f"r{number}", (1, 2, 3, 4) * 4, SamplingParams(max_tokens=300), frozenset()))
        for number in range(2)
    ]
    late = Sequence(EngineRequest("late", tuple(range(5, 60)), SamplingParams(max_tokens=5), frozenset()))
    for sequence in repeating:
        scheduler.add(sequence)
    for step in range(20):
        if step == 10:
            scheduler.add(late)
        chunks = scheduler.schedule()
        assert sum(chunk.count for chunk in chunks) <= 16
        for chunk in chunks:
            chunk.sequence.computed += chunk.count
            if chunk.completes:
                chunk.sequence.pending += 1
                start = len(chunk.sequence.ids)
                chunk.sequence.take(chunk.proposed, [(start + number) % 4 + 1 for number in range(chunk.choices)])
        assert step < 5 or any(chunk.proposed for chunk in chunks)
    assert late.computed > 0
