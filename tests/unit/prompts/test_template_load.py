"""A chat template that changes the text of messages cannot be kept apart from it: loading says so."""

from pathlib import Path

import pytest

from ekiden.errors import InvalidRequest
from ekiden_worker.prompts import ModelTokenizer, UnusableFormat
from ekiden_worker.prompts.template import TemplateFormat
from tests.unit.prompts.families import CHATML, byte_level, chat, encode, reference

CHANGED = {
    "upper case": "m.content | upper",
    "lower case": "m.content.lower()",
    "capitalized": "m.content | capitalize",
    "title case": "m.content | title",
    "swapped case": "m.content.swapcase()",
    "case folded": "m.content.casefold()",
    "HTML escapes": "m.content | e",
    "JSON": "m.content | tojson",
    "JSON without quotes": "(m.content | tojson)[1:-1]",
    "its letters": "m.content | join('-')",
    "without tags": "m.content | striptags",
    "links": "m.content | urlize",
    "white space in one": "m.content.split() | join(' ')",
    "lines in one": "m.content.replace('\\n', ' ')",
    "tabs expanded": "m.content.expandtabs()",
    "indented": "m.content | indent",
    "wrapped": "m.content | wordwrap",
    "first line": "m.content.split('\\n')[0]",
    "first letters": "m.content[:4]",
    "first letters and no more": "m.content[:18]",
    "truncated": "m.content | truncate",
    "truncated late": "m.content[:50000]",
    "the end": "m.content[-9999:]",
    "backwards": "m.content | reverse",
    "a word replaced": "m.content | replace('secret', '***')",
    "a word removed": 'm.content.replace("bad word", "")',
    "a control token removed": "m.content.replace('<|im_end|>', '')",
    "cut at a word": "m.content.split('###')[0]",
    "quoted": "m.content.replace('\"', '\\\\\"')",
    "its length": "m.content | length ~ m.content",
    "digits": "m.content.replace('0', '00').replace('1', '77')",
    "numbered": "(m.content ~ '.') | center(9) if '1' in m.content else m.content",
    "ASCII": "m.content.encode('ascii', 'ignore').decode()",
    "surrounded": "m.content ~ m.content[0]",
}


def load(template: str) -> TemplateFormat:
    return TemplateFormat(ModelTokenizer.of(byte_level(template)))


@pytest.mark.parametrize("expression", CHANGED.values(), ids=CHANGED.keys())
@pytest.mark.parametrize("role", ["user", "assistant", "last"])
def test_a_template_that_changes_contents_is_refused(expression: str, role: str) -> None:
    which = "loop.last" if role == "last" else f"m.role == '{role}'"
    template = CHATML.replace("message.content", f"(({expression}) if {which} else m.content)").replace("message", "m")
    with pytest.raises(UnusableFormat, match="changes the text of messages"):
        load(template.replace("ms", "messages"))


def test_a_template_that_changes_the_system_message_is_refused() -> None:
    with pytest.raises(UnusableFormat, match="changes the text of messages"):
        load("{{ messages[0].content | upper if messages[0].role == 'system' }}<|im_start|>{{ messages[-1].content }}")


def test_a_switch_in_the_system_message_does_not_make_a_template_unusable() -> None:
    template = (
        "{{ messages[0].content.replace('/no_think', '') if messages[0].role == 'system' }}"
        "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    )
    tokenizer = byte_level(template)
    messages = chat("Hi", "a /no_think", "b /no_think", system="Be brief.")
    assert encode(load(template), messages) == reference(tokenizer, messages)


@pytest.mark.parametrize(
    "shown",
    [
        "(m.content | replace(eos_token, ''))",
        "m.content.replace(bos_token, '').replace(eos_token, '')",
        "m.content.split(eos_token)[0]",
        "(m.content if eos_token not in m.content else '[removed]')",
        "m.content.replace('<|im_' ~ 'end|>', '')",
    ],
)
def test_a_template_that_takes_out_control_tokens_is_refused(shown: str) -> None:
    template = CHATML.replace("message.content", shown.replace("m.content", "message.content"))
    tokenizer = byte_level(template, bos_token="<|im_start|>", eos_token="<|im_end|>")
    with pytest.raises(UnusableFormat, match="changes the text of messages"):
        TemplateFormat(ModelTokenizer.of(tokenizer))


def test_a_template_that_refuses_control_tokens_is_usable() -> None:
    shown = "(raise_exception('No tags.') if '<|im_end|>' in message.content else message.content)"
    prompts = TemplateFormat(ModelTokenizer.of(byte_level(CHATML.replace("message.content", shown))))
    assert encode(prompts, chat("Hi")) == reference(byte_level(CHATML), chat("Hi"))
    with pytest.raises(InvalidRequest, match="refuses these messages: No tags"):
        encode(prompts, chat("<|im_end|>"))


BROKEN = {
    "as JSON": "{{ messages | tojson }}",
    "broken syntax": "{% for %}",
    "unknown filter": "{{ messages | zap }}",
    "always raises": "{{ raise_exception('Never') }}",
    "type error": "{{ messages + 1 }}",
    "division by zero": "{{ 1 // 0 }}",
    "unsafe": "{{ messages.__class__.__mro__ }}{{ ''.__class__.__mro__[1] }}",
}


@pytest.mark.parametrize("template", BROKEN.values(), ids=BROKEN.keys())
def test_a_template_that_cannot_be_rendered_is_refused(template: str) -> None:
    with pytest.raises(UnusableFormat, match=r"^The model's chat template .*\.$"):
        load(template)


def test_several_templates_without_a_default_are_refused() -> None:
    tokenizer = byte_level(None)
    tokenizer.chat_template = {"rag": "{{ messages }}", "tool_use": "{{ messages }}"}
    with pytest.raises(UnusableFormat):
        TemplateFormat(ModelTokenizer.of(tokenizer))


def test_the_default_of_several_templates_is_used(tmp_path: Path) -> None:
    tokenizer = byte_level(None)
    tokenizer.chat_template = {"default": CHATML, "rag": "{{ messages }}"}
    tokenizer.save_pretrained(tmp_path)
    prompts = TemplateFormat(ModelTokenizer.from_folder(tmp_path))
    assert encode(prompts, chat("Hi")) == reference(byte_level(CHATML), chat("Hi"))


def test_a_tokenizer_without_a_chat_template_has_no_template_format() -> None:
    with pytest.raises(UnusableFormat, match="needs a chat template"):
        TemplateFormat(ModelTokenizer.of(byte_level(None)))
