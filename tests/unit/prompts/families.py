"""Small tokenizers with chat templates in the manner of the well-known model families."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from ekiden.protocol import Message
from ekiden_worker.prompts import Entry, ModelTokenizer, PromptFormat
from ekiden_worker.prompts.template import TemplateFormat
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


# The system message stands before the last user message; earlier turns never show it.
MISTRAL_V3 = """\
{%- set system = messages[0].content if messages[0].role == 'system' else '' %}
{%- set rest = messages[1:] if messages[0].role == 'system' else messages %}
{{- bos_token }}
{%- for message in rest %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must alternate user/assistant/...') }}
    {%- endif %}
    {%- if message.role == 'user' %}
        {{- '[INST] ' + (system + '\\n\\n' if system and loop.last else '') + message.content + '[/INST]' }}
    {%- else %}
        {{- ' ' + message.content + eos_token }}
    {%- endif %}
{%- endfor %}"""

# A default system message, tools, and tool tokens that are merely added ones.
QWEN = """\
{%- if tools %}
    {{- '<|im_start|>system\\n<tools>' }}
    {%- for tool in tools %}{{ tool | tojson }}{% endfor %}
    {{- '</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) or
        (message.role == 'assistant' and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

# Its control tokens take the white space behind them.
PHI = """\
{%- for message in messages %}
    {{- '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""

# Roles are text; only the end of a turn is a control token.
ZEPHYR = """\
{%- for message in messages %}
    {{- '<|' + message.role + '|>\\n' + message.content + eos_token + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"""

# The instruction part of Llama-2's own template.
LLAMA2 = """\
{%- set system = messages[0].content if messages[0].role == 'system' else none %}
{%- for message in (messages if system is none else messages[1:]) %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/...') }}
    {%- endif %}
    {%- set content = message.content %}
    {%- if loop.first and system is not none %}
        {%- set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + content %}
    {%- endif %}
    {%- if message.role == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
    {%- else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}
{%- endfor %}"""


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


def phi() -> PreTrainedTokenizerFast:
    """Phi-3's kind: SentencePiece with control tokens that strip what stands behind them."""
    tokenizer = sentencepiece_tokenizer()
    tokens = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>")
    tokenizer.add_special_tokens([AddedToken(text, rstrip=True, normalized=False) for text in tokens])
    return fast(tokenizer, PHI, bos_token="<s>", eos_token="<|endoftext|>", unk_token="<unk>")


LLAMA3_TOKENS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")

FAMILIES: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "chatml": lambda: byte_level(CHATML, "<tool_call>", "</tool_call>"),
    "llama3": lambda: byte_level(LLAMA3, *LLAMA3_TOKENS, bos_token="<|begin_of_text|>"),
    "mistral": lambda: sentencepiece(MISTRAL, "[INST]", "[/INST]"),
    "gemma": lambda: sentencepiece(GEMMA, "<start_of_turn>", "<end_of_turn>"),
    "thinking": lambda: byte_level(THINKING, "<think>", "</think>"),
    "mistral v3": lambda: sentencepiece(MISTRAL_V3, "[INST]", "[/INST]"),
    "qwen": lambda: byte_level(QWEN, "<tool_call>", "</tool_call>", eos_token="<|im_end|>"),
    "phi": phi,
    "zephyr": lambda: sentencepiece(ZEPHYR),
}


@cache
def family(name: str) -> PreTrainedTokenizerFast:
    """A family's tokenizer, built once."""
    return FAMILIES[name]()


@cache
def model(name: str) -> ModelTokenizer:
    """A family's tokenizer, as a format takes it."""
    return ModelTokenizer.of(family(name))


@cache
def template_format(name: str) -> TemplateFormat:
    """A family's format, built once."""
    return TemplateFormat(model(name))


def encode(prompts: PromptFormat, entries: Sequence[Entry]) -> list[int]:
    """The prompt's ids."""
    return prompts.encode(prompts.parts(entries))


def id_of(name: str, token: str) -> int:
    """A control token's id."""
    token_id = family(name).backend_tokenizer.token_to_id(token)
    assert token_id is not None
    return token_id


def chat(*contents: str, system: str | None = None) -> list[Message]:
    """Turns of user and assistant in alternation, after a system message if one is given."""
    turns = [Message(("user", "assistant")[number % 2], content) for number, content in enumerate(contents)]
    return turns if system is None else [Message("system", system), *turns]


def reference(tokenizer: PreTrainedTokenizerFast, messages: list[Message]) -> list[int]:
    """What transformers makes of the messages."""
    plain = [{"role": message.role, "content": message.content} for message in messages]
    ids: Any = tokenizer.apply_chat_template(plain, add_generation_prompt=True, return_dict=False)
    return list(ids)
