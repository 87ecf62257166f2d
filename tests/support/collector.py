"""A collector of traces: takes spans as OpenTelemetry's exporters send them over HTTP."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


@dataclass(frozen=True, slots=True)
class SeenSpan:
    """One span, as it came."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    begin_ns: int
    end_ns: int
    error: str | None
    attributes: dict[str, str | int | float]


@dataclass
class Collector:
    """Where to send spans, and those that came."""

    url: str
    spans: list[SeenSpan] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process export, without waiting long for more to export at once."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def named(self, name: str, job: str | None = None) -> list[SeenSpan]:
        """Spans of a name, of a job if one is given, in the order of their beginnings."""
        found = [one for one in self.spans if one.name == name and job in (None, one.attributes.get("ekiden.job"))]
        return sorted(found, key=lambda one: one.begin_ns)

    def children(self, parent: SeenSpan) -> list[SeenSpan]:
        """The spans within one, in the order of their beginnings."""
        return sorted((one for one in self.spans if one.parent == parent.id), key=lambda one: one.begin_ns)

    def take(self, body: bytes) -> None:
        """Spans that a process exported."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = {one.key: _value(one.value) for one in resource.resource.attributes}["service.name"]
            for scope in resource.scope_spans:
                for span in scope.spans:
                    seen = SeenSpan(
                        service=str(service),
                        name=span.name,
                        trace=span.trace_id.hex(),
                        id=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        begin_ns=span.start_time_unix_nano,
                        end_ns=span.end_time_unix_nano,
                        error=span.status.message if span.status.code == 2 else None,
                        attributes={one.key: _value(one.value) for one in span.attributes},
                    )
                    self.spans.append(seen)


def _value(value: AnyValue) -> str | int | float:
    kind = value.WhichOneof("value")
    found: str | int | float = getattr(value, kind) if kind else ""
    return found


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector for the length of a `with` block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            zipped = self.headers.get("Content-Encoding") == "gzip"
            collector.take(gzip.decompress(body) if zipped else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
