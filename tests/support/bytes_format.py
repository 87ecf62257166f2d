"""A prompt format without a tokenizer, for engines without a model: the ids are the bytes of a transcript, plus one."""

import time
from collections.abc import Sequence

from ekiden.errors import SpecialTags
from ekiden.protocol import Message
from ekiden_worker.prompts import Entry, KeptAnswer, Part
from ekiden_worker.prompts.parts import Content, Ids

SLOW_PROMPT_S = 3.0


class BytesFormat:
    """A line for each message. One that holds [FORGED] is refused; one that holds SLOW takes seconds."""

    name = "bytes"
    stops: tuple[str, ...] = ()

    def __init__(self, *, single_turn: bool = False) -> None:
        self.single_turn = single_turn

    def check(self, messages: Sequence[Message]) -> None:
        if any("[FORGED]" in message.content for message in messages):
            raise SpecialTags("A message holds a tag that the test forbids.")

    def parts(self, entries: Sequence[Entry]) -> list[Part]:
        if self.single_turn and isinstance(last := entries[-1], Message):
            return [Content(last.content)]
        return [
            Ids(entry.ids) if isinstance(entry, KeptAnswer) else Content(f"{entry.role}:{entry.content}\n")
            for entry in entries
        ]

    def following(self, system: Message | None, message: Message, *, ended: bool) -> list[Part]:
        return [Content(f"{message.role}:{message.content}\n")]

    def encode(self, parts: Sequence[Part]) -> list[int]:
        ids: list[int] = []
        for part in parts:
            if isinstance(part, Ids):
                ids += part.ids
            elif isinstance(part, Content):
                if "SLOW" in part.text:
                    time.sleep(SLOW_PROMPT_S)
                ids += self.continuation(part.text)
        return ids

    def continuation(self, text: str) -> list[int]:
        return [1 + byte for byte in text.encode()]

    def turn_end(self) -> int | None:
        return None
