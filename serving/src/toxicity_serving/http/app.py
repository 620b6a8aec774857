"""Build the FastAPI application: routes, error handlers, middleware and the lifecycle task."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from toxicity_api.stage_config import ServingConfig
from toxicity_serving.engine.protocol import Engine
from toxicity_serving.http import page, probes, routes
from toxicity_serving.http.compat.openai import routes as openai_routes
from toxicity_serving.http.compat.perspective import discovery
from toxicity_serving.http.compat.perspective import routes as perspective_routes
from toxicity_serving.http.errors import (
    Envelope,
    ErrorResponder,
    add_error_handlers,
    error_responder,
    native_envelope,
)
from toxicity_serving.http.middleware.authentication import TokenMiddleware
from toxicity_serving.http.middleware.body_limit import BodyLimitMiddleware, MemoryBudget
from toxicity_serving.http.middleware.close_connections import CloseConnectionsMiddleware
from toxicity_serving.http.middleware.deadline import DeadlineMiddleware
from toxicity_serving.http.middleware.head_requests import HeadMiddleware
from toxicity_serving.http.middleware.relative_redirects import RelativeRedirectMiddleware
from toxicity_serving.http.middleware.request_log import RequestLogMiddleware
from toxicity_serving.http.middleware.request_metrics import RequestMetricsMiddleware
from toxicity_serving.http.middleware.tracing import TracingMiddleware, tracer_provider
from toxicity_serving.http.record import REQUEST_ID_HEADER
from toxicity_serving.http.schemas import MAX_CHARACTERS, MAX_TEXTS
from toxicity_serving.http.scoring import TRUNCATED_HEADER, WINDOWS_HEADER
from toxicity_serving.lifecycle import Service, StallLimits, State, run_lifecycle

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 4 * MAX_TEXTS * MAX_CHARACTERS
"""Twice the size of a full batch of the longest Cyrillic texts in UTF-8."""

MAX_COMMENT_BODY_BYTES = 48 * MAX_CHARACTERS
"""Four times the longest text with each character escaped as two `\\u` of 6 bytes, which leaves room for a context."""

MAX_BUFFERED_BYTES = 32 * MAX_BODY_BYTES
"""Memory for the bodies of all requests together. Admission counts texts, and only once a body is parsed. As many
of the longest texts as the default queue accepts, escaped, use half of this."""

ENVELOPES: dict[str, Envelope] = {
    routes.CLASSIFY_PATH: native_envelope,
    openai_routes.MODERATIONS_PATH: openai_routes.openai_envelope,
    discovery.ANALYZE_PATH: perspective_routes.google_envelope,
    discovery.SUGGEST_PATH: perspective_routes.google_envelope,
}
"""The routes with a body, with the format of their errors."""

BODY_LIMITS = {
    routes.CLASSIFY_PATH: MAX_BODY_BYTES,
    openai_routes.MODERATIONS_PATH: MAX_BODY_BYTES,
    discovery.ANALYZE_PATH: MAX_COMMENT_BODY_BYTES,
    discovery.SUGGEST_PATH: MAX_COMMENT_BODY_BYTES,
}
"""The same routes with the maximum size of a body in bytes."""

CLASSIFYING = frozenset(ENVELOPES) - {discovery.SUGGEST_PATH}
"""The routes whose requests are counted and timed."""

KEY_PATHS = frozenset({discovery.ANALYZE_PATH, discovery.SUGGEST_PATH})
"""The routes that accept the token as Google's clients send it."""

QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""The paths of the cluster, whose successful requests are not logged."""

EXPOSED_HEADERS = (
    REQUEST_ID_HEADER,
    TRUNCATED_HEADER,
    WINDOWS_HEADER,
    perspective_routes.UNSCORED_HEADER,
    "retry-after",
)
"""The response headers that a page of another origin may read."""


def create_app(
    config: ServingConfig,
    engine: Engine,
    on_failure: Callable[[str], None] = lambda reason: None,
    check_seconds: float = 1.0,
    token: str | None = None,
    stall: StallLimits | None = None,
) -> FastAPI:
    """Build the application. It calls `on_failure(reason)` once when the service has failed for good.

    With a `token`, paths below /v1 accept only requests that carry it. The engine is checked every `check_seconds`,
    and may owe an answer for as long as `stall` says.
    """
    service = Service(config)
    tracing = tracer_provider(os.environ, config.model)

    def on_lifecycle_end(task: asyncio.Task[None]) -> None:
        """An unexpected error must end the process as well; otherwise the service would stay in `starting`."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("lifecycle_crashed", exc_info=error)
            service.transition(State.FAILED, repr(error))
            on_failure(repr(error))

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(
            run_lifecycle(service, engine, on_failure, check_seconds, stall or StallLimits())
        )
        task.add_done_callback(on_lifecycle_end)
        yield
        task.cancel()
        await asyncio.wait([task])
        await engine.stop()
        if tracing is not None:
            await asyncio.to_thread(tracing.shutdown)

    # offline: FastAPI's page loads its scripts from a CDN, which pods often cannot reach
    app = FastAPIOffline(
        title="Toxicity classifier", description=f"Serves {config.model}.", lifespan=lifespan, redoc_url=None
    )
    app.state.service = service
    _add_routes(app, documents_token=token is not None)
    respond = error_responder(ENVELOPES)
    add_error_handlers(app, respond)
    _add_middleware(app, service, respond, token, tracing)
    return app


def _add_routes(app: FastAPI, *, documents_token: bool) -> None:
    # Only for OpenAPI: TokenMiddleware checks the token, before the body is parsed.
    bearer = [Security(HTTPBearer(auto_error=False, description="the token of serving.apiTokenSecretName"))]
    protected = (
        routes.json_router,
        openai_routes.router,
        perspective_routes.router,
        routes.router,
        page.data_router,
    )
    for router in protected:
        app.include_router(router, dependencies=bearer if documents_token else None)
    for router in (probes.router, page.router, discovery.router):
        app.include_router(router)


def _add_middleware(
    app: FastAPI, service: Service, respond: ErrorResponder, token: str | None, tracing: Any | None
) -> None:
    """Add the middleware, the innermost first."""
    budget, http = MemoryBudget(MAX_BUFFERED_BYTES), service.config.http
    app.add_middleware(RelativeRedirectMiddleware)
    app.add_middleware(BodyLimitMiddleware, limits=BODY_LIMITS, budget=budget, respond=respond)
    app.add_middleware(DeadlineMiddleware, paths=ENVELOPES, respond=respond)
    if token is not None:
        app.add_middleware(TokenMiddleware, token=token, key_paths=KEY_PATHS, respond=respond)
    app.add_middleware(RequestMetricsMiddleware, paths=CLASSIFYING, metrics=service.metrics)
    if http.cors_origins:
        # any header: OpenAI's client sends several of its own. Without credentials, a page sends only what it has.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=http.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(HeadMiddleware)
    app.add_middleware(CloseConnectionsMiddleware, service=service)
    if tracing is not None:
        app.add_middleware(TracingMiddleware, provider=tracing)
    app.add_middleware(RequestLogMiddleware, quiet_paths=QUIET_PATHS, log=http.access_log)
