"""Builds the FastAPI application: routes, error answers, counting, and the lifecycle task."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toxicity_api.stage_config import ServingConfig
from toxicity_serving import openai_routes, perspective_routes, routes
from toxicity_serving.engine import Engine
from toxicity_serving.errors import Envelope, Refusal, add_error_answers, own_envelope
from toxicity_serving.lifecycle import Service, State, run_lifecycle
from toxicity_serving.metrics import Metrics, outcome_of
from toxicity_serving.schemas import MAX_CHARACTERS, MAX_TEXTS

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 4 * MAX_TEXTS * MAX_CHARACTERS
"""A full batch of the longest Cyrillic texts in UTF-8 fits twice."""

ENVELOPES: dict[str, Envelope] = {
    routes.CLASSIFY_PATH: own_envelope,
    openai_routes.MODERATIONS_PATH: openai_routes.openai_envelope,
    perspective_routes.ANALYZE_PATH: perspective_routes.google_envelope,
}
"""The routes that classify, with the shape of their errors."""


def create_app(
    config: ServingConfig,
    engine: Engine,
    on_failure: Callable[[str], None] = lambda reason: None,
    check_seconds: float = 1.0,
) -> FastAPI:
    """The application. `on_failure(reason)` is called once when the service can never be ready (again)."""
    service = Service(config)

    def ended(task: asyncio.Task[None]) -> None:
        """An error nobody foresaw must end the process too, not leave it starting for ever."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("lifecycle_crashed", exc_info=error)
            service.move(State.FAILED, repr(error))
            on_failure(repr(error))

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(run_lifecycle(service, engine, on_failure, check_seconds))
        task.add_done_callback(ended)
        yield
        task.cancel()
        await asyncio.wait([task])
        await engine.stop()

    app = FastAPI(title="Toxicity classifier", description=f"Serves {config.model}.", lifespan=lifespan)
    app.state.service = service
    for router in (routes.router, openai_routes.router, perspective_routes.router):
        app.include_router(router)
    add_error_answers(app, ENVELOPES)
    app.add_middleware(ClassifyMiddleware, metrics=service.metrics)
    return app


class ClassifyMiddleware:
    """Counts and times classifying requests from outside, so that refused ones count too; refuses huge bodies."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (scope["type"], scope.get("method")) != ("http", "POST") or scope["path"] not in ENVELOPES:
            await self._app(scope, receive, send)
            return
        status: int | None = None

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began = time.perf_counter()
        try:
            with self._metrics.in_flight.track_inprogress():
                app = _too_large if _content_length(scope) > MAX_BODY_BYTES else self._app
                await app(scope, receive, watch)
        finally:
            self._metrics.duration.observe(time.perf_counter() - began)
            self._metrics.requests.labels(outcome_of(status)).inc()


def _content_length(scope: Scope) -> int:
    value = dict(scope["headers"]).get(b"content-length", b"0")
    return int(value) if value.isdigit() else 0


async def _too_large(scope: Scope, receive: Receive, send: Send) -> None:
    refusal = Refusal(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    await ENVELOPES[scope["path"]](refusal)(scope, receive, send)
