"""Random walks: whatever befalls other requests, each answer is what the model alone would have said."""

import pytest

from tests.support.seeded import ROUNDS, generator
from tests.unit.engine.conftest import tiny_model
from tests.unit.engine.walk import Walk

KINDS = ("llama", "qwen3", "gptneox")
ROUNDS_A_WALK = 2500
WALKS = -(-ROUNDS // len(KINDS) // ROUNDS_A_WALK)
MOST_WALKS = WALKS + 20  # when ids are held, and so what is guessed, is not the same in each run


@pytest.mark.parametrize("kind", KINDS)
def test_no_walk_changes_an_answer(kind: str) -> None:
    model = tiny_model(kind)
    walks = []
    accepted = 0
    for number in range(MOST_WALKS):
        walk = Walk(model, generator(f"{kind} {number}"), requests=12)
        walk.run()
        walks.append(walk)
        accepted += walk.engine.stats().accepted_tokens
        if accepted and len(walks) >= WALKS:
            break
    assert accepted > 0, "some guesses come true"
    model.set_attn_implementation("sdpa")
    for walk in walks:
        walk.check(model)
    model.set_attn_implementation("ekiden_paged")
