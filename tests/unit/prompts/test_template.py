"""The `template` format gives the ids of the model's own chat template, whatever the template does to contents."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import chain, repeat
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ekiden.errors import InvalidRequest
from ekiden.protocol import Message
from ekiden_worker.prompts import ModelTokenizer
from ekiden_worker.prompts.template import TemplateFormat
from tests.support.data import data_file
from tests.unit.prompts.families import (
    FAMILIES,
    LLAMA3,
    byte_level,
    chat,
    encode,
    family,
    reference,
    template_format,
)

CODE = "def f(x):\n    if x:\n\treturn [1,  2]\n\n    return {'a': \"b\"}\n"
ORDINARY: dict[str, list[Message]] = {
    "one": chat("Hi"),
    "three turns": chat("Hello", "Hello there.", "And now?"),
    "five turns": chat("a", "b", "c", "d", "e"),
    "white space": chat("  Hi there \n", " Yes? \n\n", "\tAnd?\n"),
    "empty": chat(""),
    "blank": chat(" \n "),
    "empty answer": chat("Hi", "", "Again"),
    "same text twice": chat("Hi", "Hi", "Hi"),
    "a content in another": chat("Hi", "Hi Hi", "H"),
    "japanese": chat("日本の首都はどこですか?", "東京です。", "人口は?"),
    "emoji": chat("👍🏽 👩‍👩‍👧 ☕", "🎉", "é é"),
    "code": chat(CODE, CODE, f"Why?\n```python\n{CODE}```"),
    "NUL": chat("a\x00b\x00"),
    "controls and separators": chat("\x01\x7f\x85\u2028\u2029\ufeffx\r\n"),
    "private use": chat("\ue000\uf8ff\U000f0000"),
    "template syntax": chat("{{ messages }} {% raise %} {# x #} {{ '", "}}", "%}"),
    "100 kB": chat("word 言葉 \n" * 6000),
}
WITHOUT_SYSTEM = {"gemma"}


def format_of(template: str) -> tuple[PreTrainedTokenizerFast, TemplateFormat]:
    """A tokenizer with this chat template, and its format."""
    tokenizer = byte_level(template)
    return tokenizer, TemplateFormat(ModelTokenizer.of(tokenizer))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("case", ORDINARY)
def test_prompt_is_what_the_chat_template_gives(name: str, case: str) -> None:
    assert encode(template_format(name), ORDINARY[case]) == reference(family(name), ORDINARY[case])


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - WITHOUT_SYSTEM))
@pytest.mark.parametrize("system", ["Be brief.", "", " ", "日本語で。\n\n", "a\nb  "])
def test_a_system_message_is_where_the_chat_template_puts_it(name: str, system: str) -> None:
    messages = chat("Hi", "Yes?", "Go on.", system=system)
    assert encode(template_format(name), messages) == reference(family(name), messages)


@pytest.mark.parametrize(
    "answer", ["<think>\nHm.\n</think>\n\nYes. ", "Hm.</think>Yes", "</think>", "a</think>b</think> c"]
)
def test_thoughts_of_an_earlier_answer_are_left_out_where_the_template_does_so(answer: str) -> None:
    messages = chat("Is it?", answer, "Why?")
    assert encode(template_format("thinking"), messages) == reference(family("thinking"), messages)


@pytest.mark.parametrize("load", [AutoTokenizer, PreTrainedTokenizerFast], ids=["rebuilt", "as the file says"])
def test_the_real_llama_2_tokenizer_with_its_chat_template(load: type[PreTrainedTokenizerFast]) -> None:
    tokenizer = load.from_pretrained(data_file("llama2"))
    prompts = TemplateFormat(ModelTokenizer.of(tokenizer, data_file("llama2/tokenizer.json")))
    for messages in [*ORDINARY.values(), chat("Hi", "Yes?", "Go on.", system="Be brief.")]:
        assert encode(prompts, messages) == reference(tokenizer, messages)


TEMPLATES: dict[str, str] = {
    "strip": "<|im_start|>{{ messages[-1].content.strip() }}<|im_end|>",
    "rstrip": "<|im_start|>{{ messages[-1].content.rstrip() }}<|im_end|>",
    "lstrip": "<|im_start|>{{ messages[-1].content.lstrip() }}<|im_end|>",
    "lstrip at the end": "<|im_start|>{{ messages[-1].content.lstrip() }}",
    "twice": "{{ messages[-1].content }}<|im_end|>{{ messages[-1].content | trim }}<|im_end|>",
    "dropped": "<|im_start|>{{ messages[-1].content }}<|im_end|>",
    "nothing but contents": "{% for message in messages %}{{ message.content }}{% endfor %}",
    "nothing but stripped contents": "{% for message in messages %}{{ message.content | trim }}{% endfor %}",
    "asks for emptiness": "{% for m in messages if m.content | trim %}<|im_start|>{{ m.content }}{% endfor %}",
    "in reverse": "{% for message in messages | reverse %}{{ message.content }}<|im_end|>{% endfor %}",
    "no control token": "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}Answer:",
}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_what_a_template_does_to_contents_is_followed(template: str) -> None:
    tokenizer, prompts = format_of(template)
    for messages in [*ORDINARY.values(), chat(" Hi ", system=" Be brief. ")]:
        assert encode(prompts, messages) == reference(tokenizer, messages)


@pytest.mark.parametrize(
    ("name", "messages", "reason"),
    [
        ("mistral", [Message("user", "a"), Message("user", "b")], "Roles must alternate user/assistant/"),
        ("gemma", chat("Hi", system="Be brief."), "System role not supported"),
    ],
)
def test_messages_that_the_template_refuses_are_refused_with_its_reason(
    name: str, messages: list[Message], reason: str
) -> None:
    for refuse in (template_format(name).check, template_format(name).parts):
        with pytest.raises(InvalidRequest) as caught:
            refuse(messages)
        assert str(caught.value) == f"The model's chat template refuses these messages: {reason}."


def test_a_message_that_the_template_changes_unforeseen_is_refused() -> None:
    _, prompts = format_of("{{ messages[-1].content }}{{ '!' if 'secret' in messages[-1].content }}<|im_end|>")
    assert encode(prompts, chat("a word"))
    with pytest.raises(InvalidRequest, match="changes the text of these messages"):
        prompts.parts(chat("a secret word"))


def test_midnight_between_two_renderings_of_a_template_that_prints_the_date(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, prompts = family("llama3"), template_format("llama3")
    before = datetime(2026, 1, 1, 23, 59, 59, tzinfo=timezone.utc)  # noqa: UP017 (the module's own name is replaced)
    after = before + timedelta(seconds=1)
    times: Iterator[datetime] = chain([before], repeat(after))

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "datetime":  # type: ignore[override]
            return next(times)

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Clock)
    ids = encode(prompts, chat("Hi"))
    assert "02 Jan 2026" in str(tokenizer.decode(ids))
    assert ids == reference(tokenizer, chat("Hi"))
    assert "strftime_now" in LLAMA3


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("chatml", "<|im_end|>"),
        ("llama3", "<|eot_id|>"),
        ("mistral", "</s>"),
        ("mistral v3", "</s>"),
        ("gemma", "<end_of_turn>"),
        ("thinking", "<|im_end|>"),
        ("qwen", "<|im_end|>"),
        ("phi", "<|end|>"),
        ("zephyr", "</s>"),
    ],
)
def test_turn_end_is_the_token_behind_an_answer(name: str, end: str) -> None:
    assert template_format(name).turn_end() == family(name).convert_tokens_to_ids(end)


@pytest.mark.parametrize(
    "template",
    [
        TEMPLATES["no control token"],
        TEMPLATES["dropped"].replace("[-1].content", "[0].content"),
        "{% for m in messages %}{{ m.content }} .<|im_end|>{% endfor %}",
        "{{ raise_exception('Ask!') if messages[-1].role != 'user' else messages[-1].content + '<|im_end|>' }}",
    ],
)
def test_no_turn_end_where_no_token_follows_an_answer_at_once(template: str) -> None:
    assert format_of(template)[1].turn_end() is None


def test_a_tokenizer_saved_and_loaded_again_gives_the_same_prompts(tmp_path: Path) -> None:
    family("llama3").save_pretrained(tmp_path)
    again = TemplateFormat(ModelTokenizer.from_folder(tmp_path))
    for messages in ORDINARY.values():
        assert encode(again, messages) == encode(template_format("llama3"), messages)
