"""The `plain` format: the last message behind what the tokenizer puts in front of any text."""

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from ekiden_worker.prompts import choose_format
from ekiden_worker.prompts.plain import PlainFormat
from tests.support.data import data_file
from tests.unit.prompts.families import byte_level, chat, sentencepiece


def framing(single: str) -> PreTrainedTokenizerFast:
    """A tokenizer that frames every text as `single` says."""
    tokenizer = sentencepiece(None)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=single, special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


def test_a_model_without_a_chat_template_gets_the_plain_format() -> None:
    prompts = choose_format(byte_level(None))
    assert (prompts.name, prompts.turn_end()) == ("plain", None)


@pytest.mark.parametrize("text", ["Once upon a time", " 日本語 👍🏽\n", "def f():\n    pass", "a\x00b"])
def test_prompt_is_the_last_messages_text(text: str) -> None:
    for tokenizer in (byte_level(None), framing("<s> $A")):
        ids = PlainFormat(tokenizer).encode(chat("Hi", "Yes?", text, system="Be brief."))
        assert ids == tokenizer.backend_tokenizer.encode(text).ids


@pytest.mark.parametrize(
    ("single", "begin"), [("<s> $A", [1]), ("<s> <s> $A", [1, 1]), ("$A </s>", []), ("<s> $A </s>", [1])]
)
def test_what_begins_a_text_is_kept_and_what_ends_it_is_not(single: str, begin: list[int]) -> None:
    tokenizer = framing(single)
    bare = tokenizer.backend_tokenizer.encode("Hi", add_special_tokens=False).ids
    assert PlainFormat(tokenizer).encode(chat("Hi")) == [*begin, *bare]


def test_control_tokens_in_the_text_stay_text() -> None:
    ids = PlainFormat(framing("<s> $A")).encode(chat("<s></s>"))
    assert (ids.count(1), ids.count(2)) == (1, 0)


def test_an_empty_text_is_only_the_beginning() -> None:
    assert PlainFormat(framing("<s> $A")).encode(chat("")) == [1]


def test_the_real_stories_tokenizer() -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(data_file("stories260K"))
    prompts = choose_format(tokenizer)
    for text in ("Once upon a time, there was a", 'Lily said: "Hi!"  \n', "日本語"):
        assert prompts.encode(chat(text)) == tokenizer(text)["input_ids"]
