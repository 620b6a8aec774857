"""Test that each request is a span at an OpenTelemetry collector, and that nothing is sent without one."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.serving.word_engine import CONFIG, UNANSWERED_WORD, post, ready
from toxicity_serving.http.middleware.tracing import ENDPOINT_VARIABLE, tracer_provider

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """Run a server that parses what OTLP exporters send, and yield its URL and the messages."""
    received: list[ExportTraceServiceRequest] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            received.append(
                ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()


def attributes(span: Span) -> dict[str, str | int | float]:
    return {
        item.key: getattr(item.value, kind) for item in span.attributes if (kind := item.value.WhichOneof("value"))
    }


def test_each_request_is_a_span_with_its_times_and_without_its_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as (url, received):
        monkeypatch.setenv(ENDPOINT_VARIABLE, url)
        with ready() as client:
            parent = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "mine"}
            client.post("/v1/classify", json={"texts": ["спасибо", "привет"]}, headers=parent)
            post(client, UNANSWERED_WORD)
    [resource] = {batch.resource_spans[0].resource.SerializeToString() for batch in received}
    assert b"toxicity-serving" in resource and b"ru-toxicity" in resource
    spans = [span for batch in received for scope in batch.resource_spans[0].scope_spans for span in scope.spans]
    scored, failed = [span for span in spans if span.name == "POST /v1/classify"]
    assert (scored.trace_id.hex(), scored.parent_span_id.hex()) == (TRACE, PARENT)
    found = attributes(scored)
    assert (found["toxicity.request_id"], found["toxicity.texts"]) == ("mine", 2)
    assert found["http.response.status_code"] == 200
    assert {"toxicity.tokenize_seconds", "toxicity.engine_seconds"} <= found.keys()
    assert attributes(failed)["http.response.status_code"] == 500
    assert (scored.status.code, failed.status.code) == (0, 2)
    assert "спасибо".encode() not in b"".join(batch.SerializeToString() for batch in received)


def test_nothing_is_traced_without_a_collector() -> None:
    assert tracer_provider({}, CONFIG.model) is None
    assert tracer_provider({ENDPOINT_VARIABLE: ""}, CONFIG.model) is None
