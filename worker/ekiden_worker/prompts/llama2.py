"""The `llama2` format: the ids of Meta's reference, segment by segment.

A finished pair of turns is one segment, `[INST] question [/INST] answer `, between <s> and </s>; the last question is a
segment without an end. Each is encoded alone, so each begins with SentencePiece's own space; <s> and </s> are put in as
ids. The system text is folded into the first question.
"""

from collections.abc import Sequence

from tokenizers import Tokenizer, models

from ekiden.errors import InvalidRequest, SpecialTags
from ekiden.protocol import Message
from ekiden_worker.prompts.apart import ApartFormat
from ekiden_worker.prompts.parts import Content, Control, Entry, Ids, KeptAnswer, Part, Text, UnusableFormat
from ekiden_worker.prompts.tokenizer import ModelTokenizer

TAGS = ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")
BEGIN, END = Control("<s>"), Control("</s>")


class Llama2Format(ApartFormat):
    """Prompts of Llama-2-Chat and its kin."""

    name = "llama2"

    def __init__(self, tokenizer: ModelTokenizer) -> None:
        if not is_llama2_kind(tokenizer.raw):
            raise UnusableFormat(
                "The prompt format llama2 needs a SentencePiece BPE tokenizer in which <s> is 1 and </s> is 2."
            )
        super().__init__(tokenizer, (BEGIN.token, END.token))

    def check(self, messages: Sequence[Message]) -> None:
        """Refuse tags in any message, and roles that do not take turns."""
        if any(tag in message.content for message in messages for tag in TAGS):
            raise SpecialTags(f"A message may not hold {', '.join(TAGS[:-1])} or {TAGS[-1]}: they mark turns.")
        _, turns = _without_system(messages)
        roles = [entry.role for entry in turns if isinstance(entry, Message)]
        if roles != [("user", "assistant")[number % 2] for number in range(len(roles))] or len(roles) % 2 == 0:
            raise InvalidRequest(
                "After a system message, if there is one, user and assistant must take turns, and the user be the last."
            )

    def parts(self, entries: Sequence[Entry]) -> list[Part]:
        """One segment a turn."""
        system, turns = _without_system(entries)
        parts: list[Part] = []
        for entry in turns:
            if isinstance(entry, KeptAnswer):
                parts += [Ids(entry.ids)] if entry.ended else [Ids(entry.ids), END]
            elif entry.role == "assistant":
                parts += [Text(" "), Content(entry.content.strip()), Text(" "), END]
            else:
                parts += [BEGIN, *_question(system, entry.content)]
                system = None
        return parts

    def following(self, system: Message | None, message: Message, *, ended: bool) -> list[Part]:
        """The next segment; the system text stands in the first one."""
        return [Ids(), *([] if ended else [END]), BEGIN, *_question(None, message.content)]

    def turn_end(self) -> int | None:
        """The id of </s>."""
        return self._encoder.control_id(END.token)


def is_llama2_kind(tokenizer: Tokenizer) -> bool:
    """A SentencePiece BPE tokenizer in which <s> is 1 and </s> is 2."""
    begins = tokenizer.encode("x", add_special_tokens=False).tokens
    return (
        isinstance(tokenizer.model, models.BPE)
        and tokenizer.model.byte_fallback
        and [tokenizer.token_to_id(part.token) for part in (BEGIN, END)] == [1, 2]
        and bool(begins)
        and begins[0].startswith("\u2581")
    )


def _without_system(entries: Sequence[Entry]) -> tuple[str | None, Sequence[Entry]]:
    first = entries[0] if entries else None
    if isinstance(first, Message) and first.role == "system":
        return first.content, entries[1:]
    return None, entries


def _question(system: str | None, text: str) -> list[Part]:
    """The first half of a segment. Text is stripped after the system text is folded in, as the reference does it."""
    if system is None:
        return [Text("[INST] "), Content(text.strip()), Text(" [/INST]")]
    text = text.rstrip()
    close = "\n<</SYS>>\n\n" if text else "\n<</SYS>>"
    return [Text("[INST] <<SYS>>\n"), Content(system), Text(close), Content(text), Text(" [/INST]")]
