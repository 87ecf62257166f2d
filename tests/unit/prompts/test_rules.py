"""What an operator's settings do to messages."""

import random

import pytest

from ekiden.protocol import Message
from ekiden.settings import load_settings
from ekiden_worker.prompts import ModelTokenizer, PromptRules, UnusableFormat, choose_format
from tests.support.seeded import generator
from tests.unit.prompts.families import CHATML, LLAMA2, byte_level, chat, sentencepiece


def test_without_settings_messages_stay_as_they_are() -> None:
    messages = chat("Hi", "Yes?", "Go on.")
    assert PromptRules.of(load_settings()).apply(messages) == messages


def test_a_conversation_without_a_system_message_gets_the_default_one() -> None:
    rules = PromptRules.of(load_settings(system_prompt="Be brief."))
    assert rules.apply(chat("Hi")) == chat("Hi", system="Be brief.")


@pytest.mark.parametrize(
    ("template", "system", "reason"),
    [
        (LLAMA2, "[INST]", "A message may not hold"),
        ("{{ raise_exception('No system.') if messages[0].role == 'system' }}" + CHATML, "Hi", "No system."),
    ],
)
def test_a_default_system_message_that_cannot_be_shown_is_refused_at_start(
    template: str, system: str, reason: str
) -> None:
    fast = sentencepiece(template) if template == LLAMA2 else byte_level(template)
    prompts = choose_format(ModelTokenizer.of(fast), load_settings())
    with pytest.raises(UnusableFormat, match=rf"^EKIDEN_SYSTEM_PROMPT cannot be shown to this model: .*{reason}"):
        PromptRules(system).check(prompts)
    PromptRules(None).check(prompts)


@pytest.mark.parametrize("own", ["Be long.", "", " "])
def test_an_own_system_message_wins_even_an_empty_one(own: str) -> None:
    assert PromptRules("Be brief.").apply(chat("Hi", system=own)) == chat("Hi", system=own)


def test_single_turn_memory_shows_the_system_message_and_the_last_message() -> None:
    rules = PromptRules.of(load_settings(memory="single_turn"))
    assert rules.single_turn
    assert rules.apply(chat("a", "b", "c", system="s")) == chat("c", system="s")
    assert rules.apply(chat("a", "b", "c")) == chat("c")
    assert PromptRules("s", single_turn=True).apply(chat("a", "b", "c")) == chat("c", system="s")


def test_texts_are_replaced_in_user_messages_alone() -> None:
    rules = PromptRules.of(load_settings(replace_input='[["cat", "dog"]]'))
    assert rules.apply(chat("cat", "cat", "a cat, cats", system="cat")) == chat(
        "dog", "cat", "a dog, dogs", system="cat"
    )


@pytest.mark.parametrize(
    ("pairs", "text", "replaced"),
    [
        ([("a", "b"), ("b", "a")], "abba", "baab"),
        ([("a", "aa")], "aaa", "aaaaaa"),
        ([("ab", "1"), ("abc", "2"), ("bcd", "3")], "abcd ab bcd", "2d 1 3"),
        ([("x", "")], "axxb", "ab"),
        ([(".", "!"), ("$1", "\\1")], "a. $1 \\1", "a! \\1 \\1"),
        ([("駅", "station")], "駅伝", "station伝"),
    ],
)
def test_the_longest_match_wins_and_results_are_not_looked_at_again(
    pairs: list[tuple[str, str]], text: str, replaced: str
) -> None:
    assert PromptRules(replace_input=pairs).replaced(Message("user", text)) == Message("user", replaced)


def slowly_replaced(pairs: dict[str, str], text: str) -> str:
    """Place by place, the longest that matches."""
    done, at = "", 0
    while at < len(text):
        found = max((old for old in pairs if text.startswith(old, at)), key=len, default="")
        done += pairs[found] if found else text[at]
        at += len(found) or 1
    return done


def some_text(randomly: random.Random, least: int) -> str:
    return "".join(randomly.choices("ab.\\", k=randomly.randrange(least, 5)))


def test_random_pairs_replace_as_the_rule_says() -> None:
    randomly = generator("replace input")
    for _ in range(2_000):
        pairs = {some_text(randomly, 1): some_text(randomly, 0) for _ in range(randomly.randrange(5))}
        text = "".join(some_text(randomly, 0) for _ in range(4))
        rules = PromptRules(replace_input=list(pairs.items()))
        assert rules.replaced(Message("user", text)).content == slowly_replaced(pairs, text), (pairs, text)
