"""What a prompt is made of, and what a prompt format can do; knows no tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ekiden.protocol import Message


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer as the ids that were generated; `ended`: the last of them is the format's own end of an answer."""

    ids: tuple[int, ...]
    ended: bool


Entry = Message | KeptAnswer


@dataclass(frozen=True, slots=True)
class Control:
    """A place where the format puts a control token.

    `given`: the ids before it end with it already, so it gives no id, but shapes the text behind it as it always does.
    """

    token: str
    given: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """Text of the format itself."""

    text: str


@dataclass(frozen=True, slots=True)
class Content:
    """Text of a message, as the format shows it: never a control token."""

    text: str


@dataclass(frozen=True, slots=True)
class Ids:
    """Ids of a kept answer, as they are. Text behind them goes on; it does not begin anew."""

    ids: tuple[int, ...] = ()


Part = Control | Text | Content | Ids


class UnusableFormat(ValueError):
    """The format cannot serve this tokenizer; the message is one sentence that says why."""


class PromptFormat(Protocol):
    """How a conversation becomes prompt ids. Every method may be called from any thread."""

    name: str
    stops: tuple[str, ...]
    """Stop sequences that the format itself needs."""
    single_turn: bool
    """It shows the last user message alone, so no prompt goes on from the one before."""

    def check(self, messages: Sequence[Message]) -> None:
        """Refuse messages that the format cannot show. Raises SpecialTags and InvalidRequest."""
        ...

    def parts(self, entries: Sequence[Entry]) -> list[Part]:
        """A prompt of checked entries, up to where the answer begins. Raises InvalidRequest."""
        ...

    def following(self, system: Message | None, message: Message, *, ended: bool) -> list[Part]:
        """What comes after the ids of a kept answer: its end, unless it has `ended`, and one more user message.

        Up to where the next answer begins. `system` is the conversation's. Raises InvalidRequest.
        """
        ...

    def encode(self, parts: Sequence[Part]) -> list[int]:
        """Ids of a prompt, or of what `following` gave."""
        ...

    def continuation(self, text: str) -> list[int]:
        """Ids of a piece of an answer that goes on from ids before it: nothing is put in front of it."""
        ...

    def turn_end(self) -> int | None:
        """The control id that ends an answer in this format, if one does."""
        ...
