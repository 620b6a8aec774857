"""Waits for the service before the first request, so that its start does not count as failures."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request

from toxicity_loadtest.errors import NotReadyError

READY_PATH = "/readyz"
INTERVAL_SECONDS = 0.5
ANSWER_SECONDS = 5.0
MOST_BODY_BYTES = 500


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
    return f"{error}, {error.read(MOST_BODY_BYTES).decode(errors='replace')}"
