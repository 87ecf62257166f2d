"""The `template` format: any chat template, with contents kept apart from the template's control tokens.

The template is rendered twice: with the contents, for what it makes of them, and with secret placeholders, for where
they stand. Only what the template itself wrote may hold control tokens.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import product

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from ekiden.errors import InvalidRequest
from ekiden.protocol import Message
from ekiden_worker.prompts.literal import Control, LiteralEncoder, secret_name

Transform = Callable[[str], str]


def _without_thought(content: str) -> str:
    """An earlier answer of a reasoning model, as templates show it again."""
    return content.rpartition("</think>")[2]


def _from_first_line(content: str) -> str:
    return content.lstrip("\n")


# What templates do to a content: drop what was thought aloud, cut white space, or nothing.
_CUTS: tuple[Transform, ...] = (str, _without_thought)
_TRIMS: tuple[Transform, ...] = (str, str.strip, str.rstrip, str.lstrip, _from_first_line)

_PROBES = (
    [Message("user", "  Hi there \n")],
    [Message("user", "One"), Message("assistant", " Two "), Message("user", "Three?\n")],
)


class UnusableTemplate(ValueError):
    """The chat template cannot be rendered, or changes contents so that they cannot be kept apart from its tokens."""


class TemplateFormat:
    """Prompts by the tokenizer's own chat template. `encode` may be called from any thread."""

    name = "template"

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._encoder = LiteralEncoder(tokenizer.backend_tokenizer)
        self._probe()

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Prompt ids, up to where the answer begins. Raises InvalidRequest where the template refuses the messages."""
        try:
            parts = self._parts(messages)
        except InvalidRequest:
            # A template may print the date, and midnight may lie between its two renderings.
            parts = self._parts(messages)
        return self._encoder.encode(parts)

    def turn_end(self) -> int | None:
        """The control id that ends an answer in this format, if one does."""
        mark = secret_name()
        try:
            rendered = self._render([Message("user", "Hi"), Message("assistant", mark)], generate=False)
        except InvalidRequest:  # this template shows no conversation that ends with an answer
            return None
        after = self._encoder.split(rendered.partition(mark)[2])
        if not after or not isinstance(after[0], Control):
            return None
        return self._encoder.encode(after[:1])[-1]

    def _parts(self, messages: Sequence[Message]) -> list[str | Control]:
        rendered = self._render(messages)
        # A blank content holds no control token, and templates may ask whether there is one.
        secret, end = secret_name(), secret_name()
        marks = [
            f"{secret}{number}{end}" if message.content.strip() else message.content
            for number, message in enumerate(messages)
        ]
        skeleton = self._render([Message(m.role, mark) for m, mark in zip(messages, marks, strict=True)])
        content_of = {mark: m.content for m, mark in zip(messages, marks, strict=True) if mark != m.content}
        pieces = re.split(f"({secret}[0-9]+{end})", skeleton)
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
        if "".join(self._texts(parts)) != rendered:
            raise InvalidRequest("The model's chat template changes these messages in a way that is not supported.")
        return parts

    @staticmethod
    def _texts(parts: Sequence[str | Control]) -> Iterator[str]:
        return (part.token if isinstance(part, Control) else part for part in parts)

    @staticmethod
    def _as_rendered(content: str, rendered: str, at: int, following: str) -> str:
        for cut, trim in product(_CUTS, _TRIMS):
            text = trim(cut(content))
            if rendered.startswith(text + following, at):
                return text
        raise InvalidRequest("The model's chat template changes this message in a way that is not supported.")

    def _render(self, messages: Sequence[Message], *, generate: bool = True) -> str:
        chat = _plain(messages)
        try:
            return str(self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=generate))
        except TemplateError as error:
            reason = (error.message or type(error).__name__).rstrip(".")
            raise InvalidRequest(f"The model's chat template refuses these messages: {reason}.") from None
        except (TypeError, ValueError, LookupError, ArithmeticError) as error:
            # What an expression in a template raises; its text may quote the messages.
            raise InvalidRequest(f"The model's chat template fails with {type(error).__name__}.") from None

    def _probe(self) -> None:
        """Compare with the tokenizer's own result once: a template that cannot be kept apart is refused at load."""
        for messages in _PROBES:
            chat = _plain(messages)
            try:
                ids = self.encode(messages)
            except InvalidRequest as error:
                raise UnusableTemplate(str(error)) from None
            expected = self._tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
            if ids != expected and self.encode(messages) != expected:
                raise UnusableTemplate("The model's chat template cannot be kept apart from the text of messages.")


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
