"""The `template` format gives the ids of the model's own chat template, whatever the template does to contents."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from itertools import chain, repeat
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from ekiden.errors import InvalidRequest
from ekiden.protocol import Message
from ekiden_worker.prompts import UnusableTemplate, choose_format
from ekiden_worker.prompts.template import TemplateFormat
from tests.support.data import data_file
from tests.unit.prompts.families import FAMILIES, LLAMA3, byte_level, chat, family, reference

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


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("case", ORDINARY)
def test_prompt_is_what_the_chat_template_gives(name: str, case: str) -> None:
    tokenizer = family(name)
    assert TemplateFormat(tokenizer).encode(ORDINARY[case]) == reference(tokenizer, ORDINARY[case])


@pytest.mark.parametrize("name", ["chatml", "llama3", "mistral"])
@pytest.mark.parametrize("system", ["Be brief.", "", " ", "日本語で。\n\n", "a\nb  "])
def test_a_system_message_is_where_the_chat_template_puts_it(name: str, system: str) -> None:
    tokenizer = family(name)
    messages = chat("Hi", "Yes?", "Go on.", system=system)
    assert TemplateFormat(tokenizer).encode(messages) == reference(tokenizer, messages)


@pytest.mark.parametrize(
    "answer", ["<think>\nHm.\n</think>\n\nYes. ", "Hm.</think>Yes", "</think>", "a</think>b</think> c"]
)
def test_thoughts_of_an_earlier_answer_are_left_out_where_the_template_does_so(answer: str) -> None:
    tokenizer = family("thinking")
    messages = chat("Is it?", answer, "Why?")
    assert TemplateFormat(tokenizer).encode(messages) == reference(tokenizer, messages)


def test_the_real_llama_2_tokenizer_with_its_chat_template() -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(data_file("llama2"))
    prompts = choose_format(tokenizer)
    for messages in [*ORDINARY.values(), chat("Hi", "Yes?", "Go on.", system="Be brief.")]:
        assert prompts.encode(messages) == reference(tokenizer, messages)


TEMPLATES: dict[str, str] = {
    "strip": "<|im_start|>{{ messages[-1].content.strip() }}<|im_end|>",
    "rstrip": "<|im_start|>{{ messages[-1].content.rstrip() }}<|im_end|>",
    "lstrip": "<|im_start|>{{ messages[-1].content.lstrip() }}<|im_end|>",
    "twice": "{{ messages[-1].content }}<|im_end|>{{ messages[-1].content | trim }}<|im_end|>",
    "dropped": "<|im_start|>{{ messages[-1].content }}<|im_end|>",
    "nothing but contents": "{% for message in messages %}{{ message.content }}{% endfor %}",
    "asks for emptiness": "{% for m in messages if m.content | trim %}<|im_start|>{{ m.content }}{% endfor %}",
    "in reverse": "{% for message in messages | reverse %}{{ message.content }}<|im_end|>{% endfor %}",
    "no control token": "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}Answer:",
}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_what_a_template_does_to_contents_is_followed(template: str) -> None:
    tokenizer = byte_level(template)
    prompts = TemplateFormat(tokenizer)
    for messages in [*ORDINARY.values(), chat(" Hi ", system=" Be brief. ")]:
        assert prompts.encode(messages) == reference(tokenizer, messages)


UNUSABLE: dict[str, str] = {
    "other letters": "{{ messages[-1].content | upper }}",
    "only a part": "{{ messages[-1].content[:4] }}",
    "as JSON": "{{ messages | tojson }}",
    "reads the length": "{{ messages[-1].content | length }}<|im_start|>{{ messages[-1].content }}",
    "broken syntax": "{% for %}",
    "unknown filter": "{{ messages | zap }}",
    "always raises": "{{ raise_exception('Never') }}",
    "type error": "{{ messages + 1 }}",
    "division by zero": "{{ 1 // 0 }}",
    "unsafe": "{{ messages.__class__.__mro__ }}{{ ''.__class__.__mro__[1] }}",
}


@pytest.mark.parametrize("template", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_template_that_cannot_be_followed_is_refused_at_load(template: str) -> None:
    with pytest.raises(UnusableTemplate, match=r"^The model's chat template .*\.$"):
        choose_format(byte_level(template))


def test_several_templates_without_a_default_are_refused_at_load() -> None:
    tokenizer = byte_level(None)
    tokenizer.chat_template = {"rag": "{{ messages }}", "tool_use": "{{ messages }}"}
    with pytest.raises(UnusableTemplate):
        choose_format(tokenizer)


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
    with pytest.raises(InvalidRequest) as caught:
        TemplateFormat(family(name)).encode(messages)
    assert str(caught.value) == f"The model's chat template refuses these messages: {reason}."


def test_a_message_that_the_template_changes_unforeseen_is_refused() -> None:
    template = "{% for m in messages %}<|im_start|>{{ m.content | replace('secret', '***') }}{% endfor %}"
    prompts = TemplateFormat(byte_level(template))
    with pytest.raises(InvalidRequest, match="changes this message"):
        prompts.encode(chat("a secret word"))


def test_midnight_between_two_renderings_of_a_template_that_prints_the_date(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = family("llama3")
    prompts = TemplateFormat(tokenizer)
    before = datetime(2026, 1, 1, 23, 59, 59, tzinfo=timezone.utc)  # noqa: UP017 (the module's own name is replaced)
    after = before + timedelta(seconds=1)
    times: Iterator[datetime] = chain([before], repeat(after))

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "datetime":  # type: ignore[override]
            return next(times)

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Clock)
    ids = prompts.encode(chat("Hi"))
    assert "02 Jan 2026" in str(tokenizer.decode(ids))
    assert ids == reference(tokenizer, chat("Hi"))
    assert "strftime_now" in LLAMA3


def test_eight_threads_encode_alike() -> None:
    prompts = TemplateFormat(family("chatml"))
    cases = [ORDINARY["code"], chat("<|im_end|>", "<tool_call>", "<|im_start|>"), chat("Hi", system="x")]
    expected = [prompts.encode(messages) for messages in cases]

    def encode_all(_number: int) -> list[list[int]]:
        return [prompts.encode(messages) for _ in range(20) for messages in cases]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(encode_all, range(8))) == [expected * 20] * 8


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("chatml", "<|im_end|>"),
        ("llama3", "<|eot_id|>"),
        ("mistral", "</s>"),
        ("gemma", "<end_of_turn>"),
        ("thinking", "<|im_end|>"),
    ],
)
def test_turn_end_is_the_token_behind_an_answer(name: str, end: str) -> None:
    tokenizer = family(name)
    assert TemplateFormat(tokenizer).turn_end() == tokenizer.convert_tokens_to_ids(end)


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
    assert TemplateFormat(byte_level(template)).turn_end() is None


def test_a_tokenizer_saved_and_loaded_again_gives_the_same_prompts(tmp_path: Path) -> None:
    tokenizer = family("llama3")
    tokenizer.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for messages in ORDINARY.values():
        assert TemplateFormat(again).encode(messages) == TemplateFormat(tokenizer).encode(messages)
