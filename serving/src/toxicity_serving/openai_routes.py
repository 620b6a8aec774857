"""POST /v1/moderations: OpenAI's moderation shape around the same scores as /v1/classify."""

from __future__ import annotations

import uuid
from typing import Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from toxicity_serving.errors import Fault, Refusal
from toxicity_serving.openai_schemas import (
    FORM_MARK,
    ModerationRequest,
    ModerationResponse,
    ModerationResult,
    OpenAIError,
    OpenAIErrorResponse,
)
from toxicity_serving.scoring import ServiceParameter, flag_long, scores_of

MODERATIONS_PATH = "/v1/moderations"

router = APIRouter(tags=["OpenAI moderation"])
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
_OTHER: dict[int, tuple[Literal["invalid_request_error", "requests"], str]] = {
    401: ("invalid_request_error", "invalid_api_key"),
    429: ("requests", "rate_limit_exceeded"),
}
"""OpenAI's type and code of what is no fault of the body."""


@router.post(MODERATIONS_PATH, responses=_ERRORS)
async def create_moderation(
    body: ModerationRequest, service: ServiceParameter, response: Response
) -> ModerationResponse:
    """OpenAI's moderation answer: p(toxic) is told as the category `harassment`, the other categories are empty.

    The header `toxicity-truncated` has the positions of the texts whose end was cut, `toxicity-windows` those of the
    texts that were scored in several windows.
    """
    scores = await scores_of(service, body.texts)
    flag_long(response, scores)
    return ModerationResponse(
        id=f"modr-{uuid.uuid4().hex}",
        model=body.model or service.config.model,
        results=[ModerationResult.from_score(score.value, service.config.threshold) for score in scores],
    )


def openai_envelope(refusal: Refusal) -> JSONResponse:
    """OpenAI tells one fault, the first, and answers 400 where we have 422."""
    status = 400 if refusal.faults else refusal.status
    error = _fault(refusal.faults[0]) if refusal.faults else _other(refusal)
    return JSONResponse(OpenAIErrorResponse(error=error).model_dump(), status)


def _fault(fault: Fault) -> OpenAIError:
    param = _param(fault)
    message = f"Missing required parameter: '{param}'." if fault.kind == "missing" else f"{param}: {fault.message}"
    code = _CODES.get(fault.kind, "invalid_value")
    return OpenAIError(message=message, type="invalid_request_error", param=param, code=code)


def _param(fault: Fault) -> str:
    """The field as OpenAI writes it: `input[0].type`."""
    parts = [part for part in fault.location if not str(part).startswith(FORM_MARK)]
    names = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return names.removeprefix(".") or "body"


def _other(refusal: Refusal) -> OpenAIError:
    kind, code = _OTHER.get(refusal.status, ("invalid_request_error", None))
    return OpenAIError(
        message=refusal.message, type="server_error" if refusal.status >= 500 else kind, param=None, code=code
    )
