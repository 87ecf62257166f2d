"""What a run of the workload gave."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from tests.benchmarks.common import percentile
from tests.benchmarks.gpu.workload import Request


@dataclass(frozen=True, slots=True)
class Figures:
    """One run of one size; first tokens in seconds from each submit."""

    tokens_per_s: float
    ttft_p50_s: float
    ttft_p99_s: float
    gap_p50_ms: float
    gap_p99_ms: float

    @classmethod
    def of(cls, load: Sequence[Request], asked_s: Sequence[float], times_s: Sequence[Sequence[float]]) -> "Figures":
        """`times_s`: when the ids of each answer came."""
        began, ended = min(asked_s), max(times[-1] for times in times_s)
        firsts = [times[0] - asked for asked, times in zip(asked_s, times_s, strict=True)]
        gaps = list(chain.from_iterable((after - before for before, after in pairwise(times)) for times in times_s))
        return cls(
            tokens_per_s=round(sum(request.answer_tokens for request in load) / (ended - began), 1),
            ttft_p50_s=round(percentile(firsts, 0.5), 4),
            ttft_p99_s=round(percentile(firsts, 0.99), 4),
            gap_p50_ms=round(percentile(gaps, 0.5) * 1e3, 2),
            gap_p99_ms=round(percentile(gaps, 0.99) * 1e3, 2),
        )
