"""A fleet with the workload's model, and its requests as clients of the whole path send them."""

import multiprocessing
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from ekiden.settings import load_settings
from tests.benchmarks.common import LONGEST_ROUND_S
from tests.benchmarks.gpu.figures import Figures
from tests.benchmarks.gpu.random_model import environment
from tests.benchmarks.gpu.workload import Request, Size
from tests.benchmarks.load import run
from tests.benchmarks.streams import Stream, streamed
from tests.support.processes import Api, Process, Processes, processes
from tests.support.valkey import running_valkey

WORKER_S = 300.0  # to make weights, to compile, to capture
CLIENT_S = 60.0  # to start a process, to open its sockets
FIRST_LETTER, LETTERS = 33, 94  # bytes that are characters


class Fleet:
    """Workers with a model of one size, and API processes, on one store."""

    def __init__(self, group: Processes, size: Size) -> None:
        self._group = group
        group.worker_s = WORKER_S
        self._environment = environment(size)

    def worker(self, **settings: str) -> Process:
        """A worker with these settings, ready."""
        named = {f"EKIDEN_{name.upper()}": value for name, value in settings.items()}
        return self._group.worker(**self._environment, **named)

    def workers(self, devices: Sequence[str], **settings: str) -> list[Process]:
        """One on each of these devices, started side by side."""
        with ThreadPoolExecutor(max(1, len(devices))) as pool:
            return list(pool.map(lambda device: self.worker(device=device, **settings), devices))

    def api(self) -> Api:
        """One more API process, ready."""
        return self._group.api()


@contextmanager
def fleet_of(size: Size) -> Iterator[Fleet]:
    """A store, and nothing on it yet, for the length of a `with` block."""
    with tempfile.TemporaryDirectory() as name, running_valkey(Path(name)) as store:
        settings = load_settings(redis_url=store.url, key_prefix="bench")
        with processes(settings, Path(name)) as group:
            yield Fleet(group, size)


def text_of(request: Request) -> str:
    """A prompt of as many bytes as the request's has ids."""
    return "".join(chr(FIRST_LETTER + token % LETTERS) for token in request.prompt)


def over_the_path(urls: Sequence[str], load: Sequence[Request], clients: int = 1) -> Figures:
    """All requests at once, each on a socket of its own; from so many processes, each of which takes the next URL.

    Raises ValueError where there are fewer of them than URLs.
    """
    if clients < len(urls):
        raise ValueError("each API process needs a client process of its own")
    if clients == 1:
        streams = _ask(urls[0], load, None)
    else:
        streams = _from_processes([(urls[number % len(urls)], load[number::clients]) for number in range(clients)])
    return Figures.of(load, [stream.asked_s for stream in streams], [stream.times_s for stream in streams])


def _ask(url: str, load: Sequence[Request], barrier: Barrier | None) -> list[Stream]:
    frames = [{"messages": [{"role": "user", "content": text_of(request)}]} for request in load]
    begin = (lambda: barrier.wait(CLIENT_S)) if barrier else None
    return run(streamed(url, frames, [request.answer_tokens for request in load], begin))


def _from_processes(parts: Sequence[tuple[str, Sequence[Request]]]) -> list[Stream]:
    """The processes ask at the same moment; their clock is that of the machine."""
    context = multiprocessing.get_context("spawn")  # a fork would share the threads of torch
    barrier = context.Barrier(len(parts))
    pipes = []
    children = []
    for part in parts:
        ours, theirs = context.Pipe(duplex=False)
        children.append(context.Process(target=_client, args=(theirs, barrier, *part), daemon=True))
        children[-1].start()
        theirs.close()
        pipes.append(ours)
    try:
        return [stream for pipe in pipes for stream in _received(pipe)]
    finally:
        for child in children:
            child.join(5)
            child.kill()


def _received(pipe: "Connection[Any, Any]") -> list[Stream]:
    if not pipe.poll(LONGEST_ROUND_S + CLIENT_S):
        raise TimeoutError("a client does not end")
    streams: list[Stream] = pipe.recv()  # EOFError: it failed, and said on stderr why
    return streams


def _client(pipe: "Connection[Any, Any]", barrier: Barrier, url: str, load: Sequence[Request]) -> None:
    """A client process."""
    try:
        pipe.send(_ask(url, load, barrier))
    except threading.BrokenBarrierError:
        raise SystemExit("another client failed, or was too slow to start") from None
