"""Traces of real workers, from an application's span through message and batch to SQL, by in-memory exporters."""

import gzip
import json
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.shop import new_key, order
from tests.workers_fixtures import QUIET, Mill, clean_environment, end
from workers.child import Child, wait_until
from workers.queue_names import GENERAL_QUEUES

# The app, in processes whose spans stay in memory and are written down as a process ends.
TRACED = """
import os
from pathlib import Path

from celery.signals import worker_process_shutdown, worker_shutdown
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

memory = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(memory))
trace.set_tracer_provider(provider)

from workers.app import app


@worker_shutdown.connect(weak=False)
@worker_process_shutdown.connect(weak=False)
def write(**_):
    lines = "".join(span.to_json(indent=None) + chr(10) for span in memory.get_finished_spans())
    Path(f"spans-{os.getpid()}.jsonl").write_text(lines)
"""
ON = {"ORDERMILL_TRACES": "on", "ORDERMILL_LOG_FORMAT": "json"}
UNSAMPLED = f"00-{'ab' * 16}-{'cd' * 8}-00"
SECRET = "a-customers-own-words"
# Nothing of these is a traceparent, or all of it.
BAD_HEADERS: list[dict[str, Any]] = [
    {"traceparent": bad}
    for bad in (
        *("", "x", "00-0-0-00", "\x00\n", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "é" * 100, "0" * 100_000),
        *("ff-" + "a" * 32 + "-" + "b" * 16 + "-01", 5, 1.5, True, None, [], {}, [["x"]], {"a": {}}, ["00-x"], [None]),
    )
] + [
    {"tracestate": "=,=,;" * 50, "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-00"},
    {"baggage": "%ff=%zz;,=" * 1000},
    {"tracestate": ["a"], "baggage": {"b": []}},
]
Span = dict[str, Any]


class Story:
    """An application and two workers, all traced: what they were sent, and the spans of all once the workers end."""

    def __init__(self, mill: Mill) -> None:
        self.mill = mill
        self.memory = InMemorySpanExporter()
        self.spans: list[Span] = []
        self.logs: list[dict[str, Any]] = []
        self.many: list[dict[str, Any]] = []
        self.bad: list[dict[str, Any]] = []
        self.one = self.lone = self.unknown = self.slow = self.counted = self.submitted = self.unsampled = {}
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.memory))
        self.tracer = self.provider.get_tracer("a-shop")

    def checkout(self, request: dict[str, Any], task: str = "orders.place", **options: Any) -> Any:
        """Sends a request from under a span of the application, `checkout <key>`."""
        with self.tracer.start_as_current_span(f"checkout {request['key']}"):
            return self.mill.send(task, request, **options)

    def of_application(self, request: dict[str, Any]) -> trace.SpanContext:
        """The application's span."""
        name = f"checkout {request['key']}"
        return next(each.context for each in self.memory.get_finished_spans() if each.name == name)

    def in_trace_of(self, request: dict[str, Any]) -> dict[str, Span]:
        """What the workers did in the application's trace, by name."""
        trace_id = f"0x{trace.format_trace_id(self.of_application(request).trace_id)}"
        return {span["name"]: span for span in self.spans if span["context"]["trace_id"] == trace_id}


def begin(mill: Mill, queues: str, *options: str, app: str = "traced", **env: str) -> Child:
    node = f"{new_key()}@test"
    return mill.start(*("worker", "worker", "-Q", queues, "-n", node, *QUIET, *options), app=app, **(ON | env))


@pytest.fixture(scope="module")
def story(module_mill: Mill) -> Story:
    mill, (good, slow) = module_mill, (f"SKU-{new_key()}" for _ in range(2))
    for sku in (good, slow):
        mill.shop.stock(sku, "E1", 1000)
    (Path(mill.folder) / "traced.py").write_text(TRACED)
    told = Story(mill)
    CeleryInstrumentor().instrument(tracer_provider=told.provider)
    try:
        told.many = [order(None, (good, 1)) for _ in range(3)]
        waiting = [told.checkout(request) for request in told.many]
        workers = [
            begin(mill, "orders", "-P", "solo", ORDERMILL_LOCK_TIMEOUT_MS="100"),
            begin(mill, ",".join(GENERAL_QUEUES), "-c", "2", ORDERMILL_DRAIN_SECONDS="1"),
        ]
        for result in waiting:
            result.get(timeout=60)
        told.one = order(None, (good, 1))
        told.checkout(told.one).get(timeout=60)
        told.lone = order(None, (good, 1))
        told.checkout(told.lone, expires=600).get(timeout=60)
        told.unknown = order(None, (good, 1), customer=SECRET)
        told.checkout(told.unknown).get(timeout=60)
        told.slow = order(None, (slow, 1))
        with mill.locked_stock(slow):
            result = told.checkout(told.slow)
            assert wait_until(lambda: "55P03" in workers[0].log.read_text(), 30)
        result.get(timeout=60)
        told.counted = {"key": new_key(), "sku": good, "location": "E1", "quantity": 1, "reason": SECRET}
        told.checkout(told.counted, "inventory.adjust", queue="inventory").get(timeout=60)
    finally:
        CeleryInstrumentor().uninstrument()
    told.bad = [order(None, (good, 1)) for _ in BAD_HEADERS]
    for request, headers in zip(told.bad, BAD_HEADERS, strict=True):
        mill.send("orders.place", request, headers=headers)
    told.submitted = order(None, (good, 1))
    mill.shop.submit(told.submitted)
    mill.send("orders.drain", queue="maintenance")
    assert mill.all_decided([*told.bad, told.submitted])
    told.unsampled = order(None, (good, 1))
    mill.send("orders.place", told.unsampled, headers={"traceparent": UNSAMPLED}).get(timeout=60)
    for worker in workers:
        assert end(worker) == 0
        told.logs += [json.loads(line) for line in worker.log.read_text().splitlines() if line.startswith("{")]
    for file in Path(mill.folder).glob("spans-*.jsonl"):
        told.spans += [json.loads(line) for line in file.read_text().splitlines()]
    return told


def id_of(span: Span) -> str:
    return str(span["context"]["span_id"])


def linked(span: Span) -> set[str]:
    return {link["context"]["span_id"] for link in span["links"]}


def test_the_trace_of_one_order_goes_from_the_application_through_message_and_batch_to_sql(story: Story) -> None:
    spans = story.in_trace_of(story.one)
    message, batch, routine = (
        spans[name] for name in ("process orders.place", "process batch orders.place", "api.place_order")
    )
    published = next(
        each
        for each in story.memory.get_finished_spans()
        if each.parent and each.parent.span_id == story.of_application(story.one).span_id
    )

    assert published.name == "apply_async/orders.place"
    assert message["parent_id"] == f"0x{trace.format_span_id(published.context.span_id)}"
    assert batch["parent_id"] == id_of(message)
    assert routine["parent_id"] == id_of(batch)
    assert (message["kind"], batch["kind"], routine["kind"]) == ("SpanKind.CONSUMER",) * 2 + ("SpanKind.CLIENT",)
    assert routine["attributes"]["db.query.text"] == "SELECT * FROM api.place_order(%s)"
    outcome = story.mill.shop.outcome(story.one["key"]) or {}
    told = {name: message["attributes"][f"ordermill.{name}"] for name in ("key", "order_id", "status")}
    assert told == {name: outcome[name] for name in told}


def test_of_many_messages_in_one_transaction_each_is_linked_with_the_batch_both_ways(story: Story) -> None:
    messages = [story.in_trace_of(request)["process orders.place"] for request in story.many]
    batches = [span for span in story.spans if linked(span) & {id_of(message) for message in messages}]

    assert len(batches) == 1
    assert linked(batches[0]) == {id_of(message) for message in messages}
    assert all(linked(message) == {id_of(batches[0])} for message in messages)
    assert len({message["context"]["trace_id"] for message in messages}) == 3
    assert [span["name"] for span in story.spans if span["parent_id"] == id_of(batches[0])] == ["api.place_orders"]


def test_a_message_run_alone_has_its_span_in_a_solo_worker_and_in_a_forked_one(story: Story) -> None:
    for request, name, routine in (
        (story.lone, "process orders.place", "api.place_order"),
        (story.counted, "process inventory.adjust", "api.adjust_inventory"),
    ):
        spans = story.in_trace_of(request)
        assert set(spans) == {name, routine}
        assert spans[routine]["parent_id"] == id_of(spans[name])
        assert spans[name]["attributes"]["ordermill.key"] == request["key"]


def test_each_attempt_is_a_span_and_one_that_failed_has_its_sqlstate(story: Story) -> None:
    name = "process batch orders.place"
    trace_id = story.in_trace_of(story.slow)[name]["context"]["trace_id"]
    # More than one where the lock was held for so long that the message was put last.
    batches = {id_of(each) for each in story.spans if (each["name"], each["context"]["trace_id"]) == (name, trace_id)}
    attempts = [span for span in story.spans if span["parent_id"] in batches]

    states = [(span["status"]["status_code"], span["attributes"].get("error.type")) for span in attempts]
    assert len(states) > 1
    assert set(states[:-1]) == {("ERROR", "55P03")}
    assert states[-1] == ("UNSET", None)


def test_no_header_can_break_a_message_or_a_trace(story: Story) -> None:
    assert story.mill.orders_by_key(story.bad) == [1] * len(BAD_HEADERS)
    assert not [line for line in story.logs if line["level"] in {"error", "critical"} or "exception" in line]
    assert story.in_trace_of(story.one)


def test_what_its_sender_does_not_sample_is_not_traced(story: Story) -> None:
    assert story.mill.orders_by_key([story.unsampled]) == [1]
    assert not [span for span in story.spans if span["context"]["trace_id"] == f"0x{UNSAMPLED.split('-')[1]}"]


def test_no_span_has_a_customers_data(story: Story) -> None:
    assert (story.mill.shop.outcome(story.unknown["key"]) or {})["status"] == "rejected"
    assert story.in_trace_of(story.unknown)
    assert SECRET not in json.dumps(story.spans)


def test_what_polls_is_not_traced(story: Story) -> None:
    assert story.mill.orders_by_key([story.submitted]) == [1]
    assert "orders.drain" in {line.get("task") for line in story.logs}
    names = {span["name"] for span in story.spans}
    assert not names & {"api.claim_orders", "api.place_claim", "process orders.drain"}


def test_a_line_of_the_log_names_the_trace_of_its_message(story: Story) -> None:
    for request in (*story.many, story.lone):
        line = next(line for line in story.logs if line.get("key") == request["key"] and "status" in line)
        assert line["trace_id"] == trace.format_trace_id(story.of_application(request).trace_id)


class Collector(BaseHTTPRequestHandler):
    """What an OpenTelemetry collector is to an exporter."""

    received: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            names = [each.value.string_value for each in resource.resource.attributes if each.key == "service.name"]
            self.received += [f"{names[0]}: {span.name}" for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def test_spans_go_to_a_collector_and_one_that_is_away_stops_neither_orders_nor_the_end(mill: Mill, sku: str) -> None:
    general = ("inventory", "-c", "1")
    asked = {"sku": sku, "location": "E1", "quantity": 1, "reason": "counted"}
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        there = f"http://127.0.0.1:{server.server_address[1]}"
        workers = [
            begin(mill, "orders", "-P", "solo", app="workers.app", OTEL_EXPORTER_OTLP_ENDPOINT=there),
            begin(mill, *general, app="workers.app", OTEL_EXPORTER_OTLP_ENDPOINT=there, OTEL_SERVICE_NAME="counting"),
        ]
        assert mill.call("orders.place", order(None, (sku, 1)))["status"] == "placed"
        assert mill.call("inventory.adjust", asked | {"key": new_key()}, queue="inventory")["status"] == "done"
        assert [end(worker) for worker in workers] == [0, 0]
        server.shutdown()
    assert {"ordermill: api.place_order", "counting: process inventory.adjust"} <= set(Collector.received)

    alone = begin(mill, *general, app="workers.app", OTEL_EXPORTER_OTLP_ENDPOINT=there, OTEL_EXPORTER_OTLP_TIMEOUT="60")
    assert mill.call("inventory.adjust", asked | {"key": new_key()}, queue="inventory")["status"] == "done"
    started = time.monotonic()
    assert end(alone) == 0
    assert time.monotonic() - started < 20  # and not for the 30 s that OpenTelemetry would try


def test_without_being_asked_for_nothing_of_traces_is_imported() -> None:
    # redis-py imports the metrics of OpenTelemetry wherever they are installed.
    script = (
        "import sys, workers.app; assert not {'opentelemetry.sdk.trace', 'opentelemetry.exporter'} & {*sys.modules}"
    )

    subprocess.run([sys.executable, "-c", script], check=True, env=clean_environment())


def test_without_the_extra_one_line_says_what_to_install(mill: Mill) -> None:
    (Path(mill.folder) / "bare.py").write_text(
        "import sys\nsys.modules['opentelemetry.sdk'] = None\nfrom workers.app import app\n"
    )
    worker = begin(mill, "orders", "-P", "solo", app="bare")

    assert wait_until(lambda: not worker.alive(), 60)
    lines = [line for line in worker.log.read_text().splitlines() if line]
    assert lines == [
        "ordermill: ORDERMILL_TRACES needs the extra `traces`; unset it, or install the wheel with it: "
        "pip install '.[traces]' in a checkout, "
        f"pip install './ordermill-{version('ordermill')}-py3-none-any.whl[traces]' beside a wheel"
    ]
