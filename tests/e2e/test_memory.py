"""A kept conversation with the real default model: every answer is `model.generate` of the ids that went before."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from ekiden.protocol import Message
from ekiden.settings import DEFAULT_ENGINE, load_settings
from ekiden_worker.model import load_model
from ekiden_worker.prompts import PromptFormat, choose_format
from tests.support import http
from tests.support.socket import Socket, connected
from tests.support.up import up

pytestmark = [pytest.mark.e2e, pytest.mark.model, pytest.mark.timeout(600)]

MAX_TOKENS = 20
SYSTEM = {"role": "system", "content": "You answer in one short sentence."}
MESSAGES = ["Which animal barks?", "And which one says meow?", "Name a bird."]
PARAMS = {"temperature": 0, "max_tokens": MAX_TOKENS}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running `ekiden up`."""
    folder: Path = tmp_path_factory.mktemp("memory")
    with up(folder, EKIDEN_ENGINE=DEFAULT_ENGINE) as running:
        yield running.ready(300)


@pytest.fixture(scope="module")
def reference() -> "Reference":
    """Loaded once."""
    return Reference()


class Reference:
    """The same conversation by hand: ids behind ids, and transformers' own loop."""

    def __init__(self) -> None:
        self.model: Any
        self.model, self.tokenizer = load_model(load_settings())
        self.prompts: PromptFormat = choose_format(self.tokenizer, load_settings())
        self.end = self.prompts.turn_end()

    def answer(self, prompt: Sequence[int]) -> list[int]:
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            out = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=MAX_TOKENS, do_sample=False, pad_token_id=0
            )
        return list(out[0, ids.shape[1] :].tolist())

    def text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.fast.decode(ids, skip_special_tokens=True))

    def turns(self, messages: Sequence[str]) -> list[tuple[list[int], str]]:
        """Prompt and text of every turn."""
        system = Message(**SYSTEM)
        prompt = self.prompts.encode(self.prompts.parts([system, Message("user", messages[0])]))
        found: list[tuple[list[int], str]] = []
        answer: list[int] = []
        for number, message in enumerate(messages):
            if number:
                following = self.prompts.following(system, Message("user", message), ended=answer[-1] == self.end)
                prompt = [*prompt, *answer, *self.prompts.encode(following)]
            answer = self.answer(prompt)
            found.append((prompt, self.text(answer)))
        return found


async def told(client: Socket, conversation: str, message: str) -> tuple[str, dict[str, Any]]:
    """The next turn: its text and its `done`."""
    job = await client.chat(messages=None, conversation=conversation, message=message, params=PARAMS)
    text = await client.answer(job)
    return text, client.of(job)[-1]


async def begun(client: Socket) -> tuple[str, str, dict[str, Any]]:
    """A new conversation: its id, the first text and `done`."""
    messages = [SYSTEM, {"role": "user", "content": MESSAGES[0]}]
    job = await client.chat(messages=messages, conversation="new", params=PARAMS)
    text = await client.answer(job)
    return client.of(job)[0]["conversation"], text, client.of(job)[-1]


def test_a_conversation_is_generated_behind_its_own_ids(url: str, reference: Reference) -> None:
    async def run() -> tuple[str, list[tuple[str, dict[str, Any]]]]:
        async with connected(url.replace("http", "ws", 1) + "/v1/chat") as client:
            conversation, *first = await begun(client)
            return conversation, [tuple(first), *[await told(client, conversation, text) for text in MESSAGES[1:]]]  # type: ignore[misc]

    conversation, answers = asyncio.run(run())
    expected = reference.turns(MESSAGES)
    assert [text for text, _ in answers] == [text for _, text in expected]
    assert [done["usage"]["prompt_tokens"] for _, done in answers] == [len(prompt) for prompt, _ in expected]
    assert all(done["usage"]["retokenized_tokens"] == 0 for _, done in answers)
    kept = http.get(f"{url}/v1/conversations/{conversation}").json()
    assert [(turn["message"], turn["answer"]) for turn in kept["turns"]] == [
        (message, text) for message, (text, _) in zip(MESSAGES, answers, strict=True)
    ]


def test_another_answer_is_the_same_at_temperature_0_and_an_edit_forks(url: str, reference: Reference) -> None:
    async def run() -> tuple[str, list[str], list[str]]:
        async with connected(url.replace("http", "ws", 1) + "/v1/chat") as client:
            conversation, first, _ = await begun(client)
            second, _ = await told(client, conversation, MESSAGES[1])
            again = []
            for turn, message in ((2, None), (1, MESSAGES[2])):
                await client.send(
                    type="regenerate", id=f"again-{turn}", conversation=conversation, turn=turn, message=message,
                    params=PARAMS,
                )  # fmt: skip
                accepted = await client.until("accepted")
                again.append(await client.answer(accepted["job"]))
            return conversation, [first, second], again

    conversation, answers, again = asyncio.run(run())
    assert again[0] == answers[1]
    assert again[1] == reference.turns(MESSAGES[2:])[0][1]
    kept = http.get(f"{url}/v1/conversations/{conversation}").json()
    assert [(turn["message"], turn["answer"]) for turn in kept["turns"]] == [(MESSAGES[2], again[1])]
