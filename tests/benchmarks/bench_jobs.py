"""What jobs leave behind, and their order: memory over 10,000 jobs, bytes a job in the store, 10,000 asked at once.

Three runs on one store:

* 1,000 jobs whose prompt and log are still kept: bytes a job, whole.
* 10,000 jobs, 100 at a time, with a second of keeping. Flat means: over the second half the resident memory of API and
  worker grows by less than 100 bytes a job (least squares over 20 samples), and when the logs have expired the store
  has two keys a job: its summary and its request id. Their bytes a job are the summary's.
* 10,000 jobs sent at once on one socket: `accepted` must come in the order of asking.

Every answer's text is checked.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import redis

from ekiden.settings import Settings, load_settings
from tests.benchmarks.common import report, slope
from tests.benchmarks.load import Answer, Load, loaded, run
from tests.support.processes import processes
from tests.support.valkey import ValkeyServer, running_valkey
from tests.support.waiting import until, until_async

JOBS = 10_000
JOBS_WHOLE = 1000
TOKENS = 50
AT_A_TIME = 100
SAMPLES = 40
ASKED_BYTES_A_JOB = 100.0
KEYS_OF_A_SUMMARY = 2
WORKER = {"EKIDEN_TEST_STEP_S": "0.002", "EKIDEN_MAX_RUNNING": str(AT_A_TIME)}
TIME_OUT_S = 240.0


@dataclass
class Service:
    """One API process and one worker on a store."""

    url: str
    api: psutil.Process
    worker: psutil.Process
    store: "redis.Redis"

    def store_bytes(self) -> int:
        """Bytes the store uses for its data, its own overhead included."""
        info: dict[str, int] = self.store.info("memory")
        return info["used_memory"]

    def keys(self) -> int:
        """How many there are; one that has expired is dropped when it is looked at, at the latest."""
        return sum(1 for _ in self.store.scan_iter(count=1000))


@contextmanager
def serving(server: ValkeyServer, settings: Settings, folder: Path, **extra: str) -> Iterator[Service]:
    """A service on a store that was emptied, for the length of a `with` block."""
    folder.mkdir()
    with processes(settings, folder) as fleet, redis.Redis(port=server.port) as store:
        store.flushall()
        worker, api = fleet.worker(**WORKER, **extra), fleet.api(**extra)
        yield Service(api.socket, psutil.Process(api.pid), psutil.Process(worker.pid), store)


async def in_turns(load: Load, jobs: int, sample: dict[int, "Sample"], service: Service) -> None:
    """So many more jobs, `AT_A_TIME` of them at once; a sample of memory each `jobs / SAMPLES`."""
    first, end = load.ended, len(load.answers) + jobs

    def on_ended(answer: Answer) -> None:
        if len(load.answers) < end:
            load.ask(answer.line, TOKENS)
        if (done := load.ended - first) % (jobs // SAMPLES) == 0:
            sample[done] = Sample.of(service)

    load.on_ended = on_ended
    for _ in range(AT_A_TIME):
        load.ask(load.lines[0], TOKENS)
    await ended(load, end)


async def ended(load: Load, count: int) -> None:
    """Wait for that many answers."""

    async def enough() -> bool:
        assert not load.failures, load.failures[:3]
        return load.ended == count

    await until_async(enough, timeout_s=TIME_OUT_S, what=f"the end of {count} jobs")


@dataclass(frozen=True, slots=True)
class Sample:
    """Resident bytes of API and worker, bytes in use of the store."""

    api: int
    worker: int
    store: int

    @classmethod
    def of(cls, service: Service) -> "Sample":
        return cls(service.api.memory_info().rss, service.worker.memory_info().rss, service.store_bytes())


async def whole_bytes(service: Service) -> float:
    """Bytes a job in the store while its prompt and log are kept."""
    async with loaded(service.url, 1) as load:
        await in_turns(load, AT_A_TIME, {}, service)
        before = service.store_bytes()
        await in_turns(load, JOBS_WHOLE, {}, service)
        after = service.store_bytes()
    load.check()
    return (after - before) / JOBS_WHOLE


async def memory(service: Service) -> dict[str, object]:
    """Memory over many jobs whose logs expire."""
    samples: dict[int, Sample] = {}
    async with loaded(service.url, 1) as load:
        keys, empty = service.keys(), service.store_bytes()
        begun = time.perf_counter()
        await in_turns(load, JOBS, samples, service)
        seconds = time.perf_counter() - begun
    load.check()
    with suppress(TimeoutError):  # the figure then says that more is left
        until(lambda: keys_a_job(service.keys() - keys) <= KEYS_OF_A_SUMMARY, what="the expiry of the logs")
    second_half = {done: one for done, one in samples.items() if done > JOBS // 2}
    return {
        "jobs_per_s": round(JOBS / seconds),
        "first": asdict(samples[JOBS // SAMPLES]),
        "last": asdict(samples[JOBS]),
        "api_bytes_a_job": round(slope({done: one.api for done, one in second_half.items()}), 1),
        "worker_bytes_a_job": round(slope({done: one.worker for done, one in second_half.items()}), 1),
        "summary_bytes": round((service.store_bytes() - empty) / JOBS),
        "keys_a_job": keys_a_job(service.keys() - keys),
    }


def keys_a_job(count: int) -> float:
    """Indexes, and what belongs to nobody's job, are a handful of keys."""
    return round(count / JOBS, 2)


async def at_once(service: Service) -> dict[str, object]:
    """Ask for everything on one socket without waiting."""
    async with loaded(service.url, 1) as load:
        begun = time.perf_counter()
        for _ in range(JOBS):
            load.ask(load.lines[0], TOKENS)

        async def all_accepted() -> bool:
            return len(load.accepted) == JOBS

        await until_async(all_accepted, timeout_s=TIME_OUT_S, what="10,000 accepted")
        accepted_s = time.perf_counter() - begun
        await ended(load, JOBS)
        seconds = time.perf_counter() - begun
    load.check()
    return {
        "accepted_per_s": round(JOBS / accepted_s),
        "jobs_per_s": round(JOBS / seconds),
        "in_order": load.accepted == sorted(load.accepted),
    }


def missed_of(found: Mapping[str, object], asked_at_once: Mapping[str, object]) -> list[str]:
    """Which of the asked figures were missed."""
    growth = {name: found[name] for name in ("api_bytes_a_job", "worker_bytes_a_job")}
    missed = [name for name, value in growth.items() if isinstance(value, float) and value > ASKED_BYTES_A_JOB]
    keys = found["keys_a_job"]
    missed += ["keys_a_job"] if isinstance(keys, float) and keys > KEYS_OF_A_SUMMARY else []
    return missed + ([] if asked_at_once["in_order"] else ["in_order"])


def main() -> None:
    """Run once and report."""
    with tempfile.TemporaryDirectory() as name, running_valkey(Path(name)) as server:
        folder = Path(name)
        settings = load_settings(redis_url=server.url, key_prefix="bench")
        with serving(server, settings, folder / "whole") as service:
            whole = run(whole_bytes(service))
            print(f"a whole job of {TOKENS} tokens: {whole:.0f} bytes", file=sys.stderr)
        with serving(server, settings, folder / "short", EKIDEN_KEEP_LOG_S="1") as service:
            found = run(memory(service))
            print(found, file=sys.stderr)
        with serving(server, settings, folder / "at_once") as service:
            asked_at_once = run(at_once(service))
            print(asked_at_once, file=sys.stderr)
    figures = {"benchmark": "jobs", "jobs": JOBS, "tokens": TOKENS, "whole_bytes": round(whole)}
    report({**figures, "memory": found, "at_once": asked_at_once}, missed_of(found, asked_at_once))


if __name__ == "__main__":
    main()
