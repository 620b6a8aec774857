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
        status: int | None = None

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started_at, disconnected = time.perf_counter(), False
        try:
            with self._metrics.in_flight.track_inprogress():
                await self._app(scope, receive, send_observed)
        except ClientDisconnected:
            disconnected = True
            raise
        finally:
            self._metrics.duration.observe(time.perf_counter() - started_at)
            self._metrics.requests.labels("cancelled" if disconnected else outcome_of(status)).inc()
