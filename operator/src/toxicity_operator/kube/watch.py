"""Keeps the mirrors of `cache.py` up to date: per child kind one list, then one watch after the other, in a thread.

The label selector is the API server's to apply, so that of a cluster's pods only our own are sent; that and the
answer to a list after a gap, which says what is gone, are why the children are not left to kopf. Bookmarks keep the
place in a quiet watch; when the API server has forgotten the place (410), the kind is listed again. A kind of others
that the cluster does not have (404) is asked for every half a minute: it is followed from when it is installed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from toxicity_api.types import Key
from toxicity_operator.errors import ClusterError
from toxicity_operator.kube.client import CHILD_KINDS, KubernetesCluster, is_missing
from toxicity_operator.kube.mirror import CachedCluster

logger = logging.getLogger(__name__)

GONE = 410
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0

Notify = Callable[[Key], None]


class Watching:
    """Watches of every child kind in every namespace asked for; `namespaces` empty for the whole cluster.

    `retry_seconds`: how long a watch that fails, or a kind that is missing, is left alone at most.
    """

    def __init__(
        self,
        cluster: KubernetesCluster,
        cache: CachedCluster,
        namespaces: Sequence[str],
        retry_seconds: float = LONGEST_PAUSE_SECONDS,
    ) -> None:
        scopes: Sequence[str | None] = namespaces or (None,)
        self._stopping = threading.Event()
        self._watches = [
            Watch(cluster, cache, api_version, kind, scope, self._stopping, retry_seconds)
            for api_version, kind, _ in CHILD_KINDS
            for scope in scopes
        ]
        self._threads: list[threading.Thread] = []

    def fill(self) -> None:
        """The first list of every kind, pods last. Raises ClusterError."""
        for watch in self._watches:
            watch.fill()

    def start(self, notify: Notify) -> None:
        """Follows every kind; `notify` is called from other threads."""
        self._threads = [
            threading.Thread(target=watch.follow, args=(notify,), name=watch.name, daemon=True)
            for watch in self._watches
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Lets the threads end; one that waits for the API server dies with the process."""
        self._stopping.set()

    def is_alive(self) -> bool:
        """Whether every kind is followed."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)


class Watch:
    """One kind in one scope."""

    def __init__(
        self,
        cluster: KubernetesCluster,
        cache: CachedCluster,
        api_version: str,
        kind: str,
        namespace: str | None,
        stopping: threading.Event,
        retry_seconds: float,
    ) -> None:
        self._cluster, self._cache, self._stopping = cluster, cache, stopping
        self._retry_seconds = retry_seconds
        self._what = (api_version, kind, namespace)
        self._version = 0
        self.name = f"watch-{kind}-{namespace or 'all'}"

    def fill(self) -> None:
        """The first list; none of a kind that the cluster does not have. Raises ClusterError."""
        try:
            items, self._version = self._cluster.list_kind(*self._what)
        except ClusterError as error:
            if not is_missing(self._what[1], error):
                raise
            self._miss(lambda key: None)
            return
        self._cache.start_with(self._what[1], self._what[2], items, self._version)

    def follow(self, notify: Notify) -> None:
        """Watches until told to stop; after a failure again, with a growing pause."""
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            try:
                if self._version == 0:
                    self._list_again(notify)
                self._watch(notify)
                pause = FIRST_PAUSE_SECONDS
            except ClusterError as error:
                if is_missing(self._what[1], error):
                    self._miss(notify)
                    self._stopping.wait(self._retry_seconds)
                    continue
                logger.warning("watch_failed", extra={"watch": self.name, "problem": str(error)})
                if error.status == GONE:
                    self._version = 0
                self._stopping.wait(pause)
                pause = min(2 * pause, self._retry_seconds)

    def _miss(self, notify: Notify) -> None:
        """The kind is not there: it is listed once it is."""
        logger.debug("kind_missing", extra={"watch": self.name})
        self._version = 0
        for key in self._cache.miss(self._what[1]):
            notify(key)

    def _list_again(self, notify: Notify) -> None:
        items, version = self._cluster.list_kind(*self._what)
        for key in self._cache.replace(self._what[1], self._what[2], items, version):
            notify(key)
        self._version = version

    def _watch(self, notify: Notify) -> None:
        with self._cluster.watch_kind(*self._what, self._version) as events:
            for event in events:
                if event.type != "BOOKMARK":
                    for key in self._cache.observe(event.item, gone=event.type == "DELETED"):
                        notify(key)
                self._version = int(event.item["metadata"]["resourceVersion"])
                if self._stopping.is_set():
                    return
