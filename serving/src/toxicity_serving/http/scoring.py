"""Score the texts of a request, count them, and turn failures into HTTP errors.

Every route that classifies calls `scores_of`, whatever its request and response formats are.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError

from toxicity_api.spec import LongTexts
from toxicity_serving.admission import OverloadedError
from toxicity_serving.classifier import Classifier, Score, TooManyWindowsError, UnknownTokenError
from toxicity_serving.engine.protocol import EngineError, LabelTokenMissing, PromptRefusedError
from toxicity_serving.http.errors import RETRY
from toxicity_serving.http.record import current_record, current_request_id
from toxicity_serving.lifecycle import Service, Started, State
from toxicity_serving.metrics import RequestTimes

logger = logging.getLogger(__name__)

TRUNCATED_HEADER = "toxicity-truncated"
"""Positions of the texts whose end was cut, such as `0,3`, for response formats without a field for it."""
WINDOWS_HEADER = "toxicity-windows"
"""Positions of the texts that were scored in several windows, with the number of windows: `0=2,3=5`."""


async def _service(request: Request) -> Service:
    # async although it awaits nothing: FastAPI would run a plain function in the thread pool that all requests share
    service: Service = request.app.state.service
    return service


ServiceParameter = Annotated[Service, Depends(_service)]


def started(service: Service) -> Started:
    """Return the loaded model and classifier.

    Raises HTTPException with 503 before readiness, after a failure and while the service stops.
    """
    if service.started is None or service.state in (State.FAILED, State.STOPPING):
        raise HTTPException(503, f"{service.state.value}: {service.reason}", RETRY)
    return service.started


async def scores_of(service: Service, texts: list[str], long_texts: LongTexts | None = None) -> list[Score]:
    """Return one score per text, in order. `long_texts` None means the model's setting.

    Raises HTTPException, and RequestValidationError for a text with a token that the model does not have and for too
    many windows.
    """
    classifier = started(service).classifier
    try:
        return await _scores(service, classifier, texts, long_texts)
    except OverloadedError as error:
        raise HTTPException(429, f"{error}; retry later", RETRY) from error
    except (UnknownTokenError, TooManyWindowsError) as error:
        # Reported as an invalid body: each route has a status and a format for those.
        raise RequestValidationError([{"loc": ("body",), "type": "invalid_text", "msg": str(error)}]) from error
    except LabelTokenMissing as error:
        service.metrics.label_token_misses.inc()
        _log_failure("label_token_missing", error, texts)
        raise HTTPException(500, "the model returned no probability for a label token") from error
    except PromptRefusedError as error:
        _log_failure("prompt_refused", error, texts)
        raise HTTPException(500, str(error)) from error
    except EngineError as error:
        service.check_requested.set()
        _log_failure("engine_failed", error, texts)
        raise HTTPException(503, "the engine has died; the service restarts", RETRY) from error


async def _scores(
    service: Service, classifier: Classifier, texts: list[str], long_texts: LongTexts | None
) -> list[Score]:
    record = current_record.get()
    if record and record.hold and not record.hold(sum(map(sys.getsizeof, texts))):
        raise OverloadedError("too many bytes of other requests are in memory")
    with service.admission.admitted(len(texts)) as add:
        began = time.perf_counter()
        prompts = await classifier.build_prompts(texts, long_texts, service.admission.max_extra)
        tokenized = time.perf_counter()
        windows = sum(map(len, prompts))
        add(windows - len(texts))
        scored = await classifier.score_prompts(prompts)
    engine_seconds = time.perf_counter() - tokenized - scored.queue_seconds
    times = RequestTimes(tokenized - began, scored.queue_seconds, max(0.0, engine_seconds))
    service.metrics.observe(prompts, scored.scores, times)
    if record:
        record.texts, record.windows = len(texts), windows
        record.tokens = sum(len(prompt.ids) for windows in prompts for prompt in windows)
        record.tokenize_seconds, record.queue_seconds = times.tokenize, times.queue
        record.engine_seconds = times.engine
    return scored.scores


def _log_failure(event: str, error: Exception, texts: Sequence[str]) -> None:
    request_id = current_request_id()
    logger.error("%s request_id=%s error=%r texts=%s", event, request_id, str(error), fingerprints(texts))


def fingerprints(texts: Sequence[str]) -> str:
    """Describe texts for the log without their content: the first digits of the sha256, and the characters."""
    return " ".join(f"{hashlib.sha256(text.encode()).hexdigest()[:12]}:{len(text)}" for text in texts)


def set_length_headers(response: Response, scores: Sequence[Score]) -> None:
    """Set TRUNCATED_HEADER when a text was cut, and WINDOWS_HEADER when one was split into windows."""
    cut = [str(position) for position, score in enumerate(scores) if score.truncated]
    split = [f"{position}={score.windows}" for position, score in enumerate(scores) if score.windows > 1]
    if cut:
        response.headers[TRUNCATED_HEADER] = ",".join(cut)
    if split:
        response.headers[WINDOWS_HEADER] = ",".join(split)
