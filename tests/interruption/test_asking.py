"""What the mirrors spare: a pass asks the API server only for what it may not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from support.builders import NOW, SETTINGS, a_model
from support.interruption.backends import in_memory
from support.operator.actors import Api, end_beside_sidecar, finish_job, roll_out, start_pod
from toxicity_api.base import KIND
from toxicity_operator import names
from toxicity_operator.errors import ClusterError
from toxicity_operator.kube.cached_cluster import CachedCluster
from toxicity_operator.kube.client import KubernetesCluster
from toxicity_operator.model import Identity
from toxicity_operator.runtime.reconcile import reconcile

pytestmark = pytest.mark.interruption

NAME = "ru-toxicity"


class Asked(KubernetesCluster):
    """Remembers what was read; the answer to the next write of the status may be lost."""

    def __init__(self, api: Api) -> None:
        super().__init__(api.api_client)
        self.reads: list[str] = []
        self.loses_answer = False

    def get_model(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        self.reads.append("resource")
        return super().get_model(namespace, name)

    def list_pods(self, namespace: str, name: str) -> list[Mapping[str, Any]]:
        self.reads.append("pods")
        return super().list_pods(namespace, name)

    def read_events(self, namespace: str, uid: str, limit: int) -> list[Mapping[str, Any]]:
        self.reads.append(f"events of {uid}")
        return super().read_events(namespace, uid, limit)

    def apply_status(self, identity: Identity, status: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = super().apply_status(identity, status)
        if self.loses_answer:
            self.loses_answer = False
            raise ClusterError("no answer", 0)
        return answer


class Operator:
    """One resource, the mirrors, and what the passes over it asked."""

    def __init__(self) -> None:
        self.api = in_memory()
        self.api.create(KIND, {**a_model().raw(), "metadata": {"name": NAME}})
        self.cluster = Asked(self.api)
        self.cache = CachedCluster(self.cluster)
        self.hear_of_model()
        assert self.reads_of_a_pass() == []

    def hear_of_model(self) -> None:
        found = self.api.get(KIND, NAME)
        assert found is not None
        self.cache.observe_model(found)

    def hear(self, *kinds: str) -> None:
        for kind in kinds:
            for item in self.api.list(kind):
                self.cache.observe(item)

    def reads_of_a_pass(self) -> list[str]:
        self.cluster.reads.clear()
        reconcile(self.cache, SETTINGS, self.api.namespace, NAME, NOW)
        return list(self.cluster.reads)

    def finish(self, component: str) -> None:
        (job,) = [
            item for item in self.api.list("Job") if item["metadata"]["labels"][names.COMPONENT_LABEL] == component
        ]
        finish_job(self.api, job)

    def stage(self) -> str:
        return str((self.api.get(KIND, NAME) or {})["status"]["stage"])


def test_end_that_is_told_with_its_pod_asks_for_nothing() -> None:
    operator = Operator()
    operator.finish(names.TRAIN)
    operator.hear("Pod", "Job")
    assert operator.reads_of_a_pass() == []
    assert operator.stage() == "Quantizing"


def test_end_that_is_told_before_its_pod_asks_for_the_pods() -> None:
    operator = Operator()
    operator.finish(names.TRAIN)
    operator.hear("Job")
    assert operator.reads_of_a_pass() == ["pods"]
    assert operator.stage() == "Quantizing"


def test_deleted_child_asks_for_the_resource() -> None:
    operator = Operator()
    (job,) = operator.api.list("Job")
    operator.api.delete("Job", job["metadata"]["name"])
    gone = {**job, "metadata": {**job["metadata"], "resourceVersion": str(10**6)}}
    operator.cache.observe(gone, gone=True)
    assert operator.reads_of_a_pass() == ["resource"]


def test_lost_answer_to_the_status_asks_for_the_resource() -> None:
    operator = Operator()
    operator.finish(names.TRAIN)
    operator.hear("Pod", "Job")
    operator.cluster.loses_answer = True
    with pytest.raises(ClusterError):
        operator.reads_of_a_pass()
    assert operator.reads_of_a_pass() == ["resource"]
    assert operator.reads_of_a_pass() == []


def test_job_without_pods_asks_for_its_events_and_one_with_a_pod_for_none() -> None:
    operator = Operator()
    (job,) = operator.api.list("Job")
    status = {"startTime": "2026-01-01T00:00:00Z"}
    operator.api.merge("Job", job["metadata"]["name"], {"status": status}, "/status")
    operator.hear("Job")
    assert operator.reads_of_a_pass() == [f"events of {job['metadata']['uid']}"]
    start_pod(operator.api, job)
    operator.hear("Pod")
    assert operator.reads_of_a_pass() == []


@pytest.mark.parametrize("kinds", [("Pod", "Job"), ("Pod",)])
def test_load_test_that_ended_beside_a_sidecar_asks_for_its_figures(kinds: tuple[str, ...]) -> None:
    operator = serving_operator()
    (job,) = (item for item in operator.api.list("Job") if "-loadtest-" in item["metadata"]["name"])
    end_beside_sidecar(operator.api, job)
    operator.hear(*kinds)
    assert operator.reads_of_a_pass() == ["resource"]
    assert operator.stage() == "Ready"


def test_ended_load_test_asks_for_its_figures() -> None:
    operator = serving_operator()
    operator.finish(names.LOADTEST)
    operator.hear("Pod", "Job")
    assert operator.reads_of_a_pass() == ["resource"]
    assert operator.stage() == "Ready"


def serving_operator() -> Operator:
    """One whose resource serves and whose load test is made."""
    operator = Operator()
    for component in (names.TRAIN, names.QUANTIZE, names.EVALUATE):
        operator.finish(component)
        operator.hear("Pod", "Job")
        operator.reads_of_a_pass()
    (deployment,) = operator.api.list("Deployment")
    roll_out(operator.api, deployment)
    operator.hear("Deployment")
    assert operator.reads_of_a_pass() == []
    return operator
