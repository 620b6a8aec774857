"""A model whose artifacts are in an S3 server beside the cluster: a wrong key first, then the whole loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.e2e.scenario import (
    children,
    condition,
    config_map_of,
    get_model,
    serving_pods,
    small_model,
    wait_for_condition,
)
from support.store.server import KEY, SECRET, S3Server, running
from toxicity_api.conditions import ConditionType
from toxicity_cluster.build import build_program
from toxicity_cluster.demo_install import SAMPLE_DATASET, Installation
from toxicity_cluster.demo_kubectl import Kubectl, wait_until
from toxicity_cluster.demo_watch import Watcher
from toxicity_cluster.progress import Progress
from toxicity_cluster.settings import HOST_ADDRESS, Settings

pytestmark = pytest.mark.e2e

NAME = "stored"
VERDICT_SECONDS = 300
READY_SECONDS = 25 * 60
REPORT_SECONDS = 150
"""The sidecar looks for load tests every minute."""


@pytest.fixture(scope="module")
def server(
    embedded: Settings, cluster: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[S3Server]:
    """versitygw on the host's end of the cluster's network."""
    program = build_program(embedded, Progress(), "versitygw")
    with running(S3Server(program, tmp_path_factory.mktemp("s3"), host=HOST_ADDRESS)) as started:
        yield started


def credentials(secret: str) -> dict[str, Any]:
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": secret}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store-key"}, "stringData": keys}


def published(server: S3Server) -> set[str]:
    """The stages with a manifest in the bucket."""
    return {
        path.split("-")[0] for path in server.files() if path.endswith("/manifest.json") and path.count("/") == 1
    }


def page_report(kubectl: Kubectl, namespace: str, pod: str) -> dict[str, Any]:
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}:8000/proxy/v1/report"
    found: dict[str, Any] = json.loads(kubectl.run("get", "--raw", path))
    return found


def test_model_is_trained_served_and_measured_without_a_volume(
    cluster: Installation, namespace: str, server: S3Server
) -> None:
    kubectl = cluster.kubectl
    kubectl.apply(config_map_of("comments", SAMPLE_DATASET), namespace)
    kubectl.apply(credentials("wrong"), namespace)
    model = small_model(NAME, "comments", cluster.images)
    store = {"url": "s3://models/team", "endpoint": server.endpoint, "secretName": "store-key"}
    model["spec"]["storage"] = {"objectStore": store, "scratch": {"size": "5Gi"}}
    kubectl.apply(model, namespace)

    denied = (ConditionType.TRAINED, "False", "StoreAccessDenied")
    refused = wait_for_condition(cluster, NAME, namespace, denied, VERDICT_SECONDS)
    message = condition(refused, ConditionType.TRAINED)["message"]
    assert "spec.storage.objectStore" in message and "Secret store-key" in message
    assert server.files() == []

    kubectl.apply(credentials(SECRET), namespace)
    wait_for_condition(cluster, NAME, namespace, (ConditionType.TRAINED, "Unknown", "Running"), VERDICT_SECONDS)
    ready = Watcher(kubectl, namespace, say=print).follow(NAME, READY_SECONDS)
    assert condition(ready, ConditionType.LOAD_TESTED)["status"] == "True"
    assert published(server) == {"train", "quantize", "evaluate", "loadtest"}
    assert [title for title in children(kubectl, ready) if title.startswith("PersistentVolumeClaim")] == []
    assert [path for path in server.files() if ".checkpoints" in path] == []

    for pod in serving_pods(kubectl, ready):
        (main,) = (item for item in pod["spec"]["containers"] if item["name"] == "serve")
        assert not any(mount["name"].startswith("store-") for mount in main["volumeMounts"])
        name = pod["metadata"]["name"]
        wait_until(
            "the page to show the load test",
            lambda name=name: page_report(kubectl, namespace, name)["load_test"],
            REPORT_SECONDS,
        )
    logs = "".join(log_of(kubectl, namespace, pod) for pod in kubectl.list("pods", namespace))
    for text in (logs, json.dumps(get_model(cluster, NAME, namespace))):
        assert SECRET not in text and KEY not in text


def log_of(kubectl: Kubectl, namespace: str, pod: dict[str, Any]) -> str:
    return str(kubectl.run("logs", pod["metadata"]["name"], "-n", namespace, "--all-containers"))
