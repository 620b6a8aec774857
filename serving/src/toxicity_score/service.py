"""The Service over HTTP: what the model is, and batches of texts, with retries until the service answers.

Each request has its own connection. Kubernetes chooses a replica per connection, so all replicas get requests, also
those that the autoscaler adds during the run.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from toxicity_score.errors import InvalidRunError, ScoreError
from toxicity_score.limiter import Limiter

logger = logging.getLogger(__name__)

TIMEOUT = httpx.Timeout(70.0, connect=10.0)
"""The service answers within 60 s."""

RETRY_SECONDS = 1.0
MOST_RETRY_SECONDS = 30.0
AWAY = (408, 429, 502, 503, 504)
"""Statuses after which the same request may succeed."""

REFUSED = (400, 413, 422, 500)
"""Statuses of a batch with a text that cannot be scored."""

PROMPT_CHARACTERS = 40
"""About as many characters as the prompt has around a text."""

SINGLE_TRIES = 3
"""How often one text may exceed the service's deadline before it counts as one that cannot be scored."""


@dataclass(frozen=True)
class Model:
    """What the service says of its model, and its limits."""

    name: str
    fingerprint: str
    threshold: float
    max_texts: int
    max_characters: int


@dataclass(frozen=True)
class Answer:
    """The score of a text and whether it reaches the threshold, or why there is none."""

    score: float | None = None
    toxic: bool | None = None
    error: str = ""


class _Refused(Exception):
    """The service refuses the batch for one of its texts, or for its size."""


class Service:
    """A client of one Service. Use it as an async context manager."""

    def __init__(
        self, url: str, token: str | None, limiter: Limiter, patience_seconds: float, threshold: float | None
    ) -> None:
        """A run ends if the service gives no answer for `patience_seconds`. Raises InvalidRunError for a wrong URL."""
        if not url.startswith(("http://", "https://")):
            raise InvalidRunError(f"--service: {url} has no scheme; use http://{url}")
        self.limiter = limiter
        self._url = url.rstrip("/")
        self._patience = patience_seconds
        self._threshold = {} if threshold is None else {"threshold": threshold}
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.AsyncClient(headers=headers, timeout=TIMEOUT, limits=limits)
        self._last_answer = time.monotonic()

    async def __aenter__(self) -> Service:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def model(self) -> Model:
        """Return the model, once the service is ready. Raises ScoreError."""
        response = await self._request("GET", "/v1/model")
        try:
            card = response.json()
            return Model(
                card["model"], card["fingerprint"], card["threshold"], card["maxTexts"], card["maxCharacters"]
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidRunError(f"--service: {self._url} is not the Service of a ToxicityModel") from error

    async def score(self, texts: Sequence[str]) -> list[Answer]:
        """Return one answer per text, in order. Raises ScoreError.

        A batch that the service refuses is halved until the text that cannot be scored is alone.
        """
        try:
            return await self._batch(texts)
        except _Refused as error:
            if len(texts) == 1:
                return [Answer(error=str(error))]
        middle = len(texts) // 2
        return await self.score(texts[:middle]) + await self.score(texts[middle:])

    async def _batch(self, texts: Sequence[str]) -> list[Answer]:
        results = (await self._request("POST", "/v1/classify", texts)).json()["results"]
        if len(results) != len(texts):
            raise ScoreError(f"--service: {self._url} gave {len(results)} scores for {len(texts)} texts")
        return [Answer(result["score"], result["toxic"]) for result in results]

    async def _request(self, method: str, path: str, texts: Sequence[str] = ()) -> httpx.Response:
        """Send until there is an answer. Raises _Refused, ScoreError."""
        body = {"texts": list(texts), **self._threshold} if texts else None
        tries = late = 0
        while True:
            await self.limiter.acquire()
            began = time.monotonic()
            response, problem = None, ""
            try:
                response = await self._client.request(method, self._url + path, json=body)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}".rstrip(": ")
            except httpx.InvalidURL as error:
                raise InvalidRunError(f"--service: {self._url} is not a URL: {error}") from error
            finally:
                self.limiter.release()
            if response is not None and response.status_code not in AWAY:
                self._last_answer = time.monotonic()
                return self._checked(response, time.monotonic() - began, _work(texts))
            if response is not None:
                problem = f"{response.status_code}: {_message(response)}"
                late += response.status_code in (408, 504)
            if late and texts and (len(texts) > 1 or late == SINGLE_TRIES):
                self.limiter.refused(RETRY_SECONDS)
                raise _Refused(problem)
            tries += 1
            await self._pause(tries, response, problem)

    def _checked(self, response: httpx.Response, seconds: float, work: int) -> httpx.Response:
        status = response.status_code
        if status == 200:
            if work:
                self.limiter.answered(seconds, work)
            return response
        if status in (401, 403):
            raise InvalidRunError(
                f"API_TOKEN: {self._url} refuses the token ({status}); set it to the key token of the Secret that"
                " serving.apiTokenSecretName names"
            )
        if status in REFUSED and work:
            raise _Refused(f"{status}: {_message(response)}")
        raise InvalidRunError(
            f"--service: {self._url} answers {status}; set it to status.url of the ToxicityModel ({_message(response)})"
        )

    async def _pause(self, tries: int, response: httpx.Response | None, problem: str) -> None:
        """Wait before the next try. Raises ScoreError when the patience is used up."""
        away = time.monotonic() - self._last_answer
        if away > self._patience:
            raise ScoreError(
                f"--service: {self._url} has given no answer for {away:.0f} s ({problem}); run the command again when"
                " it does, and it continues"
            )
        if tries in (5, 50):
            logger.warning("service_busy url=%s tries=%d last=%r", self._url, tries, problem)
        self.limiter.refused(RETRY_SECONDS)
        asked = response.headers.get("retry-after", "") if response is not None else ""
        seconds = float(asked) if asked.isdigit() else min(RETRY_SECONDS * 2 ** (tries - 1), MOST_RETRY_SECONDS)
        await asyncio.sleep(min(seconds, self._patience) * random.uniform(0.75, 1.25))


def _work(texts: Sequence[str]) -> int:
    """The size of a batch: its characters, with those of the prompt around each text."""
    return sum(PROMPT_CHARACTERS + len(text) for text in texts)


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
