"""The service under test: its address, when it is ready, and when it counts as unavailable."""

from __future__ import annotations

import http.client
import re
import string
import time
import urllib.error
import urllib.request
from collections.abc import MutableMapping
from dataclasses import dataclass

from toxicity_loadtest.errors import NotReadyError, TokenError
from toxicity_loadtest.records import Outcome
from toxicity_loadtest.routes import CLASSIFY, Route

TOKEN_VARIABLE = "API_TOKEN"
HEADER_VALUE = re.compile(r"[\t\x20-\x7e]+")
"""Characters of an HTTP header value that every client and server accepts."""

KEY = "key token of the Secret of serving.apiTokenSecretName"
REMEDY = (
    "set it to one line of printable ASCII characters, restart the serving pods and change loadTest.runId to run"
    " the load test again"
)

READY_PATH = "/readyz"
INTERVAL_SECONDS = 0.5
ANSWER_SECONDS = 5.0
MAX_BODY_BYTES = 500

UNAVAILABLE_CODES = frozenset({502, 503, 504})


@dataclass(frozen=True)
class Target:
    """Address and limits of the service. `request_seconds` is the timeout of a request."""

    url: str
    request_seconds: float
    max_outage_seconds: float
    run: str
    """Prefix of the X-Request-Id of every request: run-window-slot."""
    token: str = ""
    route: Route = CLASSIFY

    def headers(self) -> dict[str, str]:
        """Return the headers of every request."""
        bearer = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return {"Content-Type": "application/json", **bearer}


def take_token(environment: MutableMapping[str, str]) -> str:
    """Return the API token without surrounding white space, as the service reads it; empty without a token.

    The token is removed from `environment`, so that no child process inherits it. Raises TokenError, whose message does
    not contain the token.
    """
    raw = environment.pop(TOKEN_VARIABLE, None)
    if raw is None:
        return ""
    token = raw.strip(string.whitespace)
    if not token:
        raise TokenError(f"{KEY} is blank: {REMEDY}")
    if not HEADER_VALUE.fullmatch(token):
        raise TokenError(f"{KEY} has characters that an HTTP header cannot contain: {REMEDY}")
    return token


def wait_until_ready(url: str, seconds: float) -> None:
    """Wait until `url`/readyz returns 200. Raises NotReadyError with the last answer after `seconds`.

    Requests during the start of the service would count as failures.
    """
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
    """Describe the error, with the body of the service's answer."""
    if not isinstance(error, urllib.error.HTTPError):
        return str(error)
    return f"{error}, {error.read(MAX_BODY_BYTES).decode(errors='replace')}"


def is_available(outcome: Outcome, status_code: int) -> bool:
    """Whether the outcome shows an available service. An error of the service itself, such as 400 or 500, does."""
    if outcome is Outcome.HTTP_ERROR:
        return status_code not in UNAVAILABLE_CODES
    return outcome not in (Outcome.TIMEOUT, Outcome.CONNECTION)


class OutageWatch:
    """Tracks the availability of the service over all windows. Times are seconds of one monotonic clock."""

    def __init__(self, most_seconds: float) -> None:
        self.most_seconds = most_seconds
        self._since: float | None = None
        self._answered = float("-inf")

    def note(self, start: float, end: float, outcome: Outcome, status_code: int) -> None:
        """Count a request that has ended. An outage begins after the last answer at the earliest."""
        if is_available(outcome, status_code):
            self._since, self._answered = None, end
        elif self._since is None:
            self._since = max(start, self._answered)

    def seconds(self, now: float) -> float:
        """Return how long the service has been unavailable, in seconds."""
        return 0.0 if self._since is None else now - self._since

    def is_too_long(self, now: float) -> bool:
        """Whether the outage is longer than allowed."""
        return self.seconds(now) > self.most_seconds
