"""The native routes: POST /v1/classify and GET /v1/model."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from toxicity_serving.http.json_route import JsonRoute
from toxicity_serving.http.schemas import (
    ClassifyRequest,
    ClassifyResponse,
    ErrorResponse,
    ModelCard,
    TextScore,
)
from toxicity_serving.http.scoring import ServiceParameter, scores_of, started

CLASSIFY_PATH = "/v1/classify"

router = APIRouter()
json_router = APIRouter(route_class=JsonRoute)

_CODES = (400, 401, 408, 413, 415, 422, 429, 500, 503, 504)
_ERRORS: dict[int | str, dict[str, Any]] = {code: {"model": ErrorResponse} for code in _CODES}
_UNREADY: dict[int | str, dict[str, Any]] = {code: {"model": ErrorResponse} for code in (401, 503)}


@json_router.post(CLASSIFY_PATH, responses=_ERRORS)
async def classify(body: ClassifyRequest, service: ServiceParameter, response: Response) -> ClassifyResponse:
    """Return p(toxic) and the decision for one text or for a batch."""
    threshold = service.config.threshold if body.threshold is None else body.threshold
    scores = await scores_of(service, body.batch, body.long_texts)
    return ClassifyResponse(
        model=service.config.model,
        threshold=threshold,
        results=[
            TextScore(
                score=score.value,
                toxic=score.value >= threshold,
                truncated=score.truncated,
                windows=score.windows,
            )
            for score in scores
        ],
    )


@router.get("/v1/model", responses=_UNREADY)
async def model_card(service: ServiceParameter) -> ModelCard:
    """Describe the served model: its origin, settings, limits and engine."""
    config, loaded = service.config, started(service).loaded
    return ModelCard(
        model=config.model,
        base_model=config.base_model,
        fingerprint=config.fingerprint,
        threshold=config.threshold,
        metrics=config.metrics,
        prompt_template=config.prompt_template,
        labels=config.labels,
        normal_form=loaded.normal_form,
        max_model_len=config.max_model_len,
        long_texts=config.long_texts,
        queue_limit=config.queue_limit,
        weights=loaded.weights,
        dtype=loaded.dtype,
        verified=loaded.verified,
        engine=loaded.engine,
    )
