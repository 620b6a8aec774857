"""The service under test: how it is asked, how its answers are judged, and when it counts as unavailable."""

from __future__ import annotations

import http.client
import json
import re
import string
import time
import urllib.error
import urllib.request
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from toxicity_loadtest.errors import NotReadyError, TokenError
from toxicity_loadtest.records import Outcome

CLASSIFY_PATH = "/v1/classify"

TOKEN_VARIABLE = "API_TOKEN"
HEADER_VALUE = re.compile(r"[\t\x20-\x7e]+")
"""What an HTTP header bears in every client and server alike."""

KEY = "key token of the Secret of serving.apiTokenSecretName"
REMEDY = (
    "write one line of printable ASCII characters into it, restart the serving pods and change loadTest.runId to run"
    " the load test again"
)

READY_PATH = "/readyz"
INTERVAL_SECONDS = 0.5
ANSWER_SECONDS = 5.0
MAX_BODY_BYTES = 500

UNAVAILABLE_CODES = frozenset({502, 503, 504})


@dataclass(frozen=True)
class Target:
    """The service and how it is asked. `request_seconds` is the time-out of a request."""

    url: str
    request_seconds: float
    max_outage_seconds: float
    run: str
    """Begins the X-Request-Id of every request: run-window-slot."""
    token: str = ""

    def headers(self) -> dict[str, str]:
        """What every request carries."""
        bearer = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return {"Content-Type": "application/json", **bearer}


def take_token(environment: MutableMapping[str, str]) -> str:
    """The token without white space around it, as the service reads it; empty where none is asked for.

    It is taken out of `environment`, so that no child process inherits it. Raises TokenError, which never quotes it.
    """
    raw = environment.pop(TOKEN_VARIABLE, None)
    if raw is None:
        return ""
    token = raw.strip(string.whitespace)
    if not token:
        raise TokenError(f"{KEY} is blank: {REMEDY}")
    if not HEADER_VALUE.fullmatch(token):
        raise TokenError(f"{KEY} has characters that an HTTP header cannot bear: {REMEDY}")
    return token


def request_body(text: str) -> bytes:
    """The JSON body that asks for one text's score."""
    return json.dumps({"texts": [text]}, ensure_ascii=False).encode()


def has_valid_score(body: bytes | bytearray | None) -> bool:
    """Whether the body is a JSON answer with exactly one result whose score lies in [0, 1]."""
    try:
        document = json.loads(bytes(body or b""))
    except ValueError:
        return False
    results: Any = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, list) or len(results) != 1 or not isinstance(results[0], dict):
        return False
    score = results[0].get("score")
    return isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1


def wait_until_ready(url: str, seconds: float) -> None:
    """Returns when `url`/readyz answers 200. Raises NotReadyError with the last answer after `seconds`."""
    target = url.rstrip("/") + READY_PATH
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    while True:
        try:
            with opener.open(target, timeout=ANSWER_SECONDS):
                return
        except (OSError, http.client.HTTPException) as error:
            answer = _describe(error)
        if time.monotonic() >= deadline:
            raise NotReadyError(f"{target} was not ready within {seconds:g} s: {answer}")
        time.sleep(INTERVAL_SECONDS)


def _describe(error: Exception) -> str:
    """The error, with what the service itself says of its state."""
    if not isinstance(error, urllib.error.HTTPError):
        return str(error)
    return f"{error}, {error.read(MAX_BODY_BYTES).decode(errors='replace')}"


def is_available(outcome: Outcome, status_code: int) -> bool:
    """Whether a request that ended so met a service that was there."""
    if outcome is Outcome.HTTP_ERROR:
        return status_code not in UNAVAILABLE_CODES
    return outcome not in (Outcome.TIMEOUT, Outcome.CONNECTION)


class OutageWatch:
    """Follows the answers over all windows; moments are of one monotonic clock, in seconds."""

    def __init__(self, most_seconds: float) -> None:
        self.most_seconds = most_seconds
        self._since: float | None = None
        self._answered = float("-inf")

    def note(self, start: float, end: float, outcome: Outcome, status_code: int) -> None:
        """A request has ended. One that times out says nothing of the time before another one was answered."""
        if is_available(outcome, status_code):
            self._since, self._answered = None, end
        elif self._since is None:
            self._since = max(start, self._answered)

    def seconds(self, now: float) -> float:
        """For how long no request has met an available service."""
        return 0.0 if self._since is None else now - self._since

    def is_too_long(self, now: float) -> bool:
        """Whether the bound is passed."""
        return self.seconds(now) > self.most_seconds
