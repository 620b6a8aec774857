"""Leader election: the process that holds the Lease acts, the others stand by.

docs/adr/0007 explains why `kubernetes.leaderelection` of the client library (version 37.0) is not used.

The election does not depend on synchronized clocks. A leader exits if it has not renewed the Lease for `renew_seconds`,
measured from before its last successful request. Another process takes the Lease if it has not seen it change for
`lease_seconds`, measured from after the last change, which is later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from toxicity_api.types import Raw
from toxicity_operator.errors import CONFLICT, NOT_FOUND, ClusterError
from toxicity_operator.settings import LeaseSettings

logger = logging.getLogger(__name__)

WATCHDOG_SECONDS = 0.25
JOIN_SECONDS = 20.0


class LeaseStore(Protocol):
    """Storage of the Lease; see `kube.lease.Lease`. Every method raises ClusterError if the request fails."""

    def read(self) -> Raw | None: ...

    def write(self, found: Raw | None, holder: str, seconds: int) -> Raw: ...


class LeadershipLost(Exception):
    """Another process holds the Lease of this process, or it could not be renewed in time."""


class Elector:
    """Acquires, renews and releases the Lease.

    One thread renews the Lease. Another one checks the deadline, because a renewal can hang longer than its timeouts.
    """

    def __init__(
        self, store: LeaseStore, settings: LeaseSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._settings, self._clock = store, settings, clock
        self._own: Raw | None = None
        self._seen: Raw = {}
        self._seen_at = 0.0
        self._with_new_image = 0.0
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.leads = False

    def start(self, on_elected: Callable[[], object], on_lost: Callable[[str], object]) -> None:
        """Start the threads. They call `on_elected` once, and `on_lost` with the reason."""
        jobs = (("lease", self._run, on_elected), ("lease-watchdog", self._watch_over, None))

        def guarded(job: Callable[..., object], argument: object) -> None:
            try:
                job(argument)
            except LeadershipLost as error:
                on_lost(str(error))

        self._threads = [
            threading.Thread(target=guarded, args=(job, argument), name=name, daemon=True)
            for name, job, argument in jobs
        ]
        for thread in self._threads:
            thread.start()

    def is_alive(self) -> bool:
        """Whether both threads are running."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def attempt(self) -> bool:
        """Try once to acquire or renew the Lease. Return whether this process leads now.

        Raises LeadershipLost, or ClusterError if the leader is unknown.
        """
        began = self._clock()
        found = self._own or self._store.read()
        if found is not None and not self._may_take(found):
            if self.leads:
                raise LeadershipLost(f"{found['spec'].get('holderIdentity')} holds the Lease")
            return False
        self._own = None  # unknown until the write succeeds
        try:
            written = self._store.write(found, self._settings.holder, self._settings.lease_seconds)
        except ClusterError as error:
            if error.status not in (NOT_FOUND, CONFLICT):
                raise
            return self.attempt() if self.leads else False
        self._own, self._with_new_image, self.leads = written, began, True
        return True

    def check_deadline(self) -> None:
        """Raise LeadershipLost if the Lease was not renewed in time."""
        if self.leads and self._clock() - self._with_new_image >= self._settings.renew_seconds:
            raise LeadershipLost(f"the Lease was not renewed for {self._settings.renew_seconds} s")

    def release(self) -> None:
        """Stop the threads and release the Lease. Call it after the last pass, since another process can lead then."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        if not self.leads or self._own is None:
            return
        self.leads = False
        try:
            self._store.write(self._own, "", 1)
        except ClusterError as error:
            logger.warning("lease_not_released", extra={"problem": str(error)})

    def _may_take(self, found: Raw) -> bool:
        """Whether the Lease has no holder, is held by this process, or has expired."""
        spec, now = found["spec"], self._clock()
        if spec != self._seen:
            self._seen, self._seen_at = spec, now
        if spec.get("holderIdentity", "") in ("", self._settings.holder):
            return True
        return now - self._seen_at >= (spec.get("leaseDurationSeconds") or self._settings.lease_seconds)

    def _run(self, on_elected: Callable[[], object]) -> None:
        logger.info("stands_by", extra={"holder": self._settings.holder})
        failing = False
        while not self._stopping.is_set():
            led = self.leads
            try:
                self.attempt()
                failing = False
            except ClusterError as error:
                if not failing:
                    logger.warning("lease_unreachable", extra={"problem": str(error)})
                failing = True
            if self.leads and not led:
                logger.info("leads", extra={"holder": self._settings.holder})
                on_elected()
            self._stopping.wait(self._settings.retry_seconds)

    def _watch_over(self, _: None) -> None:
        while not self._stopping.wait(WATCHDOG_SECONDS):
            self.check_deadline()
