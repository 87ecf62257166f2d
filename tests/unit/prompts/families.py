"""Small tokenizers with chat templates in the manner of the well-known model families."""

from collections.abc import Callable
from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from ekiden.protocol import Message
from tests.support.tokenizers import byte_level_tokenizer, sentencepiece_tokenizer

CHATML = """\
{%- if messages[0].role != 'system' %}<|im_start|>system
You help.<|im_end|>
{% endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

LLAMA3 = """\
{{- bos_token }}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content | trim %}{% set rest = messages[1:] %}
{%- else %}
    {%- set system = '' %}{% set rest = messages %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday: ' + strftime_now('%d %b %Y') + '\\n\\n' }}
{{- system + '<|eot_id|>' }}
{%- for message in rest %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

# The system message is folded into the first user turn; roles must alternate.
MISTRAL = """\
{%- set system = messages[0].content + '\\n\\n' if messages[0].role == 'system' else '' %}
{%- set rest = messages[1:] if system else messages %}
{{- bos_token }}
{%- for message in rest %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must alternate user/assistant/...') }}
    {%- endif %}
    {%- if message.role == 'user' %}
        {{- '[INST] ' + (system if loop.first else '') + message.content + ' [/INST]' }}
    {%- else %}
        {{- ' ' + message.content + eos_token }}
    {%- endif %}
{%- endfor %}"""

GEMMA = """\
{{- bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
    {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
    {{- message.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

# Thoughts of earlier answers are left out.
THINKING = """\
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == 'assistant' and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"""


def fast(tokenizer: Tokenizer, template: str | None, **special: str) -> PreTrainedTokenizerFast:
    """A tokenizer as a model's folder would give it."""
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)  # type: ignore[no-untyped-call]
    wrapped.chat_template = template
    return wrapped


def byte_level(template: str | None, *extra: str, **special: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE with ChatML's tokens and `extra` ones."""
    return fast(byte_level_tokenizer(extra), template, **special)


def sentencepiece(template: str | None, *extra: str) -> PreTrainedTokenizerFast:
    """BPE with byte fallback, a space before every text, and `extra` control tokens."""
    tokenizer = sentencepiece_tokenizer()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in extra])
    return fast(tokenizer, template, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


LLAMA3_TOKENS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")

FAMILIES: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "chatml": lambda: byte_level(CHATML, "<tool_call>", "</tool_call>"),
    "llama3": lambda: byte_level(LLAMA3, *LLAMA3_TOKENS, bos_token="<|begin_of_text|>"),
    "mistral": lambda: sentencepiece(MISTRAL, "[INST]", "[/INST]"),
    "gemma": lambda: sentencepiece(GEMMA, "<start_of_turn>", "<end_of_turn>"),
    "thinking": lambda: byte_level(THINKING, "<think>", "</think>"),
}


@cache
def family(name: str) -> PreTrainedTokenizerFast:
    """A family's tokenizer, built once."""
    return FAMILIES[name]()


def chat(*contents: str, system: str | None = None) -> list[Message]:
    """Turns of user and assistant in alternation, after a system message if one is given."""
    turns = [Message(("user", "assistant")[number % 2], content) for number, content in enumerate(contents)]
    return turns if system is None else [Message("system", system), *turns]


def reference(tokenizer: PreTrainedTokenizerFast, messages: list[Message]) -> list[int]:
    """What transformers makes of the messages."""
    plain = [{"role": message.role, "content": message.content} for message in messages]
    ids: Any = tokenizer.apply_chat_template(plain, add_generation_prompt=True, return_dict=False)
    return list(ids)
