"""Count and time classify requests."""

from __future__ import annotations

import time
from collections.abc import Container

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toxicity_serving.http.middleware.classify_requests import ClientDisconnected, is_classify_request
from toxicity_serving.metrics import Metrics, outcome_of


class RequestMetricsMiddleware:
    """Record outcome, duration and number in flight of classify requests.

    It wraps the token check and the limits, so that the requests they refuse are counted too.
    """

    def __init__(self, app: ASGIApp, paths: Container[str], metrics: Metrics) -> None:
        self._app = app
        self._paths = paths
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_classify_request(scope, self._paths):
            await self._app(scope, receive, send)
            return
        request = _Request(self._metrics)

        async def send_observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
            elif not message.get("more_body", False):
                # before the last bytes, so that a client that has them finds its request in the metrics
                request.end(outcome_of(request.status))
            await send(message)

        try:
            await self._app(scope, receive, send_observed)
        except ClientDisconnected:
            request.end("cancelled")
            raise
        finally:
            request.end(outcome_of(request.status))


class _Request:
    """A request in flight, which is counted once, when it ends."""

    def __init__(self, metrics: Metrics) -> None:
        self.status: int | None = None
        self._metrics = metrics
        self._began = time.perf_counter()
        self._ended = False
        metrics.in_flight.inc()

    def end(self, outcome: str) -> None:
        if self._ended:
            return
        self._ended = True
        self._metrics.in_flight.dec()
        self._metrics.duration.observe(time.perf_counter() - self._began)
        self._metrics.requests.labels(outcome).inc()
