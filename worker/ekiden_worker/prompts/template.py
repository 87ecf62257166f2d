"""The `template` format: any chat template, with contents kept apart from the template's control tokens.

The template is rendered twice: with the contents, for what it makes of them, and with secret placeholders, for where
they stand. Only what the template itself wrote may hold control tokens.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from ekiden.errors import InvalidRequest
from ekiden.protocol import Message
from ekiden_worker.prompts.literal import Control, LiteralEncoder, secret_name

# What templates do to a content: nothing, or cut its white space.
_TRANSFORMS: tuple[Callable[[str], str], ...] = (str, str.strip, str.rstrip, str.lstrip)

_PROBES = (
    [Message("user", "  Hi there \n")],
    [Message("user", "One"), Message("assistant", " Two "), Message("user", "Three?\n")],
)


class UnusableTemplate(ValueError):
    """The chat template changes contents in a way that cannot be kept apart from its control tokens."""


class TemplateFormat:
    """Prompts by the tokenizer's own chat template. `encode` may be called from any thread."""

    name = "template"

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._encoder = LiteralEncoder(tokenizer.backend_tokenizer)
        self._probe()

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Prompt ids, up to where the answer begins. Raises InvalidRequest where the template refuses the messages."""
        return self._encoder.encode(self._parts(messages))

    def turn_end(self) -> int | None:
        """The control id that ends an answer in this format, if one does."""
        mark = secret_name()
        rendered = self._render([Message("user", "Hi"), Message("assistant", mark)], generate=False)
        after = self._encoder.split(rendered.partition(mark)[2])
        if not after or not isinstance(after[0], Control):
            return None
        return self._encoder.encode(after[:1])[0]

    def _parts(self, messages: Sequence[Message]) -> list[str | Control]:
        rendered = self._render(messages)
        marks = [secret_name() for _ in messages]
        skeleton = self._render([Message(m.role, mark) for m, mark in zip(messages, marks, strict=True)])
        content_of = {mark: m.content for m, mark in zip(messages, marks, strict=True)}
        pieces = re.split(f"({'|'.join(marks)})", skeleton)
        parts: list[str | Control] = []
        at = 0
        for piece, following in zip(pieces, [*pieces[1:], ""], strict=True):
            if piece in content_of:
                text = self._as_rendered(content_of[piece], rendered, at, following)
                parts.append(text)
            else:
                text = piece
                parts += self._encoder.split(piece)
            at += len(text)
        if at != len(rendered) or "".join(self._texts(parts)) != rendered:
            raise InvalidRequest("The model's chat template changes these messages in a way that is not supported.")
        return parts

    @staticmethod
    def _texts(parts: Sequence[str | Control]) -> Iterator[str]:
        return (part.token if isinstance(part, Control) else part for part in parts)

    @staticmethod
    def _as_rendered(content: str, rendered: str, at: int, following: str) -> str:
        for transform in _TRANSFORMS:
            text = transform(content)
            if rendered.startswith(text + following, at):
                return text
        raise InvalidRequest("The model's chat template changes this message in a way that is not supported.")

    def _render(self, messages: Sequence[Message], *, generate: bool = True) -> str:
        chat = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return str(self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=generate))
        except TemplateError as error:
            raise InvalidRequest(f"The model's chat template refuses these messages: {error.message}.") from None

    def _probe(self) -> None:
        """Compare with the tokenizer's own result once: a template that cannot be kept apart is refused at load."""
        for messages in _PROBES:
            chat = [{"role": message.role, "content": message.content} for message in messages]
            try:
                ids = self.encode(messages)
            except InvalidRequest as error:
                raise UnusableTemplate(str(error)) from None
            expected = self._tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
            if ids != expected:
                raise UnusableTemplate("The model's chat template cannot be kept apart from the text of messages.")
