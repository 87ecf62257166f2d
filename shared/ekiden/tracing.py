"""OpenTelemetry traces, from a client's frame to the engine's steps; recorded where an exporter's address is set.

The context of a job travels in its record, as W3C `traceparent`. Not imported by the client.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ekiden.settings import SettingsError

FLUSH_S = 2.0
PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_HEADER = "traceparent"
_propagator = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("ekiden")  # one that stands for whatever `tracing` sets up


def check_tracing() -> None:
    """Raise SettingsError when traces are to be exported, and the packages for it are missing."""
    if _wanted() and (missing := next((name for name in PACKAGES if not _installed(name)), None)):
        raise SettingsError(f"Traces need the package {missing}: pip install 'ekiden[otel]'.")


@contextmanager
def tracing(service: str) -> Iterator[None]:
    """Export this process's spans for the length of a `with` block, if the environment says where to.

    OpenTelemetry's own variables hold. What a collector does not take in FLUSH_S at the end is lost.
    """
    if not _wanted():
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME") or service})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        # In a thread: a collector that is away would hold the process up for its whole time-out.
        flushing = threading.Thread(target=provider.shutdown, daemon=True)
        flushing.start()
        flushing.join(FLUSH_S)


def _wanted() -> bool:
    return any(os.environ.get(name) for name in ENDPOINTS)


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of a package that it is in
        return False


def begin(name: str, parent: Context | None, **attributes: str | int) -> Span:
    """A span that begins now; whoever begins it ends it. Any thread."""
    return _tracer.start_span(name, parent or Context(), attributes={f"ekiden.{k}": v for k, v in attributes.items()})


def within(span: Span) -> Context:
    """The context of a span's children."""
    return trace.set_span_in_context(span, Context())


def failed(span: Span, code: str) -> None:
    """Mark what a span stands for as failed."""
    span.set_status(Status(StatusCode.ERROR, code))


def to_header(span: Span) -> str:
    """The `traceparent` of a span's children; empty where nothing is traced."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, within(span))
    return carrier.get(_HEADER, "")


def from_header(traceparent: str | None) -> Context | None:
    """The context that a `traceparent` names; None for one that is none."""
    return _propagator.extract({_HEADER: traceparent}, Context()) if traceparent else None
