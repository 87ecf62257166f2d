"""The engine of the chaos drills finds too little memory when it is told to, and answers as any other."""

from pathlib import Path

from ekiden_worker.engine.interface import SamplingParams
from tests.support.checked_engine import squeeze
from tests.unit.engine.conftest import MakeEngine


def test_answers_go_on_while_memory_is_taken(make_engine: MakeEngine, tmp_path: Path) -> None:
    prompts = [[number + 1] * 40 for number in range(6)]
    expected = make_engine().run(prompts, SamplingParams(max_tokens=20))
    engine = make_engine()
    squeeze(engine.engine, tmp_path)
    assert engine.run(prompts, SamplingParams(max_tokens=20)) == expected
    assert engine.engine.stats().preemptions > 0
