"""Plays the store for one conversation: random turns, kept as the scripts keep them, and prompts built of them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import msgspec

from ekiden.memory import KeptTurn, Memory, encode_messages
from ekiden.protocol import JobRequest, Message
from ekiden.settings import load_settings
from ekiden.wire import Record
from ekiden_worker.memory import Prompt, build_prompt, stored_prompt
from ekiden_worker.prompts import ModelTokenizer, PromptFormat, PromptRules, choose_format
from ekiden_worker.runtime import Runtime
from ekiden_worker.text import Vocabulary
from ekiden_worker.text.vocabulary import UNKNOWN_TEXT, Piece
from tests.support.fake_engine import FakeEngine
from tests.unit.prompts.families import byte_level, family, sentencepiece

KINDS = ("chatml", "mistral", "llama2", "dialogue")
LONG = 1_000_000

encode = msgspec.msgpack.Encoder().encode


@cache
def _parts(kind: str) -> tuple[PromptFormat, Vocabulary, frozenset[int]]:
    name = {"llama2": "llama2", "dialogue": "dialogue"}.get(kind, "template")
    fast = {"llama2": lambda: sentencepiece(None), "dialogue": lambda: byte_level(None)}.get(
        kind, lambda: family(kind)
    )()
    tokenizer = ModelTokenizer.of(fast)
    prompts = choose_format(tokenizer, load_settings(prompt_format=name))
    turn_end = prompts.turn_end()
    end = fast.convert_tokens_to_ids("<|endoftext|>") if turn_end is None else turn_end
    return prompts, Vocabulary.of(tokenizer.raw), frozenset({end})


def runtime(kind: str, *, context: int = LONG, rules: PromptRules | None = None) -> Runtime:
    """A model's runtime, but for the model."""
    prompts, vocabulary, end_ids = _parts(kind)
    engine = FakeEngine(0.0, 1, context_tokens=context)
    return Runtime("m", engine, prompts, rules or PromptRules(), vocabulary, end_ids)


def request(message: str, *, stop: Sequence[str] = (), max_tokens: int | None = None, same: bool = False) -> JobRequest:
    """A resolved request for one more turn."""
    return JobRequest(
        messages=[Message("user", message)],
        model="m",
        max_tokens=max_tokens,
        temperature=0.0,
        top_p=1.0,
        top_k=0,
        min_p=0.0,
        repetition_penalty=1.0,
        seed=1,
        stop=list(stop),
        same_prompt=same,
    )


@dataclass
class Conversation:
    """A seed and the turns so far; turns are numbered from 1."""

    runtime: Runtime
    seed: list[Message] = field(default_factory=list)
    turns: list[KeptTurn] = field(default_factory=list)

    def memory(self, turn: int, *, same: bool = False) -> Memory:
        """What a claim gives the worker that makes a turn."""
        first = self.turns[turn - 2].prompt.first_turn if turn > 1 else 1
        shown = self.turns[first - 1 : turn if same else turn - 1]
        return Memory(turn, encode_messages(self.seed), [encode(kept) for kept in shown])

    def prompt(self, asked: JobRequest, turn: int | None = None) -> Prompt:
        """The prompt of a turn, the next unless it is named; a second attempt must come to the same ids."""
        memory = self.memory(turn or len(self.turns) + 1, same=asked.same_prompt)
        prompt = build_prompt(asked, memory, self.runtime)
        assert stored_prompt(prompt.stored, asked, memory).ids == prompt.ids
        return prompt

    def keep(
        self, asked: JobRequest, prompt: Prompt, ids: Sequence[int], *, cancel_at: int | None = None, turn: int = 0
    ) -> KeptTurn:
        """Generate up to all `ids`, up to where the answer ends, and keep the turn in place of it and all after it."""
        text = self.runtime.answer_text(prompt.stored.stop)
        records: list[Record] = []
        reason = "cancelled"
        for number, token_id in enumerate(ids):
            if number == cancel_at:
                break
            ends = token_id in self.runtime.end_ids
            last = ends or number == len(ids) - 1
            records.append(Record(token_id, text.push(token_id, last=last)))
            if text.stopped or last:
                reason = "stop" if text.stopped or ends else "length"
                break
        kept = KeptTurn(asked, prompt.stored, records, "job", reason, len(prompt.ids), 0, 0)
        self.turns[(turn or len(self.turns) + 1) - 1 :] = [kept]
        return kept

    def turn(self, message: str, ids: Sequence[int], **options: Sequence[str]) -> Prompt:
        """Ask, answer and keep."""
        asked = request(message, **options)  # type: ignore[arg-type]
        prompt = self.prompt(asked)
        self.keep(asked, prompt, ids)
        return prompt


def some_ids(randomly: random.Random, runtime: Runtime, count: int) -> list[int]:
    """Ids a model might generate, the strange ones included; an end id or the unknown one now and then."""
    pieces = runtime.vocabulary.pieces
    rare = _rare(pieces, runtime.end_ids)
    return [
        randomly.choice(rare) if randomly.random() < 0.05 else randomly.randrange(len(pieces)) for _ in range(count)
    ]


@cache
def control_ids(pieces: tuple[Piece, ...]) -> frozenset[int]:
    """Ids that are no text."""
    return frozenset(token_id for token_id, piece in enumerate(pieces) if piece is None)


@cache
def _rare(pieces: tuple[Piece, ...], end_ids: frozenset[int]) -> tuple[int, ...]:
    unknown = UNKNOWN_TEXT.encode()
    return tuple(sorted([*end_ids, *(token_id for token_id, piece in enumerate(pieces) if piece == unknown)]))
