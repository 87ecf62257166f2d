"""What an operator does to messages before they become a prompt."""

import re
from collections.abc import Sequence

from ekiden.errors import EkidenError
from ekiden.protocol import Message
from ekiden.settings import Settings
from ekiden_worker.prompts.parts import PromptFormat, UnusableFormat


class PromptRules:
    """A default system message, memory of one turn alone, and texts to replace in what users say."""

    def __init__(
        self, system: str | None = None, *, single_turn: bool = False, replace_input: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.system = system
        self.single_turn = single_turn
        self._replacement = dict(replace_input)
        # At each place the longest that matches; what was put in is not looked at again.
        longest_first = sorted(map(re.escape, self._replacement), key=len, reverse=True)
        self._replaced = re.compile("|".join(longest_first)) if longest_first else None

    @classmethod
    def of(cls, settings: Settings) -> "PromptRules":
        """The rules that the settings give."""
        single_turn = settings.memory == "single_turn"
        return cls(settings.system_prompt, single_turn=single_turn, replace_input=settings.replace_input)

    def check(self, prompts: PromptFormat) -> None:
        """See that the format can show the default system message. Raises UnusableFormat."""
        if self.system is None:
            return
        messages = [Message("system", self.system), Message("user", "Hi")]
        try:
            prompts.check(messages)
            prompts.parts(messages)
        except EkidenError as error:
            raise UnusableFormat(f"EKIDEN_SYSTEM_PROMPT cannot be shown to this model: {error}") from None

    def apply(self, messages: Sequence[Message]) -> list[Message]:
        """The messages that the model is to see."""
        system = [message for message in messages if message.role == "system"]
        if self.single_turn:
            messages = [*system, messages[-1]]
        if self.system is not None and not system:
            messages = [Message("system", self.system), *messages]
        return [self.replaced(message) for message in messages]

    def replaced(self, message: Message) -> Message:
        """A message as the model is to see it; only those of users change."""
        if self._replaced is None or message.role != "user":
            return message
        return Message("user", self._replaced.sub(lambda match: self._replacement[match[0]], message.content))
