"""Chats whose prompts have a wanted number of ids, cut out of a text.

Each begins with a number of its own, so a prefix cache has nothing to offer, and brings a system message, for templates
put a common one where there is none. They ask for long answers: an end id is generated like any other here, but has no
text, so a client would see a longer gap there.
"""

from pathlib import Path

from ekiden.protocol import Message
from ekiden_worker.prompts import PromptFormat

TEXT = Path(__file__).parents[2] / "LICENSE"
REQUEST = "Explain it in a very long essay."
LEAST_WORDS = 2
STRIDE = 101  # words between the beginnings of two chats; prime, so that few begin at the same place

Chat = list[dict[str, str]]


def prompt_of(prompts: PromptFormat, chat: Chat) -> list[int]:
    """The ids that a worker makes of it."""
    return prompts.encode(prompts.parts([Message(**message) for message in chat]))


class Chats:
    """New chats for every round."""

    def __init__(self, prompts: PromptFormat) -> None:
        self._prompts = prompts
        self._words = TEXT.read_text().split()
        self._made = 0

    def chat(self, tokens: int) -> Chat:
        """One whose prompt has that many ids, or a few more where words and template do not give just as many."""
        self._made += 1
        words = LEAST_WORDS
        while (missing := tokens - len(prompt_of(self._prompts, chat := self._cut(words)))) > 0:
            words += max(1, missing // 2)
        return chat

    def _cut(self, count: int) -> Chat:
        """So many words of the text, which is a ring; half are the system's, which some formats do not show."""
        start = self._made * STRIDE
        words = [self._words[(start + number) % len(self._words)] for number in range(count)]
        system, user = " ".join(words[: count // 2]), " ".join(words[count // 2 :])
        return [
            {"role": "system", "content": f"{self._made}: {system}"},
            {"role": "user", "content": f"{self._made}: {REQUEST} {user}"},
        ]
