"""A slow client gets merged deltas, in order, and a bounded number of bytes."""

import asyncio
from contextlib import suppress

from ekiden.protocol import Delta, Done, Error, Pong, decode_server
from ekiden_api.outbox import Outbox


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
    outbox = Outbox(10_000)
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
    outbox = Outbox(1000)
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


def test_frames_count_with_their_whole_size() -> None:
    outbox = Outbox(10_000)
    outbox.put(Error(code="invalid_request", message="x" * 10_000))
    assert outbox.full
