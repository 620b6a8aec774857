"""POST /v1/moderations: the scores of /v1/classify in the format of OpenAI's moderation API."""

from __future__ import annotations

import uuid
from typing import Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from toxicity_serving.http.compat.openai.schemas import (
    FORM_PREFIX,
    ModerationRequest,
    ModerationResponse,
    ModerationResult,
    OpenAIError,
    OpenAIErrorResponse,
)
from toxicity_serving.http.errors import FieldViolation, Refusal
from toxicity_serving.http.json_route import JsonRoute
from toxicity_serving.http.scoring import ServiceParameter, scores_of, set_length_headers

MODERATIONS_PATH = "/v1/moderations"

router = APIRouter(tags=["OpenAI moderation"], route_class=JsonRoute)
_ERRORS: dict[int | str, dict[str, Any]] = {code: {"model": OpenAIErrorResponse} for code in ("4XX", "5XX")}
_CODES = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "invalid_type": "invalid_type",
    "string_too_long": "string_above_max_length",
    "too_long": "array_above_max_length",
    "too_short": "empty_array",
    "empty_text": "empty_string",
    "image_not_supported": "image_not_supported",
}
_STATUS_CODES: dict[int, tuple[Literal["invalid_request_error", "requests"], str]] = {
    401: ("invalid_request_error", "invalid_api_key"),
    429: ("requests", "rate_limit_exceeded"),
}
"""OpenAI's error type and code by HTTP status, for errors that are not in the body."""


@router.post(MODERATIONS_PATH, responses=_ERRORS)
async def create_moderation(
    body: ModerationRequest, service: ServiceParameter, response: Response
) -> ModerationResponse:
    """Return p(toxic) as the score of the category `harassment`; all other categories are 0.

    The header `toxicity-truncated` lists the positions of the texts whose end was cut. The header `toxicity-windows`
    lists the positions of the texts that were scored in several windows.
    """
    scores = await scores_of(service, body.texts)
    set_length_headers(response, scores)
    return ModerationResponse(
        id=f"modr-{uuid.uuid4().hex}",
        model=body.model or service.config.model,
        results=[ModerationResult.from_score(score.value, service.config.threshold) for score in scores],
    )


def openai_envelope(refusal: Refusal) -> JSONResponse:
    """Format a refusal as OpenAI does: only the first violation, and 400 instead of 422 for an invalid body."""
    status = 400 if refusal.violations else refusal.status
    error = _violation_error(refusal.violations[0]) if refusal.violations else _status_error(refusal)
    return JSONResponse(OpenAIErrorResponse(error=error).model_dump(), status)


def _violation_error(violation: FieldViolation) -> OpenAIError:
    param = _param(violation)
    missing = violation.kind == "missing"
    message = f"Missing required parameter: '{param}'." if missing else f"{param}: {violation.message}"
    code = _CODES.get(violation.kind, "invalid_value")
    return OpenAIError(message=message, type="invalid_request_error", param=param, code=code)


def _param(violation: FieldViolation) -> str:
    """Return the path of the field in OpenAI's notation, such as `input[0].type`."""
    parts = [part for part in violation.location if not str(part).startswith(FORM_PREFIX)]
    names = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return names.removeprefix(".") or "body"


def _status_error(refusal: Refusal) -> OpenAIError:
    kind, code = _STATUS_CODES.get(refusal.status, ("invalid_request_error", None))
    return OpenAIError(
        message=refusal.message, type="server_error" if refusal.status >= 500 else kind, param=None, code=code
    )
