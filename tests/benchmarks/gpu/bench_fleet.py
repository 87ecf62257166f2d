"""What more GPUs give: the workload over the whole path, with one worker and with one for each GPU.

Run it with `python -m tests.benchmarks.gpu.bench_fleet`. One worker is given 256 requests at once, as often as there
will be workers; then all of them are given as many requests of the same lengths, also at once. Asked: N workers give
0.975 · N times the tokens/s of one, so four 3.9 times. `--apis` and `--clients` are numbers of processes. The cores
that each API process keeps busy are printed: one that keeps a whole one busy may be the limit.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import psutil
import torch

from tests.benchmarks.common import report
from tests.benchmarks.gpu.figures import Figures
from tests.benchmarks.gpu.fleet import fleet_of, over_the_path
from tests.benchmarks.gpu.workload import Request, Size, add_size, requests
from tests.support.processes import Process

ASKED_SHARE = 0.975


def other(request: Request) -> Request:
    """One as long, of which no prefix is known."""
    return Request([10 + (token - 9) % 31_990 for token in request.prompt], request.answer_tokens)


@dataclass(frozen=True, slots=True)
class Found:
    """`one`: the rounds of a single worker; `api_cores`: how many each API process kept busy under all workers."""

    one: list[Figures]
    one_tokens_per_s: float
    all_at_once: Figures
    ratio: float
    api_cores: list[float]


def cpu_s(process: Process) -> float:
    """What it has computed so far, on all cores."""
    used = psutil.Process(process.pid).cpu_times()
    return float(used.user + used.system)


def measured(options: argparse.Namespace) -> Found:
    """One worker, then all of them."""
    devices = [f"{options.device}:{number}" if options.device == "cuda" else "cpu" for number in range(options.workers)]
    settings = {"max_running": str(options.requests)}
    if options.device == "cpu":
        settings["threads"] = str(max(1, (os.cpu_count() or 1) // options.workers))
    loads = [requests(options.requests, seed) for seed in range(options.workers)]
    with fleet_of(Size.of(options)) as fleet:
        fleet.workers(devices[:1], **settings)
        apis = [fleet.api() for _ in range(options.apis)]
        urls = [api.socket for api in apis]
        over_the_path(urls, requests(max(8, options.clients), seed=99), options.clients)
        one = []
        for load in loads:
            one.append(over_the_path(urls, load, options.clients))
            print(f"1 worker: {one[-1].tokens_per_s:,.0f} tokens/s, first token {one[-1].ttft_p50_s} s", flush=True)
        fleet.workers(devices[1:], **settings)
        every = [other(request) for load in loads for request in load]
        before = [cpu_s(api) for api in apis]
        all_at_once = over_the_path(urls, every, options.clients)
        seconds = sum(request.answer_tokens for request in every) / all_at_once.tokens_per_s
        cores = [round((cpu_s(api) - used) / seconds, 2) for api, used in zip(apis, before, strict=True)]
    rate = rate_of(loads, one)
    return Found(one, round(rate, 1), all_at_once, round(all_at_once.tokens_per_s / rate, 3), cores)


def rate_of(loads: Sequence[Sequence[Request]], rounds: Sequence[Figures]) -> float:
    """Tokens/s of rounds one after the other."""
    tokens = [sum(request.answer_tokens for request in load) for load in loads]
    return sum(tokens) / sum(count / figures.tokens_per_s for count, figures in zip(tokens, rounds, strict=True))


def parsed() -> argparse.Namespace:
    """The options, with numbers of processes that suit the number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--workers", type=int, default=torch.cuda.device_count() or 2, help="one for each GPU")
    parser.add_argument("--requests", type=int, default=256, help="for each worker")
    parser.add_argument("--apis", type=int, default=0, help="API processes; 0: one for two workers")
    parser.add_argument("--clients", type=int, default=0, help="client processes; 0: one for each worker")
    add_size(parser)
    options = parser.parse_args()
    options.apis = options.apis or -(-options.workers // 2)
    options.clients = max(options.clients or options.workers, options.apis)
    return options


def main() -> None:
    options = parsed()
    found = measured(options)
    print(f"{options.workers} workers: {found.all_at_once.tokens_per_s:,.0f} tokens/s = {found.ratio} x one worker's")
    print(f"{options.apis} API processes, busy cores each: {found.api_cores}")
    missed = ["ratio"] if found.ratio < ASKED_SHARE * options.workers else []
    report({"benchmark": "gpu_fleet", **vars(options), **asdict(found)}, missed)


if __name__ == "__main__":
    main()
