"""The engine on a GPU: tokens a second, time to first token and gaps at 1, 64 and 256 requests submitted at once.

Run it with `python -m tests.benchmarks.gpu.bench_engine`. The workload and what other servers reach with it on an H200
are in docs/performance.md.
"""

import argparse
import sys
import threading
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import asdict, astuple, dataclass
from itertools import pairwise
from statistics import median, quantiles

import torch

from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.engine import BatchEngine
from ekiden_worker.engine.interface import EngineRequest, Output, SamplingParams
from tests.benchmarks.common import report
from tests.benchmarks.gpu.workload import Request, model, requests

ASKED_TOKENS_PER_S = {1: 250, 64: 4250, 256: 6200}  # on an H200
LONGEST_RUN_S = 240


@dataclass(frozen=True, slots=True)
class Figures:
    """One run; times of ids are those at which the engine handed them out."""

    tokens_per_s: float
    ttft_p50_s: float
    ttft_p99_s: float
    gap_p50_ms: float
    gap_p99_ms: float
    preemptions: int


class Run:
    """Submits requests to one engine, and notes when ids come."""

    def __init__(self, engine: BatchEngine) -> None:
        self.engine = engine
        self._times_s: dict[str, list[float]] = defaultdict(list)
        self._open: set[str] = set()
        self._idle = threading.Event()
        engine.start(self._take)

    def close(self) -> None:
        self.engine.stop()

    def _take(self, outputs: list[Output]) -> None:
        now = time.perf_counter()
        for output in outputs:
            self._times_s[output.request_id] += [now] * len(output.ids)
            if output.finish:
                self._open.discard(output.request_id)
        if not self._open:
            self._idle.set()

    def measure(self, load: list[Request]) -> Figures:
        """Submit all at once, and wait for the last id."""
        self._times_s.clear()
        self._idle.clear()
        self._open = {str(number) for number in range(len(load))}
        preempted = self.engine.stats().preemptions
        began = time.perf_counter()
        for number, request in enumerate(load):
            params = SamplingParams(max_tokens=request.answer_tokens)
            self.engine.submit(EngineRequest(str(number), request.prompt, params, frozenset()))
        if not self._idle.wait(timeout=LONGEST_RUN_S):
            raise TimeoutError("the engine did not end its requests")
        if any(len(self._times_s[str(number)]) != request.answer_tokens for number, request in enumerate(load)):
            raise RuntimeError("an answer is not whole")
        ended = max(times[-1] for times in self._times_s.values())
        firsts = sorted(times[0] - began for times in self._times_s.values())
        gaps = sorted(after - before for times in self._times_s.values() for before, after in pairwise(times))
        return Figures(
            tokens_per_s=round(sum(request.answer_tokens for request in load) / (ended - began), 1),
            ttft_p50_s=round(median(firsts), 4),
            ttft_p99_s=round(firsts[-1 - len(firsts) // 100], 4),
            gap_p50_ms=round(median(gaps) * 1e3, 2),
            gap_p99_ms=round(quantiles(gaps, n=100)[98] * 1e3, 2),
            preemptions=self.engine.stats().preemptions - preempted,
        )


LINE = "{:>9} {:>10} {:>11} {:>11} {:>11} {:>11} {:>11}"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--requests", default="1,64,256", help="numbers of requests, one run each")
    parser.add_argument("--budget", type=int, default=0, help="ids computed in one step; 0: the engine's own choice")
    parser.add_argument("--eager", action="store_true", help="no CUDA graphs")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each size, with new prompts; the best counts")
    return parser.parse_args()


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("This benchmark needs a CUDA device.")
    asked = parsed()
    sizes = [int(size) for size in asked.requests.split(",")]
    config = EngineConfig(max_running=max(sizes), max_batched_tokens=asked.budget, eager=asked.eager)
    made = model(asked.device)
    began = time.perf_counter()
    figures: dict[int, Figures] = {}
    with closing(Run(BatchEngine(made, config))) as run:
        started_s = round(time.perf_counter() - began, 1)
        tokens = run.engine.stats().total_blocks * config.block_size
        print(
            f"{torch.cuda.get_device_name()}, torch {torch.__version__}; started in {started_s} s, {tokens} KV tokens"
        )
        print(LINE.format("requests", "tokens/s", "ttft p50 s", "ttft p99 s", "gap p50 ms", "gap p99 ms", "preempted"))
        for size in sizes:
            rounds = [run.measure(requests(size, seed)) for seed in range(asked.rounds)]
            for found in rounds:
                print(LINE.format(size, *(str(value) for value in astuple(found))), flush=True)
            figures[size] = max(rounds, key=lambda found: found.tokens_per_s)
    missed = [str(size) for size in sizes if figures[size].tokens_per_s < ASKED_TOKENS_PER_S.get(size, 0)]
    found = {str(size): asdict(figures[size]) for size in sizes}
    report({"benchmark": "gpu_engine", "started_s": started_s, "asked": ASKED_TOKENS_PER_S, "runs": found}, missed)


if __name__ == "__main__":
    main()
