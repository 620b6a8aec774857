"""What the cluster says only in Events: why a Job gets no pod, why a pod gets no volume. Pure, on raw Events.

An Event repeats itself with other names and numbers in it. These are left out, so that the same cause has the same
words, and the status is not written again for every try.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from toxicity_api.types import Raw

CAUSES = frozenset({"FailedBinding"})
"""Reasons of Events of type Normal which say why nothing goes on."""

REPEATED = "(combined from similar events): "
REFUSED_POD = re.compile(r'^(?:Error creating: )?pods "[^"]*"')
IDS = re.compile(r'"?\b[0-9a-f]{32,64}\b"?')


def event_message(events: Iterable[Raw]) -> str:
    """What the newest Event that tells a problem says; empty when none does."""
    telling = [event for event in events if event.get("type") == "Warning" or event.get("reason") in CAUSES]
    if not telling:
        return ""
    newest = max(telling, key=_time)
    words = str(newest.get("message", "")).strip().removeprefix(REPEATED)
    words = IDS.sub("…", REFUSED_POD.sub("the pod", words)).removeprefix("Error creating: ")
    return f"{words} ({newest.get('reason', '')})"


def _time(event: Raw) -> str:
    """When it was last seen. Seconds suffice: the formats of the fields differ only after them."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return max(str(time or "")[:19] for time in times)
