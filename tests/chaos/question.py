"""Questions to the fake engine, and the only right answer to each."""

import random
from dataclasses import dataclass, field
from itertools import accumulate

from ekiden.protocol import Message
from ekiden_worker.text import AnswerText
from tests.support.fake_engine import VOCABULARY, continued, prompt_after, prompt_ids, text_of


@dataclass(frozen=True, slots=True)
class Expected:
    """What an undisturbed run says. `shown`: the length of text(n) for each cursor n."""

    ids: list[int]
    text: str
    shown: list[int]
    finish_reason: str


@dataclass(slots=True)
class Question:
    """What is asked. `before`: prompt and answer of the turn before, of a kept conversation that goes on."""

    text: str
    seed: int
    tokens: int
    stop: list[str] = field(default_factory=list)
    before: tuple[list[int], list[int]] | None = None

    @classmethod
    def random(cls, rng: random.Random, number: int, tokens: tuple[int, int]) -> "Question":
        """A question of its own; every fourth one is stopped by a text that lies across two tokens of its answer."""
        question = cls(f"question {number}", rng.randrange(2**31), rng.randint(*tokens))
        if number % 4 == 1:
            ids = continued(question.prompt(), question.seed, question.tokens)
            cut = rng.randrange(question.tokens // 2, question.tokens - 1)
            question.stop = [text_of(ids[cut : cut + 2])[2:-2]]
        return question

    def following(self, text: str) -> "Question":
        """The next message of the conversation that this one began."""
        return Question(text, self.seed + 1, self.tokens, before=(self.prompt(), self.expected().ids))

    def prompt(self) -> list[int]:
        """The ids of the prompt."""
        return prompt_after(*self.before, self.text) if self.before else prompt_ids([Message("user", self.text)])

    def expected(self) -> Expected:
        """The answer of an undisturbed run."""
        answer = AnswerText(VOCABULARY, self.stop)
        ids, texts = list[int](), list[str]()
        for token_id in continued(self.prompt(), self.seed, self.tokens):
            ids.append(token_id)
            texts.append(answer.push(token_id, last=len(ids) == self.tokens))
            if answer.stopped:
                break
        shown = [0, *accumulate(map(len, texts))]
        return Expected(ids, "".join(texts), shown, "stop" if answer.stopped else "length")
