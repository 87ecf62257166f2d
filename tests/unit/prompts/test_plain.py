"""The `plain` format: the last message behind what the tokenizer puts in front of any text."""

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from ekiden.protocol import Message
from ekiden_worker.prompts import KeptAnswer, ModelTokenizer
from ekiden_worker.prompts.plain import PlainFormat
from tests.support.data import data_file
from tests.unit.prompts.families import byte_level, chat, encode, sentencepiece


def plain(tokenizer: PreTrainedTokenizerFast) -> PlainFormat:
    return PlainFormat(ModelTokenizer.of(tokenizer))


def framing(single: str) -> PreTrainedTokenizerFast:
    """A tokenizer that frames every text as `single` says."""
    tokenizer = sentencepiece(None)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=single, special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


@pytest.mark.parametrize("text", ["Once upon a time", " 日本語 👍🏽\n", "def f():\n    pass", "a\x00b"])
def test_prompt_is_the_last_messages_text(text: str) -> None:
    for tokenizer in (byte_level(None), framing("<s> $A")):
        ids = encode(plain(tokenizer), chat("Hi", "Yes?", text, system="Be brief."))
        assert ids == tokenizer.backend_tokenizer.encode(text).ids


@pytest.mark.parametrize(
    ("single", "begin"), [("<s> $A", [1]), ("<s> <s> $A", [1, 1]), ("$A </s>", []), ("<s> $A </s>", [1])]
)
def test_what_begins_a_text_is_kept_and_what_ends_it_is_not(single: str, begin: list[int]) -> None:
    tokenizer = framing(single)
    bare = tokenizer.backend_tokenizer.encode("Hi", add_special_tokens=False).ids
    assert encode(plain(tokenizer), chat("Hi")) == [*begin, *bare]


def test_control_tokens_in_the_text_stay_text() -> None:
    ids = encode(plain(framing("<s> $A")), chat("<s></s>"))
    assert (ids.count(1), ids.count(2)) == (1, 0)


def test_an_empty_text_is_only_the_beginning() -> None:
    assert encode(plain(framing("<s> $A")), chat("")) == [1]


@pytest.mark.parametrize(
    ("special", "text"),
    [
        ({"eos_token": "<|im_end|>"}, "<|im_end|>"),
        ({"bos_token": "<|im_start|>"}, "<|im_start|>"),
        ({}, "<|endoftext|>"),
    ],
)
def test_an_empty_text_without_a_beginning_is_one_token_to_go_on_from(special: dict[str, str], text: str) -> None:
    tokenizer = byte_level(None, **special)
    assert encode(plain(tokenizer), chat("")) == [tokenizer.convert_tokens_to_ids(text)]


def test_nothing_of_earlier_turns_is_shown() -> None:
    prompts = plain(framing("<s> $A"))
    alone = encode(prompts, chat("And?"))
    assert encode(prompts, [*chat("Hi"), KeptAnswer((5, 6), False), *chat("And?")]) == alone
    assert prompts.encode(prompts.following(None, Message("user", "And?"), ended=True)) == alone
    assert (prompts.single_turn, prompts.stops, prompts.turn_end()) == (True, (), None)


def test_the_real_stories_tokenizer() -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(data_file("stories260K"))
    prompts = PlainFormat(ModelTokenizer.from_folder(data_file("stories260K")))
    for text in ("Once upon a time, there was a", 'Lily said: "Hi!"  \n', "日本語"):
        assert encode(prompts, chat(text)) == tokenizer(text)["input_ids"]
