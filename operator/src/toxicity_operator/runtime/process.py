"""Life cycle of the operator process: stand by, list, reconcile, stop.

A standby process keeps no objects in memory. The leader first lists every kind, then reconciles. It releases the Lease
after its last pass, so two processes never act at the same time.
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
    """One operator process. Without an `elector` it acts at once.

    `require_api` raises ClusterError while the API server does not serve ToxicityModels. `end_now` exits the process at
    once. `stopping` is set if the process must stop because of an error, and `failure` is that error.
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
        """Start to stand by, or start to act if there is no elector. Call it in the event loop; it does not block."""
        loop = asyncio.get_running_loop()
        self._filling = threading.Thread(target=self._fill, args=(loop,), name="fill", daemon=True)
        if self._elector is None:
            self._filling.start()
        else:
            self._elector.start(self._filling.start, self._end_now)

    def leads(self) -> bool:
        """Whether this process is the leader."""
        return self._elector is None or self._elector.leads

    def problem(self, unfollowed_seconds: float) -> str | None:
        """Why the process should be restarted; None if it is healthy. A standby process is healthy."""
        if self._elector is not None and not self._elector.is_alive():
            return "a thread of the leader election has stopped"
        if not self._begun:
            return "the thread of the initial lists has failed" if self._has_crashed() else None
        if not self._controller.is_alive():
            return "the resync has stopped"
        if not self._watching.is_alive():
            return "a watch thread has stopped"
        late = self._watching.health.unfollowed(unfollowed_seconds)
        return f"no successful watch for {unfollowed_seconds:.0f} s: {', '.join(late)}" if late else None

    def stop(self) -> None:
        """Start no more passes. Call it in the event loop."""
        self._stopped = True
        self._watching.stop()
        self._controller.stop()

    def finish(self) -> None:
        """Wait for the running passes and release the Lease. Call it after the event loop has stopped."""
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
        """Whether the thread of the initial lists stopped with an unexpected exception."""
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
