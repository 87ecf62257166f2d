"""The registry of prompt formats. To add one: a file with a class like PlainFormat, and a line in FORMATS."""

from collections.abc import Callable, Mapping

from ekiden.settings import Settings
from ekiden_worker.prompts.dialogue import DialogueFormat
from ekiden_worker.prompts.llama2 import Llama2Format, is_llama2_kind
from ekiden_worker.prompts.parts import PromptFormat, UnusableFormat
from ekiden_worker.prompts.plain import PlainFormat
from ekiden_worker.prompts.template import TemplateFormat
from ekiden_worker.prompts.tokenizer import ModelTokenizer

FORMATS: dict[str, Callable[[ModelTokenizer, Settings], PromptFormat]] = {
    "llama2": lambda tokenizer, settings: Llama2Format(tokenizer),
    "template": lambda tokenizer, settings: TemplateFormat(tokenizer),
    "plain": lambda tokenizer, settings: PlainFormat(tokenizer),
    "dialogue": lambda tokenizer, settings: DialogueFormat(
        tokenizer, settings.requester_prefix, settings.responder_prefix
    ),
}


def choose_format(tokenizer: ModelTokenizer, settings: Settings) -> PromptFormat:
    """The format that the settings name, or with `auto` the one that suits the model. Raises UnusableFormat."""
    name = settings.prompt_format if settings.prompt_format != "auto" else _suitable(tokenizer)
    if name not in FORMATS:
        raise UnusableFormat(f"There is no prompt format {name}; there are {', '.join(FORMATS)}, and auto.")
    return FORMATS[name](tokenizer, settings)


def _suitable(tokenizer: ModelTokenizer) -> str:
    template = tokenizer.chat_template
    if not template:
        return "plain"
    text = template.get("default", "") if isinstance(template, Mapping) else template
    # Templates of this family cannot give the reference's ids: a string has no segments.
    if "<<SYS>>" in text and "[INST]" in text and is_llama2_kind(tokenizer.raw):
        return "llama2"
    return "template"
