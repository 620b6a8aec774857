"""Watches every kind and updates the cache: one thread per kind lists it once, then opens one watch after the other.

Children are watched with a label selector, so the API server sends only the operator's pods. Bookmarks keep the
resourceVersion current in a quiet watch. If it has expired (410), the kind is listed again. Every kind is also listed
every ten minutes, which repairs the effects of a missed event. An optional kind that is not served (404) or forbidden
(403) is tried again every 30 seconds. docs/adr/0009 explains why kopf does not watch.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Sequence

from toxicity_api.base import KIND
from toxicity_api.types import Key, Raw
from toxicity_operator.errors import NOT_FOUND, ClusterError
from toxicity_operator.kube.cached_cluster import CachedCluster
from toxicity_operator.kube.client import (
    FOLLOWED_KINDS,
    OPTIONAL_KINDS,
    WATCH_SECONDS,
    KubernetesCluster,
)
from toxicity_operator.kube.health import WatchHealth

FORBIDDEN, GONE = 403, 410
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0

RELIST_SECONDS = 600.0
RELIST_EARLIEST = 0.7
"""Each kind is listed again after a random share of RELIST_SECONDS, at least this one, to spread the lists."""

SHORTEST_WATCH_SECONDS = 0.5
"""A watch that ends sooner without an event counts as failed, so that it is not opened again in a busy loop."""

Notify = Callable[[Key], None]


class WatchManager:
    """Watches of the resources and of every child kind, in the given namespaces or, if there are none, in all.

    `retry_seconds`: longest pause before a failed watch or a missing kind is tried again.
    """

    def __init__(
        self,
        cluster: KubernetesCluster,
        cache: CachedCluster,
        namespaces: Sequence[str],
        retry_seconds: float = LONGEST_PAUSE_SECONDS,
        relist_seconds: float = RELIST_SECONDS,
        health: WatchHealth | None = None,
    ) -> None:
        scopes: Sequence[str | None] = namespaces or (None,)
        self._cache = cache
        self._stopping = threading.Event()
        self.health = health or WatchHealth()
        self._watches = [
            Watch(
                cluster, cache, (api_version, kind, scope), self.health, self._stopping, retry_seconds,
                relist_seconds,
            )
            for api_version, kind, _ in FOLLOWED_KINDS
            for scope in scopes
        ]  # fmt: skip
        self._threads: list[threading.Thread] = []

    def fill(self) -> None:
        """List every kind once: pods after the other children, resources last. Raises ClusterError."""
        for watch in self._watches:
            watch.fill()

    def start(self, notify: Notify) -> None:
        """Call `notify` for every resource, then watch every kind. `notify` is called from other threads."""

        def notify_known(key: Key) -> None:
            # a child may belong to a resource of another class; after the stop nothing handles notifications
            if self._cache.knows(key) and not self._stopping.is_set():
                notify(key)

        for key in self._cache.models():
            notify_known(key)
        self._threads = [
            threading.Thread(target=watch.follow, args=(notify_known,), name=watch.name, daemon=True)
            for watch in self._watches
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Signal the threads to stop. A thread that waits for the API server ends with the process."""
        self._stopping.set()

    def is_alive(self) -> bool:
        """Whether all threads are running."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)


class Watch:
    """The watch of one kind in one namespace or in all."""

    def __init__(
        self,
        cluster: KubernetesCluster,
        cache: CachedCluster,
        what: tuple[str, str, str | None],
        health: WatchHealth,
        stopping: threading.Event,
        retry_seconds: float,
        relist_seconds: float,
    ) -> None:
        self._cluster, self._cache, self._health, self._stopping = cluster, cache, health, stopping
        self._retry_seconds, self._relist_seconds = retry_seconds, relist_seconds
        self._what = what
        self._watched = what[1:]
        self._version = 0
        self._list_at = 0.0
        self.name = f"watch-{what[1]}-{what[2] or 'all'}"

    def fill(self) -> None:
        """List the kind once. A missing optional kind is not an error. Raises ClusterError."""
        _, kind, namespace = self._what
        self._health.begin(self._watched, optional=kind in OPTIONAL_KINDS)
        try:
            items, version = self._cluster.list_kind(*self._what)
            if kind == KIND:
                self._cache.replace_models(namespace, items, version)
            else:
                self._cache.start_with(kind, namespace, items, version)
        except ClusterError as error:
            if not self._may_be_missed(error):
                raise
            self._miss(error, lambda key: None)
            return
        self._listed(version)

    def follow(self, notify: Notify) -> None:
        """Watch until the stop signal. Failures are retried with increasing pauses."""
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            try:
                if self._version == 0 or time.monotonic() >= self._list_at:
                    self._list_again(notify)
                self._watch(notify)
                pause = FIRST_PAUSE_SECONDS
            except ClusterError as error:
                if self._may_be_missed(error):
                    self._miss(error, notify)
                    self._stopping.wait(self._retry_seconds)
                    continue
                self._health.failed(self._watched, error)
                if error.status == GONE:
                    self._version = 0
                self._stopping.wait(pause)
                pause = min(2 * pause, self._retry_seconds)

    def _may_be_missed(self, error: ClusterError) -> bool:
        """Whether the operator continues without the kind: it is optional, and not served or forbidden."""
        return self._what[1] in OPTIONAL_KINDS and error.status in (NOT_FOUND, FORBIDDEN)

    def _miss(self, error: ClusterError, notify: Notify) -> None:
        """Note that the kind is missing, so that it is listed when it can be."""
        if error.status == FORBIDDEN:
            self._health.failed(self._watched, error)
        else:
            self._health.succeeded(self._watched)
        self._version = 0
        for key in self._cache.miss(self._what[1]):
            notify(key)

    def _list_again(self, notify: Notify) -> None:
        _, kind, namespace = self._what
        items, version = self._cluster.list_kind(*self._what)
        if kind == KIND:
            changed = self._cache.replace_models(namespace, items, version)
        else:
            changed = self._cache.replace(kind, namespace, items, version)
        for key in changed:
            notify(key)
        self._listed(version)

    def _listed(self, version: int) -> None:
        self._version = version
        self._list_at = time.monotonic() + self._relist_seconds * random.uniform(RELIST_EARLIEST, 1.0)

    def _watch(self, notify: Notify) -> None:
        """Run one watch to its end. Raises ClusterError if it breaks or ends immediately."""
        began, received = time.monotonic(), False
        seconds = max(1, min(WATCH_SECONDS, math.ceil(self._list_at - began)))
        with self._cluster.watch_kind(*self._what, self._version, seconds) as events:
            for event in events:
                received = True
                if event.type != "BOOKMARK":
                    for key in self._observe(event.item, gone=event.type == "DELETED"):
                        notify(key)
                self._version = int(event.item["metadata"]["resourceVersion"])
                self._health.succeeded(self._watched)
                if self._stopping.is_set():
                    return
        if not received and time.monotonic() - began < SHORTEST_WATCH_SECONDS:
            raise ClusterError(f"{self.name} ended immediately without an event", 0)
        self._health.succeeded(self._watched)

    def _observe(self, item: Raw, *, gone: bool) -> set[Key]:
        observe = self._cache.observe_model if self._what[1] == KIND else self._cache.observe
        return observe(item, gone=gone)
