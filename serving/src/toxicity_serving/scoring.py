"""From the texts of a request to their scores, counted, or to the HTTP error that the caller should see.

Every classifying route goes through `scores_of`, whatever shape its request and answer have.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError

from toxicity_api.spec import LongTexts
from toxicity_serving.admission import OverloadedError
from toxicity_serving.classify import Classifier, Score, UnknownTokenError
from toxicity_serving.engine import EngineError, LabelTokenMissing
from toxicity_serving.lifecycle import Service, Started, State

logger = logging.getLogger(__name__)

RETRY = {"Retry-After": "1"}
TRUNCATED_HEADER = "toxicity-truncated"
"""For the shapes that have no field for it: positions of the texts whose end was cut, such as `0,3`."""
WINDOWS_HEADER = "toxicity-windows"
"""Likewise of the texts that were scored in several windows, with how many: `0=2,3=5`."""


async def _service(request: Request) -> Service:
    # async though it awaits nothing: FastAPI runs any other dependency in a pool of threads that all requests share
    service: Service = request.app.state.service
    return service


ServiceParameter = Annotated[Service, Depends(_service)]


def started(service: Service) -> Started:
    """What answers, or HTTP 503 before readiness, after a failure and once the stop has begun."""
    if service.started is None or service.state in (State.FAILED, State.STOPPING):
        raise HTTPException(503, f"{service.state.value}: {service.reason}", RETRY)
    return service.started


async def scores_of(service: Service, texts: list[str], long_texts: LongTexts | None = None) -> list[Score]:
    """One score per text, in order. `long_texts` None means the model's own setting.

    Raises HTTPException, and RequestValidationError for a text that the model cannot read.
    """
    classifier = started(service).classifier
    try:
        return await _scores(service, classifier, texts, long_texts)
    except OverloadedError as error:
        raise HTTPException(429, f"{error}; retry later", RETRY) from error
    except UnknownTokenError as error:
        # as of a body that is wrong: each route's clients know a status and a shape for that
        fault = {"loc": ("body",), "type": "unknown_token", "msg": str(error)}
        raise RequestValidationError([fault]) from error
    except LabelTokenMissing as error:
        service.metrics.label_token_misses.inc()
        logger.error("label_token_missing error=%r texts=%s", str(error), fingerprints(texts))
        raise HTTPException(500, "the model gave no probability for a label token") from error
    except EngineError as error:
        service.doubt.set()
        logger.error("engine_failed error=%r texts=%s", str(error), fingerprints(texts))
        raise HTTPException(503, "the engine has died; the service restarts", RETRY) from error


async def _scores(
    service: Service, classifier: Classifier, texts: list[str], long_texts: LongTexts | None
) -> list[Score]:
    with service.admission.admitted(len(texts)) as add:
        prompts = await classifier.prompts(texts, long_texts)
        add(sum(map(len, prompts)) - len(texts))
        scores = await classifier.ask(prompts)
    service.metrics.observe(prompts, scores)
    return scores


def fingerprints(texts: Sequence[str]) -> str:
    """What a log may say of texts: the first digits of their sha256 and their lengths in characters."""
    return " ".join(f"{hashlib.sha256(text.encode()).hexdigest()[:12]}:{len(text)}" for text in texts)


def flag_long(response: Response, scores: Sequence[Score]) -> None:
    """Sets TRUNCATED_HEADER when a text was cut, and WINDOWS_HEADER when one was split."""
    cut = [str(position) for position, score in enumerate(scores) if score.truncated]
    split = [f"{position}={score.windows}" for position, score in enumerate(scores) if score.windows > 1]
    if cut:
        response.headers[TRUNCATED_HEADER] = ",".join(cut)
    if split:
        response.headers[WINDOWS_HEADER] = ",".join(split)
