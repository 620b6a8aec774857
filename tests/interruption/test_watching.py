"""The watches on a real API server: what happens is told soon, also what happened while nobody watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from actors import Api, start_pod
from api_server import ApiServer
from builders import NOW, SETTINGS, a_model
from interruption.backends import on_server
from toxicity_api.base import KIND
from toxicity_operator import names
from toxicity_operator.cache import CachedCluster, Key
from toxicity_operator.cluster import KubernetesCluster, WatchEvent
from toxicity_operator.errors import ClusterError
from toxicity_operator.reconcile import reconcile
from toxicity_operator.watching import Watching

pytestmark = pytest.mark.interruption

NAME = "ru-toxicity"
WaitFor = Callable[..., object]


class BrokenOnce(KubernetesCluster):
    """Its first watch of every kind ends at once, because its place is forgotten."""

    broken: set[str]

    @contextmanager
    def watch_kind(
        self, api_version: str, kind: str, namespace: str | None, version: int
    ) -> Iterator[Iterator[WatchEvent]]:
        if kind not in self.broken:
            self.broken.add(kind)
            raise ClusterError("too old resource version", 410)
        with super().watch_kind(api_version, kind, namespace, version) as events:
            yield events


def begun(server: ApiServer) -> tuple[Api, KubernetesCluster]:
    """A resource whose training has begun."""
    api = on_server(server.connect())
    api.create(KIND, {**a_model().raw(), "metadata": {"name": NAME}})
    cluster = KubernetesCluster(server.connect())
    assert reconcile(cluster, SETTINGS, api.namespace, NAME, NOW).failure is None
    return api, cluster


def kinds(cache: CachedCluster, api: Api) -> set[str]:
    return {item["kind"] for item in cache.list_children(api.namespace, NAME)}


@pytest.mark.parametrize("broken", [False, True])
def test_what_is_made_changed_and_deleted_is_seen(server: ApiServer, wait_for: WaitFor, broken: bool) -> None:
    api, cluster = begun(server)
    source: Any = cluster
    if broken:
        source = BrokenOnce(server.connect())
        source.broken = set()
    cache, told = CachedCluster(cluster), set[Key]()
    watching = Watching(source, cache, (api.namespace,))
    watching.fill()
    assert kinds(cache, api) == {"Job", "PersistentVolumeClaim"}
    watching.start(told.add)
    try:
        (job,) = api.list("Job")
        start_pod(api, job)
        wait_for("the pod", lambda: "Pod" in kinds(cache, api), 30)
        assert told == {(api.namespace, NAME)}
        api.delete("Job", job["metadata"]["name"])
        wait_for("the Job to be gone", lambda: "Job" not in kinds(cache, api), 30)
        assert watching.is_alive()
    finally:
        watching.stop()


def test_pass_on_mirrors_sees_its_own_writes(server: ApiServer) -> None:
    api = on_server(server.connect())
    api.create(KIND, {**a_model().raw(), "metadata": {"name": NAME}})
    cache = CachedCluster(KubernetesCluster(server.connect()))
    assert reconcile(cache, SETTINGS, api.namespace, NAME, NOW).wrote_status
    again = reconcile(cache, SETTINGS, api.namespace, NAME, NOW)
    assert (again.wrote_status, again.failure) == (False, None)
    (job,) = [item for item in cache.list_children(api.namespace, NAME) if item["kind"] == "Job"]
    assert job["metadata"]["labels"][names.COMPONENT_LABEL] == names.TRAIN
