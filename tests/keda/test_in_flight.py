"""Replicas that follow the requests in flight, told in order: without KEDA, with it, up, down, without figures.

Requests are held open by sending half a body: they are in flight and cost nothing, so that on two cores the second
replica can start beside the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.e2e.scenario import condition, config_map_of, get_model, patch_spec, serving_pods, small_model
from toxicity_api.conditions import ConditionType
from toxicity_cluster import keda
from toxicity_cluster.demo_install import OPERATOR_NAMESPACE, SAMPLE_DATASET, Installation
from toxicity_cluster.demo_kubectl import Kubectl, Manifest, wait_until
from toxicity_cluster.demo_probe import build_probe_pod
from toxicity_cluster.demo_watch import failed_condition, status_of
from toxicity_cluster.processes import stop
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import Settings

pytestmark = pytest.mark.keda

NAME, POD = "held", "holder"
TARGET, HELD, MOST = 2, 4, 2
SCALING = {
    "metric": "inFlight",
    "target": TARGET,
    "minReplicas": 1,
    "maxReplicas": MOST,
    "prometheusAddress": keda.PROMETHEUS_URL,
    "scaleDownStabilizationSeconds": 15,
}
SERVES_SECONDS = 30 * 60
CONDITION_SECONDS = 3 * 60
SCALES_SECONDS = 8 * 60

HOLD = """
import os, socket, threading, time

host = os.environ["HOST"]
lines = ["POST /v1/classify HTTP/1.1", f"Host: {host}", "Content-Type: application/json", "Content-Length: 100"]

def hold():
    while True:
        try:
            with socket.create_connection((host, 80), timeout=60) as connection:
                connection.sendall("\\r\\n".join([*lines, "", "{"]).encode())
                time.sleep(45)  # less than the service waits for the rest
        except OSError as error:
            print(error, flush=True)
            time.sleep(1)

for _ in range(int(os.environ["HELD"])):
    threading.Thread(target=hold).start()
"""


@pytest.fixture(scope="module")
def without_keda(cluster: Installation, embedded: Settings) -> Iterator[None]:
    """Takes KEDA away, and again when the namespace of the test is gone."""
    keda.remove(embedded)
    yield
    keda.remove(embedded)


@pytest.fixture(scope="module")
def model(cluster: Installation, without_keda: None, module_namespace: str) -> Manifest:
    """A model that serves, on a cluster that has no KEDA at first."""
    namespace = module_namespace
    wanted = small_model(NAME, "comments", cluster.images)
    wanted["spec"]["quantization"] = {"method": "none"}
    wanted["spec"]["loadTest"] = {"enabled": False}
    wanted["spec"]["serving"]["autoscaling"] = SCALING
    cluster.kubectl.apply(config_map_of("comments", SAMPLE_DATASET), namespace)
    cluster.kubectl.apply(wanted, namespace)

    def serves() -> Manifest | None:
        found = get_model(cluster, NAME, namespace)
        failed = failed_condition(found)
        assert failed is None, failed
        return found if condition(found, ConditionType.READY).get("status") == "True" else None

    return wait_until("the model serves", serves, SERVES_SECONDS)


def wait_for_scalable(cluster: Installation, model: Manifest, reason: str) -> str:
    """The message of the condition once it has this reason."""

    def reached() -> Manifest | None:
        found = condition(get_model(cluster, NAME, model["metadata"]["namespace"]), ConditionType.SCALABLE)
        return found if found.get("reason") == reason else None

    message: str = wait_until(f"Scalable is {reason}", reached, CONDITION_SECONDS)["message"]
    return message


def ready_replicas(cluster: Installation, model: Manifest) -> int:
    """Pods that are ready, all others being gone: what the autoscaler wanted is there."""
    pods = serving_pods(cluster.kubectl, model)
    states = [{c["type"]: c["status"] for c in pod["status"].get("conditions", [])}.get("Ready") for pod in pods]
    return len(states) if set(states) == {"True"} else 0


def wait_for_replicas(cluster: Installation, model: Manifest, count: int) -> None:
    wait_until(
        f"{count} replicas are ready",
        lambda: ready_replicas(cluster, model) == count,
        SCALES_SECONDS,
    )


@contextmanager
def held_requests(kubectl: Kubectl, model: Manifest, image: str) -> Iterator[None]:
    """HELD requests in flight while the block runs."""
    namespace = model["metadata"]["namespace"]
    host = f"{NAME}-serve.{namespace}.svc"
    kubectl.apply(build_probe_pod(POD, image, HOLD, {"HOST": host, "HELD": str(HELD)}), namespace)
    try:
        yield
    finally:
        kubectl.delete("pod", POD, namespace)


def operator_pods(kubectl: Kubectl) -> set[tuple[str, int]]:
    """Uid and restarts of the operator's pods."""
    pods = kubectl.list("pods", OPERATOR_NAMESPACE, "app.kubernetes.io/component=operator")
    return {(pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in pods}


def test_without_keda_the_model_serves_and_a_condition_names_the_remedy(
    cluster: Installation, model: Manifest
) -> None:
    assert "install KEDA" in wait_for_scalable(cluster, model, "KedaMissing")
    assert ready_replicas(cluster, model) == 1


def test_keda_that_comes_later_is_used_by_the_operator_that_runs(
    cluster: Installation, model: Manifest, embedded: Settings
) -> None:
    before = operator_pods(cluster.kubectl)
    keda.ensure(embedded, Progress())
    wait_for_scalable(cluster, model, "MetricAvailable")
    assert operator_pods(cluster.kubectl) == before
    (autoscaler,) = cluster.kubectl.list("horizontalpodautoscalers", model["metadata"]["namespace"])
    assert autoscaler["metadata"]["name"] == f"keda-hpa-{NAME}-serve"
    assert autoscaler["spec"]["maxReplicas"] == MOST


def test_replicas_follow_the_requests_in_flight_up_and_down(cluster: Installation, model: Manifest) -> None:
    assert ready_replicas(cluster, model) == 1
    with held_requests(cluster.kubectl, model, cluster.images["loadtest"]):
        wait_for_replicas(cluster, model, HELD // TARGET)
        serving = status_of(get_model(cluster, NAME, model["metadata"]["namespace"])).serving
        assert serving is not None and serving.replicas == HELD // TARGET
    wait_for_replicas(cluster, model, 1)


def test_condition_tells_when_the_figures_are_gone_and_when_they_are_back(
    cluster: Installation, model: Manifest, embedded: Settings
) -> None:
    stop(embedded, "prometheus", grace_seconds=10)
    message = wait_for_scalable(cluster, model, "MetricMissing")
    assert keda.PROMETHEUS_URL in message and f'toxicity_dev_model="{NAME}"' in message
    assert ready_replicas(cluster, model) == 1
    keda.ensure(embedded, Progress())
    wait_for_scalable(cluster, model, "MetricAvailable")


def test_cpu_takes_keda_s_autoscaler_away(cluster: Installation, model: Manifest) -> None:
    namespace = model["metadata"]["namespace"]
    patch_spec(cluster.kubectl, NAME, namespace, {"serving": {"autoscaling": {"metric": "cpu", "target": 80}}})

    def only_ours() -> bool:
        names = [item["metadata"]["name"] for item in cluster.kubectl.list("hpa,scaledobjects", namespace)]
        return names == [f"{NAME}-serve"]

    wait_until("the one autoscaler is ours", only_ours, CONDITION_SECONDS)
    assert ready_replicas(cluster, model) == 1
