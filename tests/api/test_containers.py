"""What `down` does to the containers of the embedded cluster, while the node's own software works on them too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from kubernetes import client

from toxicity_cluster.containerd import containers_of, list_images, remove_containers
from toxicity_cluster.settings import Settings

pytestmark = pytest.mark.api

PODS = 20


def test_containers_go_though_containerd_and_kubelet_remove_them_too(
    api_client: client.ApiClient, namespace: str, embedded: Settings, wait_for: Callable[..., object]
) -> None:
    """A dead task is deleted by whoever comes first; the kubelet is left running, which `down` does not dare."""
    image = next(name for name in sorted(list_images(embedded)) if "/toxicity-node:" in name)
    core = client.CoreV1Api(api_client)
    spec = {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "pause", "image": image, "imagePullPolicy": "Never"}],
    }
    for number in range(PODS):
        core.create_namespaced_pod(namespace, {"metadata": {"name": f"pod-{number}"}, "spec": spec})

    def all_run() -> bool:
        return [pod.status.phase for pod in core.list_namespaced_pod(namespace).items].count("Running") == PODS

    wait_for("the pods to run", all_run, 120)
    containers = containers_of(embedded, namespace)
    assert len(containers) >= 2 * PODS  # each with its sandbox, and what a second try may have left
    remove_containers(embedded, containers)
    assert not set(containers).intersection(containers_of(embedded))
