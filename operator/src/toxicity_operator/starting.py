"""The start beside an API server that is not ready yet: the CRD was installed just now, or the server starts too."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from toxicity_operator.errors import ClusterError, is_transient

logger = logging.getLogger(__name__)

LONGEST_SECONDS = 90.0
"""Less than the liveness probe of the chart grants a start."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 5.0
NOT_SERVED_YET = 404


def patiently(
    ask: Callable[[], None],
    *,
    seconds: float = LONGEST_SECONDS,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Asks again, ever less often, while the answer is that it is not ready. Raises ClusterError after `seconds`."""
    began, wait = clock(), FIRST_PAUSE_SECONDS
    while True:
        try:
            return ask()
        except ClusterError as error:
            if not (is_transient(error) or error.status == NOT_SERVED_YET) or clock() - began + wait > seconds:
                raise
            logger.warning("cluster_not_ready", extra={"problem": str(error), "next_try_seconds": wait})
        pause(wait)
        wait = min(2 * wait, LONGEST_PAUSE_SECONDS)
