"""Refusals: why a request gets no scores, answered in the error format of the requested path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from toxicity_serving.http.record import REQUEST_ID_HEADER
from toxicity_serving.http.schemas import MAX_ERRORS, ErrorResponse, FieldError, shorten

CLOSE = {"Connection": "close"}
"""Announces that the connection ends with this response, so that the client's next request uses another one."""

RETRY = {"Retry-After": "1"}
"""Asks the client to retry in one second."""

JSON_INVALID = "json_invalid"
"""pydantic's error type for a body that is not JSON."""


@dataclass(frozen=True)
class FieldViolation:
    """One invalid field of a request; `kind` is pydantic's error type, `location` the path of keys within the body."""

    location: tuple[int | str, ...]
    kind: str
    message: str
    context: Mapping[str, Any]

    @property
    def field(self) -> str:
        """The path of the field, such as `texts.0`, or `body` for the whole body."""
        return ".".join(map(str, self.location)) or "body"


@dataclass(frozen=True)
class Refusal:
    """Why a request gets no scores. `violations` is empty unless the body was invalid."""

    status: int
    message: str
    violations: Sequence[FieldViolation] = field(default=())
    headers: Mapping[str, str] = field(default_factory=dict)


Envelope = Callable[[Refusal], JSONResponse]
"""Formats a refusal for the clients of a route."""


def native_envelope(refusal: Refusal) -> JSONResponse:
    """Format a refusal as ErrorResponse, the default of all routes."""
    errors = [FieldError(field=violation.field, message=violation.message) for violation in refusal.violations]
    return JSONResponse(ErrorResponse(message=refusal.message, errors=errors).model_dump(), refusal.status)


ErrorResponder = Callable[[str, Refusal], JSONResponse]
"""Makes the response to a refused request from its path and the refusal."""


def error_responder(envelopes: Mapping[str, Envelope]) -> ErrorResponder:
    """Return a function that uses the envelope of the path, or `native_envelope` for a path without one."""

    def respond(path: str, refusal: Refusal) -> JSONResponse:
        response = envelopes.get(path, native_envelope)(refusal)
        response.headers.update(refusal.headers)
        return response

    return respond


def add_error_handlers(app: FastAPI, respond: ErrorResponder) -> None:
    """Handle invalid bodies, HTTP errors and unexpected exceptions. The server logs the latter."""

    async def handle_invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return respond(request.scope["path"], _invalid_request(error))

    async def handle_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return respond(
            request.scope["path"], Refusal(error.status_code, str(error.detail), headers=error.headers or {})
        )

    async def handle_unexpected(request: Request, error: Exception) -> JSONResponse:
        # Starlette raises the error again after this response, and uvicorn then closes the connection.
        # It does not pass the middleware, which would add the id.
        headers = CLOSE | {REQUEST_ID_HEADER: request.scope["state"][REQUEST_ID_HEADER]}
        refusal = Refusal(500, f"internal error: {type(error).__name__}", headers=headers)
        return respond(request.scope["path"], refusal)

    app.add_exception_handler(RequestValidationError, handle_invalid)
    app.add_exception_handler(HTTPException, handle_http)
    app.add_exception_handler(Exception, handle_unexpected)


def _invalid_request(error: RequestValidationError) -> Refusal:
    """Return 422 with the fields by name. The input is left out: it can be long, and it can be private."""
    items = error.errors()
    violations = [
        FieldViolation(_location(item["loc"], item["type"]), item["type"], item["msg"], item.get("ctx", {}))
        for item in items[:MAX_ERRORS]
    ]
    messages = [f"{violation.field}: {violation.message}" for violation in violations]
    if len(items) > len(violations):
        messages.append(f"and {len(items) - len(violations)} more")
    return Refusal(422, "; ".join(messages), violations)


def _location(location: Sequence[int | str], kind: str) -> tuple[int | str, ...]:
    """Remove the leading "body" and the offset of a JSON syntax error, and shorten field names."""
    if kind == JSON_INVALID:
        return ()
    return tuple(shorten(part) if isinstance(part, str) else part for part in location[1:])
