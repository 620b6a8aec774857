"""The HTTP routes: each parses, calls one function and shapes the answer."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from toxicity_serving.classify import Score
from toxicity_serving.engine import EngineError, LabelTokenMissing
from toxicity_serving.lifecycle import Service, Started, State
from toxicity_serving.schemas import (
    ClassifyRequest,
    ClassifyResponse,
    ErrorResponse,
    ModelCard,
    Readiness,
    TextScore,
)

REQUEST_SECONDS = 60.0
CLASSIFY_PATH = "/v1/classify"

router = APIRouter()


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceParameter = Annotated[Service, Depends(_service)]
_ERRORS: dict[int | str, dict[str, Any]] = {code: {"model": ErrorResponse} for code in (413, 422, 500, 503)}


def _started(service: Service) -> Started:
    if service.started is None or service.state is State.FAILED:
        raise HTTPException(503, f"{service.state.value}: {service.reason}")
    return service.started


@router.post(CLASSIFY_PATH, responses=_ERRORS)
async def classify(body: ClassifyRequest, service: ServiceParameter) -> ClassifyResponse:
    """p(toxic) of one text or of a batch."""
    threshold = service.config.threshold if body.threshold is None else body.threshold
    scores = await _scores(service, body.batch)
    service.metrics.texts.inc(len(scores))
    service.metrics.truncated_texts.inc(sum(score.truncated for score in scores))
    return ClassifyResponse(
        model=service.config.model,
        threshold=threshold,
        results=[
            TextScore(score=score.value, toxic=score.value >= threshold, truncated=score.truncated)
            for score in scores
        ],
    )


async def _scores(service: Service, texts: list[str]) -> list[Score]:
    """The scores, or the HTTP error that a caller of the service should see."""
    classifier = _started(service).classifier
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            return await classifier.scores(texts)
    except TimeoutError as error:
        raise HTTPException(503, f"no answer within {REQUEST_SECONDS:.0f} s; the service is overloaded") from error
    except LabelTokenMissing as error:
        service.metrics.label_token_misses.inc()
        raise HTTPException(500, "the model gave no probability for a label token") from error
    except EngineError as error:
        raise HTTPException(503, "the engine has died; the service restarts") from error


@router.get("/v1/model")
async def model_card(service: ServiceParameter) -> ModelCard:
    """What is served."""
    config, loaded = service.config, _started(service).loaded
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
