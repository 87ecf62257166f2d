"""The whole path with a trained model of the Llama-2 kind: clients receive what SentencePiece makes of its ids."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from sentencepiece import SentencePieceProcessor
from transformers import AutoModelForCausalLM

from ekiden.settings import DEFAULT_ENGINE
from tests.support.data import data_file
from tests.support.socket import Frame, Socket, connected
from tests.support.up import up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MAX_TOKENS = 240
TIE = 1e-4
"""Two best logits this close could change places between a prefill and a decode; the prompts here avoid it."""

PROMPTS = [
    "",
    "Once upon a time",
    'Once upon a time, Lily said: "Hi!"',
    "One day, a little girl named Lily found a needle in her room.",
    "The sun",
    "Tom and his dog went to the park. They",
    '"Where is my ball?"',
    "Sara was sad because",
    "1, 2, 3",
    "Mom said:\nTim, come here!",
    'The bird said, "I can fly." Then the cat',
    "日本 was a land far away",
    "🎉 It was a party!",
    "Größe, naïve",
]


@dataclass(frozen=True)
class Story:
    """What the model says to a prompt, without Ekiden."""

    prompt: str
    prompt_ids: list[int]
    ids: list[int]
    texts: list[str]
    """texts[n] is SentencePiece's decoding of the first n ids."""

    @property
    def text(self) -> str:
        return self.texts[-1]


def story(model: Any, pieces: SentencePieceProcessor, prompt: str) -> Story:
    """Greedy ids of `model.generate` behind the beginning-of-text id and SentencePiece's own encoding."""
    prompt_ids = [pieces.bos_id(), *pieces.encode(prompt)]
    given = torch.tensor([prompt_ids])
    with torch.inference_mode():
        out = model.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=MAX_TOKENS,
            do_sample=False,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_logits=True,
        )
    best = torch.cat(out.logits).topk(2).values
    assert (best[:, 0] - best[:, 1]).min() > TIE, prompt
    ids = out.sequences[0, len(prompt_ids) :].tolist()
    return Story(prompt, prompt_ids, ids, [pieces.decode(ids[:count]) for count in range(len(ids) + 1)])


@pytest.fixture(scope="module")
def stories() -> list[Story]:
    folder = data_file("stories260K")
    pieces = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with one_thread():
        return [story(model, pieces, prompt) for prompt in PROMPTS]


@contextmanager
def one_thread() -> Iterator[None]:
    """The model is so small that two threads would mostly wait for each other, on a busy machine for minutes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The socket of a running `ekiden up` that serves the model."""
    folder = tmp_path_factory.mktemp("stories")
    model = str(data_file("stories260K"))
    with up(folder, "--model", model, EKIDEN_ENGINE=DEFAULT_ENGINE, EKIDEN_THREADS="1") as running:
        yield running.ready().replace("http", "ws", 1) + "/v1/chat"


async def ask(client: Socket, prompt: str, **params: Any) -> str:
    return await client.chat(prompt, params={"temperature": 0, "max_tokens": MAX_TOKENS, **params})


async def done(client: Socket, job: str) -> Frame:
    await client.answer(job)
    last = client.of(job)[-1]
    assert last["type"] == "done", last
    return last


def assert_exact(story: Story, text: str, end: Frame) -> None:
    """The answer is the story to its last character, and the prompt had the right ids."""
    assert text == story.text
    assert end["cursor"] == end["usage"]["completion_tokens"] == len(story.ids)
    assert end["usage"]["prompt_tokens"] == len(story.prompt_ids)
    assert end["finish_reason"] == "length"


def test_the_stories_are_worth_the_comparison(stories: list[Story]) -> None:
    control_inside = [story for story in stories if 1 in story.ids[:-1]]
    assert len(control_inside) >= 3, "a control id within an answer gives no text and no space"
    assert all(story.text and "\ufffd" not in story.text for story in stories)
    assert len({story.text for story in stories}) >= 12


def test_answers_are_sentencepieces_decoding_one_by_one(url: str, stories: list[Story]) -> None:
    async def body() -> None:
        async with connected(url) as client:
            for story in stories:
                job = await ask(client, story.prompt)
                end = await done(client, job)
                assert_exact(story, client.text(job), end)

    asyncio.run(body())


def test_answers_are_sentencepieces_decoding_all_at_once(url: str, stories: list[Story]) -> None:
    async def body() -> None:
        async with connected(url) as client:
            jobs = [await ask(client, story.prompt) for story in stories]
            for story, job in zip(stories, jobs, strict=True):
                end = await done(client, job)
                assert_exact(story, client.text(job), end)

    asyncio.run(body())


def test_every_delta_ends_where_its_cursor_says(url: str, stories: list[Story]) -> None:
    async def body() -> None:
        async with connected(url) as client:
            for story in stories[:3]:
                job = await ask(client, story.prompt)
                await done(client, job)
                text = ""
                for frame in client.of(job):
                    if frame["type"] == "delta":
                        text += frame["text"]
                        assert text == story.texts[frame["cursor"]]

    asyncio.run(body())


CURSORS = [0, 1, 2, 17, 100, MAX_TOKENS - 1, MAX_TOKENS]


async def rest(url: str, job: str, cursor: int) -> str:
    """What a second client receives that attaches at a cursor."""
    async with connected(url) as client:
        await client.send(type="attach", job=job, cursor=cursor)
        await done(client, job)
        return client.text(job)


@pytest.mark.parametrize("when", ["running", "ended"])
def test_attaching_at_a_cursor_gives_the_rest(when: str, url: str, stories: list[Story]) -> None:
    async def body(story: Story) -> None:
        async with connected(url) as client:
            job = await ask(client, story.prompt)
            if when == "ended":
                await done(client, job)
            # All read at the same time: a connection that nobody reads answers no ping, and is closed.
            whole, *found = await asyncio.gather(client.answer(job), *(rest(url, job, cursor) for cursor in CURSORS))
            assert whole == story.text
            for cursor, text in zip(CURSORS, found, strict=True):
                assert text == story.text[len(story.texts[cursor]) :], cursor

    for story in stories[:3]:
        asyncio.run(body(story))


STOPS = [
    ["."],
    ["\n"],
    ["ily"],
    ["y s", "ll, "],
    ['said, "', "was very h", "Tim"],
    [" She", "Lily's mom"],
    ["no such text"],
]


@pytest.mark.parametrize("stops", STOPS, ids="|".join)
def test_a_stop_sequence_ends_the_answer_before_it(stops: list[str], url: str, stories: list[Story]) -> None:
    async def body() -> None:
        async with connected(url) as client:
            jobs = [await ask(client, story.prompt, stop=stops) for story in stories]
            for story, job in zip(stories, jobs, strict=True):
                end = await done(client, job)
                assert client.text(job) == min((story.text.partition(stop)[0] for stop in stops), key=len)
                met = [count for count, text in enumerate(story.texts) if any(stop in text for stop in stops)]
                assert end["cursor"] == (met[0] if met else len(story.ids))
                assert end["finish_reason"] == ("stop" if met else "length")

    asyncio.run(body())


def test_attaching_to_a_stopped_answer_gives_the_rest(url: str, stories: list[Story]) -> None:
    """At a cursor within a possible stop sequence, what it holds back belongs to the rest."""
    story, stop = stories[0], "little girl"
    whole = story.text.partition(stop)[0]

    async def body() -> None:
        async with connected(url) as client:
            job = await ask(client, story.prompt, stop=[stop])
            end = await done(client, job)
            assert client.text(job) == whole
            for cursor in range(end["cursor"] + 1):
                shown = shown_of(story.texts[cursor], stop)
                assert await rest(url, job, cursor) == whole[len(shown) :], cursor

    asyncio.run(body())


def shown_of(text: str, stop: str) -> str:
    """What a client sees of a text: nothing from the stop sequence on, nor an end that may begin one."""
    if stop in text:
        return text.partition(stop)[0]
    held = next((size for size in range(len(stop) - 1, 0, -1) if text.endswith(stop[:size])), 0)
    return text[: len(text) - held]
