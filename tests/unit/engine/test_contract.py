"""What `interface.Engine` promises, held by every engine: our own, vLLM where it runs, and the tests' fake."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.engine import BatchEngine
from ekiden_worker.engine.interface import Engine, EngineError, Finish, SamplingParams
from ekiden_worker.vllm_engine import VllmEngine
from ekiden_worker.vllm_options import VllmOptions
from tests.support import fake_engine
from tests.support.engine import Collector
from tests.support.small_model import VOCAB, small_model, vllm_marks
from tests.support.waiting import until
from tests.unit.engine.greedy import TIE

MAX_RUNNING = 8
LONG = SamplingParams(max_tokens=400)
SHORT = SamplingParams(max_tokens=12)


@dataclass(frozen=True)
class Subject:
    """One engine to hold to the contract. `reference` is its model; the fake has none."""

    make: Callable[[], Engine]
    vocab: int
    reference: PreTrainedModel | None = None

    @torch.inference_mode()
    def check(self, prompt: Sequence[int], answer: Sequence[int], penalty: float = 1.0) -> None:
        """The answer at temperature 0: each id is the reference's best behind those before it, or ties with it."""
        if self.reference is None:
            assert list(answer) == fake_engine.continued(prompt, 0, len(answer))
            return
        logits = self.reference(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
        for position, token in enumerate(answer):
            scores = logits[position]
            seen = torch.tensor(sorted({*prompt, *answer[:position]}))
            scores[seen] = torch.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
            assert scores.max() - scores[token] <= TIE, f"id {position} of {answer}"


def vllm(folder: Path) -> Engine:
    """vLLM on the device there is; one that was built for another is skipped."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return VllmEngine(VllmOptions(str(folder), device, torch.float32, MAX_RUNNING, eager=True))
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=["step by step", "ahead", "fake", pytest.param("vllm", marks=vllm_marks())])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    if request.param == "fake":
        return Subject(lambda: fake_engine.FakeEngine(0.001, MAX_RUNNING), fake_engine.VOCAB)
    model = small_model()
    if request.param == "vllm":
        folder = tmp_path_factory.mktemp("model")
        model.save_pretrained(folder)
        return Subject(lambda: vllm(folder), VOCAB, model)
    config = EngineConfig(max_running=MAX_RUNNING, lookahead=request.param == "ahead")
    return Subject(lambda: BatchEngine(small_model(), config), VOCAB, model)


@pytest.fixture(scope="module")
def kept(subject: Subject) -> Iterator[list[Collector[Engine]]]:
    """The subject's engines, of which the last may still serve: to start one costs some of them seconds."""
    collectors = list[Collector[Engine]]()
    yield collectors
    for collector in collectors:
        collector.engine.stop()
        if isinstance(collector.engine, BatchEngine):
            collector.engine.check_integrity()


@pytest.fixture
def engine(subject: Subject, kept: list[Collector[Engine]]) -> Iterator[Collector[Engine]]:
    """An engine with nothing to do; every request must have ended exactly once, and left nothing behind."""
    if not kept or not kept[-1].engine.alive:
        kept.append(Collector(subject.make()))
        kept[-1].engine.start(kept[-1])
    yield kept[-1]
    assert kept[-1].open == set(), "every request ended"
    if kept[-1].engine.alive:
        stats = kept[-1].engine.stats()
        assert (stats.running, stats.waiting, stats.held_blocks) == (0, 0, 0)
        assert stats.last_step_age_s is None
    kept[-1].forget()


def context_of(engine: Collector[Engine]) -> int:
    return engine.engine.context_tokens


@pytest.mark.parametrize(
    ("prompt", "params", "code"),
    [
        ([], LONG, "empty_prompt"),
        ([-1], LONG, "bad_token"),
        ([5], replace(LONG, max_tokens=0), "out_of_range"),
        ([5], replace(LONG, temperature=math.nan), "out_of_range"),
        ([5], replace(LONG, temperature=math.inf), "out_of_range"),
        ([5], replace(LONG, temperature=-0.1), "out_of_range"),
        ([5], replace(LONG, top_p=0.0), "out_of_range"),
        ([5], replace(LONG, top_p=1.1), "out_of_range"),
        ([5], replace(LONG, top_k=-1), "out_of_range"),
        ([5], replace(LONG, min_p=1.1), "out_of_range"),
        ([5], replace(LONG, repetition_penalty=0.0), "out_of_range"),
        ([5], replace(LONG, seed=-1), "out_of_range"),
        ([5], replace(LONG, seed=1 << 63), "out_of_range"),
    ],
)
def test_a_bad_request_is_refused(
    engine: Collector[Engine], prompt: list[int], params: SamplingParams, code: str
) -> None:
    with pytest.raises(EngineError) as caught:
        engine.submit("bad", prompt, params)
    assert caught.value.code == code
    engine.run([[5]], SHORT)


def test_an_id_outside_the_vocabulary_is_refused(engine: Collector[Engine], subject: Subject) -> None:
    for prompt, generated in (([subject.vocab], []), ([5], [subject.vocab])):
        with pytest.raises(EngineError) as caught:
            engine.submit("bad", prompt, SHORT, generated=generated)
        assert caught.value.code == "bad_token"


def test_the_context_can_be_filled_and_not_exceeded(engine: Collector[Engine], subject: Subject) -> None:
    prompt = [5] * (context_of(engine) - LONG.max_tokens)
    with pytest.raises(EngineError) as caught:
        engine.submit("bad", [*prompt, 5], LONG)
    assert caught.value.code == "prompt_too_long"
    assert str(context_of(engine)) in str(caught.value)
    assert str(len(prompt) + 1) in str(caught.value)
    [answer] = engine.run([prompt], LONG)
    assert len(answer) == LONG.max_tokens
    subject.check(prompt, answer)


def test_a_running_id_is_not_taken_twice(engine: Collector[Engine]) -> None:
    engine.submit("a", [5, 6], LONG)
    with pytest.raises(EngineError) as caught:
        engine.engine.submit(engine.request("a", [5, 6], LONG))
    assert caught.value.code == "duplicate_request"
    engine.engine.cancel("a")
    engine.wait("a")
    engine.forget()
    engine.submit("a", [5, 6], SHORT)  # the id is free again
    engine.wait("a")


def test_answers_are_those_of_the_model_alone_and_all_at_once(engine: Collector[Engine], subject: Subject) -> None:
    prompts = [[5 + number, *range(10, 12 + 3 * number)] for number in range(2 * MAX_RUNNING)]
    for prompt, answer in zip(prompts, engine.run(prompts, SHORT), strict=True):
        assert len(answer) == SHORT.max_tokens
        subject.check(prompt, answer)
    [alone] = engine.run(prompts[:1], SHORT)
    subject.check(prompts[0], alone)


@pytest.mark.parametrize("off", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}])
def test_where_one_id_is_left_to_choose_it_is_the_best(
    engine: Collector[Engine], subject: Subject, off: dict[str, float]
) -> None:
    [answer] = engine.run([[5, 6, 7]], replace(SHORT, temperature=1.0, **off))  # type: ignore[arg-type]
    subject.check([5, 6, 7], answer)


def test_a_seed_chooses_the_answer(engine: Collector[Engine]) -> None:
    params = replace(SHORT, temperature=1.0, seed=7)
    assert engine.run([[5, 6]], params) == engine.run([[5, 6]], params)
    assert engine.run([[5, 6]], params) != engine.run([[5, 6]], replace(params, seed=8))


def test_a_penalty_is_for_the_prompt_and_the_answer(engine: Collector[Engine], subject: Subject) -> None:
    params = replace(SHORT, repetition_penalty=1.5)
    prompt = [*range(10, 40), 5]
    [answer] = engine.run([prompt], params)
    subject.check(prompt, answer, penalty=1.5)
    engine.submit("moved", prompt, params, generated=answer[:6])
    engine.wait("moved")
    subject.check(prompt, [*answer[:6], *engine.ids["moved"]], penalty=1.5)


def test_an_answer_goes_on_behind_what_was_generated(engine: Collector[Engine], subject: Subject) -> None:
    [answer] = engine.run([[5, 6, 7]], SHORT)
    engine.submit("moved", [5, 6, 7], SHORT, generated=answer[:5])
    engine.wait("moved")
    assert engine.ends["moved"].finish is Finish.LENGTH
    assert len(engine.ids["moved"]) == SHORT.max_tokens - 5
    subject.check([5, 6, 7], [*answer[:5], *engine.ids["moved"]])


def test_an_answer_that_was_whole_already_ends_without_new_ids(engine: Collector[Engine]) -> None:
    engine.submit("length", [5], SamplingParams(max_tokens=3), generated=[7, 8, 9])
    engine.submit("stop", [5], LONG, generated=[7, 2], stop=frozenset({2}))
    engine.wait("length", "stop")
    assert (engine.ends["length"].finish, engine.ids["length"]) == (Finish.LENGTH, [])
    assert (engine.ends["stop"].finish, engine.ids["stop"]) == (Finish.STOP, [])


def test_an_end_id_stops_and_is_the_last_id(engine: Collector[Engine], subject: Subject) -> None:
    [answer] = engine.run([[5, 6, 7]], SHORT)
    engine.submit("stops", [5, 6, 7], LONG, stop=frozenset({answer[4], subject.vocab + 5}))
    engine.wait("stops")
    assert engine.ends["stops"].finish is Finish.STOP
    assert engine.ids["stops"] == answer[: answer.index(answer[4]) + 1]


def test_an_end_id_counts_where_it_is_the_last_that_fits(engine: Collector[Engine]) -> None:
    [answer] = engine.run([[5, 6, 7]], SHORT)
    end = answer.index(answer[4])
    engine.submit("stops", [5, 6, 7], replace(SHORT, max_tokens=end + 1), stop=frozenset({answer[4]}))
    engine.wait("stops")
    assert (engine.ends["stops"].finish, engine.ids["stops"]) == (Finish.STOP, answer[: end + 1])


def test_the_models_own_end_ids_end_nothing(engine: Collector[Engine], subject: Subject) -> None:
    """Which ids end an answer is said by its request alone."""
    if subject.reference is None:
        pytest.skip("the fake has no end ids of its own")
    engine.submit("a", [5], replace(SHORT, max_tokens=4), generated=[2, 2])
    engine.wait("a")
    assert (engine.ends["a"].finish, len(engine.ids["a"])) == (Finish.LENGTH, 2)


def test_a_held_engine_takes_no_step_and_goes_on_where_it_was(engine: Collector[Engine], subject: Subject) -> None:
    engine.submit("a", [5, 6], LONG)
    engine.submit("b", [7], LONG)
    engine.wait_ids("b", 3)
    engine.engine.hold(True)
    engine.engine.cancel("b")
    engine.wait("b")
    assert engine.ends["b"].finish is Finish.CANCELLED
    stats, seen = engine.engine.stats(), len(engine.ids["a"])
    assert stats.last_step_age_s is None
    engine.submit("c", [8], LONG)
    engine.engine.cancel("c")
    engine.wait("c")  # the thread took commands meanwhile, and no step
    assert engine.engine.stats().steps == stats.steps
    assert len(engine.ids["a"]) == seen
    engine.engine.hold(False)
    engine.wait("a")
    subject.check([5, 6], engine.ids["a"])
    assert engine.engine.stats().steps > stats.steps


def test_cancel_ends_what_runs_and_what_waits_and_ignores_what_it_does_not_know(engine: Collector[Engine]) -> None:
    names = [f"c{number}" for number in range(2 * MAX_RUNNING)]
    for number, name in enumerate(names):
        engine.submit(name, [5 + number], LONG)
    engine.wait_ids(names[0], 3)
    engine.engine.cancel("unknown")
    for name in reversed(names):
        engine.engine.cancel(name)
        engine.engine.cancel(name)
    engine.wait(*names)
    assert {engine.ends[name].finish for name in names} == {Finish.CANCELLED}
    engine.engine.cancel(names[0])
    engine.run([[5]], SHORT)
    assert "unknown" not in engine.ends


def test_a_cancelled_request_ends_within_a_step(engine: Collector[Engine]) -> None:
    engine.submit("a", [5], LONG)
    engine.wait_ids("a", 5)
    seen, steps = len(engine.ids["a"]), engine.engine.stats().steps
    engine.engine.cancel("a")
    engine.wait("a")
    assert len(engine.ids["a"]) - seen <= engine.engine.stats().steps - steps + 1


def test_a_prefix_that_was_computed_is_told_once(engine: Collector[Engine], subject: Subject) -> None:
    if subject.reference is None:
        pytest.skip("the fake keeps no prefixes")
    prompt = [7 + number % 250 for number in range(400)]
    before = engine.engine.stats()
    for answer in (*engine.run([prompt], SHORT), *engine.run([prompt], SHORT)):
        subject.check(prompt, answer)
    after = engine.engine.stats()
    assert (engine.cached["r0"], engine.later_cached) == (0, 0)
    assert 0 < engine.cached["r1"] < len(prompt)
    assert after.prompt_tokens - before.prompt_tokens == 2 * len(prompt)
    assert after.cached_tokens - before.cached_tokens == engine.cached["r1"]


def test_stats_tell_what_is_under_way(engine: Collector[Engine]) -> None:
    for number in range(3):
        engine.submit(f"s{number}", [5 + number], LONG)
    engine.wait_ids("s2", 1)
    age = engine.engine.stats().last_step_age_s
    assert age is None or age < 30
    engine.engine.hold(True)

    def agrees() -> bool:
        stats = engine.engine.stats()
        return stats.running + stats.waiting == len(engine.open) and (stats.held_blocks > 0) == bool(engine.open)

    until(agrees, what="what is under way, in the stats")
    assert engine.engine.stats().held_blocks <= engine.engine.stats().total_blocks
    engine.engine.hold(False)
    for number in range(3):
        engine.engine.cancel(f"s{number}")
    engine.wait("s0", "s1", "s2")
    until(lambda: engine.engine.stats().last_step_age_s is None)


def test_stop_ends_what_is_running(engine: Collector[Engine]) -> None:
    assert engine.engine.alive
    engine.submit("a", [5], LONG)
    engine.submit("b", [6], LONG)
    engine.wait_ids("a", 2)
    engine.engine.stop()
    engine.wait("a", "b")
    assert {engine.ends[name].finish for name in "ab"} == {Finish.CANCELLED}
    until(lambda: not engine.engine.alive, what="the end of the engine thread")
