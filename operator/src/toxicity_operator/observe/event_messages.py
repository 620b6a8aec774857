"""Extracts messages that Kubernetes reports only in Events: why a Job gets no pod, or a pod no volume. Pure.

Repeated Events contain changing names and ids. These are removed, so that the same cause has the same message and the
status is not written again for each attempt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from toxicity_api.types import Raw

CAUSES = frozenset({"FailedBinding"})
"""Reasons of Events of type Normal that report a problem."""

REPEATED = "(combined from similar events): "
REFUSED_POD = re.compile(r'^(?:Error creating: )?pods "[^"]*"')
IDS = re.compile(r'"?\b[0-9a-f]{32,64}\b"?')


def event_message(events: Iterable[Raw]) -> str:
    """The message and reason of the newest Event that reports a problem; empty if there is none."""
    telling = [event for event in events if event.get("type") == "Warning" or event.get("reason") in CAUSES]
    if not telling:
        return ""
    newest = max(telling, key=_time)
    message = str(newest.get("message", "")).strip().removeprefix(REPEATED)
    message = IDS.sub("…", REFUSED_POD.sub("the pod", message)).removeprefix("Error creating: ")
    return f"{message} ({newest.get('reason', '')})"


def _time(event: Raw) -> str:
    """When the Event was last seen, to the second: the formats of the fields differ only in the fraction."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return max(str(time or "")[:19] for time in times)
