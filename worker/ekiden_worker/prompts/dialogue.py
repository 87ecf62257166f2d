"""The `dialogue` format, for base models: a transcript in which the model writes the next answer."""

from collections.abc import Sequence

from ekiden.protocol import Message
from ekiden_worker.prompts.apart import ApartFormat
from ekiden_worker.prompts.parts import Content, Entry, Ids, KeptAnswer, Part, Text
from ekiden_worker.prompts.tokenizer import ModelTokenizer


class DialogueFormat(ApartFormat):
    """The system text, a blank line, then a line for each message, behind the prefix of who says it.

    The requester's prefix is a stop sequence: the model would go on with the user's part too. What marks turns here is
    text, so a message can imitate it, as in any transcript; control tokens it cannot.
    """

    name = "dialogue"

    def __init__(self, tokenizer: ModelTokenizer, requester: str, responder: str) -> None:
        super().__init__(tokenizer)
        self._requester = requester
        self._responder = responder
        self.stops = (f"\n{requester.strip()}", requester.strip())

    def parts(self, entries: Sequence[Entry]) -> list[Part]:
        """The transcript, up to the answer."""
        parts: list[Part] = [*self._begin]
        for entry in entries:
            if isinstance(entry, KeptAnswer):
                parts += [*self._answer_begin(), Ids(entry.ids), Text("\n")]
            elif entry.role == "system":
                parts += [Content(entry.content), Text("\n\n")] if entry.content.strip() else []
            elif entry.role == "assistant":
                # The space behind the prefix was the first thing that the model generated.
                parts += [Text(self._responder), Content(entry.content.strip()), Text("\n")]
            else:
                parts += [Text(self._requester), Content(entry.content), Text("\n")]
        return parts + self._answer_begin()

    def following(self, system: Message | None, message: Message, *, ended: bool) -> list[Part]:
        """The user's next line, and the prefix of the answer."""
        asked: list[Part] = [Text(self._requester), Content(message.content), Text("\n")]
        return [Ids(), Text("\n"), *asked, *self._answer_begin()]

    def _answer_begin(self) -> list[Part]:
        # Words begin with their space: behind a space of the prompt a model would have to go on with a rarer piece.
        return [Text(prefix)] if (prefix := self._responder.rstrip()) else []
