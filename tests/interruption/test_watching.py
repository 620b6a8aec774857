"""The watches on a real API server: what happens is told soon, also what happened while nobody watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kubernetes import client

from support.builders import NOW, SETTINGS, a_model
from support.interruption.backends import on_server
from support.operator.actors import Api, start_pod
from support.operator.api_server import ApiServer, apply_crd, keda_stand_in
from toxicity_api.base import KIND
from toxicity_api.types import Key
from toxicity_operator import names
from toxicity_operator.errors import ClusterError
from toxicity_operator.kube.cached_cluster import CachedCluster
from toxicity_operator.kube.client import WATCH_SECONDS, KubernetesCluster, WatchEvent
from toxicity_operator.kube.watch import WatchManager
from toxicity_operator.manifests.autoscaler import SCALED_OBJECT, Bounds, build_autoscaler
from toxicity_operator.manifests.common import Manifest, seal
from toxicity_operator.model import read_model
from toxicity_operator.runtime.reconcile import reconcile

pytestmark = [pytest.mark.interruption, pytest.mark.clock]

NAME = "ru-toxicity"
WaitFor = Callable[..., object]


class BrokenOnce(KubernetesCluster):
    """Its first watch of every kind ends at once, because its place is forgotten."""

    broken: set[str]

    @contextmanager
    def watch_kind(
        self, api_version: str, kind: str, namespace: str | None, version: int, seconds: int = WATCH_SECONDS
    ) -> Iterator[Iterator[WatchEvent]]:
        if kind not in self.broken:
            self.broken.add(kind)
            raise ClusterError("too old resource version", 410)
        with super().watch_kind(api_version, kind, namespace, version, seconds) as events:
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
    watching = WatchManager(source, cache, (api.namespace,))
    watching.fill()
    assert kinds(cache, api) == {"Job", "PersistentVolumeClaim"}
    watching.start(told.add)
    try:
        (job,) = api.list("Job")
        start_pod(api, job)
        wait_for("the pod", lambda: "Pod" in kinds(cache, api), 30)
        wait_for("who owns it to be told", lambda: told, 30)
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


def test_kind_of_others_may_be_missing_and_come_later(server: ApiServer, wait_for: WaitFor) -> None:
    api, cluster = begun(server)
    definitions = client.ApiextensionsV1Api(server.connect())
    definitions.delete_custom_resource_definition(keda_stand_in()["metadata"]["name"])
    wait_for("KEDA to be gone", lambda: SCALED_OBJECT in cluster.missing_kinds(), 60)
    cache, told = CachedCluster(cluster), set[Key]()
    watching = WatchManager(KubernetesCluster(server.connect()), cache, (api.namespace,), retry_seconds=1)
    try:
        watching.fill()
        watching.start(told.add)
        assert reconcile(cache, SETTINGS, api.namespace, NAME, NOW).failure is None
        assert cache.missing_kinds() == {SCALED_OBJECT}
        assert "Job" in kinds(cache, api)
        told.clear()
        apply_crd(server.connect(), keda_stand_in())
        wait_for("the kind to be known", lambda: not cache.missing_kinds(), 60)
        wait_for("the resource to be told of", lambda: (api.namespace, NAME) in told, 30)
        cache.create(seal(a_scaled_object(api)))
        assert SCALED_OBJECT in kinds(cache, api)
        api.delete(SCALED_OBJECT, names.serving_name(NAME))
        wait_for("the watch to tell of it", lambda: SCALED_OBJECT not in kinds(cache, api), 30)
        definitions.delete_custom_resource_definition(keda_stand_in()["metadata"]["name"])
        wait_for("the kind to be missed", lambda: cache.missing_kinds() == {SCALED_OBJECT}, 60)
        assert watching.is_alive()
    finally:
        watching.stop()
        apply_crd(server.connect(), keda_stand_in())


def a_scaled_object(api: Api) -> Manifest:
    """The autoscaler of the resource, had it asked for one."""
    made = api.get(KIND, NAME)
    assert made is not None
    scaling = {"metric": "inFlight", "prometheusAddress": "http://prometheus:9090"}
    builder = a_model().with_spec("serving.autoscaling", scaling)
    body = build_autoscaler(read_model(made | {"spec": builder.spec}), Bounds(1, 2))
    assert body is not None
    return body


def test_list_that_comes_in_pages_is_whole(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    api, cluster = begun(server)
    (job,) = api.list("Job")
    label = {names.MODEL_LABEL: NAME}
    template = {"spec": {"containers": [{"name": "a", "image": "none"}], "restartPolicy": "Never"}}
    for name in ("twin", "triplet"):
        api.create("Job", {"metadata": {"name": name, "labels": label}, "spec": {"template": template}})
    monkeypatch.setattr("toxicity_operator.kube.client.PAGE_SIZE", 2)
    items, version = cluster.list_kind("batch/v1", "Job", api.namespace)
    assert {item["metadata"]["name"] for item in items} == {job["metadata"]["name"], "twin", "triplet"}
    assert version >= int(job["metadata"]["resourceVersion"])
