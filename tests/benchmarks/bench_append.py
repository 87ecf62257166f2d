"""One worker's stream of fenced append calls, without pacing: 256 jobs, 1 or 4 tokens a call each, a replica listening.

The calls go through the store's typed commands as the IO thread makes them. The replica is a plain subscriber that
reads what is published and does nothing with it. Asked: 100,000 tokens/s on 2 cores, at 4 tokens a call, which is what
a worker does that is not waited for: what came meanwhile goes into the next call.
"""

import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ekiden.settings import Settings, load_settings
from ekiden.store.types import Append, AppendOutcome, Claimed
from ekiden.wire import encode_record
from tests.benchmarks.common import report
from tests.benchmarks.cpu import Clock, between
from tests.support.store_fleet import Fleet
from tests.support.valkey import running_valkey
from tests.support.waiting import until

JOBS = 256
SECONDS = 5.0
ASKED_TOKENS_PER_S = 100_000


@dataclass(frozen=True, slots=True)
class Figures:
    """One size of calls; `listened_bytes` is what came to the replica, CPU in microseconds a token."""

    tokens_a_row: int
    tokens_per_s: int
    listened_bytes_per_token: float
    writer_us: float
    store_us: float


class Listener:
    """Reads a channel and counts its bytes, in a thread that is outside the interpreter nearly all the time."""

    def __init__(self, port: int, channel: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        name = channel.encode()
        self._socket.sendall(b"*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%b\r\n" % (len(name), name))
        self.count = 0
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        space = bytearray(1 << 20)
        while count := self._socket.recv_into(space):
            self.count += count

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


@contextmanager
def listening(fleet: Fleet, port: int, replica: str) -> Iterator[Listener]:
    """A replica without clients for the length of a `with` block."""
    listener = Listener(port, fleet.store.keys.out(replica))
    try:
        until(lambda: listener.count > 0, what="the subscription")
        yield listener
    finally:
        listener.close()


def claimed(fleet: Fleet, worker: str) -> list[Claimed]:
    """Running jobs of that worker, watched by the replica."""
    for number in range(JOBS):
        fleet.submit(f"{worker}{number:032}", replica="r1")
    claims = fleet.claim(fleet.worker(worker), JOBS)
    assert len(claims) == JOBS
    for claim in claims:
        assert fleet.start(worker, claim)
    return claims


def measure(fleet: Fleet, listener: Listener, clock: Clock, tokens: int) -> Figures:
    """Append to all jobs, call after call."""
    worker = f"w{tokens}"
    claims, start = claimed(fleet, worker), 0
    cpu, heard, begun = clock.read(), listener.count, time.perf_counter()
    while time.perf_counter() - begun < SECONDS:
        rows = [
            Append(claim.job, claim.fence, claim.attempt, start, [encode_record(n, f"w{n} ") for n in range(tokens)])
            for claim in claims
        ]
        [results] = fleet.store.run_many([fleet.commands.append(worker, rows)])
        start += tokens
        assert all(one.outcome is AppendOutcome.OK and one.cursor == start for one in results)
    seconds, used = time.perf_counter() - begun, between(cpu, clock.read())
    count = start * JOBS
    return Figures(
        tokens_a_row=tokens,
        tokens_per_s=round(count / seconds),
        listened_bytes_per_token=round((listener.count - heard) / count, 1),
        writer_us=round(1e6 * used["writer"] / count, 2),
        store_us=round(1e6 * used["store"] / count, 2),
    )


def run(settings: Settings, port: int, store_pid: int) -> list[Figures]:
    """Both sizes of calls."""
    fleet = Fleet(settings)
    clock = Clock({"store": store_pid}, {"writer": (os.getpid(), threading.get_native_id())})
    try:
        with listening(fleet, port, "r1") as listener:
            return [measure(fleet, listener, clock, tokens) for tokens in (1, 4)]
    finally:
        fleet.close()


def main() -> None:
    """Run once and report."""
    with tempfile.TemporaryDirectory() as folder, running_valkey(Path(folder)) as store:
        assert store.process is not None
        found = run(load_settings(redis_url=store.url, key_prefix="bench"), store.port, store.process.pid)
    for one in found:
        print(one, file=sys.stderr)
    most = max(one.tokens_per_s for one in found)
    missed = ["tokens_per_s"] if most < ASKED_TOKENS_PER_S else []
    report({"benchmark": "append", "jobs": JOBS, "sizes": [asdict(one) for one in found]}, missed)


if __name__ == "__main__":
    main()
