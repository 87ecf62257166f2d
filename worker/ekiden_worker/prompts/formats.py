"""The registry of prompt formats. To add one: a file with a class like PlainFormat, and a line in FORMATS."""

from collections.abc import Callable, Sequence
from typing import Protocol

from transformers import PreTrainedTokenizerFast

from ekiden.protocol import Message
from ekiden_worker.prompts.plain import PlainFormat
from ekiden_worker.prompts.template import TemplateFormat


class PromptFormat(Protocol):
    """How a conversation becomes prompt ids; any thread."""

    name: str

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Prompt ids, up to where the answer begins. Raises EkidenError for messages the format refuses."""
        ...

    def turn_end(self) -> int | None:
        """The control id that ends an answer in this format, if one does."""
        ...


FORMATS: dict[str, Callable[[PreTrainedTokenizerFast], PromptFormat]] = {
    TemplateFormat.name: TemplateFormat,
    PlainFormat.name: PlainFormat,
}


def choose_format(tokenizer: PreTrainedTokenizerFast) -> PromptFormat:
    """The model's chat template where it has one, else plain text. Raises UnusableTemplate."""
    return FORMATS["template" if tokenizer.chat_template else "plain"](tokenizer)
