"""`python -m tests.soak`: three workers with the fake engine and one with the real model, two API processes, one store.

Kept times are short, so that after some minutes as much expires as is added: what grows then, grows for ever. The last
line is JSON; the exit status is 1 when an answer was wrong, memory was not flat, or the store was left in disorder.
"""

import argparse
import asyncio
import sys
import tempfile
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from statistics import median

import psutil

from ekiden.client import Client
from ekiden.keys import Keys
from ekiden.settings import DEFAULT_MODEL
from tests.benchmarks.common import report
from tests.chaos.cluster import Cluster, Size, running_cluster
from tests.chaos.load import Load
from tests.support.seeded import SEED
from tests.support.waiting import until_async

KEPT_S = {"EKIDEN_KEEP_LOG_S": "20", "EKIDEN_KEEP_SUMMARY_S": "60", "EKIDEN_KEEP_CONVERSATION_S": "60"}
FAKE = "fake"
REAL_WORKER = {
    "EKIDEN_MODEL": DEFAULT_MODEL,
    "EKIDEN_ENGINE": "tests.support.checked_engine:load",
    "EKIDEN_THREADS": "1",
    "EKIDEN_CONTEXT_TOKENS": "1024",
    "EKIDEN_KV_CACHE_TOKENS": "2048",  # it takes memory as it fills: full after some minutes
    **KEPT_S,
}
OPEN_ANSWERS = 100
SAMPLE_EVERY_S = 10.0
PAUSE_S = 15.0
"""Between two conversations with the real model, which would take a core for itself."""
GROWTH, SLACK_BYTES = 0.02, 2 << 20
"""Flat: the last quarter's median is at most this share, or this much, above that of the second quarter."""
LEAST_SAMPLES = 8

Samples = dict[str, list[int]]


async def talk(url: str, until: asyncio.Event, done: list[int]) -> None:
    """Kept conversations of three turns with the real model, one after the other; each is deleted at its end."""
    async with Client(url, give_up_after_s=None) as client:
        while not until.is_set():
            conversation = "new"
            for message in ("Name a fruit.", "And another?", "Which was first?"):
                answer = client.chat(message, conversation=conversation, model=DEFAULT_MODEL, max_tokens=24)
                await answer.text()
                assert answer.conversation
                conversation = answer.conversation
                done[0] += 1
            await client.conversations.delete(conversation)
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_S):
                    await until.wait()


async def sample(cluster: Cluster, named: dict[str, psutil.Process], into: Samples) -> None:
    """Note what every process and the store hold now, in bytes; and how many keys there are."""
    for name, process in named.items():
        into[name].append(process.memory_info().rss)
    info, keys = await cluster.ask_store(lambda client: (client.info("memory"), client.dbsize()))
    into["store: data"].append(info["used_memory_dataset"])
    into["store: keys"].append(keys)


def growth(values: list[int]) -> tuple[float, float]:
    """Medians of the second and of the last quarter."""
    quarter = len(values) // 4
    return median(values[quarter : 2 * quarter]), median(values[-quarter:])


async def soak(folder: Path, minutes: float) -> tuple[dict[str, object], list[str]]:
    """Run, and return the figures and what was wrong."""
    samples: Samples = defaultdict(list)
    real_answers, over = [0], asyncio.Event()
    size = Size(max_running=17, step_s=0.1, extra=(("EKIDEN_MODEL", FAKE), *KEPT_S.items()))
    async with running_cluster(folder, size) as cluster:
        real = await asyncio.to_thread(cluster.children.worker, **REAL_WORKER)
        named = {f"worker {n}": psutil.Process(worker.pid) for n, worker in enumerate(cluster.workers)}
        named |= {"worker, real model": psutil.Process(real.pid)}
        named |= {f"api {n}": psutil.Process(api.pid) for n, api in enumerate(cluster.apis)}
        assert cluster.store.process
        named["store"] = psutil.Process(cluster.store.process.pid)
        load = Load(cluster.urls, OPEN_ANSWERS, (10, 120), SEED)
        async with load.asking():
            talking = asyncio.create_task(talk(cluster.urls[0], over, real_answers))
            for number in range(max(LEAST_SAMPLES, int(minutes * 60 / SAMPLE_EVERY_S))):
                await asyncio.wait([talking], timeout=SAMPLE_EVERY_S)  # a fault of the talk ends the run
                if talking.done():
                    break
                await sample(cluster, named, samples)
                if number % 30 == 0:
                    print(f"{number * SAMPLE_EVERY_S / 60:.0f} min: {load.ended} answers", flush=True)
            over.set()
            await talking
        cluster.check()
        real.check()
        keys = Keys(cluster.settings.key_prefix)

        async def forgotten() -> bool:
            return bool(await cluster.ask_store(lambda client: client.zcard(keys.jobs)) == 0)

        await until_async(forgotten, 180, "a store that has forgotten its jobs")
        left = await cluster.check_store()
    wrong = [f"{track.verdict}: {track.reason}" for track in load.wrong()]
    figures, grown = judge(samples)
    figures |= {"minutes": minutes, "answers": load.ended, "real_answers": real_answers[0], "keys_left": dict(left)}
    return figures, wrong + grown


def judge(samples: Samples) -> tuple[dict[str, object], list[str]]:
    """The figures in MiB, and what was not flat."""
    figures: dict[str, object] = {}
    grown = []
    for name, values in samples.items():
        before, after = growth(values)
        slack = SLACK_BYTES if name != "store: keys" else 200
        if after > before + max(before * GROWTH, slack):
            grown.append(f"{name} grew from {before:.0f} to {after:.0f}")
        unit = 1 << 20 if name != "store: keys" else 1
        figures[name] = [round(before / unit, 1), round(after / unit, 1)]
        print(f"{name}: {figures[name]}", file=sys.stderr)
    return figures, grown


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ekiden-soak-") as folder:
        figures, missed = asyncio.run(soak(Path(folder) / "fleet", options.minutes))
    report({"benchmark": "soak", **figures}, missed)


if __name__ == "__main__":
    main()
