"""Builds the FastAPI application: routes, error answers, what surrounds them, and the lifecycle task."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline

from toxicity_api.stage_config import ServingConfig
from toxicity_serving import openai_routes, page_routes, perspective_routes, probe_routes, routes
from toxicity_serving.engine import Engine
from toxicity_serving.errors import Envelope, add_error_answers, answer_by, own_envelope
from toxicity_serving.lifecycle import Service, State, run_lifecycle
from toxicity_serving.middleware import Bounded, Budget, ClosingConnections, Counting, Token
from toxicity_serving.schemas import MAX_CHARACTERS, MAX_TEXTS

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 4 * MAX_TEXTS * MAX_CHARACTERS
"""A full batch of the longest Cyrillic texts in UTF-8 fits twice."""

MAX_COMMENT_BODY_BYTES = 48 * MAX_CHARACTERS
"""The longest text with every character escaped as two `\\u`, of 6 bytes each, fits four times: room for a context."""

MAX_READING_BYTES = 32 * MAX_BODY_BYTES
"""What the bodies of all requests that are read or answered may hold together. Admission counts texts, and only once
they are read. The longest texts, as many as the default queue takes, escaped, come to half of this."""

ENVELOPES: dict[str, Envelope] = {
    routes.CLASSIFY_PATH: own_envelope,
    openai_routes.MODERATIONS_PATH: openai_routes.openai_envelope,
    perspective_routes.ANALYZE_PATH: perspective_routes.google_envelope,
}
"""The routes that classify, with the shape of their errors."""

BODY_LIMITS = {
    routes.CLASSIFY_PATH: MAX_BODY_BYTES,
    openai_routes.MODERATIONS_PATH: MAX_BODY_BYTES,
    perspective_routes.ANALYZE_PATH: MAX_COMMENT_BODY_BYTES,
}
"""The same routes with the most bytes of a body."""


def create_app(
    config: ServingConfig,
    engine: Engine,
    on_failure: Callable[[str], None] = lambda reason: None,
    check_seconds: float = 1.0,
    token: str | None = None,
) -> FastAPI:
    """The application. `on_failure(reason)` is called once when the service can never be ready (again).

    With a `token`, only requests that bear it reach what is below /v1.
    """
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

    # offline: FastAPI's own page takes its script from a CDN, which pods seldom reach
    app = FastAPIOffline(
        title="Toxicity classifier", description=f"Serves {config.model}.", lifespan=lifespan, redoc_url=None
    )
    app.state.service = service
    _add_routes(app, documents_token=token is not None)
    answer = answer_by(ENVELOPES)
    add_error_answers(app, answer)
    # the last one added is the outermost
    app.add_middleware(Bounded, limits=BODY_LIMITS, budget=Budget(MAX_READING_BYTES), answer=answer)
    if token is not None:
        app.add_middleware(Token, token=token, key_paths={perspective_routes.ANALYZE_PATH}, answer=answer)
    app.add_middleware(Counting, paths=ENVELOPES, metrics=service.metrics)
    app.add_middleware(ClosingConnections, service=service)
    return app


def _add_routes(app: FastAPI, *, documents_token: bool) -> None:
    # Token refuses, before anything is parsed; this only tells OpenAPI of it
    bearer = [Security(HTTPBearer(auto_error=False, description="the token of serving.apiTokenSecretName"))]
    for router in (routes.router, openai_routes.router, perspective_routes.router, page_routes.data_router):
        app.include_router(router, dependencies=bearer if documents_token else None)
    app.include_router(probe_routes.router)
    app.include_router(page_routes.router)
