"""How prompt and answer share the model's context."""

import pytest

from ekiden.errors import PromptTooLong
from ekiden_worker.prompts import Room


@pytest.mark.parametrize(
    ("context", "max_tokens", "limit"),
    [
        (4096, None, 3072),
        (100_000, None, 98_976),
        (1000, None, 750),
        (3, None, 3),
        (4096, 1, 4095),
        (4096, 4096, 0),
        (4096, 5000, -904),
    ],
)
def test_a_prompt_with_history_leaves_room_for_the_answer(context: int, max_tokens: int | None, limit: int) -> None:
    assert Room(context, max_tokens).prompt_limit == limit


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "answer"),
    [(10, None, 90), (99, None, 1), (10, 90, 90), (10, 1, 1), (99, 1, 1)],
)
def test_an_answer_is_as_long_as_was_asked_for_or_as_fits(prompt: int, max_tokens: int | None, answer: int) -> None:
    assert Room(100, max_tokens).answer_tokens(prompt) == answer


def test_an_answer_of_no_given_length_has_at_most_1024_tokens() -> None:
    assert Room(100_000, None).answer_tokens(10) == 1024


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "sentence"),
    [
        (100, None, "The prompt's 100 tokens do not fit the model's context of 100 tokens."),
        (10, 91, "The prompt's 10 tokens and max_tokens 91 do not fit the model's context of 100 tokens."),
        (500, 1, "The prompt's 500 tokens and max_tokens 1 do not fit the model's context of 100 tokens."),
    ],
)
def test_a_prompt_without_room_is_refused_with_its_numbers(prompt: int, max_tokens: int | None, sentence: str) -> None:
    with pytest.raises(PromptTooLong) as caught:
        Room(100, max_tokens).answer_tokens(prompt)
    assert str(caught.value) == sentence
