"""The `plain` format, for models without a chat template: the last user message alone."""

from collections.abc import Sequence

from ekiden.protocol import Message
from ekiden_worker.prompts.apart import ApartFormat
from ekiden_worker.prompts.parts import Content, Entry, Part
from ekiden_worker.prompts.tokenizer import ModelTokenizer


class PlainFormat(ApartFormat):
    """The last message's text, behind what the tokenizer itself puts in front of a text."""

    name = "plain"
    single_turn = True

    def __init__(self, tokenizer: ModelTokenizer) -> None:
        super().__init__(tokenizer)
        self._tokenizer = tokenizer

    def parts(self, entries: Sequence[Entry]) -> list[Part]:
        """The last message."""
        last = entries[-1]
        return [*self._begin, Content(last.content)] if isinstance(last, Message) else [*self._begin]

    def following(self, system: Message | None, message: Message, *, ended: bool) -> list[Part]:
        """The message alone: nothing of what was before is shown."""
        return self.parts([message])

    def encode(self, parts: Sequence[Part]) -> list[int]:
        """Ids; never none, for a model needs something to go on from."""
        return super().encode(parts) or [self._something()]

    def _something(self) -> int:
        """What stands for a blank message where no text begins with a control token."""
        fast = self._tokenizer.fast
        return next(token_id for token_id in (fast.bos_token_id, fast.eos_token_id, 0) if token_id is not None)
