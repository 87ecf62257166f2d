"""What Prometheus is told: figures of this process, and those of the whole fleet as the store has them."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from ekiden.protocol import Delta, ServerFrame
from ekiden.store.totals import Totals
from ekiden.store.types import ReplicaInfo
from ekiden.wire import EndedFrame

TTFT_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
QUEUE_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)

FLEET = "Of the whole fleet, the same on every API process: take max()."


class Metrics:
    """What this process measures. Event loop only."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.time_to_first_token = Histogram(
            "ekiden_time_to_first_token_seconds",
            "From a job's acceptance to its first text on the way to the client; jobs that this process accepted.",
            buckets=TTFT_BOUNDS_S,
            registry=self.registry,
        )
        self.queue_time = Histogram(
            "ekiden_queue_time_seconds",
            "From a job's acceptance to its first claim by a worker; jobs that this process accepted.",
            buckets=QUEUE_BOUNDS_S,
            registry=self.registry,
        )
        self.refused = Counter(
            "ekiden_frames_refused", "Frames of clients answered with an error.", ["code"], registry=self.registry
        )
        ProcessCollector(registry=self.registry)


class JobTimes:
    """Measures one job that this process accepted, as its client sees it."""

    __slots__ = ("_begun_s", "_metrics", "awaits_text")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._begun_s = 0.0
        self.awaits_text = False
        """Frames are of interest to `on_frames`."""

    def begin(self) -> None:
        """The job was accepted just now."""
        self._begun_s = time.monotonic()
        self.awaits_text = True

    def on_frames(self, frames: Iterable[ServerFrame]) -> None:
        """Frames that the client gets."""
        if any(isinstance(frame, Delta) for frame in frames):
            self.awaits_text = False
            self._metrics.time_to_first_token.observe(time.monotonic() - self._begun_s)

    def on_end(self, end: EndedFrame) -> None:
        """The job ended; it may never have been claimed."""
        if self._begun_s and end.queue_ms is not None:
            self._metrics.queue_time.observe(end.queue_ms / 1000)


@dataclass(frozen=True, slots=True)
class Scrape:
    """All that is told at one moment; a `prometheus_client` Collector. `totals` is None while the store is away."""

    metrics: Metrics
    presence: ReplicaInfo
    frames_sent: int
    deltas_sent: int
    totals: Totals | None

    def encoded(self, accept: str) -> tuple[bytes, str]:
        """The body in the form that the Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type

    def collect(self) -> Iterable[Metric]:
        """Every metric with its samples."""
        for metric in self.metrics.registry.collect():
            # When a count began is of no use, and would be a metric of its own in the text format.
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
        here = self.presence
        yield GaugeMetricFamily("ekiden_connections", "Open WebSockets of clients.", here.connections)
        yield GaugeMetricFamily("ekiden_watched_jobs", "Jobs that clients of this process follow.", here.watched_jobs)
        yield GaugeMetricFamily("ekiden_dashboards", "Open dashboards.", here.dashboards)
        yield CounterMetricFamily("ekiden_frames_sent", "Frames sent to clients.", value=self.frames_sent)
        yield CounterMetricFamily("ekiden_deltas_sent", "Of these, frames with text.", value=self.deltas_sent)
        yield GaugeMetricFamily("ekiden_store_up", "1 when the job store answered this scrape.", int(bool(self.totals)))
        if self.totals:
            yield from _fleet(self.totals)


def _fleet(totals: Totals) -> Sequence[Metric]:
    waiting = GaugeMetricFamily("ekiden_requests_waiting", f"Jobs in the queue. {FLEET}", labels=["model"])
    for model, count in totals.waiting.items():
        waiting.add_metric([model], count)
    jobs = CounterMetricFamily("ekiden_jobs", f"Jobs that ended. {FLEET}", labels=["finish_reason"])
    for end, count in totals.jobs.items():
        jobs.add_metric([end], count)
    tokens = CounterMetricFamily(
        "ekiden_tokens", f"Tokens of prompts, those of them that were cached, and of answers. {FLEET}", labels=["kind"]
    )
    for kind, count in totals.tokens.items():
        tokens.add_metric([kind], count)
    moved = CounterMetricFamily(
        "ekiden_jobs_moved", f"Times that a job went on under another worker. {FLEET}", value=totals.moved
    )
    return waiting, jobs, moved, tokens
