"""Guesses that a test knows to be right or wrong, in place of those that the engine finds."""

from collections.abc import Callable, Sequence

import pytest

from ekiden_worker.engine.speculation import Lookup
from tests.unit.engine.conftest import VOCAB


def foretell(
    patch: pytest.MonkeyPatch,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    wrong: int = 0,
    then: Callable[[], None] = lambda: None,
) -> None:
    """Let engines guess what answers to these prompts say, every `wrong`-th id another one; each time call `then`."""
    texts = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]

    def guess(_lookup: Lookup, ids: list[int], skip: int, most: int) -> list[int]:
        start = len(ids) + skip
        right = next((text for text in texts if text[: len(ids)] == ids), [])[start : start + most]
        then()
        return [(token + 1) % VOCAB if wrong and at % wrong == 0 else token for at, token in enumerate(right, start)]

    patch.setattr(Lookup, "guess", guess)
