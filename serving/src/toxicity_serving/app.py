"""Builds the FastAPI application: routes, error answers, counting, and the lifecycle task."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toxicity_api.stage_config import ServingConfig
from toxicity_serving.engine import Engine
from toxicity_serving.lifecycle import Service, State, run_lifecycle
from toxicity_serving.metrics import Metrics, outcome_of
from toxicity_serving.routes import CLASSIFY_PATH, router
from toxicity_serving.schemas import MAX_CHARACTERS, MAX_TEXTS, ErrorResponse, FieldError

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 4 * MAX_TEXTS * MAX_CHARACTERS
"""A full batch of the longest Cyrillic texts in UTF-8 fits twice."""


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
    app.include_router(router)
    app.add_exception_handler(RequestValidationError, _validation_answer)
    app.add_exception_handler(HTTPException, _http_answer)
    app.add_middleware(ClassifyMiddleware, metrics=service.metrics)
    return app


def _field(location: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in location if part != "body") or "body"


async def _validation_answer(_: Request, error: Exception) -> JSONResponse:
    """422 with the fields by name and without the input, which may be long and is not ours to repeat."""
    assert isinstance(error, RequestValidationError)
    errors = [FieldError(field=_field(item["loc"]), message=item["msg"]) for item in error.errors()]
    message = "; ".join(f"{item.field}: {item.message}" for item in errors)
    return JSONResponse(ErrorResponse(message=message, errors=errors).model_dump(), 422)


async def _http_answer(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse(ErrorResponse(message=str(error.detail)).model_dump(), error.status_code, error.headers)


class ClassifyMiddleware:
    """Counts and times POST /v1/classify from outside, so that refused requests count too; refuses huge bodies."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (scope["type"], scope.get("method"), scope.get("path")) != ("http", "POST", CLASSIFY_PATH):
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
    body = ErrorResponse(message=f"the body is larger than {MAX_BODY_BYTES} bytes").model_dump()
    await JSONResponse(body, 413)(scope, receive, send)
