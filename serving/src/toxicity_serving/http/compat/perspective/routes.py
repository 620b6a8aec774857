"""The methods of the Perspective API: comments:analyze scores like /v1/classify, comments:suggestscore does nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from toxicity_serving.http.compat.perspective.discovery import ANALYZE_PATH, SUGGEST_PATH
from toxicity_serving.http.compat.perspective.schemas import (
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
    SuggestCommentScoreRequest,
    SuggestCommentScoreResponse,
    build_response,
)
from toxicity_serving.http.errors import JSON_INVALID, FieldViolation, Refusal
from toxicity_serving.http.json_route import JsonRoute
from toxicity_serving.http.scoring import (
    ServiceParameter,
    are_russian,
    scores_with_sentences,
    set_length_headers,
    started,
)

UNSCORED_HEADER = "toxicity-unscored-attributes"
"""The requested attributes without a score, such as `INSULT,THREAT`."""

router = APIRouter(tags=["Perspective"], route_class=JsonRoute)
_ERRORS: dict[int | str, dict[str, Any]] = {code: {"model": GoogleErrorResponse} for code in ("4XX", "5XX")}
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_PERSPECTIVE_ERRORS: dict[tuple[str, str], tuple[str, str]] = {
    ("missing", "comment"): (COMMENT_EMPTY, EMPTY_MESSAGE),
    ("missing", "comment.text"): (COMMENT_EMPTY, EMPTY_MESSAGE),
    ("string_too_long", "comment.text"): (COMMENT_TOO_LONG, TOO_LONG_MESSAGE),
    ("missing", "requestedAttributes"): (NO_REQUESTED_ATTRIBUTES, NO_ATTRIBUTES_MESSAGE),
}
"""The type and message that Perspective has for errors of pydantic, by error type and field."""


@router.post(ANALYZE_PATH, responses=_ERRORS, response_model_exclude_none=True)
async def analyze_comment(
    body: AnalyzeCommentRequest, service: ServiceParameter, response: Response
) -> AnalyzeCommentResponse:
    """Return p(toxic) as the summary score of the attribute TOXICITY, and as the score of one span or of each sentence.

    The header `toxicity-truncated` is set when the end of the text was cut. The header `toxicity-windows` is set when
    the text was scored in several windows. The header `toxicity-unscored-attributes` lists the requested attributes
    without a score.
    """
    field = "spanAnnotations" if body.span_annotations else None
    [scores] = await scores_with_sentences(service, [body.comment.text], field)
    set_length_headers(response, [scores.text])
    [russian] = [None] if body.languages else await are_russian([body.comment.text])
    if body.unscored:
        response.headers[UNSCORED_HEADER] = ",".join(body.unscored)
    sentences = [(span, score.value) for span, score in scores.sentences]
    return build_response(body, scores.text.value, sentences, russian)


@router.post(SUGGEST_PATH, responses=_ERRORS, response_model_exclude_none=True)
async def suggest_score(
    body: SuggestCommentScoreRequest, service: ServiceParameter, response: Response
) -> SuggestCommentScoreResponse:
    """Accept a suggested score and store nothing. Clients of Perspective call this method without waiting for it."""
    started(service)
    return SuggestCommentScoreResponse(client_token=body.client_token, requested_languages=body.languages)


def google_envelope(refusal: Refusal) -> JSONResponse:
    """Format a refusal as Google's APIs do: the first violation as the message, all of them in the details.

    Invalid bodies get 400 instead of 422.
    """
    code = 400 if refusal.violations else refusal.status
    status = GoogleStatus(
        code=code,
        message=_type_and_message(refusal.violations[0])[1] if refusal.violations else refusal.message,
        status=_STATUSES.get(code, "UNKNOWN"),
        details=_details(refusal.violations) if refusal.violations else None,
    )
    return JSONResponse(GoogleErrorResponse(error=status).model_dump(exclude_none=True), code)


def _type_and_message(violation: FieldViolation) -> tuple[str, str]:
    """Return Perspective's error type and message, or those of Google's API gateway where Perspective has none."""
    if violation.kind in ERROR_TYPES:
        return violation.kind, violation.message
    key = (violation.kind, violation.field)
    return _PERSPECTIVE_ERRORS.get(key, (INVALID_REQUEST, _gateway_message(violation)))


def _gateway_message(violation: FieldViolation) -> str:
    if violation.kind == JSON_INVALID:
        return f"Invalid JSON payload received. {violation.message}"
    if violation.kind == "extra_forbidden":
        return f'Invalid JSON payload received. Unknown name "{violation.field}": Cannot find field.'
    return f"Invalid value at '{violation.field}': {violation.message}"


def _details(violations: Sequence[FieldViolation]) -> list[dict[str, Any]]:
    fields = [
        {"field": violation.field, "description": _type_and_message(violation)[1]} for violation in violations
    ]
    return [
        {"@type": "type.googleapis.com/google.commentanalyzer.v1alpha1.Error", **_error(violations[0])},
        {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": fields},
    ]


def _error(violation: FieldViolation) -> dict[str, Any]:
    error_type = _type_and_message(violation)[0]
    if error_type != LANGUAGE_NOT_SUPPORTED:
        return {"errorType": error_type}
    context = violation.context
    unsupported = {"attribute": context["attribute"], "requestedLanguages": context["languages"]}
    return {"errorType": error_type, "languageNotSupportedByAttributeError": unsupported}
