"""`python -m tests.chaos`: every fault alone, then combined, then with the real model; `make chaos`.

Writes the figures into docs/reliability.md. The last line is JSON; the exit status is 1 when an answer was wrong, a
process or the store was left in disorder, or a stall was longer than asked. Logs are kept when something went wrong.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ekiden.settings import DEFAULT_MODEL
from tests.benchmarks.common import report
from tests.chaos import real
from tests.chaos.drive import Outcome, run
from tests.chaos.plans import alone, every_fault, together
from tests.chaos.report import PAGE, write
from tests.support.seeded import SEED

ASKED_MS = {
    "worker_killed": {"p50_ms": 700, "p99_ms": 1000},
    "worker_drained": {"p99_ms": 200},
    "api_killed": {"p99_ms": 1000},
    "rolling_restart": {"p99_ms": 1000},
}


def missed(figures: Mapping[str, Any]) -> list[str]:
    """The asked stalls that were not reached."""
    found = {fault["fault"]: fault for fault in figures["faults"]}
    return [
        f"{name} {key} {found[name][key]} > {limit}"
        for name, limits in ASKED_MS.items()
        for key, limit in limits.items()
        if name in found and found[name][key] > limit
    ]


async def break_everything(folder: Path, options: argparse.Namespace) -> tuple[Outcome, real.Compared]:
    """The whole run; logs of all processes go to the folder."""
    outcome = await run(alone("alone", every_fault(options.times)), folder / "alone", SEED)
    left = max(options.answers - outcome.answers, options.answers // 2)
    outcome.join(await run(together("together", left), folder / "together", SEED))
    return outcome, await real.compare(
        folder / "real", options.real, options.tokens, SEED, model=options.model, device=options.device
    )


def main() -> None:
    """Run, write the table, and keep the logs of a run in which something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10, help="how often the most frequent faults happen alone")
    parser.add_argument("--answers", type=int, default=10_000, help="answers of the fake engine in all")
    parser.add_argument("--real", type=int, default=300, help="answers of the real model")
    parser.add_argument("--tokens", type=int, default=32, help="length of those")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="the real model: as EKIDEN_MODEL")
    parser.add_argument("--device", default="cpu", help="where it runs: as EKIDEN_DEVICE")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the table goes")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ekiden-chaos-"))
    outcome, compared = asyncio.run(break_everything(folder, options))
    figures = outcome.figures()
    figures["real_model"] = {**asdict(compared), "wrong": len(compared.wrong)}
    for line in (*outcome.trouble, *(f"{track.verdict}: {track.reason}" for track in outcome.wrong), *compared.wrong):
        print(line, file=sys.stderr)
    write(figures, options.page)
    checks = {"answers": [*outcome.wrong, *compared.wrong], "order": outcome.trouble}
    wrong = [name for name, found in checks.items() if found]
    if wrong:
        print(f"logs: {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    report({"benchmark": "chaos", **figures}, [*wrong, *missed(figures)])


if __name__ == "__main__":
    main()
