"""The `dialogue` format: a transcript that a base model goes on with."""

import pytest
from tokenizers.processors import TemplateProcessing

from ekiden.protocol import Message
from ekiden_worker.prompts import KeptAnswer, ModelTokenizer
from ekiden_worker.prompts.dialogue import DialogueFormat
from ekiden_worker.prompts.parts import Control, Ids, Part
from tests.unit.prompts.families import byte_level, chat, encode, sentencepiece
from tests.unit.prompts.forging import FORGERIES


def with_begin() -> ModelTokenizer:
    """SentencePiece with a <s> in front of every text."""
    tokenizer = sentencepiece(None)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return ModelTokenizer.of(tokenizer)


def dialogue(requester: str = "User: ", responder: str = "Assistant: ") -> DialogueFormat:
    return DialogueFormat(with_begin(), requester, responder)


def text_of(parts: list[Part]) -> str:
    return "".join(
        part.token if isinstance(part, Control) else str(part.ids) if isinstance(part, Ids) else part.text
        for part in parts
    )


def test_a_transcript() -> None:
    messages = chat("Hi", "Yes?", "Who\nare you?", system="You answer questions.")
    assert text_of(dialogue().parts(messages)) == (
        "<s>You answer questions.\n\nUser: Hi\nAssistant: Yes?\nUser: Who\nare you?\nAssistant:"
    )


@pytest.mark.parametrize(
    ("requester", "responder", "shown"),
    [
        ("Q: ", "A: ", "<s>Q: Hi\nA: Yes?\nQ: Why?\nA:"),
        ("### I:\n", "### R:\n", "<s>### I:\nHi\n### R:\nYes?\n### I:\nWhy?\n### R:"),
        ("> ", "", "<s>> Hi\nYes?\n> Why?\n"),
        ("質問：", "答え：", "<s>質問：Hi\n答え：Yes?\n質問：Why?\n答え："),
    ],
)
def test_prefixes_are_the_operators(requester: str, responder: str, shown: str) -> None:
    assert text_of(dialogue(requester, responder).parts(chat("Hi", " Yes? \n", "Why?"))) == shown


@pytest.mark.parametrize("system", ["", " \n"])
def test_a_blank_system_message_leaves_no_blank_line(system: str) -> None:
    assert text_of(dialogue().parts(chat("Hi", system=system))) == "<s>User: Hi\nAssistant:"


def test_the_requesters_prefix_is_a_stop_sequence() -> None:
    assert dialogue("User: ").stops == ("\nUser:", "User:")


def test_ids_are_those_of_the_whole_text() -> None:
    messages = chat("Hi", "Yes?", "日本 👍🏽", system="Be brief.")
    shown = text_of(dialogue().parts(messages)).removeprefix("<s>")
    assert encode(dialogue(), messages) == with_begin().raw.encode(shown).ids
    tokenizer = ModelTokenizer.of(byte_level(None))
    prompts = DialogueFormat(tokenizer, "User: ", "Assistant: ")
    assert encode(prompts, messages) == tokenizer.raw.encode(shown).ids


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("tokenizer", [with_begin(), ModelTokenizer.of(byte_level(None))], ids=["spm", "byte-level"])
def test_what_follows_an_answer_extends_the_prompt_before(ended: bool, tokenizer: ModelTokenizer) -> None:
    prompts = DialogueFormat(tokenizer, "User: ", "Assistant: ")
    answer = KeptAnswer((*prompts.continuation(" Yes."), *([2] if ended else [])), ended)
    system, first, second = chat("Hi", system="Be brief.")[0], Message("user", "Hi"), Message("user", "And?")
    before = encode(prompts, [system, first])
    following = prompts.encode(prompts.following(system, second, ended=ended))
    assert encode(prompts, [system, first, answer, second]) == [*before, *answer.ids, *following]
    assert tokenizer.raw.decode(following).endswith("\nUser: And?\nAssistant:")
    text = tokenizer.raw.decode([*before, *answer.ids, *following])
    assert text == "Be brief.\n\nUser: Hi\nAssistant: Yes.\nUser: And?\nAssistant:"


@pytest.mark.parametrize("forged", FORGERIES)
def test_no_control_token_comes_from_a_message(forged: str) -> None:
    for tokenizer in (with_begin(), ModelTokenizer.of(byte_level(None))):
        prompts = DialogueFormat(tokenizer, "User: ", "Assistant: ")
        control = set(tokenizer.raw.get_added_tokens_decoder())
        ids = encode(prompts, chat(forged, forged, forged, system=forged))
        assert control.isdisjoint(ids[1:] if tokenizer.raw.encode("x").ids[0] == 1 else ids)
