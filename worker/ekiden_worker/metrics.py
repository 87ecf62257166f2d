"""What a worker tells Prometheus: its counts and its engine's state, read when asked."""

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from ekiden.store.types import WorkerInfo
from ekiden_worker.engine.interface import Engine, EngineStats
from ekiden_worker.figures import Figures, Histogram


class WorkerMetrics:
    """A `prometheus_client` Collector. Any thread."""

    def __init__(self, info: WorkerInfo, engine: Engine, figures: Figures) -> None:
        self._info = info
        self._engine = engine
        self._figures = figures
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)

    def encoded(self, accept: str) -> tuple[bytes, str]:
        """The body in the form that the Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type

    def collect(self) -> Iterable[Metric]:
        """Every metric with its samples."""
        yield from self._own()
        yield from _of_engine(self._engine.stats(), self._engine.max_running)
        yield from self._process.collect()

    def _own(self) -> Iterator[Metric]:
        info, figures = self._info, self._figures
        about = GaugeMetricFamily("ekiden_worker_info", "What this worker is.", labels=["model", "device", "version"])
        about.add_metric([info.model, info.device, info.version], 1)
        yield about
        yield _seconds(
            "ekiden_inter_token_latency_seconds", "Between two outputs of one request, in the engine.", figures.itl_ms
        )
        yield _seconds(
            "ekiden_engine_step_seconds",
            "From one step's output to the next, while an answer goes on; prompts between them included.",
            figures.steps_ms,
        )
        yield _seconds("ekiden_append_seconds", "Round trips that wrote tokens to the job store.", figures.appends_ms)
        yield CounterMetricFamily("ekiden_generated_tokens", "Tokens generated here.", value=figures.tokens)
        yield GaugeMetricFamily(
            "ekiden_unwritten_tokens", "Generated, and not yet in the job store.", figures.unwritten_tokens
        )
        yield CounterMetricFamily(
            "ekiden_fenced_jobs", "Jobs found to be another worker's by now.", value=figures.fenced_jobs
        )
        pace = figures.pace()
        yield GaugeMetricFamily(
            "ekiden_batch_size",
            "Answers that a step went on with: the mean over the last second.",
            pace.batch_size if pace else 0,
        )


def _of_engine(stats: EngineStats, slots: int) -> Iterator[Metric]:
    yield GaugeMetricFamily("ekiden_slots", "Requests that may run at the same time.", slots)
    yield GaugeMetricFamily("ekiden_requests_running", "Requests that the engine generates for.", stats.running)
    yield GaugeMetricFamily("ekiden_engine_waiting", "Requests that wait within the engine.", stats.waiting)
    yield GaugeMetricFamily(
        "ekiden_kv_cache_usage_ratio",
        "Blocks of the KV cache that requests hold, of all; 0 to 1.",
        stats.held_blocks / max(1, stats.total_blocks),
    )
    yield GaugeMetricFamily(
        "ekiden_prefix_cache_hit_ratio",
        "Prefill tokens found in the cache, of all since the start; 0 to 1.",
        stats.cached_tokens / max(1, stats.prompt_tokens),
    )
    prefill = CounterMetricFamily("ekiden_prefill_tokens", "Tokens of admitted requests.", labels=["source"])
    prefill.add_metric(["cached"], stats.cached_tokens)
    prefill.add_metric(["computed"], stats.prompt_tokens - stats.cached_tokens)
    yield prefill
    yield CounterMetricFamily(
        "ekiden_preemptions", "Requests that gave up their blocks and began again.", value=stats.preemptions
    )
    guessed = CounterMetricFamily("ekiden_proposed_tokens", "Tokens that speculation guessed.", labels=["outcome"])
    guessed.add_metric(["accepted"], stats.accepted_tokens)
    guessed.add_metric(["rejected"], stats.proposed_tokens - stats.accepted_tokens)
    yield guessed
    yield CounterMetricFamily("ekiden_engine_steps", "Steps of the engine.", value=stats.steps)


def _seconds(name: str, documentation: str, histogram: Histogram) -> Metric:
    """A histogram of milliseconds, in seconds."""
    bounds = [*(str(bound / 1000) for bound in histogram.bounds), "+Inf"]
    counts = accumulate(histogram.counts[:])  # copied: its owner counts on
    buckets = list(zip(bounds, counts, strict=True))
    return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=histogram.total / 1000)
