"""Score the texts of a request, count them, and turn failures into HTTP errors.

Every route that classifies calls `scores_of` or `scores_with_sentences`, whatever its request and response formats are.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError

from toxicity_api.spec import LongTexts
from toxicity_serving.admission import OverloadedError
from toxicity_serving.classifier import (
    INLINE_CHARACTERS,
    Classifier,
    Score,
    TooManyWindowsError,
    UnknownTokenError,
)
from toxicity_serving.engine.protocol import EngineError, LabelTokenMissing, PromptRefusedError
from toxicity_serving.http.errors import RETRY
from toxicity_serving.http.record import current_record, current_request_id
from toxicity_serving.language import is_russian
from toxicity_serving.lifecycle import Service, Started, State
from toxicity_serving.metrics import RequestTimes
from toxicity_serving.sentences import Span, TooManySentencesError, find_all_sentences

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


@dataclass(frozen=True)
class TextScores:
    """The score of a text and, if they were asked for, those of its sentences in order."""

    text: Score
    sentences: Sequence[tuple[Span, Score]] = ()


async def scores_of(service: Service, texts: list[str], long_texts: LongTexts | None = None) -> list[Score]:
    """Return one score per text, in order, as `scores_with_sentences` does."""
    return [scores.text for scores in await scores_with_sentences(service, texts, None, long_texts)]


async def scores_with_sentences(
    service: Service, texts: list[str], field: str | None, long_texts: LongTexts | None = None
) -> list[TextScores]:
    """Return the scores of each text, in order. `long_texts` None means the model's setting.

    `field` is the field of the request that asks for sentences; None means no sentences.
    Raises HTTPException, and RequestValidationError for a text with a token that the model does not have, for too many
    windows and for too many sentences.
    """
    classifier = started(service).classifier
    try:
        spans = await _off_loop(find_all_sentences, texts) if field else [[] for _ in texts]
        return await _scores(service, classifier, texts, spans, long_texts)
    except OverloadedError as error:
        raise HTTPException(429, f"{error}; retry later", RETRY) from error
    except TooManySentencesError as error:
        item = {"loc": ("body", field), "type": "too_many_sentences", "msg": str(error)}
        raise RequestValidationError([item]) from error
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


async def are_russian(texts: Sequence[str]) -> list[bool]:
    """Return whether each text is Russian."""
    return await _off_loop(lambda texts: list(map(is_russian, texts)), texts)


Found = TypeVar("Found")


async def _off_loop(examine: Callable[[Sequence[str]], Found], texts: Sequence[str]) -> Found:
    """Examine long texts in a thread, so that other requests have their turn, and short ones here."""
    if sum(map(len, texts)) <= INLINE_CHARACTERS:
        return examine(texts)
    return await asyncio.to_thread(examine, texts)


async def _scores(
    service: Service,
    classifier: Classifier,
    texts: list[str],
    spans: Sequence[Sequence[Span]],
    long_texts: LongTexts | None,
) -> list[TextScores]:
    # a text of one sentence has the score of that sentence
    parts = [
        text[span.begin : span.end]
        for text, found in zip(texts, spans, strict=True)
        for span in found
        if len(found) > 1
    ]
    record = current_record.get()
    if record and record.hold and not record.hold(sum(map(sys.getsizeof, texts + parts))):
        raise OverloadedError("too many bytes of other requests are in memory")
    with service.admission.admitted(len(texts) + len(parts)) as add:
        began = time.perf_counter()
        max_extra = service.admission.max_extra
        prompts = await classifier.build_prompts(texts, long_texts, max_extra)
        if parts:
            max_extra -= sum(map(len, prompts)) - len(texts)
            prompts += await classifier.build_prompts(parts, long_texts, max_extra, "sentence")
        tokenized = time.perf_counter()
        windows = sum(map(len, prompts))
        add(windows - len(prompts))
        scored = await classifier.score_prompts(prompts)
    engine_seconds = time.perf_counter() - tokenized - scored.queue_seconds
    times = RequestTimes(tokenized - began, scored.queue_seconds, max(0.0, engine_seconds))
    service.metrics.observe(prompts, scored.scores[: len(texts)], times)
    if record:
        record.texts, record.sentences, record.windows = len(texts), len(parts) or None, windows
        record.tokens = sum(len(prompt.ids) for windows in prompts for prompt in windows)
        record.tokenize_seconds, record.queue_seconds = times.tokenize, times.queue
        record.engine_seconds = times.engine
    return _joined(scored.scores, spans)


def _joined(scores: Sequence[Score], spans: Sequence[Sequence[Span]]) -> list[TextScores]:
    """Assign the scores: first those of the texts, then those of the sentences of texts with several."""
    of_parts = iter(scores[len(spans) :])
    return [
        TextScores(score, [(span, next(of_parts) if len(found) > 1 else score) for span in found])
        for score, found in zip(scores[: len(spans)], spans, strict=True)
    ]


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
