"""POST /v1alpha1/comments:analyze: the Perspective API's shape around the same scores as /v1/classify."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from toxicity_serving.errors import JSON_INVALID, Fault, Refusal
from toxicity_serving.perspective_schemas import (
    ATTRIBUTE,
    COMMENT_EMPTY,
    COMMENT_TOO_LONG,
    EMPTY_MESSAGE,
    ERROR_TYPES,
    INVALID_REQUEST,
    LANGUAGE_NOT_SUPPORTED,
    NO_ATTRIBUTES_MESSAGE,
    NO_REQUESTED_ATTRIBUTES,
    TOO_LONG_MESSAGE,
    AnalyzeCommentRequest,
    AnalyzeCommentResponse,
    GoogleErrorResponse,
    GoogleStatus,
    analyzed,
)
from toxicity_serving.scoring import ServiceParameter, flag_long, scores_of

ANALYZE_PATH = "/v1alpha1/comments:analyze"

# Perspective's own sample posts JSON without saying so in a content type
router = APIRouter(tags=["Perspective"], strict_content_type=False)
_ERRORS: dict[int | str, dict[str, Any]] = {code: {"model": GoogleErrorResponse} for code in ("4XX", "5XX")}
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_TOLD: dict[tuple[str, str], tuple[str, str]] = {
    ("missing", "comment"): (COMMENT_EMPTY, EMPTY_MESSAGE),
    ("missing", "comment.text"): (COMMENT_EMPTY, EMPTY_MESSAGE),
    ("string_too_long", "comment.text"): (COMMENT_TOO_LONG, TOO_LONG_MESSAGE),
    ("missing", "requestedAttributes"): (NO_REQUESTED_ATTRIBUTES, NO_ATTRIBUTES_MESSAGE),
}
"""pydantic's own errors for which Perspective has a type and a message."""


@router.post(ANALYZE_PATH, responses=_ERRORS, response_model_exclude_none=True)
async def analyze_comment(
    body: AnalyzeCommentRequest, service: ServiceParameter, response: Response
) -> AnalyzeCommentResponse:
    """Perspective's answer: p(toxic) as the summary score, and the only span's, of TOXICITY.

    The header `toxicity-truncated` is there when the end of the text was cut, `toxicity-windows` when the text was
    scored in several windows.
    """
    [score] = scores = await scores_of(service, [body.comment.text])
    flag_long(response, scores)
    return analyzed(body, score.value)


def google_envelope(refusal: Refusal) -> JSONResponse:
    """Google's APIs tell the first fault in words, all of them by field, and answer 400 where we have 422."""
    code = 400 if refusal.faults else refusal.status
    status = GoogleStatus(
        code=code,
        message=_told(refusal.faults[0])[1] if refusal.faults else refusal.message,
        status=_STATUSES.get(code, "UNKNOWN"),
        details=_details(refusal.faults) if refusal.faults else None,
    )
    return JSONResponse(GoogleErrorResponse(error=status).model_dump(exclude_none=True), code)


def _told(fault: Fault) -> tuple[str, str]:
    """Perspective's type and message of a fault; those it has no words for are worded as Google's gateway does."""
    if fault.kind in ERROR_TYPES:
        return fault.kind, fault.message
    return _TOLD.get((fault.kind, fault.field), (INVALID_REQUEST, _gateway_message(fault)))


def _gateway_message(fault: Fault) -> str:
    if fault.kind == JSON_INVALID:
        return f"Invalid JSON payload received. {fault.message}"
    if fault.kind == "extra_forbidden":
        return f'Invalid JSON payload received. Unknown name "{fault.field}": Cannot find field.'
    return f"Invalid value at '{fault.field}': {fault.message}"


def _details(faults: Sequence[Fault]) -> list[dict[str, Any]]:
    violations = [{"field": fault.field, "description": _told(fault)[1]} for fault in faults]
    return [
        {"@type": "type.googleapis.com/google.commentanalyzer.v1alpha1.Error", **_error(faults[0])},
        {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations},
    ]


def _error(fault: Fault) -> dict[str, Any]:
    error_type = _told(fault)[0]
    if error_type != LANGUAGE_NOT_SUPPORTED:
        return {"errorType": error_type}
    unsupported = {"attribute": ATTRIBUTE, "requestedLanguages": fault.context["languages"]}
    return {"errorType": error_type, "languageNotSupportedByAttributeError": unsupported}
