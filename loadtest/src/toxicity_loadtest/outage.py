"""Whether the service is away: nobody answers, or its proxy says so. A refusal by the service itself is an answer."""

from __future__ import annotations

from toxicity_loadtest.records import Outcome

UNAVAILABLE_CODES = frozenset({502, 503, 504})


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
