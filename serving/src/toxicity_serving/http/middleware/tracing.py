"""Send a span per request to an OpenTelemetry collector, if the environment names one.

vLLM brings the packages. They are imported only when OTEL_EXPORTER_OTLP_ENDPOINT is set, and may be missing otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toxicity_serving.http.record import RequestRecord, current_record

logger = logging.getLogger(__name__)

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
SERVICE_NAME = "toxicity-serving"


def tracer_provider(environment: Mapping[str, str], model: str) -> Any | None:
    """Return the provider that exports spans over OTLP/HTTP, or None without a collector.

    OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER and the other variables of the SDK apply. Raises
    ImportError when the packages are missing.
    """
    if not environment.get(ENDPOINT_VARIABLE):
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {"service.name": environment.get("OTEL_SERVICE_NAME", SERVICE_NAME), "toxicity.model": model}
    provider = TracerProvider(resource=Resource.create(named))
    # it exports in a thread of its own, and drops spans when the collector does not keep up
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    logger.info("tracing_enabled endpoint=%s", environment[ENDPOINT_VARIABLE])
    return provider


class TracingMiddleware:
    """Record each request as a span, as a child of the caller's span if the request has a `traceparent`."""

    def __init__(self, app: ASGIApp, provider: Any) -> None:
        self._app = app
        self._tracer = provider.get_tracer(SERVICE_NAME)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, StatusCode

        context = extract(dict(Headers(scope=scope)))
        name = f"{scope['method']} {scope['path']}"
        with self._tracer.start_as_current_span(name, context=context, kind=SpanKind.SERVER) as span:

            async def send_observed(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            span.set_attributes({"http.request.method": scope["method"], "url.path": scope["path"]})
            try:
                await self._app(scope, receive, send_observed)
            finally:
                record = current_record.get()
                assert record is not None, "RequestLogMiddleware wraps this one"
                span.set_attributes(_attributes(record))


def _attributes(record: RequestRecord) -> dict[str, str | int | float]:
    found = {
        "toxicity.request_id": record.request_id,
        "toxicity.texts": record.texts,
        "toxicity.windows": record.windows,
        "toxicity.tokens": record.tokens,
        "toxicity.tokenize_seconds": record.tokenize_seconds,
        "toxicity.queue_seconds": record.queue_seconds,
        "toxicity.engine_seconds": record.engine_seconds,
    }
    return {name: value for name, value in found.items() if value is not None}
