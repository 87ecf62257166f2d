"""The whole path on a GPU, WebSocket clients → API → store → Celery worker → engine, and the engine by itself.

Run it with `python -m tests.benchmarks.gpu.bench_path`: the workload of docs/performance.md, first over the path, then,
when the worker has given the GPU back, on an engine with nothing around it. Asked at the largest size are 97 % of the
bare engine's tokens/s, and a first token that comes 5 ms later at p50 and 15 ms at p99.
"""

import argparse
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict

from ekiden.settings import load_settings
from tests.benchmarks.common import report
from tests.benchmarks.gpu import random_model
from tests.benchmarks.gpu.figures import Figures
from tests.benchmarks.gpu.fleet import fleet_of, over_the_path, text_of
from tests.benchmarks.gpu.workload import Request, Size, add_size, requests
from tests.benchmarks.real_model import Alone

ASKED_RATIO, ASKED_TTFT_MS = 0.97, {"p50": 5.0, "p99": 15.0}


def on_the_engine(alone: Alone, load: Sequence[Request]) -> Figures:
    """The same ids without a path."""
    tracks = [alone.ask([1 + byte for byte in text_of(request).encode()], request.answer_tokens) for request in load]
    alone.wait(lambda: all(track.finish for track in tracks))
    return Figures.of(load, [track.asked_s for track in tracks], [track.times_s for track in tracks])


def measured(options: argparse.Namespace, sizes: Sequence[int]) -> dict[int, tuple[Figures, Figures]]:
    """(path, engine) of each size, after a size that does not count."""
    warm = requests(min(8, max(sizes)), seed=99)
    settings = {"device": options.device, "max_running": str(max(sizes))}
    with fleet_of(Size.of(options)) as fleet:
        fleet.worker(**settings)
        urls = [fleet.api().socket]
        over_the_path(urls, warm)
        paths = {size: over_the_path(urls, requests(size)) for size in sizes}
    engine = random_model.runtime(load_settings(**settings), Size.of(options)).engine
    with closing(Alone(engine)) as alone:
        on_the_engine(alone, warm)
        return {size: (paths[size], on_the_engine(alone, requests(size))) for size in sizes}


def missed_of(size: int, path: Figures, engine: Figures) -> list[str]:
    """What is asked of the largest size and was not reached."""
    late_ms = {
        "p50": 1e3 * (path.ttft_p50_s - engine.ttft_p50_s),
        "p99": 1e3 * (path.ttft_p99_s - engine.ttft_p99_s),
    }
    missed = [f"{size}: ttft {name}" for name, most in ASKED_TTFT_MS.items() if late_ms[name] > most]
    return missed + ([f"{size}: tokens/s"] if path.tokens_per_s < ASKED_RATIO * engine.tokens_per_s else [])


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="EKIDEN_DEVICE")
    parser.add_argument("--clients", default="1,64,256", help="numbers of clients, each with one answer")
    add_size(parser)
    return parser.parse_args()


LINE = "{:>8} {:>8} {:>10} {:>11} {:>11} {:>11} {:>11}"


def main() -> None:
    options = parsed()
    sizes = [int(size) for size in options.clients.split(",")]
    found = measured(options, sizes)
    print(LINE.format("clients", "side", "tokens/s", "ttft p50 s", "ttft p99 s", "gap p50 ms", "gap p99 ms"))
    for size, sides in found.items():
        for side, figures in zip(("path", "engine"), sides, strict=True):
            print(LINE.format(size, side, *(str(value) for value in asdict(figures).values())))
    missed = missed_of(max(sizes), *found[max(sizes)])
    runs = {str(size): {"path": asdict(path), "engine": asdict(engine)} for size, (path, engine) in found.items()}
    report({"benchmark": "gpu_path", **vars(options), "runs": runs}, missed)


if __name__ == "__main__":
    main()
