"""Our own HTTP routes: each parses, calls one function and shapes the answer."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from toxicity_serving.lifecycle import State
from toxicity_serving.schemas import (
    ClassifyRequest,
    ClassifyResponse,
    ErrorResponse,
    ModelCard,
    Readiness,
    TextScore,
)
from toxicity_serving.scoring import ServiceParameter, scores_of, started

CLASSIFY_PATH = "/v1/classify"

router = APIRouter()

_ERRORS: dict[int | str, dict[str, Any]] = {code: {"model": ErrorResponse} for code in (413, 422, 500, 503)}


@router.post(CLASSIFY_PATH, responses=_ERRORS)
async def classify(body: ClassifyRequest, service: ServiceParameter) -> ClassifyResponse:
    """p(toxic) of one text or of a batch."""
    threshold = service.config.threshold if body.threshold is None else body.threshold
    scores = await scores_of(service, body.batch)
    return ClassifyResponse(
        model=service.config.model,
        threshold=threshold,
        results=[
            TextScore(score=score.value, toxic=score.value >= threshold, truncated=score.truncated)
            for score in scores
        ],
    )


@router.get("/v1/model")
async def model_card(service: ServiceParameter) -> ModelCard:
    """What is served."""
    config, loaded = service.config, started(service).loaded
    return ModelCard(
        model=config.model,
        base_model=config.base_model,
        fingerprint=config.fingerprint,
        threshold=config.threshold,
        metrics=config.metrics,
        prompt_template=config.prompt_template,
        labels=config.labels,
        max_model_len=config.max_model_len,
        weights=loaded.weights,
        dtype=loaded.dtype,
        engine=loaded.engine,
    )


@router.get("/healthz", responses={503: {"model": Readiness}})
async def healthz(service: ServiceParameter, response: Response) -> Readiness:
    """Alive unless the engine has failed; also while it loads."""
    response.status_code = 503 if service.state is State.FAILED else 200
    return Readiness(state=service.state.value, reason=service.reason)


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(service: ServiceParameter, response: Response) -> Readiness:
    """Ready once real texts have been classified, and until the process stops or its engine dies."""
    response.status_code = 200 if service.state is State.READY else 503
    return Readiness(state=service.state.value, reason=service.reason)


@router.get("/metrics", response_class=Response)
async def metrics(service: ServiceParameter) -> Response:
    """Prometheus text format."""
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)
