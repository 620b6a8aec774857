"""Refusals: what is wrong with a request, told in the error shape of the route that it was sent to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from toxicity_serving.schemas import MAX_ERRORS, ErrorResponse, FieldError, shown

CLOSE = {"Connection": "close"}
"""Tells a client that the connection ends with this answer, so that its next request takes another."""

JSON_INVALID = "json_invalid"
"""pydantic's name of the error of a body that is no JSON."""


@dataclass(frozen=True)
class Fault:
    """One wrong part of a request; `kind` is pydantic's name of the error, `location` begins inside the body."""

    location: tuple[int | str, ...]
    kind: str
    message: str
    context: Mapping[str, Any]

    @property
    def field(self) -> str:
        """The wrong part as `texts.0`; the whole is `body`."""
        return ".".join(map(str, self.location)) or "body"


@dataclass(frozen=True)
class Refusal:
    """Why a request gets no scores. `faults` is empty when the body was not the reason."""

    status: int
    message: str
    faults: Sequence[Fault] = field(default=())
    headers: Mapping[str, str] = field(default_factory=dict)


Envelope = Callable[[Refusal], JSONResponse]
"""Puts a refusal into the shape that the clients of a route know."""


def own_envelope(refusal: Refusal) -> JSONResponse:
    """The shape of every route that has no other: ErrorResponse."""
    errors = [FieldError(field=fault.field, message=fault.message) for fault in refusal.faults]
    return JSONResponse(ErrorResponse(message=refusal.message, errors=errors).model_dump(), refusal.status)


Answer = Callable[[str, Refusal], JSONResponse]
"""The refusal of a request to a path."""


def answer_by(envelopes: Mapping[str, Envelope]) -> Answer:
    """Answers in the envelope of the path, else in our own."""

    def answer(path: str, refusal: Refusal) -> JSONResponse:
        response = envelopes.get(path, own_envelope)(refusal)
        response.headers.update(refusal.headers)
        return response

    return answer


def add_error_answers(app: FastAPI, answer: Answer) -> None:
    """Answers wrong bodies, HTTP errors, and errors nobody foresaw, which the server then logs."""

    async def answer_invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return answer(request.scope["path"], _refusal(error))

    async def answer_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return answer(
            request.scope["path"], Refusal(error.status_code, str(error.detail), headers=error.headers or {})
        )

    async def answer_unforeseen(request: Request, error: Exception) -> JSONResponse:
        # Starlette raises the error again behind this answer, and uvicorn then ends the connection
        refusal = Refusal(500, f"internal error: {type(error).__name__}", headers=CLOSE)
        return answer(request.scope["path"], refusal)

    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(Exception, answer_unforeseen)


def _refusal(error: RequestValidationError) -> Refusal:
    """422 with the fields by name and without the input, which may be long and is not ours to repeat."""
    items = error.errors()
    faults = [
        Fault(_location(item["loc"], item["type"]), item["type"], item["msg"], item.get("ctx", {}))
        for item in items[:MAX_ERRORS]
    ]
    told = [f"{fault.field}: {fault.message}" for fault in faults]
    if len(items) > len(faults):
        told.append(f"and {len(items) - len(faults)} more")
    return Refusal(422, "; ".join(told), faults)


def _location(location: Sequence[int | str], kind: str) -> tuple[int | str, ...]:
    """Without the leading "body", without the offset at which JSON ends to be JSON, and in short names."""
    if kind == JSON_INVALID:
        return ()
    return tuple(shown(part) if isinstance(part, str) else part for part in location[1:])
