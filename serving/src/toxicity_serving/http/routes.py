"""The native routes: POST /v1/classify and GET /v1/model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Response

from toxicity_serving.http.json_route import JsonRoute
from toxicity_serving.http.schemas import (
    ClassifyRequest,
    ClassifyResponse,
    ErrorResponse,
    ModelCard,
    SentenceScore,
    TextScore,
)
from toxicity_serving.http.scoring import (
    ServiceParameter,
    TextScores,
    are_russian,
    scores_with_sentences,
    started,
)

CLASSIFY_PATH = "/v1/classify"

router = APIRouter()
json_router = APIRouter(route_class=JsonRoute)

_CODES = (400, 401, 408, 413, 415, 422, 429, 500, 503, 504)
_ERRORS: dict[int | str, dict[str, Any]] = {code: {"model": ErrorResponse} for code in _CODES}
_UNREADY: dict[int | str, dict[str, Any]] = {code: {"model": ErrorResponse} for code in (401, 503)}


@json_router.post(CLASSIFY_PATH, responses=_ERRORS, response_model_exclude_none=True)
async def classify(body: ClassifyRequest, service: ServiceParameter, response: Response) -> ClassifyResponse:
    """Return p(toxic) and the decision for one text or for a batch."""
    threshold = service.config.threshold if body.threshold is None else body.threshold
    field = "sentences" if body.sentences else None
    scores = await scores_with_sentences(service, body.batch, field, body.long_texts)
    russian: Sequence[bool | None] = await are_russian(body.batch) if body.check_language else [None] * len(scores)
    return ClassifyResponse(
        model=service.config.model,
        threshold=threshold,
        results=[
            TextScore(
                score=found.text.value,
                toxic=found.text.value >= threshold,
                truncated=found.text.truncated,
                windows=found.text.windows,
                sentences=_sentences(found, threshold) if body.sentences else None,
                russian=is_russian,
            )
            for found, is_russian in zip(scores, russian, strict=True)
        ],
    )


def _sentences(scores: TextScores, threshold: float) -> list[SentenceScore]:
    return [
        SentenceScore(begin=span.begin, end=span.end, score=score.value, toxic=score.value >= threshold)
        for span, score in scores.sentences
    ]


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
