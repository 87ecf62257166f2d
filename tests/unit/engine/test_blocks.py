"""Whatever sequences come and go, no block is lost and no block is held by two that differ."""

import random

import pytest

from ekiden_worker.engine.block_manager import BlockManager
from ekiden_worker.engine.interface import EngineRequest, SamplingParams
from ekiden_worker.engine.scheduler import Budget, Scheduler
from ekiden_worker.engine.sequence import Sequence


def sequence(name: str, ids: list[int], answer: int) -> Sequence:
    return Sequence(EngineRequest(name, ids, SamplingParams(max_tokens=answer), frozenset()))


def test_a_random_history_of_schedules_keeps_the_books() -> None:
    source = random.Random(9)
    blocks = BlockManager(num_blocks=25, block_size=4)
    scheduler = Scheduler(blocks, max_running=6, budget=Budget(20))
    content: dict[int, tuple[int, ...]] = {}
    ended = 0
    for step in range(3000):
        if len(scheduler.waiting) < 4:
            shared = [7] * source.choice([0, 4, 8, 12])
            ids = shared + [source.randrange(9) for _ in range(source.randint(1, 30))]
            scheduler.add(sequence(f"s{step}", ids, source.randint(1, 20)))
        chunks = scheduler.schedule()
        assert chunks, "there is always something to do"
        assert sum(chunk.count for chunk in chunks) <= 20 + len(scheduler.running)
        assert [chunk.count == 1 for chunk in chunks] == sorted((c.count == 1 for c in chunks), reverse=True)
        for chunk in chunks:
            one = chunk.sequence
            assert len(one.block_table) * 4 >= one.computed + chunk.count
            for number in range(one.computed // 4):
                assert content[one.block_table[number]] == tuple(one.ids[: number * 4 + 4]), "a prefix is what it says"
            one.computed += chunk.count
            for number in range(one.computed // 4):
                content[one.block_table[number]] = tuple(one.ids[: number * 4 + 4])
            blocks.seal(one)
            if one.computed == len(one.ids):
                one.ids.append(source.randrange(9))
                if one.generated >= one.request.params.max_tokens or source.random() < 0.05:
                    scheduler.remove(one)
                    ended += 1
        blocks.check_integrity([*scheduler.running, *scheduler.waiting])
    assert ended > 100
    assert scheduler.preemptions > 10


@pytest.mark.parametrize(
    ("budget", "answers", "prompts"),
    [
        (Budget(256), 0, 256),
        (Budget(256), 32, 224),
        (Budget(2560, beside=1024, each=16, multiple=256), 0, 2560),
        (Budget(2560, beside=1024, each=16, multiple=256), 1, 1023),
        (Budget(2560, beside=1024, each=16, multiple=256), 100, 1536 - 100),
        (Budget(2560, beside=1024, each=16, multiple=256), 256, 2560 - 256),
        (Budget(100, beside=1024, each=16, multiple=256), 30, 70),
        (Budget(300, multiple=256), 280, 20),
        (Budget(16), 16, 0),
    ],
)
def test_a_budget_leaves_prompts_what_answers_do_not_need(budget: Budget, answers: int, prompts: int) -> None:
    assert budget.of_prompts(answers) == prompts
