"""From the texts of a request to their scores, counted, or to the HTTP error that the caller should see.

Every classifying route goes through `scores_of`, whatever shape its request and answer have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, HTTPException, Request, Response

from toxicity_serving.classify import Score
from toxicity_serving.engine import EngineError, LabelTokenMissing
from toxicity_serving.lifecycle import Service, Started, State

REQUEST_SECONDS = 60.0
TRUNCATED_HEADER = "toxicity-truncated"
"""For the shapes that have no field for it: positions of the texts whose end was cut, such as `0,3`."""


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceParameter = Annotated[Service, Depends(_service)]


def started(service: Service) -> Started:
    """What answers, or HTTP 503 before readiness and after a failure."""
    if service.started is None or service.state is State.FAILED:
        raise HTTPException(503, f"{service.state.value}: {service.reason}")
    return service.started


async def scores_of(service: Service, texts: list[str]) -> list[Score]:
    """One score per text, in order; or an HTTPException."""
    scores = await _scores(service, texts)
    service.metrics.texts.inc(len(scores))
    service.metrics.truncated_texts.inc(sum(score.truncated for score in scores))
    return scores


async def _scores(service: Service, texts: list[str]) -> list[Score]:
    classifier = started(service).classifier
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


def flag_truncated(response: Response, scores: Sequence[Score]) -> None:
    """Sets TRUNCATED_HEADER when a text was cut."""
    positions = [str(position) for position, score in enumerate(scores) if score.truncated]
    if positions:
        response.headers[TRUNCATED_HEADER] = ",".join(positions)
