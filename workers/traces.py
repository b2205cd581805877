"""OpenTelemetry traces, with ORDERMILL_TRACES=on and the extra `traces`; nothing is imported, and nothing done, else.

A message that brings the trace of its sender has a span in it. Many messages are placed by one transaction: its span is
a child of the first that is traced, and linked with all of them, both ways. Each routine that is called under a span
has its own. What polls has none. No span holds a parameter, a payload or an error's text: those are customers'.
"""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Any

from workers.errors import DatabaseError
from workers.settings import get_settings

PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
SYSTEM = "celery"
FLUSH_SECONDS = 3.0  # chosen, not measured: a collector that is away must not hold up a warm stop
# The tracer of this process, once it traces, and the provider where it is ours to end.
_tracer: Any = None
_provider: Any = None


def installed() -> bool:
    """Whether the extra is there."""
    try:
        return all(importlib.util.find_spec(package) for package in PACKAGES)
    except ModuleNotFoundError:
        return False


def begin_tracing() -> None:
    """Traces from here on, if that is asked for: after a fork, because the exporter has a thread.

    A tracer provider that is there already is used as it is; else one that exports by OTLP over HTTP is made, which
    OpenTelemetry's own variables configure.
    """
    global _tracer, _provider  # noqa: PLW0603  # one a process
    if not get_settings().traces:
        return
    from opentelemetry import trace  # noqa: PLC0415  # an extra

    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        # OTEL_SERVICE_NAME, where there is one, has the last word.
        named = Resource.create({"service.name": "ordermill"}).merge(OTELResourceDetector().detect())
        _provider = TracerProvider(resource=named, shutdown_on_exit=False)
        _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(_provider)
    _tracer = trace.get_tracer("ordermill")


def end_tracing() -> None:
    """Sends what is left, for some seconds."""
    global _tracer, _provider
    provider, _tracer, _provider = _provider, None, None
    if provider is not None:
        last = Thread(target=provider.shutdown, daemon=True)
        last.start()
        last.join(FLUSH_SECONDS)


def current_ids() -> dict[str, str]:
    """The ids of the current trace and span, for a line of the log; none where there is none."""
    if _tracer is None:
        return {}
    from opentelemetry import trace  # noqa: PLC0415

    return ids_of(trace.get_current_span())


def ids_of(span: Any) -> dict[str, str]:
    """The ids of a span, for a line of the log; none where there is no span."""
    if span is None or not (context := span.get_span_context()).is_valid:
        return {}
    from opentelemetry import trace  # noqa: PLC0415

    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}


@contextmanager
def message_span(task: str, task_id: str, headers: Mapping[str, Any]) -> Iterator[Any]:
    """A span for a message that is run alone, in the trace of its sender or else in one of its own; gives it, or None.

    An error that leaves the block marks it.
    """
    if _tracer is None:
        yield None
        return
    with _made_current(_start_message(task, task_id, _extracted(headers))) as span:
        yield span


@contextmanager
def batch_span(task: str, messages: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[list[Any]]:
    """Spans for messages, each an id and headers, that are run by one transaction, and the span of that.

    Gives the messages' spans, None for one without a trace: say by `tell` what became of each.
    """
    if _tracer is None:
        yield [None] * len(messages)
        return
    from opentelemetry import trace  # noqa: PLC0415

    contexts = [_extracted(headers) for _, headers in messages]
    spans = [
        _start_message(task, task_id, context) if context is not None else None
        for (task_id, _), context in zip(messages, contexts, strict=True)
    ]
    there = [span for span in spans if span is not None]
    traced = [span for span in there if span.is_recording()]
    # Under one that is not sampled the batch is not either: its sender has decided so.
    first = next(iter(traced or there), None)
    batch = _tracer.start_span(
        f"process batch {task}",
        context=trace.set_span_in_context(first) if first is not None else None,
        kind=trace.SpanKind.CONSUMER,
        links=[trace.Link(span.get_span_context()) for span in traced],
        attributes=_attributes(task) | {"messaging.batch.message_count": len(messages)},
    )
    for span in traced:
        span.add_link(batch.get_span_context())
    try:
        with _made_current(batch):
            yield spans
    finally:
        for span in there:
            span.end()


@contextmanager
def routine_span(routine: str, statement: str) -> Iterator[None]:
    """A span for a call of a routine, where what calls it has one."""
    if _tracer is None:
        yield
        return
    from opentelemetry import trace  # noqa: PLC0415

    if not trace.get_current_span().is_recording():
        yield
        return
    attributes = {"db.system.name": "postgresql", "db.stored_procedure.name": routine, "db.query.text": statement}
    with _made_current(_tracer.start_span(routine, kind=trace.SpanKind.CLIENT, attributes=attributes)):
        yield


def tell(span: Any, outcome: Any) -> None:
    """Says in a span what was decided: the key, the order and the code."""
    if span is not None and isinstance(outcome, dict):
        for name in ("key", "order_id", "status", "code"):
            if outcome.get(name) is not None:
                span.set_attribute(f"ordermill.{name}", str(outcome[name]))


def _start_message(task: str, task_id: str, context: Any) -> Any:
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    attributes = _attributes(task) | {"messaging.message.id": str(task_id)}
    return _tracer.start_span(f"process {task}", context=context, kind=SpanKind.CONSUMER, attributes=attributes)


def _attributes(task: str) -> dict[str, Any]:
    return {"messaging.system": SYSTEM, "messaging.operation.type": "process", "celery.task_name": task}


def _extracted(headers: Mapping[str, Any]) -> Any:
    """The context that a message brings, by whichever propagator OTEL_PROPAGATORS names; None where it brings none.

    Headers are anybody's: whatever is in them, the message is run.
    """
    from opentelemetry import propagate, trace  # noqa: PLC0415

    texts = {name: value for name, value in headers.items() if isinstance(name, str) and isinstance(value, str)}
    try:
        context = propagate.extract(texts)
    except Exception:
        return None
    return context if trace.get_current_span(context).get_span_context().is_valid else None


@contextmanager
def _made_current(span: Any) -> Iterator[Any]:
    from opentelemetry.trace import Status, StatusCode, use_span  # noqa: PLC0415

    with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except Exception as error:
            state = error.sqlstate if isinstance(error, DatabaseError) else None
            span.set_status(Status(StatusCode.ERROR))
            span.set_attribute("error.type", state or type(error).__name__)
            raise
