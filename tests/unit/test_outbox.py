"""A slow client gets merged deltas, in order, and a bounded number of bytes."""

import asyncio
from collections.abc import Sized
from contextlib import suppress

import pytest

from ekiden.protocol import Delta, Done, Error, Pong, decode_server
from ekiden_api.outbox import Outbox, Rounds
from tests.support.waiting import until_async


async def sent(outbox: Outbox, count: int) -> list[object]:
    """The next frames that a client would get."""
    frames: list[object] = []

    async def send(text: str) -> None:
        frames.append(decode_server(text))
        if len(frames) == count:
            raise asyncio.CancelledError

    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(outbox.send_all(send), 5)
    return frames


def delta(job: str, cursor: int, text: str) -> Delta:
    return Delta(job=job, cursor=cursor, text=text)


async def _merging() -> None:
    outbox = Outbox(10_000, Rounds())
    for frame in (delta("a", 1, "x"), delta("b", 1, "1"), delta("a", 2, "y"), Pong(), delta("a", 5, "z")):
        outbox.put(frame)
    outbox.put(Done(job="a", cursor=5, finish_reason="stop"))
    outbox.put(delta("b", 2, "2"))
    frames = await sent(outbox, 4)
    assert frames == [
        delta("a", 5, "xyz"),
        delta("b", 2, "12"),
        Pong(),
        Done(job="a", cursor=5, finish_reason="stop"),
    ]


def test_unsent_deltas_of_a_job_merge_and_nothing_of_a_job_is_overtaken() -> None:
    asyncio.run(_merging())


async def _bounds() -> None:
    outbox = Outbox(1000, Rounds())
    drained: list[bool] = []
    outbox.on_drained = lambda: drained.append(True)
    outbox.put(delta("a", 1, "x" * 600))
    assert not outbox.full
    outbox.put(delta("b", 1, "x" * 400))
    assert outbox.full
    waiting = asyncio.create_task(outbox.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert not drained
    await sent(outbox, 2)
    await asyncio.wait_for(waiting, 5)
    assert drained == [True]
    assert not outbox.full


def test_a_full_outbox_says_so_and_tells_when_it_has_drained() -> None:
    asyncio.run(_bounds())


async def _sizes() -> None:
    outbox = Outbox(10_000, Rounds())
    outbox.put(Error(code="invalid_request", message="x" * 10_000))
    assert outbox.full


def test_frames_count_with_their_whole_size() -> None:
    asyncio.run(_sizes())


class Client:
    """A channel that notes what is written."""

    def __init__(self, *, ready: bool) -> None:
        self.ready = ready
        self.written: list[list[object]] = []

    def write(self, frames: list[bytes]) -> None:
        self.written.append([decode_server(frame) for frame in frames])


async def _rounds() -> None:
    rounds = Rounds()
    clients = [Client(ready=True), Client(ready=True)]
    for client in clients:
        outbox = Outbox(10_000, rounds, client)
        for frame in (delta("a", 1, "x"), delta("b", 1, "y"), delta("a", 2, "z"), Pong()):
            outbox.put(frame)
    assert [client.written for client in clients] == [[], []]
    await asyncio.sleep(0)
    assert [client.written for client in clients] == 2 * [[[delta("a", 2, "xz"), delta("b", 1, "y"), Pong()]]]


def test_what_comes_at_once_is_written_at_once_to_every_connection() -> None:
    asyncio.run(_rounds())


async def _overtaking() -> None:
    client, outlet = Client(ready=False), asyncio.Event()
    outbox = Outbox(10_000, Rounds(), client)
    begun, frames = list[object](), list[object]()

    async def send(text: str) -> None:
        begun.append(text)
        await outlet.wait()
        frames.append(decode_server(text))

    async def has(count: int, where: Sized) -> None:
        async def enough() -> bool:
            return len(where) == count

        await until_async(enough, timeout_s=5)

    sending = asyncio.create_task(outbox.send_all(send))
    outbox.put(delta("a", 1, "x"))
    await has(1, begun)
    client.ready = True
    outbox.put(delta("a", 2, "y"))
    await asyncio.sleep(0)
    outlet.set()
    await has(2, frames)
    outbox.put(delta("a", 3, "z"))
    await has(1, client.written)
    assert (frames, client.written) == ([delta("a", 1, "x"), delta("a", 2, "y")], [[delta("a", 3, "z")]])
    sending.cancel()


def test_a_client_that_became_ready_gets_nothing_before_what_was_begun_for_it() -> None:
    asyncio.run(_overtaking())


async def _large() -> None:
    client = Client(ready=True)
    outbox = Outbox(10_000_000, Rounds(), client)
    for number in range(5):
        outbox.put(delta(str(number), 1, "x" * 40_000))
    await asyncio.sleep(0)
    assert [len(frames) for frames in client.written] == [2, 2, 1]


def test_much_is_written_in_parts_between_which_the_client_may_say_that_it_is_enough() -> None:
    asyncio.run(_large())


class BrokenClient(Client):
    """A channel whose socket fails."""

    def write(self, frames: list[bytes]) -> None:
        raise OSError("broken")


async def _broken() -> None:
    rounds = Rounds()
    broken, other = BrokenClient(ready=True), Client(ready=True)
    outboxes = [Outbox(10_000, rounds, client) for client in (broken, other)]
    for outbox in outboxes:
        outbox.put(Pong())
    with pytest.raises(OSError, match="broken"):
        await sent(outboxes[0], 1)
    assert other.written == [[Pong()]]


def test_a_connection_that_lost_frames_ends_and_no_other() -> None:
    asyncio.run(_broken())
