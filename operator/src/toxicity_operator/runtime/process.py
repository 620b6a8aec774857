"""From standing by to the end: when the process begins to follow the cluster, and in which order it stops.

A process that stands by holds nothing of the cluster in memory. One that leads first lists every kind, then reconciles.
It gives the Lease up only after its last pass has ended, so that the next one never acts beside it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from toxicity_api.types import Key
from toxicity_operator.errors import ClusterError
from toxicity_operator.kube.watch import WatchManager
from toxicity_operator.runtime.controller import Controller
from toxicity_operator.runtime.leadership import Elector
from toxicity_operator.runtime.retries import retry_until_ready

logger = logging.getLogger(__name__)


class OperatorProcess:
    """One operator process; `elector` None for one that has no others beside it and acts at once.

    `require_api` raises ClusterError while the API server does not serve our kind. `end_now` ends the process at once.
    `stopping` is set when the process must end by itself; `failure` then says why.
    """

    def __init__(
        self,
        controller: Controller,
        watching: WatchManager,
        elector: Elector | None,
        require_api: Callable[[], None],
        end_now: Callable[[str], object],
    ) -> None:
        self._controller, self._watching, self._elector = controller, watching, elector
        self._require_api, self._end_now = require_api, end_now
        self._begun = self._filled = self._stopped = False
        self._filling: threading.Thread | None = None
        self.stopping = asyncio.Event()
        self.failure: ClusterError | None = None

    def start(self) -> None:
        """Stands by, or begins at once; in the running event loop, without waiting."""
        loop = asyncio.get_running_loop()
        self._filling = threading.Thread(target=self._fill, args=(loop,), name="fill", daemon=True)
        if self._elector is None:
            self._filling.start()
        else:
            self._elector.start(self._filling.start, self._end_now)

    def leads(self) -> bool:
        """Whether this process is the one that acts."""
        return self._elector is None or self._elector.leads

    def problem(self, unfollowed_seconds: float) -> str | None:
        """Why the process should be started anew; None when it is well, as one that stands by is."""
        if self._elector is not None and not self._elector.is_alive():
            return "the Lease is not looked after"
        if not self._begun:
            return "the first lists have failed" if self._has_crashed() else None
        if not self._controller.is_alive():
            return "the resync has ended"
        if not self._watching.is_alive():
            return "a watch has ended"
        late = self._watching.health.unfollowed(unfollowed_seconds)
        return f"not followed for {unfollowed_seconds:.0f} s: {', '.join(late)}" if late else None

    def stop(self) -> None:
        """No pass begins any more; in the event loop."""
        self._stopped = True
        self._watching.stop()
        self._controller.stop()

    def finish(self) -> None:
        """Waits for the passes that run and lets another process lead; after the event loop has ended."""
        self._controller.finish()
        if self._elector is not None:
            self._elector.release()

    def _fill(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            retry_until_ready(self._require_api)
            retry_until_ready(self._watching.fill)
        except ClusterError as error:
            self.failure, self._filled = error, True
            loop.call_soon_threadsafe(self.stopping.set)
            return
        self._filled = True
        loop.call_soon_threadsafe(self._begin)

    def _has_crashed(self) -> bool:
        """Whether the first lists ended in a way that nobody expected."""
        thread = self._filling
        return thread is not None and thread.ident is not None and not thread.is_alive() and not self._filled

    def _begin(self) -> None:
        if self._stopped:
            return
        loop = asyncio.get_running_loop()

        def notify(key: Key) -> None:
            loop.call_soon_threadsafe(self._controller.notify, key)

        self._controller.start()
        self._watching.start(notify)
        self._begun = True
        logger.info("operator_starts")
