"""The same with the real model: answers of a fleet that is being broken equal those of one that is left alone.

Both run in fp32, greedy and seeded by turns. Logits differ by some 1e-5 between batches and between prefill and decode,
so two ids may both be right: where noise of `TIE` in the logits lets the sampler choose either. Every such place is
printed.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ekiden.client import Client
from ekiden.client.frames import Sampling
from ekiden.keys import Keys
from ekiden.protocol import Message, Moved
from ekiden.settings import DEFAULT_MODEL, load_settings
from ekiden.wire import decode_record
from ekiden_worker.engine.interface import SamplingParams
from ekiden_worker.engine.sampler import sample
from ekiden_worker.model import load_model
from tests.chaos.cluster import Cluster, Size, running_cluster
from tests.chaos.faults import BY_NAME
from tests.support.prompts import prompt_of

TIE = 1e-4
WORKER = {
    "EKIDEN_ENGINE": "tests.support.checked_engine:load",
    "EKIDEN_THREADS": "1",
    "EKIDEN_DTYPE": "float32",
    "EKIDEN_KV_CACHE_TOKENS": "8192",  # three workers may share one GPU
}
FAULTS = ("worker_killed", "worker_drained", "clients_cut", "worker_killed", "api_killed", "store_killed")
SQUEEZE_S = 1.0
ANSWER_TIMEOUT_S = 600.0
SUBJECTS = ("the sea", "a lighthouse", "gravity", "bread", "Kyoto", "a violin", "winter", "primes", "bees", "tea")
ORDERS = ("Write a sentence about {}.", "Explain {} to a child.", "List facts about {}.", "{}とは何ですか。")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and how the answer is chosen."""

    text: str
    params: SamplingParams

    @classmethod
    def number(cls, number: int, tokens: int) -> "Question":
        """Every second one is greedy, the others have a seed of their own."""
        order = ORDERS[number // len(SUBJECTS) % len(ORDERS)]
        heat = 0.8 if number % 2 else 0.0
        text = f"{order.format(SUBJECTS[number % len(SUBJECTS)])} ({number})"
        return cls(text, SamplingParams(max_tokens=tokens, temperature=heat, top_p=0.95, seed=number))

    @property
    def sampling(self) -> Sampling:
        """For `Client.chat`."""
        params = self.params
        return {
            "max_tokens": params.max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "seed": params.seed,
        }


@dataclass(slots=True)
class Compared:
    """What came of the comparison."""

    answers: int = 0
    moved: int = 0
    ties: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Heard:
    ids: list[int]
    text: str
    moved: bool


async def compare(
    folder: Path, answers: int, tokens: int, seed: int, *, model: str = DEFAULT_MODEL, device: str = "cpu"
) -> Compared:
    """Ask every question of an undisturbed fleet, then of one that is being broken."""
    questions = [Question.number(number, tokens) for number in range(answers)]
    size = Size(max_running=8, extra=(*WORKER.items(), ("EKIDEN_MODEL", model), ("EKIDEN_DEVICE", device)))
    async with running_cluster(folder, size) as cluster:
        undisturbed = await _ask_all(cluster, questions)
        asking = asyncio.create_task(_ask_all(cluster, questions))
        await _break_until(asking, cluster, random.Random(seed))
        disturbed = await asking
        cluster.check()
    result = Compared(answers, sum(heard.moved for heard in disturbed))
    judge: _Judge | None = None
    for question, calm, torn in zip(questions, undisturbed, disturbed, strict=True):
        if (calm.ids, calm.text) != (torn.ids, torn.text):
            judge = judge or _Judge(model, device)
            if judge.either_is_right(question, calm.ids, torn.ids):
                result.ties += 1
                print(f"  a tie: {question.text!r}")
            else:
                result.wrong.append(f"{question.text!r}: {calm.text!r} became {torn.text!r}")
    return result


async def _break_until(asking: "asyncio.Task[list[_Heard]]", cluster: Cluster, rng: random.Random) -> None:
    number = 0
    while not asking.done():
        await BY_NAME[FAULTS[number % len(FAULTS)]].act(cluster, rng)
        await _squeeze(cluster, rng)
        cluster.check()
        number += 1
        await asyncio.wait([asking], timeout=1.0)  # so that the fleet gets on between two faults


async def _squeeze(cluster: Cluster, rng: random.Random) -> None:
    """An engine is short of memory for a while, as where others use its device too."""
    number = rng.randrange(cluster.size.workers)
    cluster.tell_engine(number, "squeeze")
    await asyncio.sleep(SQUEEZE_S)  # the fault itself
    cluster.fault_file(number).unlink()


async def _ask_all(cluster: Cluster, questions: Sequence[Question]) -> list[_Heard]:
    async with Client(cluster.urls, give_up_after_s=None, keepalive_s=1.0, on_retry=lambda _retry: None) as client:
        return await asyncio.gather(*(_ask(cluster, client, question) for question in questions))


async def _ask(cluster: Cluster, client: Client, question: Question) -> _Heard:
    answer = client.chat(question.text, **question.sampling)
    texts: list[str] = []
    moved = False
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        async for event in answer.events():
            moved = moved or isinstance(event, Moved)
            texts.append(getattr(event, "text", ""))
    assert answer.job is not None
    log = Keys(cluster.settings.key_prefix).log(answer.job)
    records = await _records(cluster, log)
    assert "".join(record.text for record in records) == "".join(texts), f"{question.text!r}: heard and logged differ"
    return _Heard([record.token_id for record in records], "".join(texts), moved)


async def _records(cluster: Cluster, log: str) -> list[Any]:
    async with cluster.lock("store"):  # not while it is being broken
        return [decode_record(record) for record in await cluster.ask_store(lambda client: client.lrange(log, 0, -1))]


class _Judge:
    """Says whether two answers part at a place where noise decides."""

    def __init__(self, model: str, device: str) -> None:
        self._device = device
        self._model, self._tokenizer = load_model(load_settings(model=model, device=device, dtype="float32"))

    def either_is_right(self, question: Question, calm: list[int], torn: list[int]) -> bool:
        agreed = next((n for n, (a, b) in enumerate(zip(calm, torn, strict=False)) if a != b), None)
        if agreed is None:
            return False  # one is shorter, or the texts differ
        prompt = prompt_of(self._tokenizer, [Message("user", question.text)])
        with torch.inference_mode():
            logits = self._model(torch.tensor([prompt + calm[:agreed]], device=self._device)).logits[0, -1]
        pair = (calm[agreed], torn[agreed])
        rows = torch.stack([row for token_id in pair for row in _with_noise(logits, token_id)])
        choices = sample(rows, [question.params] * len(rows), [len(prompt) + agreed] * len(rows)).tolist()
        return set(pair) <= set(choices)


def _with_noise(logits: torch.Tensor, token_id: int) -> list[torch.Tensor]:
    """Logits [vocab_size] with noise that makes an id likelier, or moves the mass before and behind it."""
    ids = torch.arange(len(logits), device=logits.device)
    alone = TIE * (ids == token_id)
    before = TIE * (ids <= token_id)
    return [logits + alone, logits - alone, logits + before, logits - before]
